"""What mistakes claim, beside what is true of the same patients.

The numbers come from `workflows.leak_demo`; nothing is computed here.
"""

import numpy as np

from bcnet.evaluate.metrics import format_estimate
from bcnet.plots.style import (
    GREY,
    INK,
    MODEL_COLOUR,
    POSITIVE,
    draw_intervals,
    head_axes,
    make_axes,
    tidy_axes,
)

# How a mistake is told on the axis; the names are those of `workflows.leakage`.
TOLD = {
    "normalisation": "pixels divided by 255\nbefore the network does so",
    "early-stopping": "epoch chosen on the test",
    "lucky-seed": "best seed on the test",
}
MEASURES = {"auc": "AUC", "balanced_accuracy": "balanced accuracy"}


def plot_mistakes(result, *, ax=None, title="What each mistake reports", note=None):
    """Plot what mistakes report against what an honest judgement gives, with 95 % intervals.

    Args:
        result: What `workflows.leak_demo` returns.
        ax: The axes to draw on; None makes a figure.
        title: Title of the axes.
        note: What a reader must know of the data, e.g. "simulated".

    Returns:
        The axes; its containers are the honest figures and the mistaken ones, top row first.

    Example:
        >>> estimate = {"value": 0.9, "low": 0.8, "high": 0.95}
        >>> leak = {"patient_split": estimate, "image_split": estimate, "inflation": estimate}
        >>> ax = plot_mistakes(leak | {"n_images": 8, "n_patients": 4, "failures": {}})
        >>> ax.get_legend_handles_labels()[1]
        ['done right', 'the mistake']
    """
    rows = _list_rows(result)
    ax = make_axes(ax, (8, 1.7 + 0.75 * len(rows)))
    heights = np.arange(len(rows), 0, -1.0)
    tidy_axes(ax)
    ax.grid(visible=False, axis="y")
    right = {"color": MODEL_COLOUR, "fmt": "o", "label": "done right"}
    wrong = {"color": INK, "fmt": "D", "label": "the mistake", "markerfacecolor": "white"}
    draw_intervals(ax, [row["right"] for row in rows], heights + 0.12, **right, markersize=5)
    draw_intervals(ax, [row["wrong"] for row in rows], heights - 0.12, **wrong, markersize=5)
    for row, height in zip(rows, heights, strict=True):
        told = f"difference {format_estimate(row['difference'])}"
        ax.annotate(
            told,
            (1, height),
            (8, 0),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            va="center",
            color=GREY,
            fontsize=9,
        )
    ax.set(
        ylim=(0.5, len(rows) + 0.5),
        yticks=heights,
        xlabel="AUC or balanced accuracy, with 95 % interval",
    )
    ax.set_yticklabels([row["name"] for row in rows])
    ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(0, -0.2), ncols=2)
    count = f"{result['n_images']:,} pictures of {result['n_patients']:,} patients"
    head_axes(ax, title, count, POSITIVE, note)
    return ax


def _list_rows(result):
    leak = {
        "name": "split by picture: AUC",
        "right": result["patient_split"],
        "wrong": result["image_split"],
        "difference": result["inflation"],
    }
    others = [
        {**found, "name": f"{TOLD[name]}:\n{MEASURES[found['measure']]}"}
        for name, found in result["failures"].items()
    ]
    return [leak, *others]
