"""Figures of contributions: of one patient, of many, and of one measurement.

Contributions are in units of the logit; above 0 speaks for malignant. How they are found belongs
to `bcnet.measurements.explain`.
"""

import numpy as np
from matplotlib import colormaps

from bcnet.config import CLASS_NAMES
from bcnet.plots.style import (
    CLASS_COLOURS,
    GREY,
    INK,
    MODEL_COLOUR,
    head_axes,
    make_axes,
    tidy_axes,
)

LOGIT = f"Logit of {CLASS_NAMES[1]}"
MISSING_COLOUR = "#BBBBBB"

# Height of a bar or of a swarm, in its row.
THICKNESS = 0.7


def plot_waterfall(
    contributions, *, base, threshold, shown=12, ax=None, title="Why this answer", note=None
):
    """Plot how each measurement moves one patient's answer away from the reference.

    Args:
        contributions: DataFrame with the columns `measurement`, `value`, `unit` and
            `contribution`, the largest first.
        base: Logit of the reference, where the walk begins.
        threshold: Probability from which a patient is called malignant; a line.
        shown: So many bars; the other measurements are summed up in one more.
        ax: The axes to draw on; None makes a figure.
        title: Title of the axes.
        note: What a reader must know, e.g. the patient's row.

    Returns:
        The axes; its bars are the contributions, from the top down.

    Example:
        >>> import pandas as pd
        >>> told = {"measurement": ["a", "b"], "value": [1, 2], "unit": ["px", ""]}
        >>> table = pd.DataFrame(told | {"contribution": [2.0, -0.5]})
        >>> ax = plot_waterfall(table, base=-1.0, threshold=0.5)
        >>> [bar.get_width() for bar in ax.patches]
        [2.0, -0.5]
    """
    names, steps = _sum_up(contributions, shown)
    ends = base + np.cumsum(steps)
    starts = ends - steps
    places = np.arange(len(steps))
    ax = make_axes(ax, (7.6, 1.6 + 0.34 * len(steps)))
    tidy_axes(ax)
    colours = [CLASS_COLOURS[int(step > 0)] for step in steps]
    ax.barh(places, steps, left=starts, color=colours, height=THICKNESS)
    ax.vlines(ends[:-1], places[:-1], places[1:], color=GREY, linewidth=0.8)
    for place, step, start, end in zip(places, steps, starts, ends, strict=True):
        ax.annotate(f"{step:+.2f}", (max(start, end), place), xytext=(4, 0), va="center",
                    textcoords="offset points", fontsize=8, color=INK)  # fmt: skip
    cut = np.log(threshold / (1 - threshold))
    ax.axvline(base, color=GREY, linewidth=1, linestyle=":", label=f"median patient: {base:.2f}")
    ax.axvline(cut, color=INK, linewidth=1.2, linestyle="--", label=f"threshold: {cut:.2f}")
    ax.set_yticks(places, names)
    ax.invert_yaxis()
    ax.use_sticky_edges = False  # a bar must not end at the frame: it might go on behind it
    ax.margins(x=0.12)
    ax.set_xlabel(LOGIT)
    ax.set_ylabel("Measurement, with this patient's value")
    ax.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(0, -0.14), ncols=2)
    probability = 1 / (1 + np.exp(-ends[-1]))
    told = f"probability of {CLASS_NAMES[1]} {probability:.3g} (logit {ends[-1]:.2f})"
    head_axes(ax, title, told, f"right and orange = towards {CLASS_NAMES[1]}", note)
    return ax


def _sum_up(contributions, shown):
    first, rest = contributions[:shown], contributions[shown:]
    names = [
        f"{row.measurement} = {_tell_value(row.value, row.unit)}" for row in first.itertuples()
    ]
    steps = first["contribution"].tolist()
    if len(rest):
        names.append(f"{len(rest)} others")
        steps.append(rest["contribution"].sum())
    return names, np.array(steps)


def _tell_value(value, unit):
    return "missing" if np.isnan(value) else f"{value:.4g} {unit}".strip()


def plot_beeswarm(
    contributions, values, *, shown=12, ax=None, title="What moves the answers", note=None
):
    """Plot the contributions of many patients, a row for each of the strongest measurements.

    Args:
        contributions: DataFrame `(n, n_measurements)`, in units of the logit.
        values: DataFrame of the same columns, what was measured; NaN where missing.
        shown: So many measurements, those with the largest mean size of contribution first.
        ax: The axes to draw on; None makes a figure.
        title: Title of the axes.
        note: What a reader must know of the data.

    Returns:
        The axes; one collection of points per measurement, the strongest first.

    Example:
        >>> import pandas as pd
        >>> table = pd.DataFrame({"a": [1.0, -1.0], "b": [3.0, 2.0]})
        >>> [label.get_text() for label in plot_beeswarm(table, table).get_yticklabels()]
        ['b', 'a']
    """
    strength = contributions.abs().mean().sort_values(ascending=False, kind="stable")
    names = list(strength.index[:shown])
    ax = make_axes(ax, (7.6, 1.6 + 0.4 * len(names)))
    tidy_axes(ax)
    colours = colormaps["viridis"].with_extremes(bad=MISSING_COLOUR)
    for place, name in enumerate(names):
        x = contributions[name].to_numpy()
        ranks = values[name].rank(pct=True).to_numpy()
        points = ax.scatter(
            x,
            place + _spread_out(x),
            c=ranks,
            cmap=colours,
            vmin=0,
            vmax=1,
            s=9,
            linewidths=0,
            plotnonfinite=True,
        )
    ax.axvline(0, color=GREY, linewidth=1)
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.set_xlabel(f"Contribution to the logit of {CLASS_NAMES[1]}")
    ax.set_ylabel("Measurement, the strongest first")
    bar = ax.figure.colorbar(points, ax=ax, ticks=[0, 0.5, 1], aspect=30, pad=0.02)
    bar.ax.set_yticklabels(["lowest", "median", "highest"])
    bar.set_label("Measured value, by rank")
    told = f"right = towards {CLASS_NAMES[1]}"
    head_axes(ax, title, f"{len(values):,} rows", told, note)
    return ax


def _spread_out(x, bins=80):
    """Move points of alike contributions apart, up and down in turn, the densest the farthest."""
    low, high = x.min(), x.max()
    cells = ((x - low) / (high - low or 1) * (bins - 1)).astype(int)
    order = np.argsort(cells, kind="stable")
    firsts = np.searchsorted(cells[order], cells[order])
    number = np.empty(len(x), int)
    number[order] = np.arange(len(x)) - firsts
    side = np.where(number % 2, 1, -1)
    return side * ((number + 1) // 2) * min(0.06, THICKNESS / max(number.max(), 1))


def plot_dependence(
    values, contributions, *, name, unit="", traced=None, ax=None, title=None, note=None
):
    """Plot what a measurement contributes against what was measured.

    Args:
        values: What was measured, `(n,)`; NaN where missing, which is not drawn.
        contributions: In units of the logit, `(n,)`.
        name: Of the measurement.
        unit: Its unit.
        traced: DataFrame with the columns `value` and `probability`, its partial dependence, to
            be drawn against a second axis; None for none.
        ax: The axes to draw on; None makes a figure.
        title: Title of the axes; by default the measurement's name.
        note: What a reader must know of the data.

    Returns:
        The axes; its first collection is the points.

    Example:
        >>> ax = plot_dependence([1.0, 2.0], [-0.5, 0.5], name="mean radius", unit="px")
        >>> ax.get_xlabel()
        'mean radius (px)'
    """
    values = np.asarray(values, float)
    ax = make_axes(ax, (6.4, 4.4))
    tidy_axes(ax)
    ax.scatter(values, contributions, s=12, color=INK, alpha=0.5, linewidths=0)
    ax.axhline(0, color=GREY, linewidth=1)
    ax.set_xlabel(f"{name} ({unit})" if unit else name)
    ax.set_ylabel(f"Contribution to the logit of {CLASS_NAMES[1]}")
    told = "points: one row each"
    if traced is not None:
        other = ax.twinx()
        other.plot(traced["value"], traced["probability"], color=MODEL_COLOUR, linewidth=2)
        other.set_ylim(0, 1)
        other.set_ylabel(f"Mean probability of {CLASS_NAMES[1]}", color=MODEL_COLOUR)
        told += ", green: partial dependence"
    count = f"{np.isfinite(values).sum():,} rows"
    head_axes(ax, title or f"What {name} contributes", count, told, note)
    return ax
