"""Tables of pictures: a CSV in, checked rows out; and a CSV written whole or not at all.

Columns and their words are checked here. What the rows mean together – patients, splits – is
the business of `manifest` and `split`.
"""

import csv
import os
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from bcnet.atomic import write_text
from bcnet.data.naming import CLASS_WORDS, SPLIT_WORDS

KNOWN_COLUMNS = ("path", "label", "patient_id", "split", "fold", "magnification", "dataset")
"""Columns with a meaning, recognised in any case; all others are kept as text."""

NUMBER_COLUMNS = ("fold", "magnification")
"""Columns of whole numbers; identifiers stay text, because 007 is not 7."""


RESERVED_COLUMNS = ("name", "source", "scheme")
"""Columns that the manifest fills itself; a CSV's own of that name gets `_given` added."""


def read_table(path: str | Path) -> pd.DataFrame:
    """Read a CSV of pictures and check its words.

    Comma, semicolon and tab are told apart by the header, and a byte-order mark is dropped, so
    that what spreadsheets write can be read.

    Args:
        path: A CSV in UTF-8 whose header has at least the column `path`.

    Returns:
        One row per picture, indexed by the row number that a spreadsheet shows (header = 1).
        `path` as written, with `/`; `label` 0, 1 or `"normal"`; `split` by its bcnet name; `fold`
        and `magnification` whole numbers; all else text, None where empty.

    Raises:
        ValueError: If the file is no such CSV; the message names row and value.

    Example:
        A file of the two lines `path;label` and `a.png;M` gives one row: `a.png`, 1.
    """
    header, rows = _read_cells(path)
    cells = [[cell.strip() or None for cell in row] for row in rows.values()]
    table = pd.DataFrame(cells, columns=header, index=list(rows), dtype=object)
    _require_paths(table, path)
    # A CSV from Windows may be read elsewhere; no data set that we know has \\ in a file's name.
    table["path"] = table["path"].str.replace("\\", "/").astype(object)
    _translate(table, "label", CLASS_WORDS, path)
    _translate(table, "split", SPLIT_WORDS, path)
    for column in NUMBER_COLUMNS:
        words = {text: int(text) for text in _texts(table, column) if text.isdecimal()}
        _translate(table, column, words, path, allowed="a whole number")
    return table


def list_table(source: str) -> tuple[pd.DataFrame, list[tuple[str, str]]]:
    """List the pictures that a CSV names, relative to the CSV.

    Args:
        source: The CSV as given, with at least the columns `path` and `label`.

    Returns:
        `(rows, skipped)`: rows sorted by `name`, the path as written, with the columns `name`,
        `path`, `label` (0, 1 or `"normal"`), `split` and all further ones; `skipped` is empty,
        because every row of a CSV is either used or an error.

    Raises:
        ValueError: If a column, label or path is missing or unknown, or a picture stands twice.
        FileNotFoundError: If pictures are missing; the message counts them and names three.

    Example:
        `list_table("study/pictures.csv")[0]["path"]` starts with `study/`.
    """
    table = read_table(source)
    if "label" not in table:
        raise ValueError(f"{source} must have a column `label`. Found: {', '.join(table)}.")
    if table["label"].isna().any():
        raise ValueError(f"{source} has no label in row {table.index[table['label'].isna()][0]}.")
    table = table.rename(columns={column: f"{column}_given" for column in RESERVED_COLUMNS})
    table = table.rename(columns={"path": "name"})
    folder = os.path.dirname(source)
    table["path"] = [os.path.join(folder, name) for name in table["name"]]
    _require_single(table, source)
    _require_files(table["path"], source)
    if "split" not in table:
        table["split"] = None
    return table.sort_values("name", ignore_index=True), []


def resolve_paths(paths: Iterable[str]) -> list[str]:
    """Resolve paths to absolute ones, so that two ways of naming one file are seen to agree.

    Only folders are resolved, each once: 100,000 files cost no 100,000 look-ups, and two links
    in one folder remain two pictures.

    Args:
        paths: Paths, absolute or relative to the working folder.

    Returns:
        Absolute paths without links in their folders.

    Example:
        `resolve_paths(["/a/../b/x.png"])` is `["/b/x.png"]`.
    """
    pairs = [os.path.split(path) for path in paths]
    folders = {folder: os.path.realpath(folder) for folder in {folder for folder, _ in pairs}}
    return [os.path.join(folders[folder], file) for folder, file in pairs]


def write_table(table: pd.DataFrame, path: str | Path) -> None:
    """Write a CSV whole or not at all (see `bcnet.atomic`).

    Args:
        table: Anything that pandas writes as CSV; the index is left out.
        path: The CSV to write or replace; its folder is made when missing.

    Raises:
        OSError: If it cannot be written; an older file at `path` is then unharmed.

    Example:
        `write_table(pd.DataFrame({"path": ["x.png"]}), "out/split.csv")` writes two lines.
    """
    write_text(path, table.to_csv(index=False, lineterminator="\n"))


def _read_cells(path: str | Path) -> tuple[list[str], dict[int, list[str]]]:
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            header = file.readline()
            file.seek(0)
            separator = max(",;\t", key=header.count)
            numbered = enumerate(csv.reader(file, delimiter=separator), start=1)
            rows = {number: cells for number, cells in numbered if any(cells)}
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} must be a CSV in UTF-8. Received: {error}") from error
    if len(rows) < 2:
        raise ValueError(f"{path} must have a header and at least one row. Found: {len(rows)}.")
    header = [_know_column(cell.strip()) for cell in rows.pop(next(iter(rows)))]
    _require_shape(header, rows, path)
    return header, rows


def _know_column(name: str) -> str:
    return name.lower() if name.lower() in KNOWN_COLUMNS else name


def _require_shape(header: list[str], rows: dict[int, list[str]], path: str | Path) -> None:
    for column in header:
        if header.count(column) > 1:
            raise ValueError(f"{path} must name each column once. Found twice: {column!r}.")
    for number, cells in rows.items():
        if len(cells) != len(header):
            raise ValueError(
                f"{path} must have {len(header)} values in each row. "
                f"Found {len(cells)} in row {number}: {cells}"
            )


def _require_paths(table: pd.DataFrame, path: str | Path) -> None:
    if "path" not in table:
        raise ValueError(f"{path} must have a column `path`. Found: {', '.join(table)}.")
    if table["path"].isna().any():
        raise ValueError(f"{path} has no path in row {table.index[table['path'].isna()][0]}.")


def _require_single(table: pd.DataFrame, source: str) -> None:
    again = pd.Series(resolve_paths(table["path"]), index=table.index).duplicated()
    if again.any():
        number = table.index[again][0]
        raise ValueError(
            f"{source} must name each picture once. "
            f"Found again in row {number}: {table.loc[number, 'name']}"
        )


def _require_files(paths: Iterable[str], source: str) -> None:
    missing = [path for path in paths if not os.path.isfile(path)]
    if missing:
        raise FileNotFoundError(
            f"{source} names {len(missing)} pictures that are not there (paths are relative to "
            f"the CSV): {', '.join(missing[:3])}"
        )


def _texts(table: pd.DataFrame, column: str) -> list[str]:
    return list(table[column].dropna().unique()) if column in table else []


def _translate(
    table: pd.DataFrame, column: str, words: dict, path: str | Path, *, allowed: str = ""
) -> None:
    for text in _texts(table, column):
        if text.lower() not in words:
            number = table.index[table[column] == text][0]
            raise ValueError(
                f"`{column}` must be {allowed or 'one of ' + ', '.join(words)}. "
                f"Received: {column}={text!r} in row {number} of {path}"
            )
    if column in table:
        table[column] = [None if text is None else words[text.lower()] for text in table[column]]
        table[column] = table[column].astype(object)
