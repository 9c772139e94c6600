"""Draws of patients that several scores share."""

import doctest

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, roc_auc_score

from bcnet.evaluate import paired
from bcnet.evaluate.calibration import evaluate_calibration
from bcnet.evaluate.metrics import evaluate, score_patients
from bcnet.evaluate.paired import MEASURES, Bootstrap, estimate, measure_auc


@pytest.fixture
def clustered():
    """Sixty pictures of twelve patients of both classes, with ties among the scores."""
    rng = np.random.default_rng(0)
    y_true = rng.integers(0, 2, 60)
    y_prob = np.round(np.clip(0.3 * y_true + 0.7 * rng.random(60), 0, 1), 1)
    return y_true, y_prob, np.repeat(list("abcdefghijkl"), 5)


@pytest.fixture
def of_patients():
    """Forty pictures of ten patients, each of one class."""
    rng = np.random.default_rng(1)
    y_true = np.repeat([0, 1], 20)
    return y_true, np.clip(0.3 * y_true + 0.7 * rng.random(40), 0, 1), np.repeat(range(10), 4)


def test_examples_of_the_docstrings():
    assert doctest.testmod(paired).failed == 0


@pytest.mark.parametrize("name", ["auc", "sensitivity", "specificity", "accuracy"])
def test_bootstrap_of_pictures_equals_evaluate(clustered, name):
    y_true, y_prob, patients = clustered
    measured = Bootstrap(y_true, patients, draws=300).measure(y_prob, threshold=0.5)
    found = estimate(measured[:, MEASURES.index(name)])
    expected = evaluate(y_true, y_prob, patients=patients, threshold=0.5, draws=300)["image"][name]
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("name", ["brier", "ece"])
def test_bootstrap_of_pictures_equals_evaluate_calibration(clustered, name):
    y_true, y_prob, patients = clustered
    measured = Bootstrap(y_true, patients, draws=300).measure(y_prob, threshold=0.5)
    found = estimate(measured[:, MEASURES.index(name)])
    expected = evaluate_calibration(y_true, y_prob, patients=patients, draws=300)["image"][name]
    assert found == pytest.approx(expected)


def test_bootstrap_of_patients_has_the_values_of_evaluate(of_patients):
    y_true, y_prob, patients = of_patients
    measured = Bootstrap(y_true, patients, draws=9).measure(y_prob, threshold=0.5)[0]
    expected = evaluate(y_true, y_prob, patients=patients, threshold=0.5, draws=9)["patient"]
    for name in ("auc", "balanced_accuracy", "sensitivity", "specificity", "accuracy"):
        assert measured[MEASURES.index(name)] == pytest.approx(expected[name]["value"]), name


def test_bootstrap_measures_the_brier_score_of_patients(of_patients):
    y_true, y_prob, patients = of_patients
    measured = Bootstrap(y_true, patients, draws=9).measure(y_prob, threshold=0.5)[0]
    expected = brier_score_loss(
        y_true[::4], score_patients(y_prob, [f"{p:02}" for p in patients])[1]
    )
    assert measured[MEASURES.index("brier")] == pytest.approx(expected)


def test_bootstrap_measures_the_calibration_shift_by_hand():
    measured = Bootstrap([0, 1]).measure([0.5, 0.9], threshold=0.5)[0]
    assert measured[MEASURES.index("calibration_shift")] == pytest.approx(0.7 - 0.5)


@pytest.mark.parametrize(
    ("patients", "unit", "n"),
    [(None, "image", None), (["a", "a", "b"], "image", 2), (["a", "b", "b"], "patient", 2)],
)
def test_bootstrap_judges_patients_where_each_has_one_label(patients, unit, n):
    bootstrap = Bootstrap([0, 1, 1], patients, draws=1)
    assert (bootstrap.unit, bootstrap.n_patients) == (unit, n)


def test_bootstrap_rows_are_judged_on_the_draws_of_all(clustered):
    y_true, y_prob, patients = clustered
    bootstrap = Bootstrap(y_true, patients, draws=50)
    half = bootstrap.measure(y_prob, threshold=0.5, rows=np.arange(30))
    counts = bootstrap.counts[0][bootstrap.groups][:30]
    expected = np.average(y_prob[:30] - y_true[:30], weights=counts)
    assert half[1, MEASURES.index("calibration_shift")] == pytest.approx(expected)


def test_bootstrap_of_one_patient_has_no_interval():
    measured = Bootstrap([0, 1], ["a", "a"]).measure([0.2, 0.9], threshold=0.5)
    assert estimate(measured[:, 0]) == {"value": 1.0, "low": None, "high": None}


def test_measure_auc_of_ties_equals_scikit_learn(clustered):
    y_true, y_prob, _ = clustered
    weights = np.random.default_rng(2).integers(0, 4, (3, 60)).astype(np.uint8)
    expected = [roc_auc_score(y_true, y_prob, sample_weight=row) for row in weights]
    assert measure_auc(y_true, y_prob, weights) == pytest.approx(expected)


def test_measure_auc_of_one_class_is_undefined():
    assert np.isnan(measure_auc(np.array([0, 1]), np.array([1, 2]), np.array([[0, 3]])))


def test_estimate_has_no_interval_where_draws_are_undefined():
    samples = np.array([0.5] * 10 + [np.nan])
    assert estimate(samples) == {"value": 0.5, "low": None, "high": None}
