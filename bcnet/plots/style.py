"""What all figures share: colours, bare axes, titles with their facts, and the way to a file.

What is particular to one kind of figure belongs beside it.
"""

import textwrap
from pathlib import Path

import matplotlib.pyplot as plt

from bcnet.atomic import replace_file
from bcnet.config import CLASS_NAMES

# Okabe and Ito's palette (https://jfly.uni-koeln.de/color/), told apart with any colour vision.
CLASS_COLOURS = ("#0072B2", "#D55E00")
MODEL_COLOUR = "#009E73"
INK, GREY, PALE = "#222222", "#767676", "#E4E4E4"

POSITIVE = f"{CLASS_NAMES[1]} = positive"


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
        ...     save_figure(make_axes(None, (3, 2)), f"{folder}/empty.png").name
        'empty.png'
    """
    figure, path = getattr(figure_or_ax, "figure", figure_or_ax), Path(path)
    try:
        with replace_file(path) as temporary:
            kind = path.suffix[1:] or "png"
            figure.savefig(temporary, format=kind, dpi=150, facecolor="white", bbox_inches="tight")
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


def head_axes(ax, title, *facts):
    """Title the axes, with the facts that are known in quieter lines below.

    Args:
        ax: The axes; changed in place.
        title: The title.
        facts: Words a reader needs, such as n and the positive class; None for one that is not
            known.
    """
    lines = _join_facts(facts, 58)
    ax.set_title(title, loc="left", color=INK, fontweight="bold", pad=8 + 14 * len(lines))
    if lines:
        place = {"xycoords": "axes fraction", "xytext": (0, 7), "textcoords": "offset points"}
        ax.annotate("\n".join(lines), (0, 1), **place, color=GREY, fontsize=9)


def head_figure(figure, title, *facts):
    """Title a whole figure, with the facts that are known below its pictures.

    Args:
        figure: The figure; changed in place.
        title: The title.
        facts: As for `head_axes`.
    """
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
