"""Pictures themselves: in grids, sorted by answer, and under the evidence found in them.

Which pictures are shown is the caller's choice; here they are only laid out.
"""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patheffects import withStroke

from bcnet.config import CLASS_NAMES
from bcnet.evaluate.metrics import trace_counts
from bcnet.plots.style import CLASS_COLOURS, INK, POSITIVE, head_axes, head_figure, make_axes

# From dark blue to yellow, by lightness too; inferno's middle drowns in the pink of stained tissue.
HEAT_MAP = "viridis"


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
    head_figure(figure, title, f"threshold {threshold:.3g}", "most certain first", POSITIVE, note)
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
    head_figure(figure, title, note)
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
    ax = make_axes(ax, (5.4, 4.2 * height / width + 0.8))
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
    head_axes(ax, title, "outline: mask" if mask is not None else None, nothing, note)
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
