"""What all figures share: colours, bare axes, titles with their facts, and the way to a file.

What is particular to one kind of figure belongs beside it.
"""

import textwrap
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.font_manager import FontProperties, findfont, get_font

from bcnet.atomic import replace_file
from bcnet.config import CLASS_NAMES

# Okabe and Ito's palette (https://jfly.uni-koeln.de/color/), told apart with any colour vision.
CLASS_COLOURS = ("#0072B2", "#D55E00")
MODEL_COLOUR = "#009E73"
INK, GREY, PALE = "#222222", "#767676", "#E4E4E4"

# Behind white letters: no colour of a class or a map, so that it reads as a word of caution only.
WARNING = "#000000"

POSITIVE = f"{CLASS_NAMES[1]} = positive"


def save_figure(figure_or_ax, path, *, quick=False):
    """Save a figure and close it, whole or not at all.

    Written beside its place and then moved there, so a full disk or a kill leaves what was there
    before. Closed even on failure: open figures are kept by Matplotlib and fill the memory.

    Args:
        figure_or_ax: A figure, or an axes of it.
        path: The file; its suffix is the format (`.png`, `.svg`, `.pdf`). Folders are made.
        quick: For thousands of PNGs: the paper is not fitted to what is drawn, for which it is
            drawn twice, and little compressed.

    Returns:
        The path.

    Raises:
        ValueError: The format is unknown.
        OSError: The file cannot be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_figure(make_axes(None, (3, 2)), f"{folder}/empty.png").name
        'empty.png'
    """
    figure, path = getattr(figure_or_ax, "figure", figure_or_ax), Path(path)
    try:
        with replace_file(path) as temporary:
            kind = path.suffix[1:] or "png"
            how = {"pil_kwargs": {"compress_level": 1}} if quick else {"bbox_inches": "tight"}
            figure.savefig(temporary, format=kind, dpi=150, facecolor="white", **how)
    finally:
        plt.close(figure)
    return path


def make_axes(ax, size):
    """Make axes of a size in inches, unless some were given.

    Args:
        ax: The axes to draw on, or None.
        size: `(width, height)` of the figure, inches.

    Returns:
        `ax`, or the axes of a new figure.
    """
    return plt.subplots(figsize=size, layout="constrained")[1] if ax is None else ax


def tidy_axes(ax):
    """Quieten frame, ticks and grid, so that the data stand out.

    Args:
        ax: The axes; changed in place.
    """
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(GREY)
    ax.tick_params(color=GREY)
    ax.grid(color=PALE, linewidth=0.6)
    ax.set_axisbelow(True)


def draw_intervals(ax, estimates, heights, **style):
    """Draw estimates as points with their intervals, each at its height.

    Args:
        ax: The axes; changed in place.
        estimates: Dicts `{"value", "low", "high"}`; one without an interval is a point.
        heights: Where each stands, `(n,)`.
        style: As for `Axes.errorbar`.
    """
    values = np.array([each["value"] for each in estimates], float)
    ends = np.array([[each["low"], each["high"]] for each in estimates], float).T
    ax.errorbar(values, heights, xerr=abs(ends - values), **style)


def head_axes(ax, title, *facts, warning=""):
    """Title the axes, with the facts that are known in quieter lines below.

    Args:
        ax: The axes; changed in place.
        title: The title.
        facts: Words a reader needs, such as n and the positive class; None for one that is not
            known.
        warning: What forbids to take the figure at its word; stands out between title and facts.

    Returns:
        How far all this reaches above the axes, in inches.
    """
    lines = _join_facts(facts, 58)
    above = 7 + 14 * len(lines)
    place = {"xycoords": "axes fraction", "textcoords": "offset points", "parse_math": False}
    if lines:
        ax.annotate("\n".join(lines), (0, 1), **place, xytext=(0, 7), color=GREY, fontsize=9)
    if warning:
        style = {"color": "white", "backgroundcolor": WARNING, "fontweight": "bold"}
        ax.annotate(warning, (0, 1), **place, xytext=(4, above + 4), **style, fontsize=9)
        above += 20
    ax.set_title(title, loc="left", color=INK, fontweight="bold", pad=above + 1)
    return (above + 16) / 72  # points to an inch, and the title's own


def head_figure(figure, title, *facts):
    """Title a whole figure, with the facts that are known below its pictures.

    Args:
        figure: The figure; changed in place.
        title: The title.
        facts: As for `head_axes`.
    """
    lines = _join_facts(facts, 110)
    figure.suptitle(title, x=0.01, ha="left", color=INK, fontweight="bold")
    figure.supxlabel("\n".join(lines), x=0.01, ha="left", color=GREY, fontsize=9, parse_math=False)


def replace_unknown(text):
    """Replace characters that the font lacks, of which Matplotlib would warn at each drawing.

    Args:
        text: Words from outside, such as a file's name.

    Returns:
        The text, with □ for each of them.

    Example:
        >>> replace_unknown("Müller 乳.png")
        'Müller □.png'
    """
    known = get_font(findfont(FontProperties())).get_charmap()
    return "".join(each if each.isspace() or ord(each) in known else "□" for each in text)


def _join_facts(facts, width):
    """Join facts to lines of some width in characters; only one longer than that is broken."""
    lines = []
    facts = [replace_unknown(fact) for fact in facts if fact]
    for part in (part for fact in facts for part in textwrap.wrap(fact, width)):
        if lines and len(lines[-1]) + len(part) + 3 <= width:
            lines[-1] += f" · {part}"
        else:
            lines.append(part)
    return lines
