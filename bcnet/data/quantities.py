"""What is measured on cell nuclei: thirty names, their units, and the range each can have.

Belongs here: the vocabulary of the measurements and how a column's name is recognised. Does not:
reading values (`measurements`), judging them together (`measurement_checks`).

No source states a unit. The pictures were measured in pixels of the digitised field: taken as
micrometres, the median benign nucleus would be 24 across, twice what one is. So lengths are given
in px, which is inferred; whoever measures elsewhere must bring lengths to the same scale. The
texture is a standard deviation of 8-bit grey levels; all else is a ratio without unit.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

STATISTICS = ("mean", "error", "worst")
"""Of the nuclei of one patient: mean, standard error of the mean, mean of the three largest."""


class Quantity(NamedTuple):
    """One of the ten things measured on a nucleus.

    Attributes:
        name: as in "mean NAME".
        unit: "" for a ratio.
        meaning: its definition, in a few words.
        ranges: lowest and highest possible value of its mean, error and worst.
    """

    name: str
    unit: str
    meaning: str
    ranges: tuple[tuple[float, float], ...]


# The ranges reach four to five times beyond what 569 patients show, so that no true measurement
# is refused, and less where geometry forbids it; a slip by 1,000 leaves them, unless from 0.
QUANTITIES = (
    Quantity("radius", "px", "mean distance from the centre", ((2, 100), (0.02, 15), (2, 150))),
    Quantity(
        "texture", "grey levels", "spread of grey levels", ((2, 127.5), (0.07, 25), (2, 127.5))
    ),
    Quantity("perimeter", "px", "length of the outline", ((12, 700), (0.15, 110), (12, 1000))),
    Quantity("area", "px²", "enclosed by the outline", ((10, 35000), (1, 5000), (10, 75000))),
    Quantity(
        "smoothness", "", "local variation of the radius", ((0.01, 0.8), (0.0003, 0.15), (0.01, 1))
    ),
    Quantity(
        "compactness", "", "perimeter² / 4π area − 1", ((0.004, 1.7), (0.0004, 0.7), (0.005, 5.3))
    ),
    Quantity("concavity", "", "depth of dents in the outline", ((0, 2.1), (0, 2), (0, 6.3))),
    Quantity("concave points", "", "share of the outline in dents", ((0, 1), (0, 0.3), (0, 1))),
    Quantity(
        "symmetry", "", "difference of the two halves", ((0.02, 1.5), (0.0016, 0.4), (0.03, 3.3))
    ),
    Quantity(
        "fractal dimension", "", "of the outline, − 1", ((0.01, 0.5), (0.0002, 0.15), (0.01, 1))
    ),
)


class Measurement(NamedTuple):
    """One of the thirty numbers of a patient.

    Attributes:
        name: scikit-learn's, e.g. "worst radius".
        quantity: e.g. "radius".
        statistic: one of `STATISTICS`.
        unit: "" for a ratio.
        low: lowest possible value.
        high: highest possible value.
        meaning: of the quantity, in a few words.
    """

    name: str
    quantity: str
    statistic: str
    unit: str
    low: float
    high: float
    meaning: str


def name_measurement(quantity: str, statistic: str) -> str:
    """Name a measurement as scikit-learn does.

    Args:
        quantity: e.g. "radius".
        statistic: one of `STATISTICS`.

    Returns:
        The name.

    Example:
        >>> name_measurement("radius", "mean"), name_measurement("radius", "error")
        ('mean radius', 'radius error')
    """
    return f"{quantity} error" if statistic == "error" else f"{statistic} {quantity}"


def _describe(quantity, place):
    statistic = STATISTICS[place]
    name = name_measurement(quantity.name, statistic)
    low, high = map(float, quantity.ranges[place])
    return Measurement(name, quantity.name, statistic, quantity.unit, low, high, quantity.meaning)


MEASUREMENTS = {
    each.name: each
    for each in (_describe(quantity, place) for place in range(3) for quantity in QUANTITIES)
}
"""The thirty measurements by name, in scikit-learn's order, which is that of the UCI file too."""

FEATURES = tuple(MEASUREMENTS)
"""Their names: what a model may see."""

# How others write a statistic, before or after the quantity; the UCI's client numbers them.
SPELLINGS = {
    "mean": ("mean", "1"),
    "error": ("error", "se", "standarderror", "2"),
    "worst": ("worst", "largest", "3"),
}

LABEL_NAMES = ("diagnosis", "label", "class", "target", "malignant")
ID_NAMES = ("patientid", "patient", "id", "idnumber")
"""What a column of patients is called, the surest first: `id` may number samples instead."""


def _squeeze(name):
    return re.sub(r"[\W_]+", "", re.sub(r"\(.*?\)|\[.*?\]", "", str(name)).lower())


def _spell(measurement):
    quantity = _squeeze(measurement.quantity)
    for word in SPELLINGS[measurement.statistic]:
        yield quantity + word
        if word.isalpha():
            yield word + quantity


_KNOWN = {spelling: each.name for each in MEASUREMENTS.values() for spelling in _spell(each)}


def match_columns(names: Sequence, place: str) -> dict[str, int]:
    """Find the measurements, the label and the patient among columns, by name alone.

    Case, spaces, underscores, hyphens, a unit in brackets and the order of words do not matter:
    `concave points_mean`, `Mean Concave-Points` and `concave_points1` are the same.

    Args:
        names: of the columns.
        place: what they are the columns of, for messages.

    Returns:
        The position of each of `FEATURES`, then of `label` and `patient_id` if they are there.

    Raises:
        ValueError: a measurement is missing, or two columns mean the same.

    Example:
        >>> names = [name.upper() for name in FEATURES]
        >>> match_columns([*names, "id"], "mine")["mean radius"]
        0
    """
    squeezed = [_squeeze(name) for name in names]
    found = {name: [] for name in (*FEATURES, "label")}
    for position, spelling in enumerate(squeezed):
        name = "label" if spelling in LABEL_NAMES else _KNOWN.get(spelling)
        if name:
            found[name].append(position)
    _require_each_once(found, names, place)
    ids = sorted((ID_NAMES.index(each), at) for at, each in enumerate(squeezed) if each in ID_NAMES)
    found["patient_id"] = [at for rank, at in ids if rank == ids[0][0]]
    _require_each_once({"patient_id": found["patient_id"]}, names, place)
    return {name: positions[0] for name, positions in found.items() if positions}


def _require_each_once(found, names, place):
    missing = [name for name in FEATURES if name in found and not found[name]]
    if missing:
        raise ValueError(
            f"{place} must have a column for each of the 30 measurements. "
            f"Missing: {_shorten(missing)}. Received: {_shorten(names)}"
        )
    for name, positions in found.items():
        if len(positions) > 1:
            written = " and ".join(repr(str(names[at])) for at in positions)
            raise ValueError(f"{place} must have one column for {name}. Received: {written}")


def _shorten(names):
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return ", ".join(map(str, names[:4])) + more if len(names) else "no column"
