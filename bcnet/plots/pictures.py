"""Pictures themselves: in grids, and sorted by answer.

Which pictures are shown is the caller's choice; here they are only laid out. The evidence found in
them is painted by `explanations`.
"""

import matplotlib.pyplot as plt
import numpy as np

from bcnet.config import CLASS_NAMES
from bcnet.evaluate.metrics import trace_counts
from bcnet.plots.style import CLASS_COLOURS, INK, POSITIVE, head_figure


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
            show_picture(ax, images[case])
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
        show_picture(ax, image)
        ax.set_title(text, fontsize=9, color=INK)
    head_figure(figure, title, note)
    return figure


def _make_grid(rows, columns, *, like, widen=0.0):
    """Make bare axes in the proportions of one picture, and widen the figure for row names."""
    height, width = np.shape(like)[:2]
    size = (1.5 * columns + widen, (1.5 * height / width + 0.22) * rows + 0.6)
    figure, axes = plt.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False)
    for ax in axes.flat:
        ax.set(xticks=(), yticks=())
        ax.spines[:].set_visible(False)
    return figure, axes


def show_picture(ax, image):
    """Show a picture in its own colours: a grey one in grey, not in a colour map.

    Args:
        ax: The axes to draw on; left without ticks and frame.
        image: A picture 0–255, `(H, W, 3)` or `(H, W)`.
    """
    ax.imshow(np.clip(image, 0, 255).astype(np.uint8), cmap="gray", vmin=0, vmax=255)
    ax.set(xticks=(), yticks=())
    ax.spines[:].set_visible(False)


def _name_row(ax, truth, answer, count):
    verdict = "right" if truth == answer else "wrong"
    name = f"{CLASS_NAMES[truth]}\ncalled {CLASS_NAMES[answer]}\n{verdict}: {count}"
    weight = "normal" if truth == answer else "bold"
    ax.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9, fontweight=weight)
