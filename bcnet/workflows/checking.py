"""What a model file answers now, beside what it answered when it was saved.

Belongs here: finding and telling the difference. Does not: refusing a file for it
(`Classifier.load`).
"""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bcnet.cardfile import locate_model
from bcnet.classifier import REFERENCE_TOLERANCE, Classifier
from bcnet.explain.cases import fingerprint_weights
from bcnet.measurements import model as measurements
from bcnet.measurements.file import fingerprint_estimator
from bcnet.workflows import measurement_training
from bcnet.workflows.card_words import NOT_RECORDED
from bcnet.workflows.training import list_versions


def check_model(path: str | os.PathLike) -> dict:
    """Compare what a model file answers now with what it answered when it was saved.

    `Classifier.load` refuses a file that differs; this says in what.

    Args:
        path: the model file, or the name of one that comes with the project.

    Returns:
        A dictionary that can be written as JSON: `references`, for each reference input `saved`,
        `now` and `difference`; `allowed`, the largest difference that is; `weights` and
        `versions`, each with what was saved and what is now (None where not known); and `same`,
        whether the file is as it was: answers, and weights where they were recorded.

    Raises:
        FileNotFoundError: when there is no such file.
        ModelFileError: when it cannot be asked at all.
    """
    path = locate_model(path)
    asked = _ask_measurements(path) if Path(path).suffix == ".skops" else _ask_pictures(path)
    difference = np.abs(asked.now - asked.saved)
    weights = {"saved": asked.card["references"].get("weights"), "now": asked.weights}
    is_changed = weights["saved"] not in (None, weights["now"])
    columns = (_list_finite(values) for values in (asked.saved, asked.now, difference))
    then, today = asked.card.get("versions") or {}, asked.versions
    return {
        "references": [
            dict(zip(("saved", "now", "difference"), row, strict=True))
            for row in zip(*columns, strict=True)
        ],
        "allowed": asked.allowed,
        "weights": weights,
        "versions": {
            name: {"saved": then.get(name), "now": today.get(name)} for name in then | today
        },
        "same": bool(difference.max() <= asked.allowed) and not is_changed,
    }


class _Asked(NamedTuple):
    """What a model of either kind says when it is asked again."""

    card: dict
    saved: np.ndarray
    now: np.ndarray
    weights: str
    versions: dict
    allowed: float


def _ask_pictures(path):
    classifier = Classifier.open(path)
    weights = fingerprint_weights(classifier.model)
    answers = classifier.compare_references()
    return _Asked(classifier.card, *answers, weights, list_versions(), REFERENCE_TOLERANCE)


def _ask_measurements(path):
    opened = measurements.MeasurementModel.open(path)
    weights = fingerprint_estimator(path)
    answers = opened.compare_references()
    versions = measurement_training.list_versions()
    return _Asked(opened.card, *answers, weights, versions, measurements.REFERENCE_TOLERANCE)


def _list_finite(values):
    """List numbers as JSON can hold them: None for one that is not finite."""
    return [float(value) if np.isfinite(value) else None for value in values]


def format_check(result: dict) -> str:
    """Format what `check_model` gives as a table, with the verdict as last line.

    Args:
        result: of `check_model`.

    Returns:
        Several lines.
    """
    rows = [("", "saved", "now", "")]
    for number, row in enumerate(result["references"], 1):
        values = [_tell_answer(row[name]) for name in ("saved", "now")]
        far = row["difference"] is None or row["difference"] > result["allowed"]
        rows.append((f"reference {number}", *values, "differs" if far else ""))
    compared = {"weights": result["weights"], **result["versions"]}
    for name, pair in compared.items():
        differs = pair["saved"] != pair["now"] and pair["saved"] is not None
        told = (pair["saved"] or NOT_RECORDED, pair["now"] or NOT_RECORDED)
        rows.append((name, *told, "differs" if differs else ""))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    return "\n".join([*lines, _tell_verdict(result)])


def _tell_answer(value):
    return "not finite" if value is None else f"{value:.7f}"


def _tell_verdict(result):
    if result["same"]:
        return f"answers as when it was saved (differences up to {result['allowed']} are allowed)"
    saved, now = result["weights"]["saved"], result["weights"]["now"]
    if saved is None:
        return "differs: the file or the software has changed (its weights were not recorded)"
    if saved != now:
        return "differs: the weights are not those that were saved"
    return "differs with the same weights: the calibration, the network or the software has changed"
