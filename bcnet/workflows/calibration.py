"""What a trained network says brought to what patients show who have not trained it.

Belongs here: fitting and writing calibration and threshold, at the end of a training and later.
Does not: the arithmetic (`bcnet.evaluate.scaling`, `bcnet.evaluate.thresholds`).
"""

import logging
import os
from copy import deepcopy
from dataclasses import dataclass

import keras
import numpy as np
import pandas as pd

from bcnet.classifier import Classifier
from bcnet.config import CALIBRATIONS, Config
from bcnet.data.manifest import Manifest
from bcnet.evaluate.cases import find_logits
from bcnet.evaluate.metrics import evaluate
from bcnet.evaluate.prevalence import check_prevalence
from bcnet.evaluate.scaling import Scaling, fit_scaling
from bcnet.evaluate.thresholds import (
    check_rule,
    choose_threshold,
    count_units,
    describe_rule,
    require_showable,
)
from bcnet.models import with_precision
from bcnet.workflows.ancestry import CALIBRATED, SeenInTraining, find_parts
from bcnet.workflows.evaluation import score_table, select_part
from bcnet.workflows.out_of_fold import OUT_OF_FOLD, take_out_of_fold
from bcnet.workflows.promises import describe_band
from bcnet.workflows.recording import TRIALS
from bcnet.workflows.samples import describe_samples, list_patients, take_table

logger = logging.getLogger("bcnet")

# Patients with pictures of each class. Platt's scaling of a model of the simulated set, fitted to
# fewer, made Brier score and ECE of other patients worse on average over 400 divisions (by 0.004
# and 0.015 with 10); with 20 it costs nothing there, and repairs much where much is wrong.
FEWEST_PATIENTS = 20


NO_PROMISE = "out-of-fold predictions are other networks' (bcnet promise asks this one)"
"""Why a model that they have calibrated refers no picture."""


@dataclass(frozen=True)
class CalibrationOptions:
    """How probabilities are calibrated and the threshold is chosen.

    Attributes:
        method: one of `CALIBRATIONS`, or None to leave the network's own probabilities.
        threshold_rule: one of `THRESHOLD_RULES`.
        target: of the rule, see `bcnet.evaluate.thresholds.TARGETS`.
        prevalence: share of malignant pictures at which the probabilities are to hold; None for
            that of the pictures that calibrate.

    Raises:
        ValueError: for a value that is not one of these.

    Example:
        >>> CalibrationOptions(threshold_rule="sensitivity", target=0.9).method
        'platt'
    """

    method: str | None = "platt"
    threshold_rule: str = "youden"
    target: float | None = None
    prevalence: float | None = None

    def __post_init__(self):
        if self.method not in (None, *CALIBRATIONS):
            allowed = ", ".join(CALIBRATIONS)
            raise ValueError(f"`method` must be {allowed} or None. Received: {self.method!r}")
        check_rule(self.threshold_rule, self.target)
        if self.prevalence is not None:
            check_prevalence(self.prevalence)
            if self.method != "platt":
                raise ValueError("`prevalence` moves the intercept, which only platt has")


def calibrate(
    classifier: Classifier,
    manifest: Manifest,
    output: str | os.PathLike,
    options: CalibrationOptions | None = None,
    *,
    split: str | os.PathLike | None = None,
    out_of_fold: str | os.PathLike | None = None,
    progress: bool = False,
) -> Classifier:
    """Calibrate a trained model and choose its threshold anew, in a new model file.

    What calibrates: the part "validation" where a CSV or the data itself divides the pictures;
    else those that the card knows as validation or as having calibrated it; else, where it knows
    none of them, all. The card names them, so that they are not taken for a test later. The
    card's test metrics, and the trials recorded in it, were of the old threshold, so they are left
    out; which probabilities are referred is chosen anew.

    With `out_of_fold`, predictions of `cross_validate` calibrate in place of all that: many more
    patients, each answered by a network that had not seen him. Those networks are not this model:
    they learnt from fewer patients, and each has a scale of its own, so that their logits are first
    brought to this model's scale on its validation patients (`out_of_fold.align_folds`). Train all
    with one configuration. They promise nothing of this model, so no probabilities are referred
    until `promise` is asked.

    Args:
        classifier: the model; stays as it is.
        manifest: the pictures.
        output: model file to write, ending in `.keras`.
        options: see `CalibrationOptions`.
        split: CSV as `bcnet split` writes it.
        out_of_fold: CSV as `cross_validate` writes it, of the training and validation patients.
        progress: show a bar.

    Returns:
        The new classifier, saved in `output`.

    Raises:
        SeenInTraining: when a picture or its patient has trained the model or is to judge it.
        ValueError: for too few patients, a target that they cannot show, or scores that do not
            rise with malignancy; with `out_of_fold`, for predictions of other data or patients.
    """
    options = options or CalibrationOptions()
    new = Classifier(with_precision(classifier.model, "float32"), deepcopy(classifier.card))
    if out_of_fold is None:
        table = _take_table(new, manifest, split, progress)
    elif split is None:
        scored = _score_logits(new, manifest.table, progress)
        table = take_out_of_fold(new.card, scored, out_of_fold)
    else:
        raise ValueError("`out_of_fold` says itself who calibrates. Received: `split`, too")
    truth, logits = table["label"].to_numpy(), table["logit"].to_numpy(np.float64)
    patients = list_patients(table)
    _require_enough(truth, patients, options)
    scaling = _fit(truth, logits, options)
    part = _name_part(table)
    new.set_scaling(scaling)
    data = f"{manifest.info.name}, {part}"
    new.card["calibration"] = describe_scaling(scaling, table, options, data)
    y_prob = scaling.apply(logits)
    value = choose_threshold(truth, y_prob, rule=options.threshold_rule, target=options.target)
    rule = describe_rule(options.threshold_rule, options.target)
    new.card["threshold"] = describe_threshold(value, rule, truth, y_prob, patients, data)
    if part == OUT_OF_FOLD:
        new.card["abstention"] = {"reason": NO_PROMISE, "data": data}
    else:
        new.card["abstention"] = describe_band(
            truth, y_prob, threshold=value, patients=patients, data=data
        )
    for entry in TRIALS:
        new.card.pop(entry, None)
    new.card["samples"][CALIBRATED] = describe_samples(table)
    if part == OUT_OF_FOLD:
        new.card["samples"][CALIBRATED]["folds"] = table["fold"].nunique()
    new.card["metrics"] = {part: evaluate(truth, y_prob, patients=patients, threshold=value)}
    new.save(output)
    return new


def _name_part(table):
    parts = set(table["part"])
    return parts.pop() if parts in ({"validation"}, {OUT_OF_FOLD}) else CALIBRATED


def _take_table(classifier, manifest, split, progress):
    """Take the pictures that may calibrate, with the columns `hash`, `logit` and `part`."""
    table = take_table(manifest, split)
    is_divided = table["split"].notna().any()
    if is_divided:
        table = select_part(table, "validation")
    table = _score_logits(classifier, table, progress)
    table["part"] = find_parts(classifier.card, table)
    may_calibrate = table["part"].isin(["validation", CALIBRATED])
    if table["part"].isna().all() or may_calibrate.all():
        return table
    if is_divided or not may_calibrate.any():
        _refuse(table["part"][~may_calibrate].dropna())
        return table
    left_out = int((~may_calibrate).sum())
    logger.info("%s pictures calibrate, %s others are left out", may_calibrate.sum(), left_out)
    return table[may_calibrate].reset_index(drop=True)


def _score_logits(classifier, table, progress):
    table, _ = score_table(cut_at_logit(classifier), table, "float32", progress)
    return table.rename(columns={"probability": "logit"})


def _refuse(parts):
    if len(parts):
        counts = " and ".join(f"{count} in {part}" for part, count in parts.value_counts().items())
        raise SeenInTraining(
            f"pictures that trained the model or are to judge it cannot calibrate it ({counts}, by "
            "picture or patient). Give its validation patients, or others that it has not seen"
        )


def cut_at_logit(classifier: Classifier) -> Classifier:
    """Make a classifier that answers with the network's logits, before any calibration.

    Raises:
        ValueError: for a network that does not end as ours do.
    """
    model = classifier.model
    names = [layer.name for layer in model.layers]
    if not {"logit", "calibration"} <= set(names):
        raise ValueError("only networks with the layers `logit` and `calibration` are calibrated")
    return Classifier(keras.Model(model.input, model.get_layer("logit").output), {})


def _require_enough(truth, patients, options):
    fewest = min(count_units(truth, patients))
    if options.method is not None and fewest < FEWEST_PATIENTS:
        raise ValueError(_tell_too_few(fewest, patients))
    require_showable(truth, rule=options.threshold_rule, target=options.target, patients=patients)


def _tell_too_few(fewest, patients):
    units = "pictures" if patients is None else "patients"
    return f"a calibration needs {FEWEST_PATIENTS} {units} of each class; of one there are {fewest}"


def _fit(truth, logits, options):
    """Fit the scaling asked for, and move its odds to the prevalence asked for."""
    if options.method is None:
        return Scaling()
    scaling = fit_scaling(truth, logits, method=options.method)
    if options.prevalence is None:
        return scaling
    known, there = find_logits([truth.mean(), options.prevalence])
    return scaling._replace(intercept=float(scaling.intercept + there - known))


def calibrate_trained(
    classifier: Classifier, logits: np.ndarray, table: pd.DataFrame, config: Config, data: str
) -> None:
    """Calibrate at the end of a training, in place; say why where it cannot be done.

    Args:
        classifier: with a card that lacks `calibration`.
        logits: `(n,)`, the network's of the validation pictures.
        table: `n` rows of a manifest: those pictures.
        config: of the training.
        data: what calibrates, in words.
    """
    options = CalibrationOptions(config.calibration)
    scaling, reason = Scaling(), None
    truth, patients = table["label"].to_numpy(), list_patients(table)
    fewest = min(count_units(truth, patients))
    if options.method is not None and fewest < FEWEST_PATIENTS:
        reason = _tell_too_few(fewest, patients)
    elif options.method is not None:
        try:
            scaling = fit_scaling(truth, logits, method=options.method)
        except ValueError as error:
            reason = str(error)
    if reason:
        logger.warning("not calibrated: %s", reason)
        options = CalibrationOptions(None)
    classifier.set_scaling(scaling)
    described = describe_scaling(scaling, table, options, data)
    classifier.card["calibration"] = described | ({"reason": reason} if reason else {})


def describe_scaling(
    scaling: Scaling, table: pd.DataFrame, options: CalibrationOptions, data: str
) -> dict:
    """Describe a calibration for the card: method, numbers, and what it was fitted on."""
    if options.method is None:
        return {"method": "none"}
    described = describe_samples(table)
    return {
        "method": options.method,
        **scaling._asdict(),
        "data": data,
        "n_images": described["n_images"],
        "n_patients": described["n_patients"],
        "prevalence": options.prevalence or float(table["label"].mean()),
    }


def describe_threshold(
    value: float,
    rule: str,
    truth: np.ndarray,
    y_prob: np.ndarray,
    patients: np.ndarray | None,
    data: str,
) -> dict:
    """Describe a threshold for the card, with what it reaches where it was chosen.

    Args:
        value: the threshold.
        rule: by which it was chosen, in words.
        truth: `(n,)` labels of what chose.
        y_prob: `(n,)` its probabilities of malignant.
        patients: `(n,)` its keys, or None.
        data: its name, data set and part, e.g. "idc, validation".

    Returns:
        `value`, `rule`, `data`, and `reached`: sensitivity and specificity by picture there, with
        their intervals.
    """
    reached = evaluate(truth, y_prob, patients=patients, threshold=value)["image"]
    return {
        "value": value,
        "rule": f"{rule} on {data.rsplit(', ')[-1]} patients",
        "data": data,
        "reached": {name: reached[name] for name in ("sensitivity", "specificity")},
    }


def choose_within_reach(
    truth: np.ndarray, y_prob: np.ndarray, options: CalibrationOptions | Config
) -> tuple[float, str]:
    """Choose a threshold by the rule asked for, by the usual one where that has none to offer.

    Returns:
        The threshold, and the rule in words.
    """
    rule, target = options.threshold_rule, options.target
    try:
        return choose_threshold(truth, y_prob, rule=rule, target=target), describe_rule(
            rule, target
        )
    except ValueError as error:
        usual = describe_rule("youden")
        logger.warning("%s; the threshold is that of %s instead", error, usual)
        return choose_threshold(truth, y_prob), usual
