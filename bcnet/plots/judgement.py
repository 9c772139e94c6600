"""Whether probabilities can be believed, and whether acting on them helps.

The numbers come from `bcnet.evaluate`; nothing is computed here that a table could show.
"""

import numpy as np

from bcnet.config import CLASS_NAMES
from bcnet.evaluate.calibration import evaluate_calibration, trace_reliability
from bcnet.evaluate.metrics import PATIENTS_UNKNOWN, format_estimate
from bcnet.evaluate.prevalence import trace_benefit
from bcnet.plots.style import (
    GREY,
    INK,
    MODEL_COLOUR,
    PALE,
    POSITIVE,
    head_axes,
    make_axes,
    tidy_axes,
)


def plot_reliability(
    y_true, y_prob, *, patients=None, ax=None, title="Reliability diagram", note=None
):
    """Plot the share of malignant pictures against the probability that was said of them.

    Each point is a tenth of the pictures; below the diagonal the model says malignant too often.
    The bars below show how many pictures have each probability.

    Args:
        y_true: Labels, shape `(n_images,)`; 0 = benign, 1 = malignant.
        y_prob: Probabilities of malignant, shape `(n_images,)`, 0–1.
        patients: One key per picture; None says on the figure that they are unknown.
        ax: The axes to draw on; None makes a figure.
        title: Title of the axes.
        note: What a reader must know of the data, e.g. "simulated".

    Returns:
        The axes; its first two lines are the diagonal and the points.

    Raises:
        ValueError: As in `evaluate_calibration`.

    Example:
        >>> ax = plot_reliability([0, 1, 1, 1], [0.25, 0.25, 0.75, 0.75], patients=list("abcd"))
        >>> ax.lines[1].get_ydata().tolist()
        [0.5, 1.0]
    """
    traced = trace_reliability(y_true, y_prob, patients=patients)
    estimates = evaluate_calibration(y_true, y_prob, patients=patients)["image"]
    ax = make_axes(ax, (5.4, 6))
    ticks = np.linspace(0, 1, 6)
    ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal", xticks=ticks, yticks=ticks)
    tidy_axes(ax)
    ax.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--", label="as said, so seen")
    label = f"ECE {format_estimate(estimates['ece'])}"
    x, share = traced["probability"], traced["share"]
    ax.plot(x, share, "o-", color=MODEL_COLOUR, linewidth=1.5, markersize=5, label=label)
    ax.vlines(x, traced["low"], traced["high"], color=MODEL_COLOUR, linewidth=1.5)
    counts, edges = np.histogram(y_prob, bins=25, range=(0, 1))
    ax.stairs(0.15 * counts / counts.max(), edges, color=PALE, fill=True, zorder=0)
    ax.set_xlabel(f"Probability of {CLASS_NAMES[1]} that was said")
    ax.set_ylabel(f"Share of {CLASS_NAMES[1]} that was seen, with 95 % interval")
    ax.legend(frameon=False, loc="upper left")
    brier = f"Brier score {format_estimate(estimates['brier'])}"
    head_axes(ax, title, *_describe_pictures(y_true, patients), brier, note)
    return ax


def plot_decision_curve(
    y_true, y_prob, *, prevalence=None, patients=None, ax=None, title="Decision curve", note=None
):
    """Plot the net benefit of acting on a model, against treating all and treating none.

    Args:
        y_true: Labels, shape `(n_images,)`; 0 = benign, 1 = malignant; both must occur.
        y_prob: Probabilities of malignant, shape `(n_images,)`, 0–1.
        prevalence: Where it is to be used, between 0 and 1; None for that of the data.
        patients: One key per picture; None says on the figure that they are unknown.
        ax: The axes to draw on; None makes a figure.
        title: Title of the axes.
        note: What a reader must know of the data, e.g. "simulated".

    Returns:
        The axes; its lines are the model, treating all and treating none.

    Raises:
        ValueError: As in `trace_benefit`.

    Example:
        >>> ax = plot_decision_curve([0, 0, 0, 1], [0.1, 0.2, 0.3, 0.9], patients=list("abcd"))
        >>> ax.get_legend_handles_labels()[1]
        ['95 % band, pointwise', 'the model', 'treat all', 'treat none']
    """
    traced = trace_benefit(y_true, y_prob, prevalence=prevalence, patients=patients)
    x, model, share = traced["threshold"], traced["model"], traced["prevalence"]
    ax = make_axes(ax, (6.4, 4.4))
    # Far below zero every curve goes for somebody; what is worth seeing lies above it.
    ax.set(xlim=(0, 1), ylim=(-0.3 * share, 1.1 * share))
    tidy_axes(ax)
    band = {"color": MODEL_COLOUR, "alpha": 0.18, "linewidth": 0}
    ax.fill_between(x, traced["low"], traced["high"], **band, label="95 % band, pointwise")
    ax.plot(x, model, color=MODEL_COLOUR, linewidth=2, label="the model")
    ax.plot(x, traced["treat_all"], color=INK, linewidth=1.2, label="treat all")
    ax.plot(x, np.zeros_like(x), color=GREY, linewidth=1.2, linestyle="--", label="treat none")
    ax.set_xlabel("Probability from which one would act")
    ax.set_ylabel("Net benefit (true positives per case)")
    ax.legend(frameon=False, loc="lower left")
    where = "assumed" if prevalence is not None else "in these data"
    unit = "by patient" if traced["unit"] == "patient" else "by picture"
    told = f"prevalence {share:.3g} ({where})"
    head_axes(ax, title, *_describe_pictures(y_true, patients), unit, told, note)
    return ax


def _describe_pictures(y_true, patients):
    if patients is None:
        return f"{len(y_true):,} pictures", PATIENTS_UNKNOWN, POSITIVE
    count = len({str(key) for key in patients})
    return f"{len(y_true):,} pictures of {count:,} patients", POSITIVE
