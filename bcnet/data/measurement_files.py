"""CSV files of measurements: how they are laid out, and their cells in chunks of constant memory.

Belongs here: header, separator, decimal sign, encoding, lines. Does not: what a cell must hold
(`measurements`).
"""

import csv
import logging
import os
import re
from collections.abc import Iterator
from typing import NamedTuple

import pandas as pd

from bcnet.data.quantities import FEATURES, match_columns

logger = logging.getLogger("bcnet")

MISSING = ("", "?", "NA", "N/A", "n/a", "na", "#N/A", "NaN", "nan", "null", "NULL", "None", "none")
"""What stands in a cell where nothing was measured."""

# The UCI's wdbc.data, the one file that is known without a header.
UCI_COLUMNS = ("id", "diagnosis", *FEATURES)

LONGEST_LINE = 2**16  # bytes; a header line longer than this is no CSV of measurements


class Layout(NamedTuple):
    """How a CSV is laid out.

    Attributes:
        columns: names as written, "" where there is none.
        positions: of the measurements, the label and the patient, as from `match_columns`.
        separator: comma, semicolon or tab.
        decimal: "." or ",".
        header_lines: 1, or 0 for the UCI's file.
    """

    columns: tuple[str, ...]
    positions: dict[str, int]
    separator: str
    decimal: str
    header_lines: int


def read_layout(path: str | os.PathLike) -> Layout:
    """Read from its first two lines how a CSV is laid out.

    Columns without a meaning here are named once through the logger and not used.

    Args:
        path: a CSV in UTF-8, with or without byte-order mark, whose header names the columns; or
            the UCI's `wdbc.data`, known by 32 cells of which the second is M or B.

    Returns:
        The layout.

    Raises:
        ValueError: the file is empty, no CSV, lacks a header, a row or a measurement.
        OSError: it cannot be opened.

    Example:
        A file that begins `id;diagnosis;radius_mean;…` and goes on `842302;M;17,99;…` has the
        separator ";" and the decimal ",".
    """
    first, second = _read_first_lines(path)
    separator = max(",;\t", key=first.count)
    header, cells = (_split(line, separator) for line in (first, second))
    header_lines = 0 if 2 * sum(map(_is_number, header)) > len(header) else 1
    if not header_lines:
        header, cells = _name_uci(header, path), header
    if not any(cells):
        raise ValueError(f"{path} must have at least one row below its header. Found none.")
    header += [""] * (len(cells) - len(header)) * (not any(cells[len(header) :]))
    if len(cells) != len(header):
        raise ValueError(
            f"{path} must have as many values as columns, {len(header)}. "
            f"Received: {len(cells)} in the first row"
        )
    positions = match_columns(header, str(path))
    _tell_unused(header, cells, positions, path)
    return Layout(tuple(header), positions, separator, _find_decimal(cells), header_lines)


def read_chunks(
    path: str | os.PathLike, layout: Layout, *, rows: int | None = None
) -> Iterator[pd.DataFrame]:
    """Read the cells of a CSV, some rows at a time.

    Args:
        path: the CSV.
        layout: as from `read_layout`.
        rows: at most so many at a time; all at once when None.

    Yields:
        The measurements, `label` and `patient_id`: a column is of numbers where all its cells
        are, else of text as written; NaN where a cell is one of `MISSING`. The index is the
        number of the line in the file, from 1; blank lines are left out.

    Raises:
        ValueError: the file is not UTF-8, or a line has too many values.
    """
    names = {position: name for name, position in layout.positions.items()}
    settings = {
        "sep": layout.separator,
        "decimal": layout.decimal,
        "header": None,
        "skiprows": layout.header_lines,
        "names": [names.get(position, position) for position in range(len(layout.columns))],
        "dtype": {"label": str, "patient_id": str},  # 007 is not 7
        "keep_default_na": False,
        "na_values": list(MISSING),
        "skipinitialspace": True,
        "skip_blank_lines": False,  # else the index would not tell the line
        "low_memory": False,  # a column of a chunk has one type
    }
    try:
        with pd.read_csv(path, chunksize=rows or 2**31, **settings) as reader:
            for chunk in reader:
                chunk.index += 1 + layout.header_lines
                yield chunk.loc[:, list(layout.positions)].dropna(how="all")
    except UnicodeDecodeError as error:
        raise _make_encoding_error(path, error) from error
    except pd.errors.ParserError as error:
        told = re.sub(r"^.*C error: ", "", str(error).strip())
        raise ValueError(f"{path} must have the same columns in each line. {told}") from error


def _read_first_lines(path):
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            lines = iter(lambda: file.readline(LONGEST_LINE), "")
            first = next(lines, "")
            second = next((line for line in lines if line.strip()), "")
    except UnicodeDecodeError as error:
        raise _make_encoding_error(path, error) from error
    if not first.strip():
        raise ValueError(f"{path} must begin with a header of names. Received: an empty line")
    if "\0" in first + second:
        raise _make_encoding_error(path, "a binary file")
    return first, second


def _make_encoding_error(path, error):
    return ValueError(f"{path} must be a CSV in UTF-8 (in a spreadsheet: save as). Found: {error}")


def _split(line, separator):
    cells = next(csv.reader([line], delimiter=separator), [])
    return [cell.strip() for cell in cells]


def _is_number(text):
    return re.fullmatch(r"[-+]?\d+([.,]\d*)?([eE][-+]?\d+)?", text) is not None


def _name_uci(cells, path):
    if len(cells) != len(UCI_COLUMNS) or cells[1] not in ("M", "B"):
        raise ValueError(
            f"{path} must have a header of names: without one only the UCI's wdbc.data is known "
            f"(32 columns: id, M or B, 30 numbers). Received: {len(cells)} columns, "
            f"beginning {', '.join(cells[:3])}"
        )
    return list(UCI_COLUMNS)


def _find_decimal(cells):
    """A spreadsheet of much of Europe writes 17,99 between semicolons."""
    return "," if any("," in cell and _is_number(cell) for cell in cells) else "."


def _tell_unused(header, cells, positions, path):
    used = set(positions.values())
    unused = [
        name or f"column {at + 1} without a name"
        for at, name in enumerate(header)
        if at not in used and (name or cells[at])
    ]
    if unused:
        logger.info("%s: not used: %s", path, ", ".join(unused))
