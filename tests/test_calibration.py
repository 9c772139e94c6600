"""Calibration by hand, against scikit-learn, and its intervals by repetition."""

import json

import numpy as np
import pytest
from sklearn import metrics as reference
from sklearn.linear_model import LogisticRegression

from bcnet.evaluate.bootstrap import draw_weights
from bcnet.evaluate.calibration import (
    CALIBRATION_METRICS,
    evaluate_calibration,
    format_calibration,
    trace_reliability,
)
from bcnet.evaluate.cases import find_logits, find_probabilities
from bcnet.evaluate.scaling import Scaling, fit_logistic, fit_scaling

# Two groups of probabilities: 1 of 4 is malignant where 0.25 was said, 2 of 4 where 0.75 was.
Y_TRUE = [0, 0, 0, 1, 0, 0, 1, 1]
Y_PROB = [0.25] * 4 + [0.75] * 4
BY_HAND = {
    "brier": (3 / 16 + 9 / 16 + 2 * 9 / 16 + 2 / 16) / 8,
    "reliability": 4 / 8 * 0.25**2,
    "uncertainty": 3 / 8 * 5 / 8,
    "resolution": 0.5 * (1 / 4 - 3 / 8) ** 2 + 0.5 * (1 / 2 - 3 / 8) ** 2,
    "ece": 4 / 8 * 0.25,
}


def make_cases(n_images=400, n_patients=80, *, slope=0.6, intercept=-0.5, seed=0):
    """Logits that say too much and too often malignant; patients have one label each."""
    rng = np.random.default_rng(seed)
    patients = np.arange(n_images) % n_patients
    logits = rng.normal(0, 2, n_patients)[patients] + rng.normal(0, 0.3, n_images)
    y_true = rng.random(n_images) < find_probabilities(slope * logits + intercept)
    return y_true.astype(int), logits, patients


def fit_reference(design, targets):
    """Fit fractional targets: each case as a benign and a malignant one, weighted."""
    model = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10, max_iter=1000)
    doubled = np.repeat([0, 1], len(targets))
    model.fit(np.tile(design, (2, 1)), doubled, np.concatenate([1 - targets, targets]))
    return model.coef_[0]


@pytest.mark.parametrize("name", BY_HAND)
def test_evaluate_calibration_equals_arithmetic_by_hand(name):
    result = evaluate_calibration(Y_TRUE, Y_PROB, draws=1)
    assert result["image"][name]["value"] == pytest.approx(BY_HAND[name])


@pytest.mark.parametrize(
    ("name", "scorer"),
    [("brier", reference.brier_score_loss), ("log_loss", reference.log_loss)],
)
def test_evaluate_calibration_equals_scikit_learn(name, scorer):
    y_true, logits, _ = make_cases()
    y_prob = find_probabilities(logits)
    result = evaluate_calibration(y_true, y_prob, draws=1)["image"]
    assert result[name]["value"] == pytest.approx(scorer(y_true, y_prob))


def test_evaluate_calibration_adds_up_to_the_brier_score_where_scores_differ():
    y_true, logits, _ = make_cases()
    result = evaluate_calibration(y_true, find_probabilities(logits), draws=1)["image"]
    value = {name: result[name]["value"] for name in CALIBRATION_METRICS}
    assert value["brier"] == pytest.approx(
        value["reliability"] - value["resolution"] + value["uncertainty"]
    )


def test_evaluate_calibration_slope_equals_scikit_learn():
    y_true, logits, _ = make_cases()
    design = np.stack([logits, np.ones_like(logits)], axis=1)
    result = evaluate_calibration(y_true, find_probabilities(logits), draws=1)["image"]
    assert result["slope"]["value"] == pytest.approx(fit_reference(design, y_true)[0], abs=1e-4)


def test_evaluate_calibration_intercept_brings_the_mean_to_the_share():
    y_true, logits, _ = make_cases()
    result = evaluate_calibration(y_true, find_probabilities(logits), draws=1)["image"]
    shifted = find_probabilities(logits + result["intercept"]["value"])
    assert shifted.mean() == pytest.approx(y_true.mean())


@pytest.mark.parametrize("seed", range(5))
def test_evaluate_calibration_refits_each_draw_nearly_as_a_full_fit_does(seed):
    y_true, logits, patients = make_cases()
    y_prob = find_probabilities(logits)
    drawn = evaluate_calibration(y_true, y_prob, patients=patients, draws=1, seed=seed)
    order = np.lexsort((patients, y_true, -y_prob))  # in which patients and draws are numbered
    _, groups = np.unique(patients.astype(str), return_inverse=True)
    counts = next(draw_weights(groups[order], 1, seed))[0].astype(int)
    rows = np.repeat(order, counts)
    design = np.stack([logits[rows], np.ones(len(rows))], axis=1)
    expected = fit_logistic(design, y_true[rows])[0]
    assert drawn["image"]["slope"]["low"] == pytest.approx(expected, abs=0.02)


def test_evaluate_calibration_intervals_hold_the_truth_as_often_as_they_say():
    inside = []
    for seed in range(150):
        y_true, logits, patients = make_cases(seed=seed)
        result = evaluate_calibration(
            y_true, find_probabilities(logits), patients=patients, draws=200, seed=seed
        )["image"]["slope"]
        inside.append(result["low"] <= 0.6 <= result["high"])
    assert 0.89 <= np.mean(inside) <= 0.99  # 150 repetitions see 0.95 ± 0.035


def test_evaluate_calibration_by_chance_is_what_true_probabilities_show():
    rng = np.random.default_rng(0)
    y_prob = rng.random(300)
    seen = []
    for _ in range(200):
        result = evaluate_calibration(rng.random(300) < y_prob, y_prob, draws=1)["image"]
        seen.append(result["ece"]["value"])
    assert result["ece_by_chance"] == pytest.approx(np.mean(seen), rel=0.1)


def test_evaluate_calibration_judges_patients_where_each_has_one_label():
    result = evaluate_calibration([0, 0, 1], [0.5, 0.5, 0.9], patients=["a", "a", "b"], draws=9)
    assert result["patient"]["brier"]["value"] == pytest.approx((0.25 + 0.01) / 2)


def test_evaluate_calibration_has_no_patients_where_one_has_both_labels():
    assert evaluate_calibration([0, 1], [0.2, 0.9], patients=["a", "a"], draws=9)["patient"] is None


def test_evaluate_calibration_depends_on_no_order():
    y_true, logits, patients = make_cases()
    order = np.random.default_rng(0).permutation(len(y_true))
    first, second = (
        evaluate_calibration(
            y_true[rows], find_probabilities(logits[rows]), patients=patients[rows], draws=50
        )
        for rows in (np.arange(len(y_true)), order)
    )
    assert json.dumps(first) == json.dumps(second)


@pytest.mark.parametrize(
    ("y_true", "y_prob"), [([0, 0], [0.2, 0.6]), ([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9])]
)
def test_evaluate_calibration_leaves_a_slope_undefined_that_has_no_end(y_true, y_prob):
    assert evaluate_calibration(y_true, y_prob, draws=20)["image"]["slope"]["value"] is None


def test_evaluate_calibration_stays_finite_where_probabilities_are_0_and_1():
    result = evaluate_calibration([0, 1, 1, 0], [0.0, 1.0, 0.0, 1.0], draws=50)["image"]
    assert result["log_loss"]["value"] == pytest.approx(16.118 / 2, rel=1e-3)


def test_evaluate_calibration_bounds_nothing_by_one_patient():
    result = evaluate_calibration([0, 1], [0.2, 0.9], patients=["a", "a"], draws=9)["image"]
    assert result["brier"]["low"] is None


def test_format_calibration_calls_a_case_what_the_reader_does():
    result = evaluate_calibration([0, 0, 1, 1], [0.2, 0.7, 0.6, 0.9], patients=list("abcd"))
    assert "by picture" in format_calibration(result)
    assert "by row" in format_calibration(result, "row")


def test_format_calibration_states_value_and_interval():
    y_true, logits, patients = make_cases()
    result = evaluate_calibration(y_true, find_probabilities(logits), patients=patients, draws=50)
    lines = format_calibration(result).splitlines()
    brier = result["image"]["brier"]
    assert lines[1].endswith("{value:.3f} [{low:.3f}, {high:.3f}]".format(**brier))


def test_trace_reliability_counts_equal_scores_in_one_group():
    traced = trace_reliability(Y_TRUE, Y_PROB, draws=50)
    assert traced["count"].tolist() == [4, 4]
    assert traced["share"].tolist() == [0.25, 0.5]


def test_trace_reliability_makes_ten_groups_of_equal_size():
    traced = trace_reliability([0, 1] * 500, np.linspace(0, 1, 1000) ** 2, draws=5)
    assert traced["count"].tolist() == [100] * 10


def test_trace_reliability_has_no_interval_of_one_patient():
    traced = trace_reliability(Y_TRUE, Y_PROB, patients=["a"] * 8, draws=5)
    assert np.isnan(traced["low"]).all()


@pytest.mark.parametrize("method", ["platt", "temperature"])
def test_fit_scaling_equals_scikit_learn_on_smoothed_labels(method):
    y_true, logits, _ = make_cases()
    count = np.bincount(y_true)
    smoothed = np.where(y_true, (count[1] + 1) / (count[1] + 2), 1 / (count[0] + 2))
    columns = [logits, np.ones_like(logits)][: 2 if method == "platt" else 1]
    expected = fit_reference(np.stack(columns, axis=1), smoothed)
    found = fit_scaling(y_true, logits, method=method)
    assert found[: len(expected)] == pytest.approx(expected, abs=1e-4)


def test_fit_scaling_finds_what_was_done_to_the_logits():
    y_true, logits, _ = make_cases(n_images=100_000, n_patients=100_000)
    assert fit_scaling(y_true, logits) == pytest.approx((0.6, -0.5), abs=0.03)


def test_fit_scaling_by_temperature_moves_no_one_half():
    y_true, logits, _ = make_cases()
    assert fit_scaling(y_true, logits, method="temperature").intercept == 0


@pytest.mark.parametrize("method", ["platt", "temperature"])
def test_fit_scaling_stays_finite_where_scores_separate_the_classes(method):
    slope = fit_scaling([0] * 20 + [1] * 20, [-30] * 20 + [30] * 20, method=method).slope
    assert 0 < slope < 1


@pytest.mark.parametrize("method", ["platt", "temperature"])
@pytest.mark.parametrize("logits", [[1, 2, -1, -2], [0, 0, 0, 0]])
def test_fit_scaling_refuses_to_turn_the_order(method, logits):
    with pytest.raises(ValueError, match="must not turn the order"):
        fit_scaling([0, 0, 1, 1], logits, method=method)


def test_fit_scaling_survives_logits_far_from_zero():
    rng = np.random.default_rng(0)
    y_true = np.arange(400) % 2
    logits = 500 + 40 * y_true + rng.normal(0, 40, 400)
    scaling = fit_scaling(y_true, logits)
    assert scaling.apply(logits).mean() == pytest.approx(0.5, abs=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "isotonic"}, "`method` must be one of platt"),
        ({"logits": [1, np.nan]}, "`logits` must be finite"),
        ({"y_true": [1, 1]}, "must hold both classes"),
    ],
)
def test_fit_scaling_names_a_wrong_argument(settings, message):
    settings = {"y_true": [0, 1], "logits": [-1, 1], **settings}
    with pytest.raises(ValueError, match=message):
        fit_scaling(**settings)


def test_scaling_applies_slope_before_intercept():
    assert find_logits(Scaling(2, 1).apply([3.0])) == pytest.approx([7])
