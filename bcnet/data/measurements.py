"""Measurements of patients from anywhere, as one table of checked numbers.

Belongs here: a file, table or patient in, one table out. Does not: how files are laid out
(`measurement_files`), what a cell must hold (`measurement_cells`), what the measurements are
(`quantities`), whether true numbers go together (`measurement_checks`).
"""

import os
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from bcnet.data.measurement_cells import read_ids, read_labels, read_values
from bcnet.data.measurement_files import read_chunks, read_layout
from bcnet.data.quantities import FEATURES, MEASUREMENTS, match_columns
from bcnet.data.wisconsin import load_wisconsin

__all__ = ["FEATURES", "MEASUREMENTS", "read_measurements", "read_rows", "stream_rows"]


class _Cells(NamedTuple):
    """What a source holds: columns by their meaning, and words to find a row again."""

    table: pd.DataFrame
    place: str
    unit: str
    label_name: str = "label"

    def locate(self, row):
        return f"{self.place}, {self.unit} {self.table.index[row]}"


def read_measurements(source=None, *, labelled: bool | None = None) -> pd.DataFrame:
    """Read measurements of patients, and refuse those that cannot be true.

    Columns are found by name (see `quantities.match_columns`), never by position.

    The label is 1 for malignant: M, malignant, positive or 1 in a column `diagnosis`, `label` or
    `malignant`. Columns `target` and `class` are taken by their words only, as their digits mean
    the opposite in scikit-learn's table and yet another thing elsewhere.

    Args:
        source: None for the Wisconsin data; a CSV (see `measurement_files.read_layout`); a
            DataFrame; a dict or Series of one patient, or a list of dicts.
        labelled: True requires a label, False leaves it out, None takes it where there is one.

    Returns:
        One row per patient: the 30 `FEATURES`, float64, NaN = missing, in the units of
        `MEASUREMENTS`; `label` (int) if there is one; `patient_id` (text; of a source without
        ids the row's number from 1). The index is 0 to n − 1.

    Raises:
        ValueError: a column or every row is missing, or a value is impossible; one line names
            place, column, value and range.
        OSError: the file cannot be opened.

    Example:
        >>> read_measurements(load_wisconsin().loc[[0]])["mean radius"].tolist()
        [17.99]
    """
    if source is None:
        source = load_wisconsin()
    cells = _collect(source)
    values, faults = read_values(cells.table)
    _require_none(faults, cells)
    labels, ids = _read_all_labels(cells, labelled), _name_patients(cells.table)
    _require_none({ids.index(""): "`patient_id` must not be empty"} if "" in ids else {}, cells)
    return _make_table(values, labels, ids)


def read_rows(source) -> tuple[pd.DataFrame, list[str]]:
    """Read measurements without labels, keeping the rows that cannot be used, and why.

    Args:
        source: as for `read_measurements`.

    Returns:
        The table of `read_measurements` without labels, in which a row with a fault is all NaN
        and an id that is not there is ""; and for each row the reason in one line, "" where there
        is no fault.

    Raises:
        ValueError: a column is missing, or no row can be used.
        OSError: the file cannot be opened.

    Example:
        >>> table = load_wisconsin().loc[[0, 1]].assign(**{"mean symmetry": [-1, 0.1812]})
        >>> read_rows(table)[1]
        ['`mean symmetry` must be between 0.02 and 1.5. Received: -1', '']
    """
    cells = _collect(load_wisconsin() if source is None else source)
    table, reasons = _settle_rows(cells.table)
    if all(reasons):
        raise ValueError(f"{cells.locate(0)}: {reasons[0]}; no row can be used")
    return table, reasons


def stream_rows(
    path: str | os.PathLike, *, rows: int = 50_000
) -> Iterator[tuple[pd.DataFrame, list[str]]]:
    """Read a CSV of any length as `read_rows` does, some rows at a time.

    Args:
        path: the CSV.
        rows: at most so many at a time.

    Yields:
        As `read_rows` returns; a row without an id has its number in the whole file.

    Raises:
        ValueError: as `read_rows`, except that a chunk may be unusable as a whole.
        OSError: the file cannot be opened.

    Example:
        `sum(len(table) for table, _ in stream_rows("wdbc.data"))` is 569.
    """
    if rows < 1:
        raise ValueError(f"`rows` must be at least 1. Received: rows={rows}")
    done = 0
    for chunk in read_chunks(path, read_layout(path), rows=rows):
        if len(chunk):
            yield _settle_rows(chunk, done=done)
        done += len(chunk)
    if not done:
        raise ValueError(f"{path} must have at least one row below its header. Found none.")


def _collect(source):
    cells = _collect_file(source) if isinstance(source, str | os.PathLike) else None
    cells = cells or _collect_table(source)
    if cells.table.empty:
        raise ValueError(f"{cells.place} must have at least one row. Received none")
    return cells


def _collect_file(path):
    layout = read_layout(path)
    table = pd.concat(read_chunks(path, layout))
    return _Cells(table, str(path), "line", _name_label(layout.columns, layout.positions))


def _collect_table(source):
    if isinstance(source, Mapping | pd.Series):
        source = [dict(source)]
    if isinstance(source, list | tuple) and all(isinstance(row, Mapping) for row in source):
        source = pd.DataFrame(list(source))
    if not isinstance(source, pd.DataFrame):
        raise ValueError(
            "measurements must be a CSV, a DataFrame, a dict of one patient or a list of dicts. "
            f"Received: {type(source).__name__}"
        )
    positions = match_columns(list(source.columns), "the table")
    table = source.iloc[:, list(positions.values())].set_axis(list(positions), axis=1)
    return _Cells(table, "the table", "row", _name_label(source.columns, positions))


def _name_label(columns, positions):
    return str(columns[positions["label"]]) if "label" in positions else "label"


def _settle_rows(cells, *, done=0):
    values, faults = read_values(cells)
    values[list(faults)] = np.nan
    reasons = [faults.get(row, "") for row in range(len(values))]
    return _make_table(values, None, _name_patients(cells, done=done)), reasons


def _make_table(values, labels, ids):
    table = pd.DataFrame(values, columns=list(FEATURES))
    return table.assign(**({} if labels is None else {"label": labels}), patient_id=ids)


def _name_patients(cells, *, done=0):
    if "patient_id" in cells:
        return read_ids(cells["patient_id"])
    return [str(number) for number in range(done + 1, done + len(cells) + 1)]


def _read_all_labels(cells, labelled):
    if labelled is not False and "label" in cells.table:
        labels, faults = read_labels(cells.table["label"], cells.label_name)
        _require_none(faults, cells)
        return labels
    if labelled:
        raise ValueError(
            f"{cells.place} must have a column `label` (M or B, malignant or benign, 1 or 0). "
            "Received: none"
        )
    return None


def _require_none(faults, cells):
    if faults:
        row = min(faults)
        more = f" ({len(faults) - 1:,} more rows have faults)" if len(faults) > 1 else ""
        raise ValueError(f"{cells.locate(row)}: {faults[row]}{more}")
