"""Which pictures there are, whose they are, and what is left out: one table for everything.

How folders, CSVs and `.npz` files are read stands in `folders`, `tables` and `arrays`. Nothing
here decides a split, and only a few pictures are decoded (to tell tissue from radiology):
unreadable ones are named by whoever reads them all.
"""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from bcnet.config import MODALITIES
from bcnet.data.dataset_info import DatasetInfo, combine_infos, describe_source, name_sources
from bcnet.data.folders import IS_MASK, Skipped
from bcnet.data.naming import NORMAL, match_patients, read_names
from bcnet.data.sources import find_base, list_source, read_sample
from bcnet.data.tables import NUMBER_COLUMNS, resolve_paths

__all__ = [
    "DatasetInfo",
    "Manifest",
    "hash_patient",
    "patient_keys",
    "patients_known",
    "read_manifest",
    "read_sample",
    "relative_names",
]

COLUMNS = ["path", "label", "patient_id", "split", "source", "dataset"]
"""The columns of every manifest; what names or a CSV tell besides comes after them."""

IS_NORMAL = "normal: neither benign nor malignant"
"""Reason for leaving out a normal picture."""


@dataclass(frozen=True)
class Manifest:
    """The pictures of some data, and everything worth saying about them.

    Attributes:
        table: One row per picture, in the order of the sources and sorted by name within each.
            `path` (the source joined with the name below it; `train[17]` in an `.npz`), `label`
            (int, malignant = 1), `patient_id` (text or None), `split` (`"train"`,
            `"validation"`, `"test"` or None), `source` (as given), `dataset` (its name), then
            what names or a CSV tell: `magnification`, `tumour_type`, `laboratory`, `fold` …
        info: The data in its own words.
        skipped: Every file not used, as pairs of path and reason; a hidden folder stands once.
        notes: Sentences for the user, one line each.

    Example:
        `read_manifest("data").table.groupby("label").size()` counts the pictures of each class.
    """

    table: pd.DataFrame
    info: DatasetInfo
    skipped: Skipped
    notes: list[str]


def read_manifest(
    data: str | Path | Sequence[str | Path],
    *,
    normal: str = "exclude",
    patient_pattern: str | None = None,
    modality: str = "auto",
) -> Manifest:
    """Read which pictures some data holds, whose they are and in which split they stand.

    Args:
        data: One or more folders, CSVs or `.npz` files, absolute or relative.
        normal: `"exclude"` leaves normal pictures out, `"benign"` counts them as benign.
        patient_pattern: Regular expression that finds the patient in a picture's name below its
            source (`/` between folders), instead of known naming schemes and CSV columns.
        modality: `"tissue"`, `"radiology"`, or `"auto"`: as `dataset.json` says, else radiology
            where the pictures are grey.

    Returns:
        The table, the data in its own words, what was left out, and notes.

    Raises:
        FileNotFoundError: If `data`, or a picture that a CSV names, does not exist.
        ValueError: If no pictures are found, a word is unknown, or a picture comes twice.

    Example:
        `read_manifest("data").table` of `data/benign/7_idx5_x1_y1_class0.png` has one row: label
        0, patient `"7"`, split None, data set `"data"`.
    """
    _require_choice("normal", normal, ("exclude", "benign"))
    _require_choice("modality", modality, ("auto", *MODALITIES))
    listings = [list_source(source) for source in _as_paths(data)]
    rows = pd.concat([_add_names(rows, patient_pattern) for rows, _ in listings])
    rows = rows.reset_index(drop=True)
    _require_single(rows)
    _require_patients(rows, patient_pattern)
    skipped = [entry for _, entries in listings for entry in entries]
    notes = _note_normal(rows, normal) + _note_masks(skipped)
    rows, left_out = _settle_normal(rows, normal)
    infos = _describe(rows, modality)
    table = _finish(rows, {source: info.name for source, info in infos.items()})
    notes += _note_modality(infos) + _note_patients(table, rows["scheme"]) + _note_splits(table)
    info = replace(combine_infos(list(infos.values())), name=" + ".join(table["dataset"].unique()))
    return Manifest(table, info, skipped + left_out, notes)


def patient_keys(table: pd.DataFrame) -> pd.Series:
    """Tell patients apart across data sets.

    Args:
        table: A manifest's table: `path`, `patient_id` and `dataset` are read.

    Returns:
        Text per row, in the table's index: `dataset/patient_id`, or `dataset/path` where the
        patient is unknown, so that such a picture counts as a patient of its own.

    Example:
        >>> rows = {"path": ["x", "y"], "patient_id": ["7", None], "dataset": ["a", "a"]}
        >>> patient_keys(pd.DataFrame(rows)).tolist()
        ['a/7', 'a/y']
    """
    known = table["patient_id"].notna()
    return table["dataset"] + "/" + table["patient_id"].where(known, table["path"]).astype(str)


def hash_patient(key: str) -> str:
    """Name a patient for matching, by data set and id; ids can be guessed, so not anonymous.

    Args:
        key: As `patient_keys` gives it.

    Returns:
        16 hexadecimal digits.
    """
    return hashlib.sha256(key.encode()).hexdigest()[:16]


def patients_known(table: pd.DataFrame) -> bool:
    """Tell whether every picture has a patient, so that figures may be called patient-level.

    Args:
        table: A manifest's table: `patient_id` is read.

    Returns:
        True when no patient is unknown and there is at least one picture.

    Example:
        >>> patients_known(pd.DataFrame({"patient_id": ["7", None]}))
        False
    """
    return len(table) > 0 and bool(table["patient_id"].notna().all())


def relative_names(table: pd.DataFrame) -> pd.Series:
    """Name pictures by their place in their source, wherever the source itself lies.

    Args:
        table: A manifest's table: `path` and `source` are read.

    Returns:
        Text per row, in the table's index, with `/` between folders.

    Example:
        >>> rows = {"path": ["data/benign/x.png", "train[0]"], "source": ["data", "a.npz"]}
        >>> relative_names(pd.DataFrame(rows)).tolist()
        ['benign/x.png', 'train[0]']
    """
    bases = {source: find_base(source) for source in table["source"].unique()}
    pairs = zip(table["path"], table["source"], strict=True)
    names = [path.removeprefix(bases[source]).replace(os.sep, "/") for path, source in pairs]
    return pd.Series(names, index=table.index, dtype=object)


def _require_choice(name: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise ValueError(f"`{name}` must be one of {', '.join(allowed)}. Received: {name}={value}")


def _as_paths(data: str | Path | Sequence[str | Path]) -> list[str]:
    paths = [data] if isinstance(data, str | os.PathLike) else list(data)
    if not paths:
        raise ValueError("`data` must name at least one folder, .csv or .npz. Received: data=[]")
    return [os.fspath(path) for path in paths]


def _add_names(rows: pd.DataFrame, patient_pattern: str | None) -> pd.DataFrame:
    told = read_names(rows["name"])
    if patient_pattern is not None:
        rows = rows.assign(patient_id=match_patients(rows["name"], patient_pattern))
    return rows.assign(**told[told.columns.difference(rows.columns, sort=False)])


def _require_single(rows: pd.DataFrame) -> None:
    # A picture of an .npz lies "below" its file: two files may both have a train[0].
    inside = rows["path"] == rows["name"]
    inside &= rows["source"].str.lower().str.endswith(".npz")
    places = rows["path"].where(~inside, rows["source"] + "/" + rows["path"])
    again = pd.Series(resolve_paths(places), index=rows.index).duplicated()
    if again.any():
        raise ValueError(
            f"`data` must hold each picture once. Found {again.sum()} again, the first in "
            f"{rows.loc[again, 'source'].iloc[0]}: {rows.loc[again, 'path'].iloc[0]}"
        )


def _require_patients(rows: pd.DataFrame, patient_pattern: str | None) -> None:
    if patient_pattern is not None and rows["patient_id"].isna().all():
        raise ValueError(
            "`patient_pattern` must match some picture's name, such as "
            f"{rows['name'].iloc[0]}. Received: patient_pattern={patient_pattern!r}"
        )


def _settle_normal(rows: pd.DataFrame, normal: str) -> tuple[pd.DataFrame, Skipped]:
    if normal == "benign":
        return rows, []
    is_normal = rows["label"] == NORMAL
    if is_normal.all():
        raise ValueError(f"`data` must hold benign or malignant pictures. Found: {NORMAL} only.")
    left_out = [(path, IS_NORMAL) for path in rows.loc[is_normal, "path"]]
    return rows[~is_normal].reset_index(drop=True), left_out


def _describe(rows: pd.DataFrame, modality: str) -> dict[str, DatasetInfo]:
    infos = {
        source: describe_source(part, modality=modality)
        for source, part in rows.groupby("source", sort=False)
    }
    unnamed = [source for source, info in infos.items() if not info.name]
    given = {info.name for info in infos.values() if info.name}
    for source, name in zip(unnamed, name_sources(unnamed, given), strict=True):
        infos[source] = replace(infos[source], name=name)
    return infos


def _finish(rows: pd.DataFrame, names: dict[str, str]) -> pd.DataFrame:
    named = rows["source"].map(names).astype(object)
    # A CSV of several data sets may bring their names.
    rows["dataset"] = rows["dataset"].fillna(named) if "dataset" in rows else named
    rows["label"] = [0 if label == NORMAL else label for label in rows["label"]]
    for column in rows.columns.intersection(NUMBER_COLUMNS):
        whole = rows[column].notna().all()
        rows[column] = rows[column].astype("int64" if whole else "Int64")
    texts = rows.columns.difference(["label", *NUMBER_COLUMNS])
    rows[texts] = rows[texts].astype(object).where(rows[texts].notna(), None)
    told = rows.drop(columns=["name", "scheme", *COLUMNS]).dropna(axis="columns", how="all")
    return pd.concat([rows[COLUMNS], told], axis="columns")


def _note_normal(rows: pd.DataFrame, normal: str) -> list[str]:
    count = int((rows["label"] == NORMAL).sum())
    if not count:
        return []
    if normal == "benign":
        return [f"{count} normal pictures count as benign"]
    return [
        f"normal/ holds {count} pictures and was left out; `--normal benign` counts them as benign"
    ]


def _note_masks(skipped: Skipped) -> list[str]:
    count = sum(reason == IS_MASK for _, reason in skipped)
    return [f"{count} masks are no pictures of a class and were left out"] if count else []


def _note_modality(infos: dict[str, DatasetInfo]) -> list[str]:
    if len({info.modality for info in infos.values()}) == 1:
        return []
    return ["tissue and radiology are mixed: treated as radiology, the gentler augmentation"]


def _note_patients(table: pd.DataFrame, schemes: pd.Series) -> list[str]:
    known = table["patient_id"].notna()
    if not known.any():
        return [
            "patients unknown: every picture counts as its own patient; `--patient-pattern` or a "
            "CSV column `patient_id` would tell"
        ]
    found = sorted(schemes.dropna().unique())
    told = f"; pictures are named as in {', '.join(found)}" if found else ""
    notes = [f"{patient_keys(table[known]).nunique()} patients{told}"]
    if not known.all():
        count = int((~known).sum())
        notes.append(f"{count} of {len(table)} pictures tell no patient and count as one each")
    return notes


def _note_splits(table: pd.DataFrame) -> list[str]:
    outside = int(table["split"].isna().sum())
    if outside in (0, len(table)):
        return []
    return [f"{outside} of {len(table)} pictures stand in no split while others do"]
