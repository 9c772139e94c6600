"""Who is learned from and who is kept back: splits by patient, stored and checked.

A split never divides a patient, depends on nothing but the seed and the patients' names, and is
checked whenever it is read. Which pictures there are is the business of `manifest`.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd

from bcnet.config import CLASS_NAMES, SPLITS
from bcnet.data.arrays import ENTRY
from bcnet.data.manifest import patient_keys, relative_names
from bcnet.data.naming import NORMAL
from bcnet.data.tables import read_table, resolve_paths, write_table

ATTEMPTS = 64
"""Random orders tried, of which the most balanced stays: under a second for 223 patients."""

PLACEMENTS = 30_000
"""Patients placed over all attempts: chance balances many patients, so they need fewer tries."""


def split_by_patient(
    table: pd.DataFrame, *, validation: float = 0.15, test: float = 0.2, seed: int = 0
) -> pd.DataFrame:
    """Split pictures into training, validation and test without dividing a patient.

    Each part gets its share of the pictures and patients of each class as nearly as whole
    patients allow. The order of rows, and the place where the data lie, change nothing.

    Args:
        table: A manifest's table.
        validation: Share for validation, 0–1; 0 for none.
        test: Share for the test, 0–1; 0 for none.
        seed: Which of the balanced splits.

    Returns:
        A copy with `split` filled: `"train"`, `"validation"` or `"test"`.

    Raises:
        ValueError: If the shares leave no training part, or a class has too few patients for one
            patient in each part.

    Example:
        Ten benign and ten malignant patients of one picture each, `validation=0.1, test=0.2`:
        14 train, 2 validation and 4 test, half of each malignant.
    """
    shares = {"train": 1 - validation - test, "validation": validation, "test": test}
    if min(validation, test) < 0 or shares["train"] <= 0:
        raise ValueError(
            "`validation` and `test` must be at least 0 and leave a share for training. "
            f"Received: validation={validation}, test={test}"
        )
    parts = [part for part in SPLITS if shares[part] > 0]
    places = _place_patients(table, [shares[part] for part in parts], _join(parts), seed)
    return table.assign(split=pd.Series(np.array(parts, object)[places], table.index, object))


def fold_by_patient(table: pd.DataFrame, *, folds: int = 5, seed: int = 0) -> pd.DataFrame:
    """Divide pictures into folds of equal shares without dividing a patient.

    Args:
        table: A manifest's table.
        folds: Number of folds, at least 2.
        seed: Which of the balanced divisions.

    Returns:
        A copy with `fold` filled: 0 to `folds - 1`.

    Raises:
        ValueError: If `folds` is below 2, or a class has fewer patients than there are folds.

    Example:
        Ten benign and ten malignant patients in 5 folds: two of each in every fold.
    """
    if folds < 2:
        raise ValueError(f"`folds` must be at least 2. Received: folds={folds}")
    patients = patient_keys(table).nunique()
    if patients < folds:
        raise ValueError(
            f"`folds` must be at most the number of patients, {patients}. Received: folds={folds}"
        )
    return table.assign(fold=_place_patients(table, [1 / folds] * folds, f"{folds} folds", seed))


def sample_patients(table: pd.DataFrame, *, images: int, seed: int = 0) -> pd.DataFrame:
    """Take some patients with all their pictures, with the classes in proportion.

    Args:
        table: A manifest's table.
        images: About how many pictures to take; all of them when there are no more.
        seed: Which patients.

    Returns:
        The rows of the patients taken, in the table's order.

    Example:
        Ten benign and ten malignant patients of one picture each, `images=4`: two of each.
    """
    share = images / len(table)
    if share >= 1:
        return table
    drawn = split_by_patient(table, validation=0, test=share, seed=seed)["split"] == "test"
    return table[drawn].reset_index(drop=True)


def assert_disjoint(table: pd.DataFrame) -> None:
    """Check that no patient stands in two splits or two folds.

    Args:
        table: A manifest's table; pictures without a patient or a part are passed over.

    Raises:
        ValueError: If one does; the message counts them and names up to three.

    Example:
        Patient 7 of data set `a` in train and test: "Found 1: a/7 in train and test".
    """
    known = table[table["patient_id"].notna()]
    for column in known.columns.intersection(["split", "fold"]):
        places = pd.DataFrame({"patient": patient_keys(known), "part": known[column]})
        places = places.dropna().drop_duplicates()
        divided = places[places.duplicated("patient", keep=False)].groupby("patient")["part"]
        if len(divided):
            named = [f"{patient} in {_join(parts)}" for patient, parts in list(divided)[:3]]
            raise ValueError(
                f"No patient may stand in two parts. Found {len(divided)}: {'; '.join(named)}"
            )


def write_split(table: pd.DataFrame, path: str | Path) -> None:
    """Write a split as a CSV that is itself data: `read_manifest` reads it.

    Args:
        table: A manifest's table with `split` or `fold` filled.
        path: The CSV to write or replace, whole or not at all. Columns: `path` (relative to the
            CSV, with `/`; `train[17]` as it is), `patient_id`, `label`, `split` or `fold`, and
            `dataset` where there are several, because both may have a patient 7.

    Raises:
        ValueError: If neither `split` nor `fold` is filled, or a patient is divided.
        OSError: If the file cannot be written.

    Example:
        `write_split(split_by_patient(table), "data/split.csv")` writes paths like `benign/x.png`.
    """
    parts = [part for part in ("split", "fold") if part in table and table[part].notna().any()]
    if not parts:
        raise ValueError("`table` must have `split` or `fold` filled. Received: neither")
    assert_disjoint(table)
    folder = os.path.realpath(os.path.dirname(path))
    places = resolve_paths(table["path"])
    relative = [os.path.relpath(place, folder).replace(os.sep, "/") for place in places]
    names = table["path"].where(_lies_in_array(table), relative)
    several = ["dataset"] if table["dataset"].nunique() > 1 else []
    columns = ["path", "patient_id", "label", *parts, *several]
    write_table(table.assign(path=names)[columns], path)


def apply_split(table: pd.DataFrame, path: str | Path) -> pd.DataFrame:
    """Take the split of pictures from a CSV that `write_split`, or a person, has written.

    Args:
        table: A manifest's table.
        path: The CSV: `path` relative to itself, `split` or `fold`; `label` and `patient_id` may
            be there. Its patients fill in where the table knows none.

    Returns:
        A copy of the rows that the CSV names, with `split` or `fold` from it. What it leaves out
        is counted in `.attrs["notes"]`, a list of sentences for the user.

    Raises:
        ValueError: If the CSV has no part for a row, names a picture twice or under another
            label, agrees with no picture, or divides a patient.

    Example:
        A CSV of the lines `path,split` and `benign/x.png,test` keeps one picture, in the test.
    """
    given = _read_split(path)
    own = _key_pictures(table, "dataset" in given)
    named = own.isin(given.index)
    if not named.any():
        raise ValueError(
            f"{path} must name pictures of the data. It names, for example, {given.index[0]}; "
            f"the data holds {own.iloc[0]}"
        )
    result = table[named].copy()
    told = given.loc[own[named]].set_axis(result.index)
    _require_labels(result, told, path)
    parts = told.columns.intersection(["split", "fold"])
    result[parts] = told[parts].infer_objects()
    if "patient_id" in told:
        result["patient_id"] = result["patient_id"].where(
            result["patient_id"].notna(), told["patient_id"]
        )
    assert_disjoint(result)
    result.attrs["notes"] = _note_left_out(path, len(given) - len(told), len(table) - len(told))
    return result


def _place_patients(
    table: pd.DataFrame, shares: Sequence[float], where: str, seed: int
) -> np.ndarray:
    keys = patient_keys(table)
    codes, patients = pd.factorize(keys)
    # Columns: pictures of either class, then whether the patient has any of it.
    amounts = np.zeros((len(patients), 2 * len(CLASS_NAMES)))
    np.add.at(amounts, (codes, table["label"].to_numpy()), 1)
    amounts[:, len(CLASS_NAMES) :] = amounts[:, : len(CLASS_NAMES)] > 0
    _require_enough(amounts[:, len(CLASS_NAMES) :].sum(axis=0), len(shares), where)
    names = table["patient_id"].where(table["patient_id"].notna(), relative_names(table))
    names = names.groupby(keys).first()[patients]
    attempts = range(min(ATTEMPTS, max(1, PLACEMENTS // len(patients))))
    orders = (_order(names, f"{seed}/{attempt}") for attempt in attempts)
    placed = (_place(amounts / amounts.sum(axis=0), shares, order) for order in orders)
    return min(placed, key=lambda result: result[0])[1][codes]


def _order(names: pd.Series, salt: str) -> list[int]:
    # By hash of what a patient is called, never by where his pictures stand or lie; only
    # patients of the same name in two data sets are told apart by the data set.
    ranks = [
        (sha256(f"{salt}/{name}".encode()).digest(), key, place)
        for place, (key, name) in enumerate(names.items())
    ]
    return [place for *_, place in sorted(ranks)]


def _place(
    weights: np.ndarray, shares: Sequence[float], order: Sequence[int]
) -> tuple[float, np.ndarray]:
    """Place patients one by one where they are lacking most; return imbalance and places.

    `weights` (patients, amounts) are shares of the whole, `lacking` (parts, amounts) what each
    part is still short of. Placing w in part p changes the sum of squared shortages by
    w·w − 2 lacking[p]·w, so the best part is the one with the largest lacking[p]·w.
    """
    lacking = np.repeat(np.array(shares, float)[:, None], weights.shape[1], axis=1)
    places = np.full(len(weights), -1)
    for patient, part in _give_each_class(weights, len(shares), order):
        places[patient] = part
        lacking[part] -= weights[patient]
    for patient in order:
        if places[patient] < 0:
            places[patient] = part = int(np.argmax(lacking @ weights[patient]))
            lacking[part] -= weights[patient]
    return float(np.square(lacking).sum()), places


def _give_each_class(
    weights: np.ndarray, parts: int, order: Sequence[int]
) -> Iterator[tuple[int, int]]:
    # The rarer class first: its patients may have the other class too, and then serve for both.
    has = weights[:, : len(CLASS_NAMES)] > 0
    holds = np.zeros((parts, len(CLASS_NAMES)), bool)
    waiting = list(order)
    for label in np.argsort(has.sum(axis=0), kind="stable"):
        for part in np.flatnonzero(~holds[:, label]):
            patient = next(patient for patient in waiting if has[patient, label])
            waiting.remove(patient)
            holds[part] |= has[patient]
            yield patient, part


def _require_enough(patients: np.ndarray, parts: int, where: str) -> None:
    for name, count in zip(CLASS_NAMES, patients.astype(int), strict=True):
        if count < parts:
            raise ValueError(
                f"{count} {name} patients cannot fill {where}. Each part needs a patient of each "
                "class: give more patients, or ask for fewer parts"
            )


def _read_split(path: str | Path) -> pd.DataFrame:
    given = read_table(path)
    parts = given.columns.intersection(["split", "fold"])
    unfilled = given[parts].isna().all(axis="columns")
    if unfilled.any():
        raise ValueError(f"{path} must have `split` or `fold` in row {unfilled.idxmax()}")
    folder = os.path.dirname(path)
    joined = given["path"].map(lambda name: os.path.join(folder, name))
    given["path"] = given["path"].where(_lies_in_array(given), joined)
    given.index = _key_pictures(given, "dataset" in given)
    if not given.index.is_unique:
        again = given.index[given.index.duplicated()][0]
        raise ValueError(f"{path} must name each picture once. Found again: {again}")
    return given


def _lies_in_array(table: pd.DataFrame) -> pd.Series:
    return table["path"].map(lambda path: ENTRY.fullmatch(path) is not None).astype(bool)


def _key_pictures(table: pd.DataFrame, by_dataset: bool) -> pd.Series:
    entries = table["dataset"] + "/" + table["path"] if by_dataset else table["path"]
    files = pd.Series(resolve_paths(table["path"]), index=table.index, dtype=object)
    return entries.where(_lies_in_array(table), files)


def _require_labels(result: pd.DataFrame, told: pd.DataFrame, path: str | Path) -> None:
    if "label" not in told:
        return
    labels = told["label"].map(lambda label: 0 if label == NORMAL else label)
    other = labels.notna() & (labels != result["label"])
    if other.any():
        row = other.idxmax()
        raise ValueError(
            f"{path} must agree with the data on labels. Found {other.sum()} that differ: "
            f"{result.loc[row, 'path']} is {CLASS_NAMES[result.loc[row, 'label']]} in the data"
        )


def _note_left_out(path: str | Path, absent: int, unnamed: int) -> list[str]:
    notes = []
    if absent:
        notes.append(f"{absent} rows of {path} name no picture of the data")
    if unnamed:
        notes.append(f"{unnamed} pictures of the data are not in {path} and were left out")
    return notes


def _join(parts: Iterable[str | int]) -> str:
    words = [str(part) for part in parts]
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
