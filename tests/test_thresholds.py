"""Thresholds by hand, against an exhaustive search, and what so few patients can show."""

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn import metrics as reference

from bcnet.config import THRESHOLD_RULES
from bcnet.evaluate.thresholds import (
    choose_threshold,
    count_units,
    describe_rule,
    find_largest_target,
    require_showable,
)

TARGETS = {"fixed": 0.3, "cost": 5.0, "sensitivity": 0.9, "specificity": 0.9}


def make_cases(n_images=60, seed=0):
    """Tied scores, one decimal each."""
    rng = np.random.default_rng(seed)
    y_true = rng.permutation(np.arange(n_images) % 2)
    return y_true, np.clip(rng.normal(0.4 + 0.2 * y_true, 0.2), 0, 1).round(1)


def list_answers(y_true, y_prob):
    """Every way of dividing the cases by a threshold: malignant found, benign alarmed."""
    calls = [y_prob >= score for score in np.unique(y_prob)]
    return np.array(
        [(np.sum(call & (y_true == 1)), np.sum(call & (y_true == 0))) for call in calls]
    ).T


def count_answers(y_true, y_prob, threshold):
    call = y_prob >= threshold
    return np.sum(call & (y_true == 1)), np.sum(call & (y_true == 0))


@pytest.mark.parametrize(
    ("y_true", "y_prob", "expected"),
    [
        ([0, 0, 1, 1], [0.1, 0.2, 0.6, 0.9], 0.4),  # the middle of the gap that separates
        ([0, 1, 0, 1], [0.125, 0.25, 0.5, 0.75], 0.625),  # two equal maxima: the wider gap
        ([0, 1, 0, 1], [0.0, 0.25, 0.5, 0.75], 0.125),  # and equally wide: the lower
        ([1, 0], [0.4, 0.6], 0.2),  # worse than chance: everything is malignant
        ([0, 1], [0.0, 0.0], 0.0),  # nothing to choose from
    ],
)
def test_choose_threshold_by_hand(y_true, y_prob, expected):
    assert choose_threshold(y_true, y_prob) == pytest.approx(expected, abs=0, rel=1e-15)


def test_choose_threshold_takes_the_upper_score_where_no_number_lies_between():
    upper = np.nextafter(0.5, 1)
    assert choose_threshold([0, 1], [0.5, upper]) == upper


def test_choose_threshold_reaches_the_best_balanced_accuracy():
    y_true, y_prob = make_cases(seed=3)
    every = [reference.balanced_accuracy_score(y_true, y_prob >= t) for t in np.unique(y_prob)]
    chosen = y_prob >= choose_threshold(y_true, y_prob)
    assert reference.balanced_accuracy_score(y_true, chosen) == pytest.approx(max(every))


def test_choose_threshold_survives_float32():
    y_true, y_prob = make_cases(seed=3)
    threshold = choose_threshold(y_true, y_prob)
    np.testing.assert_array_equal(np.float32(y_prob) >= np.float32(threshold), y_prob >= threshold)


def test_choose_threshold_refuses_one_class():
    with pytest.raises(ValueError, match="Received: only 1"):
        choose_threshold([1, 1], [0.2, 0.8])


def test_choose_threshold_f1_reaches_the_best():
    y_true, y_prob = make_cases(seed=3)
    best = max(reference.f1_score(y_true, y_prob >= score) for score in np.unique(y_prob))
    threshold = choose_threshold(y_true, y_prob, rule="f1")
    assert reference.f1_score(y_true, y_prob >= threshold) == pytest.approx(best)


@pytest.mark.parametrize("cost", [0.2, 1.0, 5.0])
def test_choose_threshold_cost_is_the_least(cost):
    y_true, y_prob = make_cases(seed=3)
    found, alarmed = list_answers(y_true, y_prob)
    hits, alarms = count_answers(
        y_true, y_prob, choose_threshold(y_true, y_prob, rule="cost", target=cost)
    )
    assert alarms - cost * hits == pytest.approx(np.min(alarmed - cost * found))


@pytest.mark.parametrize("target", [0.5, 0.8, 0.9, 29 / 30])
def test_choose_threshold_reaches_a_sensitivity_with_the_fewest_alarms(target):
    y_true, y_prob = make_cases(seed=3)
    found, alarmed = list_answers(y_true, y_prob)
    threshold = choose_threshold(y_true, y_prob, rule="sensitivity", target=target)
    hits, alarms = count_answers(y_true, y_prob, threshold)
    assert hits / 30 >= target
    assert alarms == alarmed[found / 30 >= target].min()


@pytest.mark.parametrize("target", [0.5, 0.8, 0.9])
def test_choose_threshold_reaches_a_specificity_with_the_fewest_misses(target):
    y_true, y_prob = make_cases(seed=3)
    found, alarmed = list_answers(y_true, y_prob)
    threshold = choose_threshold(y_true, y_prob, rule="specificity", target=target)
    hits, alarms = count_answers(y_true, y_prob, threshold)
    assert 1 - alarms / 30 >= target
    assert hits == found[1 - alarmed / 30 >= target].max()


def test_choose_threshold_takes_a_target_that_is_met_exactly():
    # nine of ten are found above 0.2, where a false alarm waits; 9 / 10 is 0.9 to the last digit
    y_true, y_prob = [1, 0] + [1] * 9, [0.1, 0.2] + [0.3] * 9
    threshold = choose_threshold(y_true, y_prob, rule="sensitivity", target=0.9)
    assert threshold == pytest.approx(0.25)


def test_choose_threshold_fixed_is_the_target():
    assert choose_threshold([0, 1], [0.2, 0.9], rule="fixed", target=0.5) == 0.5


def test_choose_threshold_refuses_a_specificity_that_calls_nothing_malignant():
    with pytest.raises(ValueError, match=r"specificity of 0\.9 .* the largest is 0\.5"):
        choose_threshold([0, 0, 1], [0.9, 0.1, 0.5], rule="specificity", target=0.9)


@pytest.mark.parametrize(
    ("rule", "target", "message"),
    [
        ("roc", None, "`threshold_rule` must be one of youden"),
        ("youden", 0.9, "`target` is for fixed, cost"),
        ("sensitivity", None, "`target` must be the share of malignant cases to find, between"),
        ("sensitivity", 1.0, "between 0 and 1"),
        ("cost", 0.0, "above 0"),
        ("cost", float("inf"), "above 0"),
    ],
)
def test_choose_threshold_names_a_wrong_rule(rule, target, message):
    with pytest.raises(ValueError, match=message):
        choose_threshold([0, 1], [0.2, 0.9], rule=rule, target=target)


@pytest.mark.parametrize("rule", THRESHOLD_RULES)
def test_choose_threshold_depends_on_no_order(rule):
    y_true, y_prob = make_cases(seed=3)
    order = np.random.default_rng(0).permutation(len(y_true))
    chosen = [
        choose_threshold(y_true[rows], y_prob[rows], rule=rule, target=TARGETS.get(rule))
        for rows in (slice(None), order)
    ]
    assert chosen[0] == chosen[1]


@pytest.mark.parametrize("count", [1, 20, 33, 59])
def test_find_largest_target_is_the_exact_bound_of_no_miss(count):
    bound = binomtest(count, count, alternative="greater").proportion_ci(0.95, method="exact").low
    assert find_largest_target(count) == pytest.approx(bound)


def test_require_showable_names_the_largest_target_and_how_many_are_needed():
    message = r"sensitivity of 0\.95 .* 58 malignant pictures: 0\.950 at most.*; 59 are needed"
    with pytest.raises(ValueError, match=message):
        require_showable([1] * 58 + [0], rule="sensitivity", target=0.95)


def test_require_showable_takes_what_can_be_shown():
    require_showable([1] * 59, rule="sensitivity", target=0.95)


def test_require_showable_counts_patients_of_the_class():
    patients = ["anna"] * 30 + ["bea"] * 30
    with pytest.raises(ValueError, match="by 1 benign patients"):
        require_showable([1] * 30 + [0] * 30, rule="specificity", target=0.5, patients=patients)


def test_count_units_counts_a_patient_of_both_classes_twice():
    assert count_units([0, 1, 1], ["anna", "anna", "bea"]) == (1, 2)


@pytest.mark.parametrize("rule", THRESHOLD_RULES)
def test_describe_rule_names_the_target(rule):
    words = describe_rule(rule, TARGETS.get(rule))
    assert "{" not in words
    assert rule not in TARGETS or f"{TARGETS[rule]:g}" in words
