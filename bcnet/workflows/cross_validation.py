"""How well a network would do on new patients: each is judged by one that has not seen him."""

import logging
import os
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd

from bcnet.classifier import Classifier
from bcnet.config import Config
from bcnet.data.manifest import Manifest
from bcnet.data.split import fold_by_patient, split_by_patient
from bcnet.evaluate.metrics import (
    bound_auc_within,
    format_estimate,
    format_metrics,
    label_patients,
    score_patients,
)
from bcnet.evaluate.metrics import evaluate as measure
from bcnet.evaluate.thresholds import describe_rule
from bcnet.workflows.ancestry import require_unseen
from bcnet.workflows.calibration import choose_within_reach
from bcnet.workflows.fitting import fit_network
from bcnet.workflows.out_of_fold import write_out_of_fold
from bcnet.workflows.samples import (
    Pictures,
    decode_table,
    list_patients,
    score_rows,
    take_table,
)
from bcnet.workflows.starting import settle_policy
from bcnet.workflows.training import require_both_classes, settle_config

logger = logging.getLogger("bcnet")


def cross_validate(
    manifest: Manifest,
    config: Config | None = None,
    *,
    folds: int = 5,
    split: str | os.PathLike | None = None,
    out_of_fold: str | os.PathLike | None = None,
    progress: bool = False,
) -> dict:
    """Estimate by patient what `train` would reach, without touching a test part.

    In each fold, `config.validation` of the other patients choose epoch and threshold. Test
    patients of the split take no part.

    Args:
        manifest: the pictures.
        config: as for `train`.
        folds: number of folds.
        split: CSV as `bcnet split` writes it, in place of the data's own split.
        out_of_fold: CSV to write the prediction of each picture to, for `calibrate`.
        progress: show bars.

    Returns:
        The dictionary of `evaluate.metrics.evaluate` over all patients, each judged by the fold
        that has not seen him, with `folds`: the same for each fold. The folds' networks have
        thresholds of their own, so before pooling their logits are shifted to put each threshold
        at 0.5. `auc_within_folds` is free of that: by "image" and "patient" (None as there), the
        AUC of pairs that the same network has judged, as of `bound_auc_within`.

    Raises:
        SeenInTraining: when the model to start from has seen one of the patients.
        ValueError: for fewer patients than folds.
    """
    manifest = replace(manifest, table=take_table(manifest, split))
    config = settle_config(manifest, config or Config())
    judged = judge_folds(manifest, config, folds=folds, progress=progress)
    if out_of_fold is not None:
        write_out_of_fold(judged, out_of_fold)
    rule = describe_rule(config.threshold_rule, config.target)
    pooled = align(judged["probability"], judged["threshold"])
    patients = list_patients(judged)
    result = measure(judged["label"], pooled, patients=patients, threshold=0.5)
    by_patient = result["patient"] is not None
    return {
        "part": "cross-validation",
        "data": manifest.info.name,
        "threshold_rule": f"{rule} on validation patients of each fold, shifted to 0.5",
        "precision": settle_policy(config),
        "seed": config.seed,
        **result,
        "auc_within_folds": _measure_within(judged, patients, by_patient=by_patient),
        "folds": [_measure_fold(fold) for _, fold in judged.groupby("fold")],
    }


def judge_folds(
    manifest: Manifest,
    config: Config | None = None,
    *,
    folds: int = 5,
    fit: Callable | None = None,
    progress: bool = False,
) -> pd.DataFrame:
    """Give every picture the probability of a network that has not seen its patient.

    This is what `cross_validate` measures; two such tables of equal folds can be compared picture
    by picture.

    Args:
        manifest: as for `cross_validate`.
        config: as for `train`.
        folds: number of folds.
        fit: trains a network in place of `fitting.fit_network`, with the same arguments.
        progress: show bars.

    Returns:
        The rows of the readable pictures in the manifest's order, with `fold` and the columns of
        `judge_held_out`.

    Raises:
        SeenInTraining, ValueError: as `cross_validate` does.
    """
    config = settle_config(manifest, config or Config())
    table = manifest.table[manifest.table["split"] != "test"].reset_index(drop=True)
    if "fold" in table:
        logger.warning("the data brings folds of its own, which these replace")
    table = fold_by_patient(table, folds=folds, seed=config.seed)
    pictures = decode_table(table, config.image_size, progress=progress)
    if config.initial_weights is not None:
        require_unseen(config.initial_weights, pictures.table)
    judged = []
    for fold in range(folds):
        pictures = pictures._replace(table=_hold_out(pictures.table, fold, config))
        label = f"fold {fold + 1} of {folds}"
        judged.append(judge_held_out(pictures, config, fit=fit, label=label, progress=progress))
    return pd.concat(judged).sort_index()


def _hold_out(table, fold, config):
    others = table[table["fold"] != fold]
    inner = split_by_patient(
        others, validation=config.validation, test=0.0, seed=config.seed + fold
    )
    return table.assign(split=inner["split"].reindex(table.index).fillna("test"))


def judge_held_out(
    pictures: Pictures,
    config: Config,
    *,
    fit: Callable | None = None,
    label: str = "training",
    progress: bool = False,
) -> pd.DataFrame:
    """Train on the parts "train" and "validation", and score the part "test".

    Args:
        pictures: with all three parts.
        config: as `settle_config` gives it.
        fit: trains a network in place of `fitting.fit_network`, with the same arguments.
        label: what the bar says.
        progress: show it.

    Returns:
        The rows of "test" with `probability`, float32 and not calibrated, which leaves the order
        as it is, and `threshold`, by the rule of `config` on "validation".
    """
    require_both_classes(pictures)
    network, _ = (fit or fit_network)(pictures, config, label=label, progress=progress)
    classifier = Classifier(network, {})
    validation, held_out = pictures.rows_in("validation"), pictures.rows_in("test")
    threshold, _ = choose_within_reach(
        pictures.labels[validation],
        score_rows(classifier, pictures.images, validation),
        config,
    )
    probability = score_rows(classifier, pictures.images, held_out)
    return pictures.table.iloc[held_out].assign(probability=probability, threshold=threshold)


def _measure_fold(fold):
    return measure(
        fold["label"],
        fold["probability"],
        patients=list_patients(fold),
        threshold=fold["threshold"].iloc[0],
    )


def _measure_within(judged, patients, *, by_patient):
    scores = judged["label"], judged["probability"], judged["fold"]
    found = {"image": bound_auc_within(*scores, patients=patients), "patient": None}
    if by_patient:
        names, mean = score_patients(judged["probability"], patients)
        fold = judged["fold"].groupby(patients).first()
        labels = label_patients(judged["label"], patients)[1]
        found["patient"] = bound_auc_within(labels, mean, fold.loc[names])
    return found


def format_cross_validation(result: dict) -> str:
    """Format the result of `cross_validate` for the terminal.

    Args:
        result: what it returned.

    Returns:
        The table of `evaluate.metrics.format_metrics`, and the AUC within folds.
    """
    told = [
        f"{format_estimate(estimate)} by {'picture' if unit == 'image' else unit}"
        for unit, estimate in result["auc_within_folds"].items()
        if estimate is not None
    ]
    pairs = f"auc of pairs that the same fold's network has judged: {', '.join(told)}"
    return f"{format_metrics(result)}\n{pairs}"


def align(probability: np.ndarray, threshold: float | np.ndarray) -> np.ndarray:
    """Shift logits so that `threshold` becomes 0.5; order within a fold stays.

    Args:
        probability: `(n,)`, 0–1.
        threshold: 0–1, one or `(n,)`.

    Returns:
        float64 `(n,)`.

    Example:
        >>> align(np.array([0.2, 0.8]), 0.2).round(3).tolist()
        [0.5, 0.941]
    """
    p = np.clip(np.asarray(probability, np.float64), 1e-7, 1 - 1e-7)
    t = np.clip(np.asarray(threshold, np.float64), 1e-7, 1 - 1e-7)
    return 1 / (1 + (1 - p) / p * t / (1 - t))
