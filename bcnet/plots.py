"""Figures: arrays in, a Matplotlib axes or figure out.

The only importer of matplotlib. Belongs here: how a result looks. Does not: how it is computed
(`bcnet.evaluate`), which pictures are shown, where files go. Nothing is shown, no backend or
style is set for others, and what is drawn on is closed by `save_figure`.

Every figure has a title, names for both axes, n, the positive class, and a `note` for what a
reader must know of the data: "simulated", "image-level: patients unknown".
"""

import textwrap
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator, PercentFormatter

from bcnet.atomic import replace_file
from bcnet.config import CLASS_NAMES
from bcnet.evaluate.metrics import (
    PATIENTS_UNKNOWN,
    bound_roc,
    evaluate,
    format_estimate,
    trace_counts,
)

# Okabe and Ito's palette (https://jfly.uni-koeln.de/color/), told apart with any colour vision.
CLASS_COLOURS = ("#0072B2", "#D55E00")
MODEL_COLOUR = "#009E73"
INK, GREY, PALE = "#222222", "#767676", "#E4E4E4"

# From dark blue to yellow, by lightness too; inferno's middle drowns in the pink of stained tissue.
HEAT_MAP = "viridis"

POSITIVE = f"{CLASS_NAMES[1]} = positive"


def plot_history(history, *, best_epoch=None, axes=None, note=None):
    """Plot loss and accuracy of training and validation by epoch.

    Args:
        history: Lists by name, one number per epoch: `loss`, `val_loss`, `accuracy`,
            `val_accuracy`, as in `keras.callbacks.History.history`; other entries are ignored.
        best_epoch: The epoch whose weights were kept, counted from 1; None marks the one of
            lowest validation loss.
        axes: Two axes to draw on; None makes a figure.
        note: What a reader must know of the data, e.g. "simulated".

    Returns:
        The two axes: loss, accuracy.

    Raises:
        ValueError: A curve is missing or empty.

    Example:
        >>> curves = {"loss": [0.7, 0.5], "val_loss": [0.6, 0.7]}
        >>> curves |= {"accuracy": [0.5, 0.7], "val_accuracy": [0.6, 0.6]}
        >>> plot_history(curves)[0].texts[-1].get_text()  # where validation loss is lowest
        'best: epoch 1'
    """
    for name in ("loss", "val_loss", "accuracy", "val_accuracy"):
        if not len(history.get(name, ())):
            raise ValueError(f"`history` must hold `{name}`. Received: {sorted(history)}")
    if axes is None:
        _, axes = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
    if best_epoch is None:
        best_epoch = int(np.argmin(history["val_loss"])) + 1
    for ax, name in zip(axes, ("loss", "accuracy"), strict=True):
        _draw_epochs(ax, history[name], history[f"val_{name}"], best_epoch)
        ax.set(xlabel="Epoch", ylabel=name.capitalize())
        _head(ax, f"{name.capitalize()} by epoch", note)
    axes[1].legend(frameon=False, loc="lower right")
    return axes


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
    _head(ax, title, *_describe_cases(result), note)
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
    _head(ax, title, *_describe_cases(result), note)
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
    ax = _make_axes(ax, (4.8, 4.6))
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
    _head(ax, title, f"{matrix.sum():,} cases", POSITIVE, note)
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
    ax = _make_axes(ax, (6.4, 4))
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
    _tidy(ax)
    ax.legend(ncols=3, loc="upper center", framealpha=1, edgecolor="white", fontsize=9)
    _head(ax, title, f"{len(y_true):,} cases", POSITIVE, note)
    return ax


def plot_cases(images, y_true, y_prob, *, threshold, columns=6, note=None):
    """Plot right and wrong answers: a row for each kind, the most certain first.

    Args:
        images: Pictures 0–255, each `(H, W, 3)` or `(H, W)`. Only those shown are taken, by
            number, so it may be a sequence that reads them when asked.
        y_true: Labels, shape `(n_images,)`; 0 = benign, 1 = malignant.
        y_prob: Probabilities of malignant, shape `(n_images,)`, 0–1.
        threshold: A picture is called malignant when its probability is at least this.
        columns: Pictures in a row.
        note: What a reader must know of the data, e.g. "simulated".

    Returns:
        The figure. Under each row's name stands how many of its class it holds.

    Raises:
        ValueError: As in `bcnet.evaluate.metrics.evaluate`, or `images` has another length.

    Example:
        >>> figure = plot_cases(np.zeros((2, 8, 8)), [0, 1], [0.2, 0.9], threshold=0.5, columns=1)
        >>> [ax.get_title() for ax in figure.axes]  # found, missed, cleared, false alarm
        ['0.90', '', '0.20', '']
    """
    trace_counts(y_true, y_prob)  # checks both arrays
    y_true, y_prob = np.asarray(y_true), np.asarray(y_prob)
    if len(images) != len(y_true):
        raise ValueError(
            f"`images` must hold one per label. Received: {len(images)} for {len(y_true)} labels"
        )
    figure, axes = _make_grid(4, columns, like=images[0], widen=1.3)
    for row, (truth, answer) in zip(axes, ((1, 1), (1, 0), (0, 0), (0, 1)), strict=True):
        cases = np.flatnonzero((y_true == truth) & ((y_prob >= threshold) == answer))
        certain = cases[np.argsort(-y_prob[cases] if answer else y_prob[cases], kind="stable")]
        for ax, case in zip(row, certain, strict=False):
            _show(ax, images[case])
            ax.set_title(f"{y_prob[case]:.2f}", fontsize=9, color=INK)
            ax.spines[:].set(visible=True, color=CLASS_COLOURS[truth], linewidth=2)
        _name_row(row[0], truth, answer, f"{len(cases):,} of {np.sum(y_true == truth):,}")
    title = f"Right and wrong answers, with the probability of {CLASS_NAMES[1]}"
    _head_figure(figure, title, f"threshold {threshold:.3g}", "most certain first", POSITIVE, note)
    return figure


def plot_images(images, titles=None, *, columns=6, title="Pictures", note=None):
    """Plot a plain grid of pictures.

    Args:
        images: Pictures 0–255, each `(H, W, 3)` or `(H, W)`; sizes may differ.
        titles: One short title per picture, or None.
        columns: Pictures in a row, at most.
        title: Title of the figure.
        note: What a reader must know of the data, e.g. "simulated".

    Returns:
        The figure.

    Raises:
        ValueError: There is no picture, or another number of titles.

    Example:
        >>> figure = plot_images(np.zeros((3, 8, 8)), ["a", "b", "c"], columns=2)
        >>> [ax.get_title() for ax in figure.axes]
        ['a', 'b', 'c', '']
    """
    titles = [""] * len(images) if titles is None else titles
    if not len(images) or len(titles) != len(images):
        raise ValueError(
            "`images` must not be empty, and `titles` hold one for each. "
            f"Received: {len(images)} images, {len(titles)} titles"
        )
    columns = min(columns, len(images))
    figure, axes = _make_grid(-(-len(images) // columns), columns, like=images[0])
    for ax, image, text in zip(axes.flat, images, titles, strict=False):
        _show(ax, image)
        ax.set_title(text, fontsize=9, color=INK)
    _head_figure(figure, title, note)
    return figure


def plot_overlay(image, heatmap, *, mask=None, ax=None, title="Evidence", note=None):
    """Plot a heatmap over its picture: the more evidence, the less the picture shows through.

    Args:
        image: A picture 0–255, `(H, W, 3)` or `(H, W)`.
        heatmap: Evidence 0–1, `(h, w)`; any resolution, stretched over the picture.
        mask: A mask of the picture's objects, any resolution; outlined where it is above 0.
        ax: The axes to draw on; None makes a figure.
        title: Title of the axes.
        note: What a reader must know: the data, the class explained.

    Returns:
        The axes. A map that is zero everywhere is named so in the title's second line.

    Raises:
        ValueError: The heatmap is not two-dimensional or leaves 0–1.

    Example:
        >>> ax = plot_overlay(np.zeros((8, 8, 3)), np.eye(2))
        >>> ax.images[1].get_extent()  # the map's four cells cover the whole picture
        [-0.5, 7.5, 7.5, -0.5]
    """
    heatmap = np.asarray(heatmap)
    if heatmap.ndim != 2 or not (heatmap.min() >= 0 and heatmap.max() <= 1):
        raise ValueError(
            "`heatmap` must be (h, w) between 0 and 1. Received: "
            f"shape={heatmap.shape}, {np.min(heatmap):.3g} to {np.max(heatmap):.3g}"
        )
    height, width = np.shape(image)[:2]
    ax = _make_axes(ax, (5.4, 4.2 * height / width + 0.8))
    _show(ax, image)
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    ax.imshow(heatmap, cmap=HEAT_MAP, vmin=0, vmax=1, alpha=0.75 * heatmap, extent=extent)
    scale = plt.cm.ScalarMappable(plt.Normalize(0, 1), HEAT_MAP)
    beside = ax.inset_axes((1.03, 0, 0.045, 1))  # as tall as the picture
    bar = ax.figure.colorbar(scale, cax=beside, ticks=(0, 0.5, 1))
    bar.set_label("Evidence, share of the maximum")
    bar.outline.set_visible(False)
    if mask is not None and np.any(mask):
        _outline(ax, np.asarray(mask) > 0, (height, width))
    nothing = None if heatmap.any() else "no evidence: the map is zero everywhere"
    _head(ax, title, "outline: mask" if mask is not None else None, nothing, note)
    return ax


def save_figure(figure_or_ax, path):
    """Save a figure and close it, whole or not at all.

    Written beside its place and then moved there, so a full disk or a kill leaves what was there
    before. Closed even on failure: open figures are kept by Matplotlib and fill the memory.

    Args:
        figure_or_ax: A figure, or an axes of it.
        path: The file; its suffix is the format (`.png`, `.svg`, `.pdf`). Folders are made.

    Returns:
        The path.

    Raises:
        ValueError: The format is unknown.
        OSError: The file cannot be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_figure(plot_confusion_matrix([[3, 1], [0, 2]]), f"{folder}/cm.png").name
        'cm.png'
    """
    figure, path = getattr(figure_or_ax, "figure", figure_or_ax), Path(path)
    try:
        with replace_file(path) as temporary:
            kind = path.suffix[1:] or "png"
            figure.savefig(temporary, format=kind, dpi=150, facecolor="white", bbox_inches="tight")
    finally:
        plt.close(figure)
    return path


def _draw_epochs(ax, train, validation, best_epoch):
    epochs = np.arange(1, len(train) + 1)
    ax.plot(epochs, train, "o-", color=GREY, markersize=3, label="training")
    ax.plot(epochs, validation, "o-", color=MODEL_COLOUR, markersize=3, label="validation")
    best = validation[best_epoch - 1]
    ax.axvline(best_epoch, color=INK, linewidth=0.8, linestyle=":")
    ax.plot(best_epoch, best, "o", color=INK, markersize=6)
    late = best_epoch > (len(train) + 1) / 2
    ax.annotate(
        f"best: epoch {best_epoch}",
        (best_epoch, 1),
        xycoords=("data", "axes fraction"),
        xytext=(-5 if late else 5, -2),
        textcoords="offset points",
        ha="right" if late else "left",
        va="top",
    )
    ax.margins(y=0.15)
    ax.set_xlim(0.5, len(train) + 0.5)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    _tidy(ax)


def _make_axes(ax, size):
    return plt.subplots(figsize=size, layout="constrained")[1] if ax is None else ax


def _make_square(ax):
    """Prepare axes of two rates, 0–1 each."""
    ax = _make_axes(ax, (5.4, 6))
    ticks = np.linspace(0, 1, 6)
    # A little room, so that a curve along the frame is not cut in half.
    ax.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal", xticks=ticks, yticks=ticks)
    _tidy(ax)
    return ax


def _make_grid(rows, columns, *, like, widen=0.0):
    """Make bare axes in the proportions of one picture, and widen the figure for row names."""
    height, width = np.shape(like)[:2]
    size = (1.5 * columns + widen, (1.5 * height / width + 0.22) * rows + 0.6)
    figure, axes = plt.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False)
    for ax in axes.flat:
        ax.set(xticks=(), yticks=())
        ax.spines[:].set_visible(False)
    return figure, axes


def _tidy(ax):
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(GREY)
    ax.tick_params(color=GREY)
    ax.grid(color=PALE, linewidth=0.6)
    ax.set_axisbelow(True)


def _show(ax, image):
    """Show a picture in its own colours; grey ones in grey, not in a colour map."""
    ax.imshow(np.clip(image, 0, 255).astype(np.uint8), cmap="gray", vmin=0, vmax=255)
    ax.set(xticks=(), yticks=())
    ax.spines[:].set_visible(False)


def _outline(ax, mask, size):
    (height, width), (rows, columns) = size, mask.shape
    # One cell of background all round closes the outline of what touches the edge.
    mask = np.pad(mask, 1)
    x = (np.arange(columns + 2) - 0.5) * width / columns - 0.5
    y = (np.arange(rows + 2) - 0.5) * height / rows - 0.5
    ax.autoscale(False)
    lines = ax.contour(x, y, mask, levels=[0.5], colors="white", linewidths=1.2)
    lines.set_path_effects([withStroke(linewidth=2.4, foreground=INK)])  # seen on any ground


def _name_row(ax, truth, answer, count):
    verdict = "right" if truth == answer else "wrong"
    name = f"{CLASS_NAMES[truth]}\ncalled {CLASS_NAMES[answer]}\n{verdict}: {count}"
    weight = "normal" if truth == answer else "bold"
    ax.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9, fontweight=weight)


def _head(ax, title, *facts):
    """Title the axes, with the facts that are known in quieter lines below."""
    lines = _join_facts(facts, 58)
    ax.set_title(title, loc="left", color=INK, fontweight="bold", pad=8 + 14 * len(lines))
    if lines:
        place = {"xycoords": "axes fraction", "xytext": (0, 7), "textcoords": "offset points"}
        ax.annotate("\n".join(lines), (0, 1), **place, color=GREY, fontsize=9)


def _head_figure(figure, title, *facts):
    lines = _join_facts(facts, 110)
    figure.suptitle(title, x=0.01, ha="left", color=INK, fontweight="bold")
    figure.supxlabel("\n".join(lines), x=0.01, ha="left", color=GREY, fontsize=9)


def _join_facts(facts, width):
    """Join facts to lines of some width in characters; only one longer than that is broken."""
    lines = []
    for part in (part for fact in facts if fact for part in textwrap.wrap(fact, width)):
        if lines and len(lines[-1]) + len(part) + 3 <= width:
            lines[-1] += f" · {part}"
        else:
            lines.append(part)
    return lines


def _describe_cases(result):
    n_images, n_patients = result["n_images"], result["n_patients"]
    if n_patients is None:
        return f"{n_images:,} pictures", PATIENTS_UNKNOWN, POSITIVE
    return f"{n_images:,} pictures of {n_patients:,} patients", POSITIVE


def _check_both_classes(y_true):
    if len(np.unique(y_true)) < 2:
        raise ValueError(f"`y_true` must hold both classes. Received: {np.unique(y_true).tolist()}")
