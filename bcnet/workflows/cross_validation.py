"""How well a network would do on new patients: each is judged by one that has not seen him."""

import logging

import numpy as np

from bcnet.classifier import Classifier
from bcnet.config import Config
from bcnet.data.manifest import Manifest
from bcnet.data.split import fold_by_patient, split_by_patient
from bcnet.evaluate.metrics import THRESHOLD_RULE, choose_threshold
from bcnet.evaluate.metrics import evaluate as measure
from bcnet.train import choose_precision
from bcnet.workflows.fitting import fit_network
from bcnet.workflows.samples import decode_table, list_patients, score_rows
from bcnet.workflows.training import require_both_classes, settle_config

logger = logging.getLogger("bcnet")


def cross_validate(
    manifest: Manifest, config: Config | None = None, *, folds: int = 5, progress: bool = False
) -> dict:
    """Estimate by patient what `train` would reach, without touching a test part.

    In each fold, `config.validation` of the other patients choose epoch and threshold. Test
    patients of the data's own split take no part.

    Args:
        manifest: the pictures.
        config: as for `train`.
        folds: number of folds.
        progress: show bars.

    Returns:
        The dictionary of `evaluate.metrics.evaluate` over all patients, each judged by the fold
        that has not seen him, with `folds`: the same for each fold. The folds' networks have
        thresholds of their own, so before pooling their logits are shifted to put each threshold
        at 0.5.

    Raises:
        ValueError: for fewer patients than folds.
    """
    config = settle_config(manifest, config or Config())
    table = manifest.table[manifest.table["split"] != "test"].reset_index(drop=True)
    if "fold" in table:
        logger.warning("the data brings folds of its own, which these replace")
    table = fold_by_patient(table, folds=folds, seed=config.seed)
    pictures = decode_table(table, config.image_size, progress=progress)
    pooled, judged = np.full(len(pictures.table), np.nan), []
    for fold in range(folds):
        pictures = pictures._replace(table=_hold_out(pictures.table, fold, config))
        held_out = pictures.rows_in("test")
        probability, threshold = _run_fold(
            pictures, config, label=f"fold {fold + 1} of {folds}", progress=progress
        )
        pooled[held_out] = align(probability, threshold)
        judged.append(
            measure(
                pictures.labels[held_out],
                probability,
                patients=pictures.patients(held_out),
                threshold=threshold,
            )
        )
    result = measure(pictures.labels, pooled, patients=list_patients(pictures.table), threshold=0.5)
    return {
        "part": "cross-validation",
        "data": manifest.info.name,
        "threshold_rule": f"{THRESHOLD_RULE} of each fold, shifted to 0.5",
        "precision": choose_precision(config.precision),
        "seed": config.seed,
        **result,
        "folds": judged,
    }


def _hold_out(table, fold, config):
    others = table[table["fold"] != fold]
    inner = split_by_patient(
        others, validation=config.validation, test=0.0, seed=config.seed + fold
    )
    return table.assign(split=inner["split"].reindex(table.index).fillna("test"))


def _run_fold(pictures, config, *, label, progress):
    require_both_classes(pictures)
    network, _ = fit_network(pictures, config, label=label, progress=progress)
    classifier = Classifier(network, {})
    validation, held_out = pictures.rows_in("validation"), pictures.rows_in("test")
    threshold = choose_threshold(
        pictures.labels[validation], score_rows(classifier, pictures.images, validation)
    )
    return score_rows(classifier, pictures.images, held_out), threshold


def align(probability: np.ndarray, threshold: float) -> np.ndarray:
    """Shift logits so that `threshold` becomes 0.5; order within a fold stays.

    Args:
        probability: `(n,)`, 0–1.
        threshold: 0–1.

    Returns:
        float64 `(n,)`.

    Example:
        >>> align(np.array([0.2, 0.8]), 0.2).round(3).tolist()
        [0.5, 0.941]
    """
    p = np.clip(np.asarray(probability, np.float64), 1e-7, 1 - 1e-7)
    t = np.clip(threshold, 1e-7, 1 - 1e-7)
    return 1 / (1 + (1 - p) / p * t / (1 - t))
