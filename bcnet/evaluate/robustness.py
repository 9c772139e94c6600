"""How much worse a model gets as pictures do, and from which severity on it can no longer be used.

Belongs here: judging a model on perturbed pictures. Does not: the perturbations themselves.
"""

import numpy as np

from bcnet.evaluate.bootstrap import TAILS
from bcnet.evaluate.cases import require_both_classes
from bcnet.evaluate.metrics import format_estimate
from bcnet.evaluate.paired import MEASURES, estimate
from bcnet.evaluate.perturbations import PERTURBATIONS

STRESSED = ("auc", "sensitivity", "specificity", "brier", "ece", "calibration_shift")
"""What is followed as pictures get worse: order, answers, and whether probabilities still hold.

The last says in which direction they fail; it is never farther from 0 than `ece`."""

WORDS = {"brier": "Brier score", "ece": "ECE", "calibration_shift": "calibration shift"}
"""Of the measures that are not called by their names."""

# A loss of five women in a hundred is one that a clinic would act on.
LARGEST_LOSS = 0.05

# Pictures that are perturbed and scored at a time, for an even memory.
BATCH_SIZE = 256


def stress(
    predict, images, bootstrap, *, threshold=0.5, perturbations=PERTURBATIONS, progress=None
):
    """Judge a model on pictures that get worse and worse.

    All differences are paired: the same pictures, and the same draws of patients, before and
    after. A case is a patient where every patient has one label, else a picture.

    Args:
        predict: Function from pictures uint8 `(n, height, width, 3)` to probabilities of
            malignant `(n,)`.
        images: uint8 `(n_images, height, width, 3)`, as `predict` takes them; amounts in pixels
            are pixels of these.
        bootstrap: The truth and the draws, of the same pictures.
        threshold: A case is called malignant from this probability on.
        perturbations: What happens to the pictures.
        progress: Called with the number of pictures scored since the last call.

    Returns:
        A dict that JSON can hold: `unit`, `n_images`, `n_patients` (None when unknown),
        `threshold`; `unperturbed`, an estimate `{"value", "low", "high"}` for each name in
        `STRESSED`; `perturbations`, a list of dicts with `name`, `unit`, `severities` (a dict of
        `amount`, the estimates, and `sensitivity_change` for each), and `sensitivity_breaks` and
        `specificity_breaks`, as `find_break` gives them.

    Raises:
        ValueError: Only one class occurs.

    Example:
        >>> from bcnet.evaluate.paired import Bootstrap
        >>> images = np.uint8([0, 0, 100, 100])[:, None, None, None] + np.zeros((1, 8, 8, 3), "u1")
        >>> darker = [each for each in PERTURBATIONS if each.name == "darker"]
        >>> def predict(images): return images.mean(axis=(1, 2, 3)) / 160
        >>> result = stress(predict, images, Bootstrap([0, 0, 1, 1]), perturbations=darker)
        >>> result["perturbations"][0]["sensitivity_breaks"]["value"]  # 100 × 0.7 < 80
        3
    """
    require_both_classes(bootstrap.y_true)

    def judge(change):
        y_prob = _score(predict, images, change, progress)
        return bootstrap.measure(y_prob, threshold=threshold)

    before = judge(lambda batch: batch)
    return {
        "unit": bootstrap.unit,
        "n_images": len(images),
        "n_patients": bootstrap.n_patients,
        "threshold": float(threshold),
        "unperturbed": _estimate_all(before),
        "perturbations": [_follow(each, judge, before) for each in perturbations],
    }


def _score(predict, images, change, progress):
    scores = []
    for start in range(0, len(images), BATCH_SIZE):
        batch = images[start : start + BATCH_SIZE]
        scores.append(predict(change(batch)))
        if progress:
            progress(len(batch))
    return np.concatenate(scores)


def _follow(perturbation, judge, before):
    """Judge all severities of one perturbation, and set them against none."""
    severities, changes = [], []
    for amount in perturbation.amounts:
        after = judge(lambda batch, amount=amount: perturbation.apply(batch, amount))
        changes.append(after - before)
        change = estimate(changes[-1][:, MEASURES.index("sensitivity")])
        severities.append({"amount": amount, **_estimate_all(after), "sensitivity_change": change})
    breaks = {
        f"{name}_breaks": find_break([each[:, MEASURES.index(name)] for each in changes])
        for name in ("sensitivity", "specificity")
    }
    told = {"name": perturbation.name, "unit": perturbation.unit}
    return {**told, "severities": severities, **breaks}


def _estimate_all(measured):
    return {name: estimate(measured[:, MEASURES.index(name)]) for name in STRESSED}


def find_break(changes, *, loss=LARGEST_LOSS):
    """Find the first severity at which a measure has dropped by five points.

    Args:
        changes: Of each severity, how much the measure differs from that of the unperturbed
            pictures, on all cases and then on each draw: `(n_severities, 1 + draws)`.
        loss: The drop that matters.

    Returns:
        `{"value", "low", "high"}`, severities from 1: that of all cases, and the 95 % percentile
        interval of the draws. None means that no severity tried does so; an end of the interval
        that is None is above the last severity.

    Example:
        >>> find_break([[-0.02, -0.06, 0.0], [-0.08, -0.07, -0.01]])
        {'value': 2, 'low': 1, 'high': None}
    """
    has_dropped = np.nan_to_num(changes) <= -loss + 1e-9  # 0.65 − 0.7 is a little above −0.05
    first = np.where(has_dropped.any(axis=0), has_dropped.argmax(axis=0) + 1.0, np.inf)
    low, high = np.quantile(first[1:], TAILS, method="nearest")
    ends = {"value": first[0], "low": low, "high": high}
    return {name: int(end) if np.isfinite(end) else None for name, end in ends.items()}


def format_stress(result):
    """Format the result of `stress` as tables for the terminal, one for each measure.

    Args:
        result: What `stress` returned; further entries are ignored.

    Returns:
        A text of several lines without a final newline: a row for each perturbation with the
        measure at each severity, and the severity from which on five points are lost.

    Example:
        `format_stress(result).splitlines()[0]` names the unit and how many there were.
    """
    patients = "patients unknown" if result["n_patients"] is None else result["n_patients"]
    lines = [f"judged by {result['unit']}: {result['n_images']:,} pictures, {patients} patients"]
    if result["n_patients"] is None:
        lines = [f"judged by {result['unit']}: {result['n_images']:,} pictures, {patients}"]
    for name in STRESSED:
        clean = format_estimate(result["unperturbed"][name])
        head = "".join(f"{severity:>8}" for severity in range(1, 6))
        is_rate = name in ("sensitivity", "specificity")
        lines += ["", f"{WORDS.get(name, name)}, unperturbed {clean}"]
        lines.append(f"{'at severity':<16}{head}" + "   5 points lost from" * is_rate)
        for each in result["perturbations"]:
            values = "".join(f"{_write(level[name]['value']):>8}" for level in each["severities"])
            told = f"   {format_break(each[name + '_breaks'])}" if is_rate else ""
            lines.append(f"{each['name']:<16}{values}{told}")
    return "\n".join(lines)


def format_break(found):
    """Format what `find_break` found.

    Example:
        >>> format_break({"value": 2, "low": 1, "high": None})
        '2 [1, above 5]'
    """
    if found["low"] is None:
        return "none up to 5"
    value, low, high = ("above 5" if end is None else end for end in found.values())
    return f"{'none up to 5' if found['value'] is None else value} [{low}, {high}]"


def _write(value):
    return "–" if value is None else f"{value:.3f}"
