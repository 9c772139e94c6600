"""Where the bars of a waterfall lie: contributions in, coordinates for `_waterfall.html` out.

Belongs here: arithmetic of a drawing that is narrow enough for a telephone. What contributions
are and how they are found does not (`bcnet.measurements.explain`).
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

# The drawing's width and margin, in its own units; at 360 px of screen one is about 0.8 px.
WIDTH, MARGIN = 400, 10

# Bars of their own; what the other measurements contribute together is one more.
SHOWN = 10


class Part(NamedTuple):
    """What one measurement contributes to one patient's answer.

    Attributes:
        name: of the measurement.
        value: as measured, with its unit, or "missing".
        step: its contribution, in units of the logit; above 0 speaks for malignant.
    """

    name: str
    value: str
    step: float


class Bar(NamedTuple):
    """One bar.

    Attributes:
        part: what it stands for.
        left: its left end.
        width: its length.
        end: where the walk has come to behind it.
    """

    part: Part
    left: float
    width: float
    end: float


class Waterfall(NamedTuple):
    """A drawing.

    Attributes:
        bars: from the top down.
        base: where the walk begins, the reference patient.
        cut: where the threshold is.
    """

    bars: list[Bar]
    base: float
    cut: float


def draw_waterfall(parts: Sequence[Part], *, base: float, cut: float) -> Waterfall:
    """Lay out how each measurement moves an answer away from the reference.

    Args:
        parts: the largest step first.
        base: logit of the reference.
        cut: logit of the threshold.

    Returns:
        Positions from left to right, between `MARGIN` and `WIDTH - MARGIN`.

    Example:
        >>> parts = [Part("a", "1 px", 3.0), Part("b", "2", -1.0)]
        >>> drawn = draw_waterfall(parts, base=-1.0, cut=0.0)
        >>> [(bar.left, bar.width) for bar in drawn.bars], drawn.cut
        ([(10.0, 380.0), (263.33, 126.67)], 136.67)
    """
    parts = _sum_up(parts)
    ends = [base]
    for part in parts:
        ends.append(ends[-1] + part.step)
    low, high = min(*ends, cut), max(*ends, cut)
    scale = (WIDTH - 2 * MARGIN) / ((high - low) or 1)

    def place(logit):
        return round(MARGIN + scale * (logit - low), 2)

    bars = [
        Bar(part, place(min(walk)), round(scale * abs(part.step), 2), place(walk[1]))
        for part, walk in zip(parts, pairwise(ends), strict=True)
    ]
    return Waterfall(bars, place(base), place(cut))


def _sum_up(parts):
    first, rest = list(parts[:SHOWN]), parts[SHOWN:]
    if not rest:
        return first
    return [*first, Part(f"{len(rest)} others", "together", sum(part.step for part in rest))]
