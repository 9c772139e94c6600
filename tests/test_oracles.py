"""Our arithmetic against that of statsmodels and MAPIE, where they have it.

MAPIE has no band of two ends, no patients and no interval of an ECE: only the parts of ours that
it shares are compared.
"""

import numpy as np
import pytest
import statsmodels.api as sm
from mapie.metrics.calibration import expected_calibration_error
from mapie.risk_control import FWERFixedSequenceTesting, control_fwer
from mapie.risk_control.methods import compute_hoeffding_bentkus_p_value
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.proportion import proportion_confint

from bcnet.evaluate.abstention import LOWS, bound_rate, choose_band
from bcnet.evaluate.calibration import evaluate_calibration
from bcnet.evaluate.cases import find_probabilities
from bcnet.evaluate.scaling import fit_scaling
from bcnet.evaluate.significance import apply_mcnemar
from bcnet.evaluate.thresholds import find_largest_target


@pytest.fixture(params=range(3))
def cases(request):
    """Labels and logits of 300 cases; the logits say too much, and malignant too often."""
    rng = np.random.default_rng(request.param)
    logits = rng.normal(0, 2, 300)
    return (rng.random(300) < find_probabilities(0.6 * logits - 0.5)).astype(int), logits


def fit_glm(targets, design, offset=None):
    return sm.GLM(targets, design, family=sm.families.Binomial(), offset=offset).fit(tol=1e-12)


@pytest.mark.parametrize(("events", "count"), [(0, 33), (1, 61), (7, 40), (299, 300)])
def test_bound_rate_equals_clopper_and_pearson_of_statsmodels(events, count):
    _, expected = proportion_confint(events, count, alpha=0.1, method="beta")
    assert bound_rate(events, count) == pytest.approx(expected)


@pytest.mark.parametrize("count", [1, 33, 59])
def test_find_largest_target_equals_clopper_and_pearson_of_statsmodels(count):
    expected, _ = proportion_confint(count, count, alpha=0.1, method="beta")
    assert find_largest_target(count) == pytest.approx(expected)


@pytest.mark.parametrize("shares", [(0.8, 0.8), (0.6, 0.9), (0.95, 0.5)])
def test_apply_mcnemar_equals_statsmodels(shares):
    rng = np.random.default_rng(0)
    first, second = (rng.random(80) < share for share in shares)
    table = [[np.sum(first & second), np.sum(first & ~second)]]
    table += [[np.sum(~first & second), np.sum(~first & ~second)]]
    assert apply_mcnemar(first, second)["p"] == pytest.approx(mcnemar(table, exact=True).pvalue)


def test_calibration_slope_equals_the_regression_of_statsmodels(cases):
    y_true, logits = cases
    found = evaluate_calibration(y_true, find_probabilities(logits), draws=1)["image"]
    expected = fit_glm(y_true, sm.add_constant(logits)).params[1]
    assert found["slope"]["value"] == pytest.approx(expected)


def test_calibration_intercept_equals_the_regression_with_an_offset_of_statsmodels(cases):
    y_true, logits = cases
    found = evaluate_calibration(y_true, find_probabilities(logits), draws=1)["image"]
    expected = fit_glm(y_true, np.ones_like(logits), offset=logits).params[0]
    assert found["intercept"]["value"] == pytest.approx(expected)


@pytest.mark.parametrize("method", ["platt", "temperature"])
def test_fit_scaling_equals_the_regression_of_statsmodels_on_smoothed_labels(cases, method):
    y_true, logits = cases
    positives, negatives = np.sum(y_true), np.sum(1 - y_true)
    targets = np.where(y_true, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    design = np.column_stack([logits, np.ones_like(logits)][: 1 + (method == "platt")])
    found = fit_scaling(y_true, logits, method=method)
    expected = fit_glm(targets, design).params
    assert found[: len(expected)] == pytest.approx(expected)


def test_ece_equals_mapie_in_ten_groups_of_equal_size(cases):
    y_true, logits = cases
    order = np.argsort(logits)  # MAPIE's "array split" takes scores to be sorted
    y_true, y_prob = y_true[order], find_probabilities(logits)[order]
    expected = expected_calibration_error(y_true, y_prob, num_bins=10, split_strategy="array split")
    assert evaluate_calibration(y_true, y_prob, draws=1)["image"]["ece"]["value"] == pytest.approx(
        expected
    )


@pytest.mark.parametrize("miss_rate", [0.08, 0.1, 0.15])
def test_choose_band_goes_as_far_as_learn_then_test_of_mapie(cases, miss_rate):
    y_true, logits = cases
    y_prob, threshold = find_probabilities(logits), 0.4
    lows = np.append(LOWS[threshold > LOWS], threshold)
    malignant = y_prob[y_true == 1]
    misses = np.sum(malignant[:, None] < lows, axis=0)
    answered = misses + np.sum(malignant >= threshold)
    p_values = compute_hoeffding_bentkus_p_value(
        misses / answered, answered, alpha=miss_rate, binary=True
    )
    valid = control_fwer(p_values[:, 0], 0.05, FWERFixedSequenceTesting())
    band = choose_band(y_true, y_prob, threshold=threshold, miss_rate=miss_rate)
    assert band["low"] == lows[max(valid)]
    assert band["misses"] > 0
