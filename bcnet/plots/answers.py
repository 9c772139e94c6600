"""What a model answered, against the truth: curves, counts and scores.

The numbers come from `bcnet.evaluate.metrics`; nothing is computed here that a table could show.
"""

import numpy as np
from matplotlib.ticker import PercentFormatter

from bcnet.config import CLASS_NAMES
from bcnet.evaluate.metrics import (
    PATIENTS_UNKNOWN,
    bound_roc,
    evaluate,
    format_estimate,
    trace_counts,
)
from bcnet.plots.style import (
    CLASS_COLOURS,
    GREY,
    INK,
    MODEL_COLOUR,
    POSITIVE,
    head_axes,
    make_axes,
    tidy_axes,
)


def plot_roc(y_true, y_prob, *, patients=None, ax=None, title="ROC curve", note=None):
    """Plot sensitivity against false alarms, with the AUC and its interval.

    Numbers and pointwise band come from the bootstrap of `bcnet.evaluate.metrics.evaluate` with
    its defaults, so the figure and the table agree.

    Args:
        y_true: Labels, shape `(n_images,)`; 0 = benign, 1 = malignant.
        y_prob: Probabilities of malignant, shape `(n_images,)`, 0–1.
        patients: One key per picture; None says on the figure that they are unknown.
        ax: The axes to draw on; None makes a figure.
        title: Title of the axes.
        note: What a reader must know of the data, e.g. "simulated".

    Returns:
        The axes; its last two lines are the curve and the chance diagonal.

    Raises:
        ValueError: As in `evaluate`, or only one class occurs.

    Example:
        >>> ax = plot_roc([0, 0, 1, 1], [0.1, 0.6, 0.4, 0.9], patients=list("abcd"))
        >>> ax.lines[0].get_ydata().tolist()  # sensitivity as the threshold falls
        [0.0, 0.5, 0.5, 1.0, 1.0]
    """
    _check_both_classes(y_true)
    result = evaluate(y_true, y_prob, patients=patients)
    _, hits, alarms = trace_counts(y_true, y_prob)
    ax = _make_square(ax)
    band = bound_roc(y_true, y_prob, patients=patients)
    if band is not None:
        ax.fill_between(
            *band, color=MODEL_COLOUR, alpha=0.18, linewidth=0, label="95 % band, pointwise"
        )
    label = f"AUC {format_estimate(result['image']['auc'])}"
    ax.plot(alarms / alarms[-1], hits / hits[-1], color=MODEL_COLOUR, linewidth=2, label=label)
    ax.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--", label="chance, AUC 0.500")
    ax.set_xlabel(f"1 − specificity: {CLASS_NAMES[0]} called {CLASS_NAMES[1]}")
    ax.set_ylabel(f"Sensitivity: {CLASS_NAMES[1]} called {CLASS_NAMES[1]}")
    ax.legend(frameon=False, loc="lower right")
    head_axes(ax, title, *_describe_cases(result), note)
    return ax


def plot_precision_recall(
    y_true, y_prob, *, patients=None, ax=None, title="Precision–recall curve", note=None
):
    """Plot precision against recall, with the average precision and the prevalence.

    Drawn in steps, since the average precision is the area under the steps.

    Args:
        y_true: Labels, shape `(n_images,)`; 0 = benign, 1 = malignant.
        y_prob: Probabilities of malignant, shape `(n_images,)`, 0–1.
        patients: One key per picture; None says on the figure that they are unknown.
        ax: The axes to draw on; None makes a figure.
        title: Title of the axes.
        note: What a reader must know of the data, e.g. "simulated".

    Returns:
        The axes; its two lines are the curve and the prevalence.

    Raises:
        ValueError: As in `evaluate`, or only one class occurs.

    Example:
        >>> ax = plot_precision_recall([0, 1, 1], [0.4, 0.3, 0.9], patients=list("abc"))
        >>> ax.lines[0].get_ydata().round(2).tolist()  # 1 of 1, 1 of 2, 2 of 3 are malignant
        [1.0, 1.0, 0.5, 0.67]
    """
    _check_both_classes(y_true)
    result = evaluate(y_true, y_prob, patients=patients)
    _, hits, alarms = trace_counts(y_true, y_prob)
    precision = hits[1:] / (hits[1:] + alarms[1:])
    ax = _make_square(ax)
    ax.plot(
        hits / hits[-1],
        np.append(precision[0], precision),
        color=MODEL_COLOUR,
        linewidth=2,
        drawstyle="steps-pre",
        label=f"average precision {format_estimate(result['image']['average_precision'])}",
    )
    prevalence = np.mean(y_true)
    label = f"prevalence {prevalence:.3f}"
    ax.axhline(prevalence, color=GREY, linewidth=1, linestyle="--", label=label)
    ax.set_xlabel(f"Recall: {CLASS_NAMES[1]} called {CLASS_NAMES[1]}")
    ax.set_ylabel(f"Precision: {CLASS_NAMES[1]} among those called so")
    ax.legend(frameon=False, loc="lower left")
    head_axes(ax, title, *_describe_cases(result), note)
    return ax


def plot_confusion_matrix(matrix, *, ax=None, title="Confusion matrix", note=None):
    """Plot counts of truth against answer, and the share of each row.

    Args:
        matrix: Counts `[[tn, fp], [fn, tp]]`: truth in rows, answers in columns.
        ax: The axes to draw on; None makes a figure.
        title: Title of the axes.
        note: What a reader must know: the data, the threshold, the unit counted.

    Returns:
        The axes; its first four texts are the cells, row by row.

    Raises:
        ValueError: The matrix is not 2×2 or holds negative counts.

    Example:
        >>> plot_confusion_matrix([[3, 1], [0, 2]]).texts[0].get_text().split()
        ['3', '75.0', '%']
    """
    matrix = np.asarray(matrix)
    if matrix.shape != (2, 2) or matrix.min() < 0:
        raise ValueError(f"`matrix` must be [[tn, fp], [fn, tp]]. Received: {matrix.tolist()}")
    totals = matrix.sum(axis=1, keepdims=True)
    shares = matrix / np.maximum(totals, 1)
    ax = make_axes(ax, (4.8, 4.6))
    ax.imshow(shares, cmap="Greys", vmin=0, vmax=2.5)  # no darker than black text can sit on
    ax.axhline(0.5, color="white", linewidth=3)
    ax.axvline(0.5, color="white", linewidth=3)
    for (i, j), count in np.ndenumerate(matrix):
        share = f"{shares[i, j]:.1%}".replace("%", " %") if totals[i, 0] else "–"
        ax.text(j, i, f"{count:,}\n{share}", ha="center", va="center", color=INK, fontsize=13)
    rows = [f"{name}\nn = {n:,}" for name, n in zip(CLASS_NAMES, totals[:, 0], strict=True)]
    ax.set_xticks((0, 1), CLASS_NAMES)
    ax.set_yticks((0, 1), rows, rotation=90, va="center", ma="center")
    ax.set(xlabel="Answer", ylabel="Truth (shares by row)")
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    head_axes(ax, title, f"{matrix.sum():,} cases", POSITIVE, note)
    return ax


def plot_score_histogram(y_true, y_prob, *, threshold, ax=None, title="Scores by class", note=None):
    """Plot how the probabilities of each class are spread about the threshold.

    Shares of each class, not counts, so that a rare class is seen beside a common one.

    Args:
        y_true: Labels, shape `(n_cases,)`; 0 = benign, 1 = malignant.
        y_prob: Probabilities of malignant, shape `(n_cases,)`, 0–1.
        threshold: A case is called malignant when its probability is at least this.
        ax: The axes to draw on; None makes a figure.
        title: Title of the axes.
        note: What a reader must know of the data, e.g. "simulated".

    Returns:
        The axes; the heights of each class add up to 1.

    Raises:
        ValueError: As in `bcnet.evaluate.metrics.evaluate`.

    Example:
        >>> ax = plot_score_histogram([0, 1], [0.2, 0.9], threshold=0.5)
        >>> ax.get_legend_handles_labels()[1]
        ['benign, n = 1', 'malignant, n = 1', 'threshold 0.5']
    """
    trace_counts(y_true, y_prob)  # checks both arrays
    y_true, y_prob = np.asarray(y_true), np.asarray(y_prob)
    ax = make_axes(ax, (6.4, 4))
    for label, (name, colour) in enumerate(zip(CLASS_NAMES, CLASS_COLOURS, strict=True)):
        scores = y_prob[y_true == label]
        shares, edges = np.histogram(scores, bins=25, range=(0, 1))
        style = {"facecolor": f"{colour}55", "edgecolor": colour, "linewidth": 1.5, "fill": True}
        ax.stairs(
            shares / max(len(scores), 1), edges, label=f"{name}, n = {len(scores):,}", **style
        )
    ax.axvline(threshold, ymax=0.87, color=INK, linewidth=1.2, label=f"threshold {threshold:.3g}")
    ax.set(xlim=(0, 1), xlabel=f"Probability of {CLASS_NAMES[1]}", ylabel="Share of the class")
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    ax.margins(y=0.16)  # room for the legend above the highest bar
    tidy_axes(ax)
    ax.legend(ncols=3, loc="upper center", framealpha=1, edgecolor="white", fontsize=9)
    head_axes(ax, title, f"{len(y_true):,} cases", POSITIVE, note)
    return ax


def _make_square(ax):
    """Prepare axes of two rates, 0–1 each."""
    ax = make_axes(ax, (5.4, 6))
    ticks = np.linspace(0, 1, 6)
    # A little room, so that a curve along the frame is not cut in half.
    ax.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal", xticks=ticks, yticks=ticks)
    tidy_axes(ax)
    return ax


def _describe_cases(result):
    n_images, n_patients = result["n_images"], result["n_patients"]
    if n_patients is None:
        return f"{n_images:,} pictures", PATIENTS_UNKNOWN, POSITIVE
    return f"{n_images:,} pictures of {n_patients:,} patients", POSITIVE


def _check_both_classes(y_true):
    if len(np.unique(y_true)) < 2:
        raise ValueError(f"`y_true` must hold both classes. Received: {np.unique(y_true).tolist()}")
