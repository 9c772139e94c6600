"""Pasted or uploaded text of measurements: rows of values by name, without a file in between.

Belongs here: separator, header and decimal sign, in memory. What a value must be does not
(`bcnet.data.measurement_cells`), and neither do files of any length (`bcnet measurements predict`).
"""

import csv
from itertools import islice

from bcnet.data.measurement_files import MISSING, UCI_COLUMNS
from bcnet.data.quantities import FEATURES, match_columns
from bcnet.web.errors import Refusal
from bcnet.web.measured import MOST_ROWS

# What stands in a line without a header: the thirty numbers, or the UCI's 32 cells.
BARE_COLUMNS = {len(FEATURES): FEATURES, len(UCI_COLUMNS): UCI_COLUMNS}


def decode(content: bytes) -> str:
    """Decode an uploaded CSV.

    Args:
        content: of the file, with or without a byte-order mark.

    Raises:
        Refusal: 422 when it is not UTF-8.

    Example:
        >>> decode(b"mean radius")
        'mean radius'
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Refusal(422, "The file must be a CSV in UTF-8 (in a spreadsheet: save as).") from None


def read_lines(text: str) -> list[dict]:
    """Read the lines of a CSV; one more than is answered at once is enough to refuse it.

    Args:
        text: with commas, semicolons or tabs. Without a header, thirty numbers in the order of
            `FEATURES` or the 32 cells of the UCI's `wdbc.data`.

    Returns:
        For each line its thirty values by name: a number, None where missing, or the text that
        is no number, of which the model's reader tells what is wrong.

    Raises:
        Refusal: 422 for text that is no table of the thirty measurements, naming what is missing.

    Example:
        >>> read_lines(",".join(["1.5"] * 30))[0]["mean radius"]
        1.5
    """
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        raise Refusal(422, "Paste at least one line of measurements, or choose a CSV file.")
    separator = _find_separator(lines[0])
    try:
        lines = list(islice(csv.reader(lines, delimiter=separator), MOST_ROWS + 2))
        names, rows = _split_header(lines)
        positions = match_columns(names, "the text")
    except (csv.Error, ValueError) as error:
        raise Refusal(422, f"{error}.".replace("..", ".")) from error
    return [_read_row(row, names, positions, has_comma=separator != ",") for row in rows]


def read_cell(text: str) -> float | str | None:
    """Read one cell or field.

    Args:
        text: as it was typed.

    Returns:
        A number, None where it says that nothing was measured, or else the text.

    Example:
        >>> read_cell(" 17.99 "), read_cell("NA"), read_cell("17 mm")
        (17.99, None, '17 mm')
    """
    text = text.strip()
    if text in MISSING:
        return None
    try:
        return float(text)
    except ValueError:
        return text


def _find_separator(line):
    """Find it by count: between 29 semicolons, thirty commas may be decimal signs."""
    return next((sign for sign in ";\t" if line.count(sign) >= len(FEATURES) - 1), ",")


def _split_header(lines):
    first = [cell.strip() for cell in lines[0]]
    if sum(map(_is_number, first)) <= len(first) / 2:
        return first, lines[1:]
    if len(first) not in BARE_COLUMNS:
        raise ValueError(
            "A line without a header of names must have 30 numbers, or 32 cells as in the UCI's "
            f"wdbc.data. Received: {len(first)}"
        )
    return BARE_COLUMNS[len(first)], lines


def _is_number(cell):
    return isinstance(read_cell(cell.replace(",", ".")), float)


def _read_row(cells, names, positions, *, has_comma):
    if len(cells) != len(names):
        told = f"Each line must have {len(names)} values. Received: {len(cells)} in one"
        raise Refusal(422, told)
    if has_comma:  # a spreadsheet of much of Europe writes 17,99 between semicolons or tabs
        cells = [cell.replace(",", ".") for cell in cells]
    return {name: read_cell(cells[positions[name]]) for name in FEATURES}
