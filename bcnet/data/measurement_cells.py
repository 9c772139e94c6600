"""What a cell of a table of measurements must hold, and how a fault is told.

Belongs here: numbers, labels and ids out of cells of any kind. Does not: where the cells come
from (`measurements`, `measurement_files`).

A value that no nucleus can have is a fault, most often a slip of units, and never used. A missing
value is none: it stays NaN, to be imputed by a model from the patients it was trained on.
"""

import math

import numpy as np
import pandas as pd

from bcnet.data.measurement_files import MISSING
from bcnet.data.naming import CLASS_WORDS
from bcnet.data.quantities import FEATURES, MEASUREMENTS

LABEL_CODES = {word: code for word, code in CLASS_WORDS.items() if code in (0, 1)}

# Their digits mean malignant by 0 in scikit-learn and by 2 at OpenML: only words are taken.
AMBIGUOUS_LABELS = ("target", "class")

LOWS = np.array([each.low for each in MEASUREMENTS.values()])
HIGHS = np.array([each.high for each in MEASUREMENTS.values()])


def read_values(cells: pd.DataFrame) -> tuple[np.ndarray, dict[int, str]]:
    """Read the thirty numbers of each row.

    Args:
        cells: with the columns `FEATURES`, of numbers or text.

    Returns:
        float64 `(n_rows, 30)`, NaN = missing or no number; and the first fault of each row that
        has one, in words that name column, value and range.

    Example:
        >>> cells = pd.DataFrame(-1.0, index=[0], columns=list(FEATURES))
        >>> read_values(cells)[1][0]
        '`mean radius` must be between 2 and 100 px. Received: -1'
    """
    columns = [_read_numbers(cells[name]) for name in FEATURES]
    values = np.column_stack([numbers for numbers, _ in columns])
    is_text = np.column_stack([is_text for _, is_text in columns])
    is_wrong = is_text | (values < LOWS) | (values > HIGHS)
    empty = np.flatnonzero(np.isnan(values).all(axis=1))
    faults = dict.fromkeys(empty.tolist(), "at least one of the 30 measurements must be there")
    for row in np.flatnonzero(is_wrong.any(axis=1)).tolist():
        at = int(is_wrong[row].argmax())
        measurement = MEASUREMENTS[FEATURES[at]]
        if is_text[row, at]:
            faults[row] = _tell_text(measurement, cells[measurement.name].iloc[row])
        else:
            faults[row] = _tell_range(measurement, values[row, at])
    return values, faults


def read_labels(cells: pd.Series, name: str) -> tuple[np.ndarray, dict[int, str]]:
    """Read labels, malignant = 1.

    Args:
        cells: M, malignant, positive or 1 against B, benign, negative or 0, in any case.
        name: of the column as written; the digits of `AMBIGUOUS_LABELS` are refused.

    Returns:
        int64 `(n_rows,)`, 0 at a fault; and the faults by row.

    Example:
        >>> read_labels(pd.Series(["M", "benign"]), "diagnosis")
        (array([1, 0]), {})
    """
    is_ambiguous = name.strip().lower() in AMBIGUOUS_LABELS
    codes = {
        word: code for word, code in LABEL_CODES.items() if not (is_ambiguous and word.isdecimal())
    }
    texts = cells.astype("string").str.strip().str.lower()
    # pandas writes whole numbers with a gap among them as fractions
    labels = texts.str.removesuffix(".0").map(codes).to_numpy(float, na_value=np.nan)
    tell = _tell_ambiguous if is_ambiguous else _tell_label
    faulty = np.flatnonzero(np.isnan(labels)).tolist()
    faults = {row: tell(name, cells.iloc[row]) for row in faulty}
    return np.nan_to_num(labels).astype(np.int64), faults


def read_ids(cells: pd.Series) -> list[str]:
    """Read patients' ids as text, "" where there is none.

    Args:
        cells: text or numbers.

    Returns:
        One for each row.

    Example:
        >>> read_ids(pd.Series([842302.0, None]))  # whole numbers, as pandas reads them with a gap
        ['842302', '']
    """
    if pd.api.types.is_float_dtype(cells) and (cells.dropna() % 1 == 0).all():
        cells = cells.astype("Int64")
    return cells.astype("string").str.strip().fillna("").tolist()


def _read_numbers(cells):
    """Read a column as float64 and which of its cells are neither number nor missing."""
    if pd.api.types.is_float_dtype(cells) or pd.api.types.is_integer_dtype(cells):
        return cells.to_numpy(float, na_value=np.nan), np.zeros(len(cells), bool)
    texts = cells.astype("string").str.strip()
    numbers = pd.to_numeric(texts, errors="coerce").to_numpy(float, na_value=np.nan)
    is_missing = (texts.isna() | texts.isin(MISSING)).to_numpy(bool)
    return numbers, np.isnan(numbers) & ~is_missing


def _tell_text(measurement, cell):
    hint = " (write 1001.5, without other commas)" if "," in str(cell) else ""
    return f"`{measurement.name}` must be a number or empty. Received: {_quote(cell)}{hint}"


def _tell_range(measurement, value):
    unit = f" {measurement.unit}" if measurement.unit else ""
    return (
        f"`{measurement.name}` must be between {measurement.low:g} and {measurement.high:g}{unit}. "
        f"Received: {value:.10g}{_hint_unit(measurement, value)}"
    )


def _hint_unit(measurement, value):
    """Say which power of ten would bring a value nearest the usual ones, if among the possible."""
    if not 0 < value < math.inf:
        return ""
    usual = math.sqrt((measurement.low or measurement.high / 100) * measurement.high)
    fitting = value / 10 ** round(math.log10(value / usual))
    is_possible = measurement.low <= fitting <= measurement.high
    return f" ({fitting:.10g} would fit: another unit?)" if is_possible else ""


def _tell_label(name, cell):
    return f"`{name}` must be M or B, malignant or benign, 1 or 0. Received: {_quote(cell)}"


def _tell_ambiguous(name, cell):
    return (
        f"`{name}` must be malignant or benign in words, as its digits mean either (malignant is 0 "
        f"in scikit-learn); else name it `label`, malignant = 1. Received: {_quote(cell)}"
    )


def _quote(cell):
    return "an empty cell" if pd.isna(cell) is True else repr(str(cell)[:40])
