"""Reliability diagram and decision curve, tested by their data and their words."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from bcnet import plots
from bcnet.evaluate.calibration import evaluate_calibration, trace_reliability
from bcnet.evaluate.metrics import format_estimate
from bcnet.evaluate.prevalence import trace_benefit

RNG = np.random.default_rng(0)
Y_PROB = RNG.random(120)
Y_TRUE = (RNG.random(120) < Y_PROB).astype(int)
PATIENTS = [f"{i // 2}" for i in range(120)]
ON_AXES = [plots.plot_reliability, plots.plot_decision_curve]


@pytest.fixture(autouse=True)
def _headless():
    """Draw without a window, and close what a test leaves open."""
    plt.switch_backend("agg")
    yield
    plt.close("all")


def read(ax):
    """Collect the words of an axes."""
    legend = [text.get_text() for text in ax.get_legend().get_texts()]
    return " | ".join(
        [ax.get_xlabel(), ax.get_ylabel(), *legend, *(t.get_text() for t in ax.texts)]
    )


@pytest.mark.parametrize("plot", ON_AXES)
def test_every_plot_states_n_patients_positive_class_and_note(plot):
    words = read(plot(Y_TRUE, Y_PROB, patients=PATIENTS, note="simulated"))
    for told in ("120 pictures of 60 patients", "malignant = positive", "simulated"):
        assert told in words


@pytest.mark.parametrize("plot", ON_AXES)
def test_every_plot_says_that_patients_are_unknown(plot):
    assert "image-level: patients unknown" in read(plot(Y_TRUE, Y_PROB))


@pytest.mark.parametrize("plot", ON_AXES)
def test_every_plot_draws_on_the_axes_it_is_given(plot):
    ax = plt.subplots()[1]
    assert plot(Y_TRUE, Y_PROB, ax=ax) is ax


def test_plot_reliability_shows_the_points_that_were_traced():
    traced = trace_reliability(Y_TRUE, Y_PROB, patients=PATIENTS)
    line = plots.plot_reliability(Y_TRUE, Y_PROB, patients=PATIENTS).lines[1]
    np.testing.assert_array_equal(line.get_xydata().T, [traced["probability"], traced["share"]])


def test_plot_reliability_names_ece_and_brier_score():
    estimates = evaluate_calibration(Y_TRUE, Y_PROB, patients=PATIENTS)["image"]
    words = read(plots.plot_reliability(Y_TRUE, Y_PROB, patients=PATIENTS))
    assert f"ECE {format_estimate(estimates['ece'])}" in words
    assert f"Brier score {format_estimate(estimates['brier'])}" in words


def test_plot_reliability_of_one_class_draws():
    assert plots.plot_reliability([1, 1], [0.2, 0.9]).lines[1].get_ydata().tolist() == [1, 1]


def test_plot_decision_curve_shows_model_all_and_none():
    traced = trace_benefit(Y_TRUE, Y_PROB, patients=PATIENTS)
    lines = plots.plot_decision_curve(Y_TRUE, Y_PROB, patients=PATIENTS).lines
    np.testing.assert_array_equal(lines[0].get_ydata(), traced["model"])
    np.testing.assert_array_equal(lines[1].get_ydata(), traced["treat_all"])
    assert not np.any(lines[2].get_ydata())


def test_plot_decision_curve_says_whose_prevalence():
    assert "prevalence 0.05 (assumed)" in read(
        plots.plot_decision_curve(Y_TRUE, Y_PROB, prevalence=0.05)
    )
    assert "(in these data)" in read(plots.plot_decision_curve(Y_TRUE, Y_PROB))
