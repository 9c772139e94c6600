"""How a model fares as pictures get worse.

The numbers come from `bcnet.evaluate.robustness`; nothing is computed here.
"""

import math

import matplotlib.pyplot as plt

from bcnet.plots.style import (
    CLASS_COLOURS,
    GREY,
    INK,
    MODEL_COLOUR,
    POSITIVE,
    head_figure,
    tidy_axes,
)

COLUMNS = 4

# Told apart by marker and dashes, too.
LINES = {
    "auc": ("AUC", MODEL_COLOUR, "^", "-"),
    "sensitivity": ("sensitivity", CLASS_COLOURS[1], "o", "-"),
    "specificity": ("specificity", CLASS_COLOURS[0], "s", "-"),
    "ece": ("expected calibration error", GREY, "D", "--"),
}


def plot_stress(result, *, note=None):
    """Plot each measure against severity, one panel for each perturbation.

    Args:
        result: What `bcnet.evaluate.robustness.stress` returned.
        note: What a reader must know of the data, e.g. "simulated".

    Returns:
        The axes, one for each perturbation; the lines of each are those of `LINES` in that order,
        from the unperturbed pictures on, then a dotted one where five points of sensitivity are
        lost, if they are.

    Example:
        `plot_stress(result)[0].lines[1].get_ydata()` is the sensitivity at severities 0 to 5.
    """
    perturbations = result["perturbations"]
    n_rows = math.ceil((len(perturbations) + 1) / COLUMNS)  # the last panel is the legend's
    size = (3.1 * COLUMNS, 2.5 * n_rows + 1)
    form = {"figsize": size, "sharey": True, "squeeze": False, "layout": "constrained"}
    figure, grid = plt.subplots(n_rows, COLUMNS, **form)
    axes = grid.ravel()[: len(perturbations)]
    for ax, perturbation in zip(axes, perturbations, strict=True):
        _draw_panel(ax, result["unperturbed"], perturbation)
    for ax in grid[:, 0]:
        ax.set_ylabel("Measure")
    for ax in grid.ravel()[len(perturbations) :]:
        ax.set_axis_off()
    handles, labels = axes[0].get_legend_handles_labels()
    grid.ravel()[-1].legend(handles, labels, loc="center", frameon=False, fontsize=9)
    unit = f"judged by {result['unit']}, threshold {result['threshold']:.3g}"
    n_patients = result["n_patients"]
    told = f"{result['n_images']:,} pictures"
    told += "" if n_patients is None else f" of {n_patients:,} patients"
    dotted = "dotted: 5 points of sensitivity lost; bands: 95 % intervals"
    head_figure(figure, "The same pictures, worse and worse", told, unit, POSITIVE, dotted, note)
    return axes


def _draw_panel(ax, unperturbed, perturbation):
    levels = [unperturbed, *perturbation["severities"]]
    severities = range(len(levels))
    for name, (label, colour, marker, dashes) in LINES.items():
        values, low, high = (
            [math.nan if level[name][end] is None else level[name][end] for level in levels]
            for end in ("value", "low", "high")
        )
        ax.fill_between(severities, low, high, color=colour, alpha=0.15, linewidth=0)
        style = {"color": colour, "marker": marker, "linestyle": dashes, "markersize": 4}
        ax.plot(severities, values, label=label, **style)
    if breaks := perturbation["sensitivity_breaks"]["value"]:
        ax.axvline(breaks, color=INK, linewidth=1, linestyle=":")
    amounts = [f"{level['amount']:g}".replace("-", "−") for level in perturbation["severities"]]
    ax.set_xticks(severities, ["none", *amounts], fontsize=8)
    ax.set_xlabel(perturbation["unit"], fontsize=9)
    ax.set_title(perturbation["name"], loc="left", color=INK, fontsize=10)
    tidy_axes(ax)
