"""Predictive values and net benefit by hand, and by what must not change them."""

import json

import numpy as np
import pytest
from sklearn import metrics as reference

from bcnet.evaluate.prevalence import (
    ACTING,
    PROJECTIONS,
    format_projection,
    project_prevalence,
    shift_prevalence,
    trace_benefit,
)

# At 0.5, 9 of 10 malignant are found and 2 of 10 benign alarmed.
Y_TRUE = np.repeat([0, 1], 10)
Y_PROB = np.array([0.2] * 8 + [0.8] * 2 + [0.2] + [0.8] * 9)
AT_ONE_PERCENT = {
    "found": 9,
    "missed": 1,
    "false_alarms": 198,
    "passed": 792,
    "ppv": 9 / 207,
    "npv": 792 / 793,
    "number_needed_to_biopsy": 23,
}


def project(**settings):
    given = {"y_true": Y_TRUE, "y_prob": Y_PROB, "prevalence": 0.01, "threshold": 0.5, "draws": 99}
    return project_prevalence(**given | settings)


@pytest.mark.parametrize("name", PROJECTIONS)
def test_project_prevalence_equals_arithmetic_by_hand(name):
    assert project()[name]["value"] == pytest.approx(AT_ONE_PERCENT[name])


def test_project_prevalence_at_that_of_the_data_gives_its_precision():
    expected = reference.precision_score(Y_TRUE, Y_PROB >= 0.5)
    assert project(prevalence=0.5)["ppv"]["value"] == pytest.approx(expected)


def test_project_prevalence_bounds_what_it_says():
    found = project()["found"]
    assert 0 < found["low"] < found["value"] < found["high"] <= 10


def test_project_prevalence_leaves_undefined_what_calls_nothing_malignant():
    result = project(threshold=0.9)
    assert result["ppv"]["value"] is None
    assert result["number_needed_to_biopsy"]["value"] is None


def test_project_prevalence_counts_patients_where_each_has_one_label():
    patients = [f"{i // 2}" for i in range(20)]
    result = project(patients=patients)  # one malignant patient of five has logits of 0.2 and 0.8
    assert result["unit"] == "patient"
    assert result["found"]["value"] == pytest.approx(10)  # whose mean, 0.5, is on the threshold


def test_project_prevalence_counts_pictures_where_a_patient_has_both_labels():
    assert project(patients=["anna"] * 20)["unit"] == "image"


@pytest.mark.parametrize("prevalence", [0, 1, -0.1, float("nan")])
def test_project_prevalence_refuses_what_is_no_share(prevalence):
    with pytest.raises(ValueError, match="`prevalence` must be between 0 and 1"):
        project(prevalence=prevalence)


def test_project_prevalence_can_be_written_as_json():
    assert json.loads(json.dumps(project()))["prevalence"] == 0.01


def test_format_projection_names_unit_and_numbers():
    text = format_projection(project())
    assert text.startswith("where 1 % are malignant, of 1,000 pictures")
    assert "number needed to biopsy  23.0 [" in text


def test_trace_benefit_equals_arithmetic_by_hand():
    traced = trace_benefit(Y_TRUE, Y_PROB, draws=9)
    at = np.searchsorted(ACTING, 0.4)
    assert traced["model"][at] == pytest.approx(9 / 20 - 2 / 20 * ACTING[at] / (1 - ACTING[at]))


def test_trace_benefit_of_calling_all_is_that_of_treating_all():
    traced = trace_benefit(Y_TRUE, Y_PROB, draws=9)
    low = ACTING < 0.2
    np.testing.assert_allclose(traced["model"][low], traced["treat_all"][low])


def test_trace_benefit_of_calling_none_is_nothing():
    assert np.all(trace_benefit(Y_TRUE, Y_PROB, draws=9)["model"][ACTING > 0.81] == 0)


def test_trace_benefit_holds_the_curve_in_its_band():
    traced = trace_benefit(Y_TRUE, Y_PROB, draws=200)
    assert np.all((traced["low"] <= traced["model"]) & (traced["model"] <= traced["high"]))


def test_trace_benefit_at_that_of_the_data_changes_nothing():
    rng = np.random.default_rng(0)
    y_prob = rng.random(20)
    expected = trace_benefit(Y_TRUE, y_prob, draws=9)["model"]
    np.testing.assert_allclose(
        trace_benefit(Y_TRUE, y_prob, prevalence=0.5, draws=9)["model"], expected
    )


def test_trace_benefit_shifts_probabilities_to_the_prevalence():
    traced = trace_benefit(Y_TRUE, Y_PROB, prevalence=0.1, draws=9)
    # 0.8 has odds 4, a ninth of which is 0.44: a probability of 0.308
    assert traced["model"][np.searchsorted(ACTING, 0.295)] > 0
    assert traced["model"][np.searchsorted(ACTING, 0.315)] == 0


def test_trace_benefit_weighs_the_classes_by_the_prevalence():
    traced = trace_benefit(Y_TRUE, Y_PROB, prevalence=0.1, draws=9)
    at = np.searchsorted(ACTING, 0.095)
    assert traced["model"][at] == pytest.approx(0.1 * 0.9 - 0.9 * 0.2 / 9)


def test_trace_benefit_of_true_probabilities_loses_to_nobody():
    rng = np.random.default_rng(0)
    y_prob = rng.random(50_000)
    traced = trace_benefit(rng.random(50_000) < y_prob, y_prob, draws=1)
    assert np.all(traced["model"] > np.maximum(traced["treat_all"], 0) - 0.002)


def test_trace_benefit_has_no_band_of_one_patient():
    traced = trace_benefit(Y_TRUE, Y_PROB, patients=["anna"] * 20, draws=9)
    assert np.isnan(traced["low"]).all()


def test_shift_prevalence_there_and_back_changes_nothing():
    y_prob = np.array([0.1, 0.5, 0.9])
    there = shift_prevalence(y_prob, 0.5, 0.01)
    np.testing.assert_allclose(shift_prevalence(there, 0.01, 0.5), y_prob)
