"""Whether measurements that could each be true can be true together.

Belongs here: what to look at before a model is trained on a table. Does not: reading it, where a
value that no nucleus can have is refused (`measurements`). Nothing here changes a table.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from bcnet.config import CLASS_NAMES
from bcnet.data.quantities import FEATURES, MEASUREMENTS, QUANTITIES, name_measurement

ERRORS = ("duplicate_across_labels", "out_of_range", "impossible", "units_disagree")
"""Kinds of findings that no true table has, in the order of a report."""

NOTES = ("duplicate", "repeated_id", "missing", "constant", "one_class")
"""Kinds of findings that one should know, in the order of a report."""

ROUNDING = 0.002  # published values have four digits: less than this is no contradiction

# Of any outline near a circle: perimeter / radius is 2π there and area / radius² is π. The 569
# patients show 6.2 to 7.7 and 2.5 to 3.4; a column in another unit lies far outside.
ALIKE = (("perimeter", 1, 5.0, 10.0), ("area", 2, 2.0, 4.5))


def check_measurements(table: pd.DataFrame) -> list[dict]:
    """Look for what cannot be, or should be known, of a table of measurements.

    Args:
        table: as from `bcnet.data.measurements.read_measurements`, not empty.

    Returns:
        Findings ready for JSON, errors first: `kind` (of `ERRORS` or `NOTES`), `severity`
        ("error" or "note"), `message` (a sentence with column and value) and `rows`, their
        numbers in the table from 1 (empty where it is about a whole column).

    Raises:
        ValueError: the table is empty or lacks a column.

    Example:
        >>> from bcnet.data.wisconsin import load_wisconsin
        >>> table = load_wisconsin().loc[[0, 1, 1]]
        >>> [finding["kind"] for finding in check_measurements(table)]
        ['duplicate', 'repeated_id', 'one_class']
    """
    missing = [name for name in (*FEATURES, "patient_id") if name not in table]
    if missing or table.empty:
        raise ValueError(
            "`table` must have rows and the columns of `read_measurements`. Received: "
            + (f"no column {missing[0]}" if missing else "0 rows")
        )
    rows = table.reset_index(drop=True)
    findings = [
        *_find_duplicates(rows),
        *_find_out_of_range(rows),
        *_find_impossible(rows),
        *_find_disagreeing_units(rows),
        *_find_missing(rows),
        *_find_constant(rows),
        *_find_one_class(rows),
    ]
    return sorted(findings, key=lambda finding: (*ERRORS, *NOTES).index(finding["kind"]))


def format_findings(findings: Sequence[dict]) -> str:
    """Tell the findings of `check_measurements`, a line each.

    Args:
        findings: as returned.

    Returns:
        A text without a final newline.

    Example:
        >>> format_findings([])
        'nothing found: no duplicate, contradiction, gap or constant column'
    """
    lines = [f"{each['severity']}: {each['message']}" for each in findings]
    nothing = "nothing found: no duplicate, contradiction, gap or constant column"
    return "\n".join(lines) or nothing


def _make_finding(kind, message, rows=()):
    severity = "error" if kind in ERRORS else "note"
    rows = [int(row) + 1 for row in rows]
    return {"kind": kind, "severity": severity, "message": message, "rows": rows}


def _find_duplicates(rows) -> Iterator[dict]:
    same = rows.groupby(list(FEATURES), dropna=False, sort=False)
    for places in same.indices.values():
        if len(places) > 1:
            kind, labels = "duplicate", rows.iloc[places].get("label")
            if labels is not None and labels.nunique() > 1:
                kind = "duplicate_across_labels"
            told = f"{_name_rows(rows, places)} have the same 30 numbers"
            told += " and different labels." if kind != "duplicate" else "."
            yield _make_finding(kind, told, places)
    repeated = rows["patient_id"].duplicated(keep=False) & (rows["patient_id"] != "")
    if repeated.any():
        places = np.flatnonzero(repeated)
        told = f"a patient_id stands in several rows: {_name_rows(rows, places)}."
        yield _make_finding("repeated_id", told, places)


def _find_out_of_range(rows) -> Iterator[dict]:
    for name, each in MEASUREMENTS.items():
        is_out = (rows[name] < each.low) | (rows[name] > each.high)
        said = f"{name} outside {each.low:g}–{each.high:g}"
        yield from _find_rows("out_of_range", rows, is_out, [name], said)


def _find_impossible(rows) -> Iterator[dict]:
    """Of values that are never negative, no mean exceeds the largest, no error the mean."""
    for quantity in QUANTITIES:
        mean, error, worst = (
            name_measurement(quantity.name, statistic) for statistic in ("mean", "error", "worst")
        )
        for low, high in ((mean, worst), (error, mean)):
            is_wrong = rows[low] > rows[high] * (1 + ROUNDING)
            yield from _find_rows("impossible", rows, is_wrong, [low, high], f"{low} > {high}")


def _find_disagreeing_units(rows) -> Iterator[dict]:
    for statistic in ("mean", "worst"):
        radius = name_measurement("radius", statistic)
        for quantity, power, low, high in ALIKE:
            name = name_measurement(quantity, statistic)
            ratio = rows[name] / rows[radius] ** power
            said = f"{name} / {radius}{'²' if power == 2 else ''} outside {low:g}–{high:g}"
            is_out = (ratio < low) | (ratio > high)
            yield from _find_rows("units_disagree", rows, is_out, [name, radius], said)


def _find_rows(kind, rows, is_wrong, names, said):
    places = np.flatnonzero(is_wrong)
    if len(places):
        first = ", ".join(f"{name} {rows[name].iloc[places[0]]:g}" for name in names)
        yield _make_finding(kind, f"{said} in {_name_rows(rows, places)} ({first}).", places)


def _find_missing(rows) -> Iterator[dict]:
    for name in FEATURES:
        places = np.flatnonzero(rows[name].isna())
        if len(places):
            share = len(places) / len(rows)
            told = f"{name} is missing in {share:.1%} of rows: {_name_rows(rows, places)}."
            yield _make_finding("missing", told, places)


def _find_constant(rows) -> Iterator[dict]:
    for name in FEATURES:
        if len(rows) > 1 and rows[name].nunique() == 1:
            value = rows[name].dropna().iloc[0]
            yield _make_finding("constant", f"{name} is {value:g} in every row: it tells nothing.")


def _find_one_class(rows) -> Iterator[dict]:
    if "label" in rows and rows["label"].nunique() == 1:
        name = CLASS_NAMES[int(rows["label"].iloc[0])]
        yield _make_finding("one_class", f"every row is {name}: nothing can be told apart.")


def _name_rows(rows, places):
    named = [f"{at + 1} (patient {rows['patient_id'].iloc[at]})" for at in places[:3]]
    more = f" and {len(places) - 3:,} more" if len(places) > 3 else ""
    return f"row{'s' * (len(places) > 1)} {', '.join(named)}{more}"
