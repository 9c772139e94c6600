"""How good models of the measurements are, side by side, and how much of a single figure is luck.

The numbers come from `bcnet.measurements`, as plain dicts; nothing is computed here.
"""

import matplotlib.pyplot as plt
import numpy as np

from bcnet.evaluate.metrics import format_estimate
from bcnet.plots.style import (
    GREY,
    INK,
    MODEL_COLOUR,
    POSITIVE,
    head_axes,
    head_figure,
    make_axes,
    tidy_axes,
)

# What is drawn of the table of models: where it stands there, and what it is called.
PANELS = (
    ("metrics", "auc", "AUC"),
    ("metrics", "accuracy", "accuracy at 0.5"),
    ("locked", "sensitivity", "sensitivity, locked threshold"),
    ("locked", "specificity", "specificity, locked threshold"),
)

# Where a figure is called "99 %".
LEVEL = 0.99


def plot_models(result, *, note=None):
    """Plot the models with their intervals, the one with the highest AUC on top.

    Args:
        result: What `bcnet.measurements.nested.compare_models` returned.
        note: What a reader must know of the data.

    Returns:
        The axes, one for each of `PANELS`; the first line of each is the values, in rising order
        of AUC.

    Example:
        `plot_models(result)[0].lines[0].get_xdata()` are the AUCs, the highest last.
    """
    models = sorted(result["models"].values(), key=lambda each: each["metrics"]["auc"]["value"])
    size = (3 * len(PANELS) + 1.5, 0.34 * len(models) + 1.7)
    figure, axes = plt.subplots(1, len(PANELS), figsize=size, sharey=True, layout="constrained")
    for ax, (field, name, label) in zip(axes, PANELS, strict=True):
        _draw_panel(ax, [model[field][name] for model in models])
        ax.set_xlabel(label)
    axes[0].set_yticks(range(len(models)), [model["words"] for model in models])
    told = f"{result['n_patients']:,} patients, nested cross-validation"
    often = f"{result['folds']} folds × {result['repeats']}"
    bars = "bars: 95 % intervals over patients; dashed: the winner"
    head_figure(figure, "Models of the measurements", told, often, POSITIVE, bars, note)
    return axes


def _draw_panel(ax, estimates):
    places = range(len(estimates))
    value, low, high = (
        np.array([each[end] for each in estimates], float) for end in ("value", "low", "high")
    )
    ax.plot(value, places, "o", color=MODEL_COLOUR, markersize=5)
    ax.hlines(places, low, high, color=MODEL_COLOUR, linewidth=1.5)
    ax.axvline(value[-1], color=GREY, linewidth=1, linestyle="--", zorder=0)
    tidy_axes(ax)


def plot_luck(luck, *, estimate=None, ax=None, note=None):
    """Plot the accuracies of many hold-outs of one model: what a single one of them is worth.

    Args:
        luck: What `bcnet.measurements.luck.try_luck` returned.
        estimate: Accuracy `{"value", "low", "high"}` of the same model by nested cross-validation;
            None leaves it out.
        ax: The axes to draw on; None makes a figure.
        note: What a reader must know of the data.

    Returns:
        The axes; its bars count the hold-outs of each accuracy, in rising order.

    Example:
        >>> ax = plot_luck({"name": "knn", "n_test": 100, "accuracy": [0.97, 0.99, 0.99]})
        >>> [int(bar.get_height()) for bar in ax.patches]
        [1, 2]
    """
    ax = make_axes(ax, (7, 4.2))
    n_test, accuracies = luck["n_test"], np.asarray(luck["accuracy"])
    x, counts = np.unique(accuracies, return_counts=True)
    colours = [MODEL_COLOUR if each >= LEVEL else GREY for each in x]
    ax.bar(x, counts, width=0.8 / n_test, color=colours)
    if estimate:
        _draw_estimate(ax, estimate)
    share = np.mean(accuracies >= LEVEL)
    tidy_axes(ax)
    ax.set_xlabel(f"Accuracy on one hold-out of {n_test:,} patients")
    ax.set_ylabel("Hold-outs")
    told = f"{len(accuracies):,} random hold-outs of the same model ({luck['name']})"
    lucky = f"{100 * share:.1f} % of them reach {100 * LEVEL:.0f} % (green)"
    head_axes(ax, f"“{100 * LEVEL:.0f} %” on one split is luck", told, lucky, note)
    return ax


def _draw_estimate(ax, estimate):
    label = f"nested: {format_estimate(estimate)}"
    ax.axvline(estimate["value"], color=INK, linewidth=2, label=label)
    for end in (estimate["low"], estimate["high"]):
        if end is not None:
            ax.axvline(end, color=INK, linewidth=1.2, linestyle=":")
    ax.legend(frameon=False, loc="upper left")
