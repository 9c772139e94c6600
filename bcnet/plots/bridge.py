"""Pictures beside measurements of the same patients.

The numbers come from `workflows.bridge`; nothing is computed here.
"""

import matplotlib.pyplot as plt
import numpy as np

from bcnet.evaluate.metrics import format_estimate
from bcnet.plots.style import (
    GREY,
    INK,
    MODEL_COLOUR,
    POSITIVE,
    draw_intervals,
    head_axes,
    tidy_axes,
)


def plot_bridge(result, *, axes=None, note=None):
    """Plot how well pictures, measurements and both tell, and which measurements a network sees.

    Args:
        result: What `workflows.bridge` returns.
        axes: Two axes to draw on; None makes a figure.
        note: What a reader must know of the data, e.g. "simulated".

    Returns:
        The two axes: AUC with intervals, first model at the top; and the share of each
        measurement's variance that the network's features explain, best at the top.
    """
    if axes is None:
        _, axes = plt.subplots(1, 2, figsize=(11, 6.5), width_ratios=(2, 3), layout="constrained")
    told = f"{result['n_test']:,} held-out patients"
    _draw_models(axes[0], result)
    head_axes(axes[0], "Who tells benign from malignant?", told, POSITIVE, note)
    _draw_recovered(axes[1], result["recovered"])
    head_axes(axes[1], "What the network sees of what was measured", told, note)
    return axes


def _draw_models(ax, result):
    names = list(result["models"])
    estimates = [result["models"][name]["auc"] for name in names]
    heights = _draw_rows(ax, names, estimates)
    for estimate, height in zip(estimates, heights, strict=True):
        text = format_estimate(estimate)
        place = (estimate["high"] or estimate["value"], height)
        style = {"textcoords": "offset points", "ha": "right", "color": INK, "fontsize": 9}
        ax.annotate(text, place, (0, 9), **style)
    ax.set(xlabel="AUC by patient, with 95 % interval", ylim=(0.5, len(names) + 0.7))


def _draw_recovered(ax, recovered):
    _draw_rows(ax, list(recovered), list(recovered.values()))
    ax.axvline(0, color=GREY, linewidth=1)
    lowest = min(each["value"] for each in recovered.values())
    ax.set(xlabel="R² of a ridge regression on the network's features, with 95 % interval")
    ax.set(xlim=(min(-0.3, lowest - 0.05), 1), ylim=(0.3, len(recovered) + 0.7))
    ax.tick_params("y", labelsize=8)


def _draw_rows(ax, names, estimates):
    tidy_axes(ax)
    heights = np.arange(len(names), 0, -1.0)
    draw_intervals(ax, estimates, heights, fmt="o", color=MODEL_COLOUR, markersize=4)
    ax.set_yticks(heights, names)
    return heights
