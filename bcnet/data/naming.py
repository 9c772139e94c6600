"""What the names of folders and files say: class, given split, patient.

Only words and patterns belong here: nothing in this file opens a file or knows where one lies.
"""

import re
from collections.abc import Iterable

import pandas as pd

NORMAL = "normal"
"""The class word that is neither: a screening picture without any finding."""

CLASS_WORDS = {
    "benign": 0,
    "negative": 0,
    "b": 0,
    "0": 0,
    "malignant": 1,
    "positive": 1,
    "m": 1,
    "1": 1,
    NORMAL: NORMAL,
}
"""Class words in lower case and the label that each stands for."""

SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "valid": "validation",
    "val": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
"""Words for a part of the data in lower case and the name that bcnet uses for it."""

NAME_SCHEMES = {
    "BreaKHis": re.compile(
        # Letters after the slide number name blocks of one case: 14-22549AB and 14-22549CD.
        r"SOB_[BM]_(?P<tumour_type>A|F|PT|TA|DC|LC|MC|PC)-(?P<patient_id>\d+-\d+)[A-Z]*"
        r"-(?P<magnification>\d+)-\d+"
    ),
    "IDC": re.compile(r"(?P<patient_id>\d+)_idx\d+_x\d+_y\d+_class[01]"),
    "BUS-UCLM": re.compile(r"(?P<patient_id>[A-Z]{4})_\d{3}"),
    "mini-MIAS": re.compile(r"mdb(?P<film>\d{3})"),
    "bcnet simulate": re.compile(r"sim-(?P<patient_id>.+)-(?P<laboratory>lab\d+)-\d+"),
}
"""Naming schemes of public data sets: the whole name without its ending; groups are columns."""

NAME_COLUMNS = ("patient_id", "tumour_type", "magnification", "laboratory", "laterality")
"""All that a name may tell."""


def read_class(folders: Iterable[str]) -> int | str | None:
    """Read the class from the folders above a picture.

    A word written out outranks a digit or letter, because `benign/1/` is more often the first
    benign patient than a malignant one; among equals the deepest folder decides.

    Args:
        folders: Folder names from the top down, in any case.

    Returns:
        0 (benign), 1 (malignant), `"normal"`, or None when no folder is a class.

    Example:
        >>> read_class(["8863", "0"]), read_class(["benign", "SOB", "1"]), read_class(["a"])
        (0, 0, None)
    """
    words = [word for word in map(str.lower, folders) if word in CLASS_WORDS]
    return CLASS_WORDS[max(reversed(words), key=lambda word: len(word) > 1)] if words else None


def read_split(folders: Iterable[str]) -> str | None:
    """Read the given split from the folders above a picture; the topmost one decides.

    Args:
        folders: Folder names from the top down, in any case.

    Returns:
        `"train"`, `"validation"`, `"test"`, or None when no folder names a split.

    Example:
        >>> read_split(["Val", "benign"])
        'validation'
    """
    return next(
        (SPLIT_WORDS[word] for word in map(str.lower, folders) if word in SPLIT_WORDS), None
    )


def read_names(names: Iterable[str]) -> pd.DataFrame:
    """Read patients, and what else the names say, by the schemes of public data sets.

    Args:
        names: Paths with `/` between folders; only the last part is read.

    Returns:
        One row per name: the columns of `NAME_COLUMNS` and `scheme` (the key in `NAME_SCHEMES`),
        None wherever the name says nothing.

    Example:
        >>> told = read_names(["benign/SOB_B_A-14-22549AB-40-001.png"]).loc[0]
        >>> told["patient_id"], told["tumour_type"], told["magnification"]
        ('14-22549', 'A', 40)
    """
    columns = ["scheme", *NAME_COLUMNS]
    rows = [[told.get(column) for column in columns] for told in map(_read_name, names)]
    return pd.DataFrame(rows, columns=columns, dtype=object)


def match_patients(names: Iterable[str], pattern: str) -> list[str | None]:
    """Read patients by a pattern of the user's own.

    Args:
        names: Paths below their source with `/` between folders.
        pattern: A regular expression, searched for anywhere in the path. The patient is its
            group named `patient`, else its first group, else the whole match.

    Returns:
        One patient per name, None where the pattern does not match.

    Raises:
        ValueError: If `pattern` is no regular expression.

    Example:
        >>> match_patients(["7/0/x.png", "x.png"], r"^(\\d+)/")
        ['7', None]
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ValueError(
            "`patient_pattern` must be a regular expression. "
            f"Received: patient_pattern={pattern!r} ({error})"
        ) from error
    group = "patient" if "patient" in compiled.groupindex else min(1, compiled.groups)
    return [(match[group] or None) if match else None for match in map(compiled.search, names)]


def _read_name(name: str) -> dict[str, str | int]:
    stem = name.rpartition("/")[2].rpartition(".")[0]
    for scheme, pattern in NAME_SCHEMES.items():
        if match := pattern.fullmatch(stem):
            return {"scheme": scheme} | _finish(match.groupdict())
    return {}


def _finish(told: dict[str, str]) -> dict[str, str | int]:
    if "magnification" in told:
        return told | {"magnification": int(told["magnification"])}
    if "film" in told:
        # mini-MIAS numbers the films of a woman in pairs: the right breast is odd, the left even.
        film = int(told["film"])
        first = film - 1 + film % 2
        return {"patient_id": f"mdb{first:03d}", "laterality": "right" if film % 2 else "left"}
    return told
