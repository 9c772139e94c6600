"""The band of probabilities to refer, worked by hand and kept in simulations."""

import json

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import binomtest

from bcnet.evaluate import abstention
from bcnet.evaluate.abstention import (
    LARGEST_MISS_RATE,
    MISS_RATE,
    TooFewCases,
    bound_rate,
    choose_band,
    find_referred,
    format_band,
)
from bcnet.evaluate.metrics import score_patients
from bcnet.evaluate.thresholds import choose_threshold

THRESHOLD = 0.5

# 20 benign cases at 0.1, 10 at 0.3; 60 malignant ones at 0.9, one at 0.2 and one at 0.4.
Y_TRUE = np.array([0] * 30 + [1] * 62)
Y_PROB = np.array([0.1] * 20 + [0.3] * 10 + [0.9] * 60 + [0.2, 0.4])


def draw_patients(count, rng):
    """One case a patient; 13 % of the malignant ones lie below the threshold."""
    y_true = (rng.random(count) < 0.4).astype(int)
    return y_true, expit(rng.normal(3 * y_true - 1.5, 1.3)), np.arange(count)


def draw_patches(count, rng):
    """Twenty patches of both labels a patient, who makes all of his alike."""
    patients = np.repeat(np.arange(count), 20)
    shift = rng.normal(0, 2.5, count)[patients]
    y_true = np.tile([0, 1], count * 10)
    return y_true, expit(rng.normal(4 * y_true - 2 + shift, 0.7)), patients


def measure_misses(band, y_true, y_prob):
    malignant = y_prob[y_true == 1]
    missed = malignant < band["low"]
    return missed.sum() / (missed | (malignant >= band["high"])).sum()


def count_broken(draw, *, cases, repetitions, fit_threshold=False, **settings):
    """Count the promises that a very large number of new cases breaks."""
    new_true, new_prob, _ = draw(50_000, np.random.default_rng(99))
    broken = 0
    for seed in range(repetitions):
        y_true, y_prob, patients = draw(cases, np.random.default_rng(seed))
        threshold = choose_threshold(y_true, y_prob) if fit_threshold else THRESHOLD
        band = choose_band(y_true, y_prob, threshold=threshold, patients=patients, **settings)
        broken += measure_misses(band, new_true, new_prob) > band["miss_rate"]
    return broken


@pytest.mark.parametrize(("events", "cases"), [(0, 33), (1, 20), (7, 400), (9, 10)])
def test_bound_rate_is_that_of_scipy(events, cases):
    # A two-sided interval of 90 % leaves 5 % above it.
    expected = binomtest(events, cases).proportion_ci(0.9, method="exact").high
    assert bound_rate(events, cases) == pytest.approx(expected)


def test_bound_rate_without_a_miss_is_the_closed_form():
    assert bound_rate(0, 33) == pytest.approx(1 - 0.05 ** (1 / 33))


@pytest.mark.parametrize(("events", "cases"), [(0, 0), (4, 4)])
def test_bound_rate_is_one_where_nothing_speaks_against_it(events, cases):
    assert bound_rate(events, cases) == 1


@pytest.mark.parametrize(
    ("miss_rate", "misses", "share"),
    [
        (0.05, 0, 80 / 92),  # up to the malignant case at 0.2
        (0.076, 1, 91 / 92),  # past it: bound_rate(1, 61) = 0.0755; up to the one at 0.4
        (0.1, 2, 1.0),  # past both: bound_rate(2, 62) = 0.098
    ],
)
def test_choose_band_refers_as_few_as_the_promise_allows(miss_rate, misses, share):
    band = choose_band(Y_TRUE, Y_PROB, threshold=THRESHOLD, miss_rate=miss_rate)
    assert (band["misses"], band["malignant_answered"]) == (misses, 60 + misses)
    assert band["answered"] == pytest.approx(share)
    assert band["high"] == THRESHOLD


def test_choose_band_stops_at_the_first_candidate_that_fails(monkeypatch):
    bounds = np.array([0.01, 0.04, 0.06, 0.04])  # the last would hold by luck
    steps = abstention._Steps(np.array([0.0, 0.1, 0.2, 0.3]), *[np.arange(4)] * 2, bounds)
    monkeypatch.setattr(abstention, "_try_lows", lambda *_: steps)
    assert choose_band(Y_TRUE, Y_PROB, threshold=THRESHOLD, miss_rate=0.05)["low"] == 0.1


def test_choose_band_takes_candidates_that_do_not_depend_on_the_cases():
    lows = {
        choose_band(Y_TRUE, Y_PROB + shift, threshold=THRESHOLD, miss_rate=0.05)["low"]
        for shift in (0.0, 1e-4)
    }
    assert len(lows) == 1


def test_choose_band_promises_what_the_cases_allow_by_default():
    band = choose_band(Y_TRUE, Y_PROB, threshold=THRESHOLD)
    assert band["miss_rate"] == MISS_RATE
    few = choose_band([0, *[1] * 33], [0.1] + [0.9] * 33, threshold=THRESHOLD)
    assert (few["miss_rate"], round(few["smallest"], 4)) == (0.087, 0.0868)


def test_choose_band_refuses_a_smaller_promise_and_says_the_smallest():
    with pytest.raises(TooFewCases, match=r"33 malignant pictures .*0\.087 .*miss_rate=0\.05"):
        choose_band([1] * 33, [0.9] * 33, threshold=THRESHOLD, miss_rate=0.05)


def test_choose_band_promises_nothing_of_use_to_no_one():
    with pytest.raises(TooFewCases, match=f"above {LARGEST_MISS_RATE} none is made"):
        choose_band([0, *[1] * 13], [0.1] + [0.9] * 13, threshold=THRESHOLD)


def test_choose_band_counts_only_malignant_cases():
    alone = choose_band([1] * 60, [0.9] * 60, threshold=THRESHOLD)
    among = choose_band([1] * 60 + [0] * 600, [0.9] * 60 + [0.1] * 600, threshold=THRESHOLD)
    assert alone["smallest"] == among["smallest"]


def test_choose_band_scores_patients_where_each_has_one_label():
    patients = np.repeat(np.arange(92), 2)
    y_prob = np.repeat(Y_PROB, 2) * np.tile([0.9, 1.1], 92)
    band = choose_band(np.repeat(Y_TRUE, 2), y_prob, threshold=THRESHOLD, patients=patients)
    keys, scores = score_patients(y_prob, patients)
    expected = choose_band(Y_TRUE[keys.astype(int)], scores, threshold=THRESHOLD)
    assert (band["unit"], band["n"], band["n_patients"]) == ("patient", 92, 92)
    assert (band["low"], band["misses"]) == (expected["low"], expected["misses"])


def test_choose_band_counts_pictures_and_draws_patients_where_labels_are_mixed():
    patients = np.concatenate([np.arange(30), np.arange(62) % 31])
    band = choose_band(Y_TRUE, Y_PROB, threshold=THRESHOLD, patients=patients)
    assert (band["unit"], band["n"], band["n_patients"]) == ("picture", 92, 31)
    assert band["reason"] == "30 of 31 patients have pictures of both classes"
    # Two pictures each: thirty-one patients bound the rate, not sixty-two pictures.
    assert band["smallest"] == pytest.approx(float(bound_rate(0, 31)), abs=0.02)


def test_choose_band_is_the_same_whatever_the_order_of_the_pictures():
    y_true, y_prob, patients = draw_patches(40, np.random.default_rng(0))
    order = np.random.default_rng(1).permutation(len(y_true))
    bands = [
        choose_band(y_true[rows], y_prob[rows], threshold=THRESHOLD, patients=patients[rows])
        for rows in (np.arange(len(order)), order)
    ]
    assert bands[0] == bands[1]


def test_choose_band_gives_what_json_can_hold():
    band = choose_band(Y_TRUE, Y_PROB, threshold=THRESHOLD)
    assert json.loads(json.dumps(band)) == band


@pytest.mark.parametrize("fit_threshold", [False, True])
def test_choose_band_keeps_its_promise_by_patient(fit_threshold):
    broken = count_broken(
        draw_patients, cases=200, repetitions=200, miss_rate=0.08, fit_threshold=fit_threshold
    )
    assert 0 < broken <= 10  # of 200; never broken would be a bound wider than need be


def test_choose_band_keeps_its_promise_where_pictures_come_in_patients():
    broken = count_broken(draw_patches, cases=60, repetitions=100, miss_rate=0.1, draws=300)
    assert broken <= 5  # of 100; 12 without the added patient, 32 if pictures were independent


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"threshold": 1.4}, "`threshold` must be between 0 and 1"),
        ({"threshold": 0.5, "miss_rate": 0.0}, "`miss_rate` must be above 0 and below 1"),
        ({"threshold": 0.5, "draws": 0}, "`draws` must be at least 1"),
    ],
)
def test_choose_band_checks_its_numbers(settings, message):
    with pytest.raises(ValueError, match=message):
        choose_band(Y_TRUE, Y_PROB, **settings)


def test_find_referred_takes_the_lower_end_and_leaves_the_upper():
    found = find_referred(np.array([0.19, 0.2, 0.49, 0.5]), 0.2, 0.5)
    assert found.tolist() == [False, True, True, False]


BAND = {
    "low": 0.1,
    "high": 0.3,
    "miss_rate": 0.025,
    "confidence": 0.95,
    "unit": "patient",
    "n": 569,
    "answered": 0.977,
    "data": "mine",
}


def test_format_band_tells_promise_band_and_cases():
    assert format_band(BAND) == (
        "of the malignant patients that are answered, at most 2.5% are called benign (95% "
        "confidence); from 0.1 to 0.3 they are referred, 98% are answered (569 patients: mine)"
    )


def test_format_band_of_an_empty_band_says_that_none_is_referred():
    assert "none of them needs to be referred (569" in format_band(BAND | {"low": 0.3})
