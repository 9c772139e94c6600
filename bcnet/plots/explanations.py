"""The evidence found in pictures: one map over its picture, a sheet of many, methods side by side.

Maps and the words about them come from the caller: here nothing is explained and nothing judged.
"""

from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patheffects import withStroke

from bcnet.plots.pictures import show_picture
from bcnet.plots.style import GREY, INK, WARNING, head_axes, head_figure, replace_unknown

# From dark blue to yellow, by lightness too; inferno's middle drowns in the pink of stained tissue.
HEAT_MAP = "viridis"

# Of the hottest place: its colour is unmistakable there, and the nuclei below can still be told.
OPACITY = 0.6

# The hottest region ends where the map falls below this share of its maximum.
HOTTEST = 0.5

# Inches. Layouts are counted out here: Matplotlib's own takes four times as long to draw, and a
# folder of thousands gets a figure for each picture.
MARGIN, GAP = 0.12, 0.12
OVERLAY_WIDTH, OVERLAY_HEIGHT, BAR_ROOM = 4.3, 5.4, 0.9
TILE, TILE_OF_METHODS, LINE = 1.5, 2.5, 0.14
SHEET_HEAD, SHEET_FOOT = 0.5, 0.55


class Panel(NamedTuple):
    """One picture, the map of its evidence, and the words above it.

    Attributes:
        image: A picture 0–255, `(H, W, 3)` or `(H, W)`.
        heatmap: Evidence 0–1, `(h, w)`; any resolution, stretched over the picture. None shows
            the bare picture.
        title: One line; two in a sheet.
        warning: Why the map must not be trusted, in white on black; "" for none.
        mask: A mask of the picture's objects, any resolution; dashed around what is above 0.
    """

    image: np.ndarray
    heatmap: np.ndarray | None
    title: str = ""
    warning: str = ""
    mask: np.ndarray | None = None


def plot_overlay(panel, *, opacity=OPACITY, ax=None, note=None):
    """Plot a heatmap over its picture: the more evidence, the less the picture shows through.

    The hottest region, where the map reaches half of its maximum, is outlined.

    Args:
        panel: The `Panel`.
        opacity: Of the hottest place, from 0 (the picture alone) to 1.
        ax: The axes to draw on; None makes a figure.
        note: What a reader must know: the data, the method, the class explained.

    Returns:
        The axes. A map that is zero everywhere is named so below the title.

    Raises:
        ValueError: The heatmap is not two-dimensional or leaves 0–1, or `opacity` leaves 0–1.

    Example:
        >>> ax = plot_overlay(Panel(np.zeros((8, 8, 3)), np.eye(2)))
        >>> ax.images[1].get_extent()  # the map's four cells cover the whole picture
        [-0.5, 7.5, 7.5, -0.5]
    """
    _check(panel, opacity)
    is_alone = ax is None
    ax = plt.figure().add_axes((0, 0, 1, 1)) if is_alone else ax
    _paint(ax, panel, opacity)
    if panel.heatmap is not None:
        beside = ax.inset_axes((1.03, 0, 0.045, 1))  # as tall as the picture
        _add_bar(beside, "vertical").set_label("Evidence, share of the maximum")
    head = head_axes(ax, panel.title, *_describe([panel]), note, warning=panel.warning)
    if is_alone:
        _fit_figure(ax, np.shape(panel.image), head)
    return ax


def plot_sheet(panels, *, columns=8, opacity=OPACITY, title="Evidence", note=None):
    """Plot many pictures under their maps, for a first look at a folder.

    Args:
        panels: Each a `Panel`; its warning stands white on black in its corner.
        columns: Pictures in a row.
        opacity: As for `plot_overlay`.
        title: Title of the figure.
        note: As for `plot_overlay`.

    Returns:
        The figure.

    Raises:
        ValueError: There is no panel, or one is not as `plot_overlay` takes it.

    Example:
        >>> panels = [Panel(np.zeros((8, 8)), np.eye(2), title) for title in "abc"]
        >>> [ax.get_title(loc="left") for ax in plot_sheet(panels, columns=2).axes[:3]]
        ['a', 'b', 'c']
    """
    return _draw_tiles(panels, columns, TILE, opacity, (title, note))


def plot_methods(image, heatmaps, *, warnings=None, mask=None, opacity=OPACITY, note=None):
    """Plot one picture bare, and under the map of each method.

    Args:
        image: A picture 0–255, `(H, W, 3)` or `(H, W)`.
        heatmaps: By the method's name, its map as in `Panel`.
        warnings: By the method's name, why its map must not be trusted; missing or "" for none.
        mask: As in `Panel`.
        opacity: As for `plot_overlay`.
        note: As for `plot_overlay`.

    Returns:
        The figure.

    Raises:
        ValueError: A map is not as `plot_overlay` takes it.

    Example:
        >>> figure = plot_methods(np.zeros((8, 8)), {"grad_cam": np.eye(2)})
        >>> [ax.get_title(loc="left") for ax in figure.axes[:2]]
        ['the picture', 'grad_cam']
    """
    panels = [Panel(image, None, "the picture", mask=mask)]
    for name, heatmap in heatmaps.items():
        panels.append(Panel(image, heatmap, name, (warnings or {}).get(name, ""), mask))
    return _draw_tiles(panels, 3, TILE_OF_METHODS, opacity, ("Methods side by side", note))


def _draw_tiles(panels, columns, side, opacity, words):
    if not panels:
        raise ValueError("`panels` must hold at least one. Received: none")
    for panel in panels:
        _check(panel, opacity)
    figure, axes = _lay_out(panels, min(columns, len(panels)), side)
    for ax, panel in zip(axes, panels, strict=True):
        _paint(ax, panel, opacity)
        _title_tile(ax, panel)
    _add_bar(_make_legend_axes(figure), "horizontal")
    title, note = words
    colours = "colours: evidence, share of each map's own maximum"
    head_figure(figure, title, colours, *_describe(panels), note)
    return figure


def _check(panel, opacity):
    if not 0 <= opacity <= 1:
        raise ValueError(f"`opacity` must be between 0 and 1. Received: opacity={opacity}")
    if panel.heatmap is None:
        return
    heatmap = np.asarray(panel.heatmap)
    if heatmap.ndim != 2 or not (heatmap.min() >= 0 and heatmap.max() <= 1):
        raise ValueError(
            "`heatmap` must be (h, w) between 0 and 1. Received: "
            f"shape={heatmap.shape}, {np.min(heatmap):.3g} to {np.max(heatmap):.3g}"
        )


def _describe(panels):
    """Tell what the lines in panels are, and that a lonely map is blank."""
    evident = [np.any(panel.heatmap) for panel in panels if panel.heatmap is not None]
    if any(evident):
        yield f"line: {HOTTEST:.0%} of the maximum"
    if evident == [False]:
        yield "no evidence: the map is zero everywhere"
    if any(panel.mask is not None for panel in panels):
        yield "dashed: mask"


def _paint(ax, panel, opacity):
    show_picture(ax, panel.image)
    height, width = size = np.shape(panel.image)[:2]
    if panel.heatmap is not None:
        heatmap = np.asarray(panel.heatmap)
        extent = (-0.5, width - 0.5, height - 0.5, -0.5)
        look = {"cmap": HEAT_MAP, "alpha": opacity * heatmap, "interpolation": "nearest"}
        ax.imshow(heatmap, vmin=0, vmax=1, extent=extent, **look)
        _outline(ax, heatmap, HOTTEST * heatmap.max(), size)
    if panel.mask is not None:
        _outline(ax, np.asarray(panel.mask) > 0, 0.5, size, linestyles="dashed")
    if panel.warning:
        ax.spines[:].set(visible=True, color=WARNING, linewidth=2)


def _outline(ax, heatmap, level, size, **style):
    if not heatmap.any():
        return
    (height, width), (rows, columns) = size, heatmap.shape
    # One cell of background all round closes the outline of what touches the edge.
    heatmap = np.pad(heatmap, 1)
    x = (np.arange(columns + 2) - 0.5) * width / columns - 0.5
    y = (np.arange(rows + 2) - 0.5) * height / rows - 0.5
    ax.autoscale(False)
    lines = ax.contour(x, y, heatmap, levels=[level], colors="white", linewidths=1.2, **style)
    lines.set_path_effects([withStroke(linewidth=2.4, foreground=INK)])  # seen on any ground


def _add_bar(ax, orientation):
    """Add the colours of evidence, with a line where the outline stands."""
    scale = plt.cm.ScalarMappable(plt.Normalize(0, 1), HEAT_MAP)
    bar = ax.figure.colorbar(scale, cax=ax, orientation=orientation, ticks=(0, HOTTEST, 1))
    draw = ax.axhline if orientation == "vertical" else ax.axvline
    draw(HOTTEST, color="white", linewidth=1.2)
    bar.outline.set_visible(False)
    ax.tick_params(color=GREY, labelsize=9)
    return bar


def _title_tile(ax, panel):
    ax.set_anchor("NW")  # pictures of other proportions stay in line with the rest
    title = replace_unknown(panel.title)
    ax.set_title(title, loc="left", fontsize=8, color=INK, pad=4, parse_math=False)
    if panel.warning:
        label = {"color": "white", "backgroundcolor": WARNING, "fontsize": 8, "fontweight": "bold"}
        ax.text(0.03, 0.04, panel.warning, transform=ax.transAxes, **label)


def _fit_figure(ax, shape, head):
    """Size the figure of one overlay: the picture, its heading above and the bar beside it."""
    scale = min(OVERLAY_WIDTH / shape[1], OVERLAY_HEIGHT / shape[0])
    width, height = shape[1] * scale, shape[0] * scale
    size = (OVERLAY_WIDTH + BAR_ROOM + MARGIN, height + head + 2 * MARGIN)
    ax.figure.set_size_inches(size)
    ax.set_position(_place((MARGIN, MARGIN, width, height), size))


def _lay_out(panels, columns, side):
    """Make axes in rows, in the proportions of the first picture as far as those are usual."""
    height, width = np.shape(panels[0].image)[:2]
    tall = side * min(max(height / width, 0.5), 1.5)
    lines = 1 + max(panel.title.count("\n") for panel in panels)
    across, down = side + GAP, tall + lines * LINE + GAP
    rows = -(-len(panels) // columns)
    size = (columns * across + 2 * MARGIN - GAP, SHEET_HEAD + rows * down + SHEET_FOOT)
    figure = plt.figure(figsize=size)
    for number in range(len(panels)):
        x = MARGIN + number % columns * across
        y = size[1] - SHEET_HEAD - (1 + number // columns) * down
        figure.add_axes(_place((x, y, side, tall), size))
    return figure, list(figure.axes)


def _make_legend_axes(figure):
    size = width, height = figure.get_size_inches()
    return figure.add_axes(_place((width - 1.4, height - 0.24, 1.25, 0.1), size))


def _place(box, size):
    """Turn inches (from the left, from below, width, height) into shares of a figure's size."""
    return np.divide(box, (*size, *size))
