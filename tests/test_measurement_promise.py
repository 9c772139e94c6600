"""What a model of measurements promises, kept to patients of a population that is known."""

import numpy as np
import pandas as pd
import pytest

from bcnet.data.measurements import FEATURES
from bcnet.data.wisconsin import load_wisconsin
from bcnet.evaluate.abstention import find_referred
from bcnet.measurements.fitting import Fitted, fit_measurements
from bcnet.workflows.measurement_training import MISS_RATE, describe_band

RUNS = 20

# Of each class in one hospital's patients, as many as in the Wisconsin data.
SIZES = (357, 212)


@pytest.fixture(scope="module")
def population():
    """Roots of the measurements are normal in each class, with the mean and spread of Wisconsin."""
    table = load_wisconsin()
    roots = [np.sqrt(table.loc[table["label"] == label, list(FEATURES)]) for label in (0, 1)]
    return [(each.mean().to_numpy(), each.cov().to_numpy()) for each in roots]


def draw(population, label, count, rng):
    values = rng.multivariate_normal(*population[label], count) ** 2
    return pd.DataFrame(values, columns=list(FEATURES)).assign(label=label)


def draw_hospital(population, seed):
    rng = np.random.default_rng(seed)
    parts = [draw(population, label, count, rng) for label, count in enumerate(SIZES)]
    table = pd.concat(parts, ignore_index=True)
    return table.assign(patient_id=[str(number) for number in range(len(table))])


def judge_hospital(population, malignant, seed):
    """Give the miss rate among malignant patients of the population, and what was promised."""
    table = draw_hospital(population, seed)
    fitted = fit_measurements(table, "logistic", quick=True, seed=seed)
    band = describe_band(fitted, table)
    said = fitted.estimator.predict_proba(malignant[list(FEATURES)])[:, 1]
    answered = ~find_referred(said, band["low"], band["high"])
    return (said[answered] < band["low"]).mean(), band["miss_rate"]


def test_describe_band_promises_what_other_patients_get(population):
    malignant = draw(population, 1, 20_000, np.random.default_rng(99))
    judged = [judge_hospital(population, malignant, seed) for seed in range(RUNS)]
    # 95 % confidence: of twenty promises one may be broken.
    assert sum(missed > promised for missed, promised in judged) <= 1
    assert {promised for _, promised in judged} == {MISS_RATE}


@pytest.fixture(scope="module")
def fitted():
    return fit_measurements(load_wisconsin(), "logistic", quick=True)


def test_describe_band_refers_some_of_the_wisconsin_patients(fitted):
    band = describe_band(fitted, load_wisconsin())
    assert 0.9 < band["answered"] < 1
    assert band["misses"] == 1


def test_describe_band_of_fewer_patients_promises_what_they_allow(fitted):
    table = load_wisconsin()
    chosen = np.flatnonzero(table.groupby("label").cumcount() < 80)
    fewer = Fitted(None, fitted.out_of_fold[chosen], fitted.threshold, {})
    assert describe_band(fewer, table.iloc[chosen])["miss_rate"] == 0.05


def test_describe_band_of_few_patients_tells_why_there_is_none(fitted):
    table = load_wisconsin().groupby("label").head(5)
    few = Fitted(None, fitted.out_of_fold[table.index], fitted.threshold, {})
    assert "above 0.2 none is made" in describe_band(few, table)["reason"]
