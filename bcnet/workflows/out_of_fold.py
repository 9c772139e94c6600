"""Predictions by networks that had not seen the patient, kept in a CSV to calibrate a model by.

Belongs here: the CSV, and whom of it a model may be calibrated by. Does not: making the predictions
(`cross_validation`), and the calibration (`calibration`).
"""

import os

import numpy as np
import pandas as pd

from bcnet.data.manifest import relative_names
from bcnet.data.split import assert_disjoint
from bcnet.data.tables import read_table, write_table
from bcnet.evaluate.cases import find_logits
from bcnet.workflows.ancestry import SeenInTraining, find_parts

OUT_OF_FOLD = "out-of-fold"
"""The part of patients each of whom was answered by a network trained alike without him."""

COLUMNS = (
    "path",
    "patient_id",
    "dataset",
    "label",
    "hash",
    "fold",
    "probability",
    "threshold",
)
"""Of the CSV: the picture's name in its source, who and what it is, the hash of its pixels; its
fold, that network's probability of malignant (not calibrated) and the threshold chosen for it."""

# Of a fold, to measure mean and spread of its network's answers by; of fewer, chance would say.
FEWEST_SHARED = 10


def write_out_of_fold(judged: pd.DataFrame, path: str | os.PathLike) -> None:
    """Write out-of-fold predictions as a CSV, whole or not at all.

    Args:
        judged: as `cross_validation.judge_folds` gives it.
        path: the CSV to write.
    """
    named = judged.assign(path=relative_names(judged))
    write_table(named[list(COLUMNS)], path)


def read_out_of_fold(path: str | os.PathLike) -> pd.DataFrame:
    """Read what `write_out_of_fold` wrote.

    Args:
        path: the CSV.

    Returns:
        A row per picture with `COLUMNS`.

    Raises:
        ValueError: for another CSV, a row without label, hash, fold or probability, or a patient
            in two folds.
    """
    table = read_table(path)
    absent = [column for column in COLUMNS if column not in table]
    if absent:
        raise ValueError(
            f"{path} must be a CSV of bcnet cross-validate --out-of-fold. Not there: "
            f"{', '.join(absent)}"
        )
    table["probability"] = pd.to_numeric(table["probability"], errors="coerce")
    is_whole = table[["hash", "fold"]].notna().all(axis="columns")
    is_whole &= table["label"].isin([0, 1]) & table["probability"].between(0, 1)
    if not is_whole.all():
        raise ValueError(
            f"{path} must have label, hash, fold and a probability in each row. Found another in "
            f"row {is_whole.idxmin()}"
        )
    assert_disjoint(table)
    return table.astype({"label": int, "fold": int}).reset_index(drop=True)


def take_out_of_fold(card: dict, scored: pd.DataFrame, path: str | os.PathLike) -> pd.DataFrame:
    """Take the out-of-fold predictions that a model may be calibrated by, on the model's own scale.

    Args:
        card: of the model.
        scored: rows of a manifest, the data that was predicted, with the columns `hash` and
            `logit`, the model's own.
        path: CSV as `write_out_of_fold` writes it.

    Returns:
        Its rows, with `logit`, brought to the model's scale, and the part `OUT_OF_FOLD`.

    Raises:
        SeenInTraining: when a picture or patient among them is to judge the model.
        ValueError: when a row is of other data, or of patients that the model has not learnt from:
            networks trained on these say nothing of it; and as `align_folds` does.
    """
    rows = read_out_of_fold(path)
    parts = find_parts(card, rows)
    _require_of_model(parts, path)
    own = scored["logit"].set_axis(_name_pictures(scored))
    names = _name_pictures(rows)
    foreign = int((~names.isin(own.index)).sum())
    if foreign:
        raise ValueError(
            f"{path} must hold predictions of the same data. Of {len(rows)} rows {foreign} "
            "have a picture, label or patient that is not there"
        )
    logits = align_folds(
        find_logits(rows["probability"].to_numpy()),
        names.map(own[~own.index.duplicated()]).to_numpy(float),
        folds=rows["fold"].to_numpy(),
        shared=(parts == "validation").to_numpy(),
    )
    return rows.assign(logit=logits, part=OUT_OF_FOLD)


def align_folds(
    logits: np.ndarray, own: np.ndarray, *, folds: np.ndarray, shared: np.ndarray
) -> np.ndarray:
    """Bring the logits of each fold's network to the scale of another model.

    Two networks that put pictures in the same order may still answer with other means and spreads.
    Both are measured on pictures that neither has learnt from, and need no labels. In four
    divisions of 400 simulated patients, thresholds for a sensitivity of 0.9 so reached 0.85 to 0.92
    on the test patients at a mean ECE of 0.043; without it 0.86 to 0.97 at 0.068, and by a quarter
    of the patients as validation 0.85 to 0.95 at 0.050.

    Args:
        logits: `(n,)`, each by the network of its picture's fold.
        own: `(n,)`, by the model.
        folds: `(n,)`, the fold of each picture.
        shared: bool `(n,)`, which pictures the model has not learnt from either.

    Returns:
        float64 `(n,)`.

    Raises:
        ValueError: when a fold has fewer than `FEWEST_SHARED` shared pictures, or answers them all
            alike.

    Example:
        `align_folds([0, 2, 4], [5, 9, 0], ...)` of one fold, of which the first two are shared, is
        [5, 9, 13]: from mean 1 and spread 1 to mean 7 and spread 2.
    """
    aligned = np.empty(len(logits))
    for fold in np.unique(folds):
        is_here = folds == fold
        theirs, ours = logits[is_here & shared], own[is_here & shared]
        if len(theirs) < FEWEST_SHARED or theirs.std() == 0:
            raise ValueError(
                f"each fold must hold {FEWEST_SHARED} or more pictures of the model's validation "
                f"patients, not all answered alike. Found {len(theirs)} in fold {fold}: take "
                "fewer folds, or a model with more validation patients"
            )
        standard = (logits[is_here] - theirs.mean()) / theirs.std()
        aligned[is_here] = standard * ours.std() + ours.mean()
    return aligned


def _require_of_model(parts, path):
    tests, unknown = int((parts == "test").sum()), int(parts.isna().sum())
    if tests:
        raise SeenInTraining(
            f"{path} holds {tests} predictions of pictures, or others of the same patients, that "
            "are to judge the model. Cross-validate with the --split that it was trained with"
        )
    if unknown:
        raise ValueError(
            f"{path} must hold predictions of the patients that made the model. Of {len(parts)} "
            f"rows {unknown} are of others"
        )


def _name_pictures(table):
    """Name each picture with its label and patient, by which two tables can be matched."""
    patients = np.where(table["patient_id"].notna(), table["patient_id"], "")
    return table["hash"] + "/" + table["label"].astype(str) + "/" + patients
