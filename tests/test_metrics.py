"""Metrics by hand, against scikit-learn, and by what must not change them."""

import json

import numpy as np
import pytest
from sklearn import metrics as reference

from bcnet.evaluate.metrics import (
    METRICS,
    bound_auc_within,
    bound_mean,
    bound_roc,
    evaluate,
    format_metrics,
    label_patients,
    score_patients,
    trace_counts,
)

# Six pictures with a tie across the classes at 0.6. At threshold 0.5 four are called malignant,
# three of them rightly: tp 3, fp 1, fn 0, tn 2.
Y_TRUE = [0, 0, 0, 1, 1, 1]
Y_PROB = [0.1, 0.3, 0.6, 0.6, 0.8, 0.9]
BY_HAND = {
    "auc": 8.5 / 9,  # of nine pairs eight are in order and one is a tie
    "balanced_accuracy": (1 + 2 / 3) / 2,
    "sensitivity": 1,
    "specificity": 2 / 3,
    "accuracy": 5 / 6,
    "precision": 3 / 4,
    "f1": 6 / 7,  # 2 tp / (2 tp + fp + fn)
    "average_precision": (1 + 1 + 3 / 4) / 3,
}


def make_cases(n_images=60, n_patients=12, seed=0):
    """Tied scores (one decimal) of pictures whose patients have one label each."""
    rng = np.random.default_rng(seed)
    codes = rng.permutation(np.arange(n_images) % n_patients)
    y_true = (codes % 2).astype(int)
    y_prob = np.clip(rng.normal(0.4 + 0.2 * y_true, 0.2), 0, 1).round(1)
    return y_true, y_prob, np.array([f"patient-{code}" for code in codes])


def estimate(result, unit="image"):
    """Flatten the estimates, for comparison."""
    return np.array([list(result[unit][name].values()) for name in METRICS], dtype=float)


@pytest.mark.parametrize("name", METRICS)
def test_evaluate_equals_arithmetic_by_hand(name):
    assert evaluate(Y_TRUE, Y_PROB, draws=1)["image"][name]["value"] == pytest.approx(BY_HAND[name])


def test_evaluate_counts_confusions_with_truth_in_rows():
    assert evaluate(Y_TRUE, Y_PROB, draws=1)["confusion_matrix"] == [[2, 1], [0, 3]]


def test_evaluate_calls_a_score_on_the_threshold_malignant():
    assert evaluate(Y_TRUE, Y_PROB, threshold=0.6, draws=1)["confusion_matrix"] == [[2, 1], [0, 3]]


def test_evaluate_states_the_majority_baseline():
    assert evaluate([0, 1, 1, 1], [0.1, 0.2, 0.3, 0.4], draws=1)["majority_accuracy"] == 0.75


@pytest.mark.parametrize(
    ("name", "scorer"),
    [
        ("auc", reference.roc_auc_score),
        ("average_precision", reference.average_precision_score),
        ("precision", lambda y, p, **weights: reference.precision_score(y, p >= 0.5, **weights)),
        ("f1", lambda y, p, **weights: reference.f1_score(y, p >= 0.5, **weights)),
    ],
)
def test_evaluate_bounds_equal_scikit_learn_on_the_drawn_patients(name, scorer):
    y_true, y_prob, patients = make_cases()
    keys, codes = np.unique(patients, return_inverse=True)
    drawn = np.random.default_rng(5).integers(len(keys), size=(200, len(keys)))
    expected = []
    for draw in drawn:
        weights = np.bincount(draw, minlength=len(keys))[codes]
        expected.append(scorer(y_true, y_prob, sample_weight=weights))
    result = evaluate(y_true, y_prob, patients=patients, draws=200, seed=5)["image"][name]
    assert [result["low"], result["high"]] == pytest.approx(np.quantile(expected, [0.025, 0.975]))


def test_evaluate_bounds_do_not_depend_on_the_size_of_blocks(monkeypatch):
    y_true, y_prob, patients = make_cases()
    whole = evaluate(y_true, y_prob, patients=patients, draws=50)
    monkeypatch.setattr("bcnet.evaluate.bootstrap.WEIGHTS_AT_ONCE", 7 * 60)
    blocks = evaluate(y_true, y_prob, patients=patients, draws=50)
    np.testing.assert_allclose(estimate(blocks), estimate(whole), rtol=1e-12)


@pytest.mark.parametrize("known", [True, False])
def test_evaluate_ignores_the_order_of_pictures(known):
    y_true, y_prob, patients = make_cases()
    order = np.random.default_rng(1).permutation(len(y_true))
    first = evaluate(y_true, y_prob, patients=patients if known else None, draws=50)
    again = evaluate(
        y_true[order], y_prob[order], patients=patients[order] if known else None, draws=50
    )
    assert first == again


def test_evaluate_intervals_do_not_shrink_when_every_picture_is_doubled():
    y_true, y_prob, patients = make_cases()
    once = evaluate(y_true, y_prob, patients=patients, draws=200)
    twice = evaluate(
        np.tile(y_true, 2), np.tile(y_prob, 2), patients=np.tile(patients, 2), draws=200
    )
    np.testing.assert_allclose(estimate(twice), estimate(once))
    np.testing.assert_allclose(estimate(twice, "patient"), estimate(once, "patient"))


def test_evaluate_intervals_shrink_when_doubled_pictures_lose_their_patients():
    y_true, y_prob, _ = make_cases()
    once = estimate(evaluate(y_true, y_prob, draws=500))
    twice = estimate(evaluate(np.tile(y_true, 2), np.tile(y_prob, 2), draws=500))
    shrunk = (twice[:, 2] - twice[:, 1]) / (once[:, 2] - once[:, 1])
    assert np.all(shrunk < 0.85)  # 0.71 = 1 / sqrt(2) but for the draws


def test_evaluate_interval_covers_the_true_accuracy():
    # 100 studies of 40 patients with five equal answers each: right for 0.8 of the patients.
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(100):
        y_true = np.repeat(rng.integers(2, size=40), 5)
        right = np.repeat(rng.random(40) < 0.8, 5)
        y_prob = np.where(right, y_true, 1 - y_true) * 0.8 + 0.1
        result = evaluate(y_true, y_prob, patients=np.repeat(np.arange(40), 5), draws=200)
        interval = result["image"]["accuracy"]
        covered += interval["low"] <= 0.8 <= interval["high"]
    assert 87 <= covered <= 99  # drawing pictures instead covers some 60


def test_evaluate_patient_score_is_the_mean_logit():
    # Odds 9 and 1/4: their geometric mean is sqrt(9 / 4) = 1.5, a probability of 1.5 / 2.5 = 0.6.
    # The mean probability, 0.55, would miss anna at this threshold.
    result = evaluate(
        [1, 1, 0], [0.9, 0.2, 0.3], patients=["anna", "anna", "bea"], threshold=0.58, draws=1
    )
    assert result["patient"]["sensitivity"]["value"] == 1


def test_evaluate_patients_of_one_picture_equal_pictures():
    y_true, y_prob, _ = make_cases()
    result = evaluate(y_true, y_prob, patients=np.arange(len(y_true)), threshold=0.45, draws=1)
    assert estimate(result, "patient")[:, 0] == pytest.approx(estimate(result)[:, 0])


def test_evaluate_patient_majority_counts_patients():
    result = evaluate([1, 1, 1, 0, 0], [0.5] * 5, patients=list("aaabc"), draws=1)
    assert result["patient_majority_accuracy"] == pytest.approx(2 / 3)


def test_evaluate_has_no_patient_metrics_where_patients_are_mixed():
    result = evaluate([0, 1, 1], [0.1, 0.2, 0.3], patients=["anna", "anna", "bea"], draws=1)
    assert result["patient"] is None
    assert result["patient_reason"] == "1 of 2 patients have pictures of both classes"


def test_evaluate_says_that_patients_are_unknown():
    result = evaluate(Y_TRUE, Y_PROB, draws=1)
    assert result["n_patients"] is None
    assert result["patient_reason"] == "image-level: patients unknown"


@pytest.mark.parametrize(
    ("y_true", "threshold", "undefined"),
    [
        ([0, 0, 0], 0.5, ["auc", "balanced_accuracy", "sensitivity", "average_precision"]),
        ([1, 1, 1], 0.5, ["auc", "balanced_accuracy", "specificity"]),
        ([0, 1, 1], 1.0, ["precision"]),
        ([0, 0, 0], 1.0, [*METRICS[:3], "precision", "f1", "average_precision"]),
    ],
)
def test_evaluate_leaves_undefined_metrics_empty(y_true, threshold, undefined):
    result = evaluate(y_true, [0.2, 0.6, 0.9], threshold=threshold, draws=20)
    empty = [name for name in METRICS if result["image"][name]["value"] is None]
    assert empty == undefined


def test_evaluate_gives_no_interval_where_many_draws_are_undefined():
    # One malignant picture of ten is missing from 0.9 ** 10 = 35 % of the draws.
    image = evaluate([1] + [0] * 9, np.linspace(0.9, 0.1, 10), draws=200)["image"]
    assert image["sensitivity"] == {"value": 1, "low": None, "high": None}
    assert image["accuracy"]["low"] is not None


def test_evaluate_gives_no_interval_from_one_patient():
    image = evaluate(Y_TRUE, Y_PROB, patients=["anna"] * 6, draws=20)["image"]
    assert all(image[name]["low"] is None for name in METRICS)


def test_evaluate_result_is_valid_json():
    result = evaluate([0, 0], [0.2, 0.6], patients=["anna", "bea"], draws=20)
    assert json.loads(json.dumps(result, allow_nan=False)) == result


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y_true": []}, "`y_true` must be one-dimensional and not empty"),
        ({"y_prob": [[0.1]] * 6}, r"Received: shape=\(6, 1\)"),
        ({"y_prob": [0.5] * 5}, "Received: 6 labels and 5 probabilities"),
        ({"y_prob": [0.1, float("nan"), *Y_PROB[2:]]}, r"Received: y_prob\[1\]=nan"),
        ({"y_prob": [*Y_PROB[:5], 1.01]}, r"Received: y_prob\[5\]=1.01"),
        ({"y_true": [2, *Y_TRUE[1:]]}, r"Received: y_true\[0\]=2"),
        ({"threshold": 1.4}, "Received: threshold=1.4"),
        ({"draws": 0}, "Received: draws=0"),
        ({"patients": ["anna"]}, "Received: 1 keys for 6 pictures"),
        ({"patients": ["anna", None] * 3}, r"Received: patients\[1\]=None"),
    ],
)
def test_evaluate_refuses(changes, message):
    arguments = {"y_true": Y_TRUE, "y_prob": Y_PROB, **changes}
    with pytest.raises(ValueError, match=message):
        evaluate(arguments.pop("y_true"), arguments.pop("y_prob"), **arguments)


def test_score_patients_keeps_saturated_pictures_finite():
    # Logits of 1 and 0 are ±16.1 and cancel.
    assert score_patients([1.0, 0.0], ["anna", "anna"])[1] == pytest.approx([0.5])


def test_label_patients_follows_the_order_of_score_patients():
    keys, labels = label_patients([1, 0, 1], ["b", "a", "b"])
    assert keys.tolist() == score_patients([0.1, 0.2, 0.3], ["b", "a", "b"])[0].tolist()
    assert labels.tolist() == [0, 1]


def test_label_patients_refuses_mixed_patients():
    with pytest.raises(ValueError, match="1 of 1 patients have pictures of both classes"):
        label_patients([0, 1], ["anna", "anna"])


def test_trace_counts_equals_scikit_learn():
    y_true, y_prob, _ = make_cases()
    thresholds, hits, alarms = trace_counts(y_true, y_prob)
    fpr, tpr, expected = reference.roc_curve(y_true, y_prob, drop_intermediate=False)
    np.testing.assert_allclose(
        [thresholds, hits / hits[-1], alarms / alarms[-1]], [expected, tpr, fpr]
    )


def test_auc_within_is_the_mean_of_the_networks_by_their_pairs():
    rng = np.random.default_rng(0)
    networks = np.repeat(["a", "b", "c"], [40, 25, 60])
    y_true = rng.integers(0, 2, 125)
    y_prob = np.round(rng.random(125) * 0.6 + 0.4 * y_true * rng.random(125), 2)  # with ties
    parts = [networks == name for name in "abc"]
    aucs = [reference.roc_auc_score(y_true[rows], y_prob[rows]) for rows in parts]
    pairs = [y_true[rows].sum() * (1 - y_true[rows]).sum() for rows in parts]
    found = bound_auc_within(y_true, y_prob, networks, draws=200)
    assert found["value"] == pytest.approx(np.average(aucs, weights=pairs))
    assert found["low"] < found["value"] < found["high"]


def test_auc_within_does_not_compare_scales():
    y_true, networks = np.tile([0, 1], 20), np.repeat([0, 1], 20)
    y_prob = np.where(networks == 0, 0.1, 0.8) + 0.05 * y_true
    assert reference.roc_auc_score(y_true, y_prob) == 0.75
    told_apart = {"value": 1.0, "low": 1.0, "high": 1.0}
    assert bound_auc_within(y_true, y_prob, networks, draws=50) == told_apart


def test_auc_within_draws_patients_whole():
    y_true, networks = np.tile([0, 1], 20), np.zeros(40)
    y_prob = np.random.default_rng(0).random(40)
    alone = bound_auc_within(y_true, y_prob, networks, patients=["anna"] * 40, draws=50)
    assert alone["value"] is not None
    assert alone["low"] is None
    drawn = bound_auc_within(y_true, y_prob, networks, draws=200)
    five = bound_auc_within(y_true, y_prob, networks, patients=np.arange(40) // 8, draws=200)
    assert five["value"] == drawn["value"]
    assert five["low"] != drawn["low"]


def test_auc_within_is_undefined_without_a_pair():
    found = bound_auc_within([0, 0, 1, 1], [0.1, 0.2, 0.3, 0.4], [0, 0, 1, 1], draws=20)
    assert found == {"value": None, "low": None, "high": None}


def test_auc_within_refuses_networks_of_another_length():
    with pytest.raises(ValueError, match="`networks` must name one for each of 6 cases"):
        bound_auc_within(Y_TRUE, Y_PROB, [0, 1])


def test_bound_roc_holds_the_curve():
    y_true, y_prob, patients = make_cases(n_images=200, n_patients=40)
    _, hits, alarms = trace_counts(y_true, y_prob)
    rates, low, high = bound_roc(y_true, y_prob, patients=patients, draws=200)
    curve = np.interp(rates, alarms / alarms[-1], hits / hits[-1])
    assert np.all((low <= curve) & (curve <= high) & (low < high)[50])


def test_bound_roc_is_none_for_one_patient():
    assert bound_roc(Y_TRUE, Y_PROB, patients=["anna"] * 6, draws=20) is None


def test_bound_mean_draws_patients_with_all_their_pictures():
    # the draws: anna twice, bea twice, or one of each; pictures of anna always together
    estimate = bound_mean([1, 3, 8], patients=["anna", "anna", "bea"])
    assert estimate == {"value": 4, "low": 2, "high": 8}


def test_bound_mean_without_patients_draws_pictures():
    estimate = bound_mean([1, 3, 8])
    assert estimate["low"] < 2
    assert estimate["high"] == 8


def test_bound_mean_has_no_interval_for_one_patient():
    expected = {"value": 2, "low": None, "high": None}
    assert bound_mean([1, 3], patients=["anna", "anna"]) == expected


def test_bound_mean_refuses_what_is_not_finite():
    with pytest.raises(ValueError, match=r"`values` must be finite\. Received: nan"):
        bound_mean([1, np.nan])


def test_format_metrics_states_value_interval_n_and_baseline():
    y_true, y_prob, patients = make_cases()
    result = evaluate(y_true, y_prob, patients=patients, draws=100)
    lines = format_metrics(result).splitlines()
    accuracy = result["patient"]["accuracy"]
    assert lines[0].split() == ["60", "pictures", "12", "patients"]
    assert lines[5].endswith("{value:.3f} [{low:.3f}, {high:.3f}]".format(**accuracy))
    assert lines[6].split() == ["majority", "class", "0.500", "0.500"]


def test_format_metrics_says_why_patients_are_missing():
    text = format_metrics(evaluate([0, 0], [0.2, 0.6], draws=20))
    assert text.endswith("no patient metrics: image-level: patients unknown")
    assert "undefined" in text.splitlines()[1]
