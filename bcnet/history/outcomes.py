"""How well the models do on what was really asked of them, once it is known what the cases were.

Belongs here: from answers with outcomes to the measures of `bcnet.evaluate`. Does not: the
measures, or the database.

These are not the numbers of a test set: an outcome is entered for those who were looked at again,
and a benign answer is seldom looked at again. So sensitivity looks better here than it is.
"""

from copy import deepcopy
from functools import lru_cache
from itertools import groupby

from bcnet.evaluate.calibration import evaluate_calibration
from bcnet.evaluate.cases import PATIENTS_UNKNOWN
from bcnet.evaluate.metrics import evaluate
from bcnet.evaluate.subgroups import FEWEST_PATIENTS, TOO_FEW

CAVEAT = (
    "only cases with an entered outcome count; those whose answer was benign are followed up less "
    "often, which makes the sensitivity look better than it is"
)

MOST_CASES = 1000
"""Of each model, the newest cases that are measured: half a second, intervals of some 0.05."""

# Models at thresholds whose measures are kept until a new outcome is entered: 10 MB.
REMEMBERED = 32

CALIBRATION = ("brier", "ece", "slope", "intercept")


def measure_outcomes(cases):
    """Measure each model file at each threshold by itself: a mean of two models is nobody's.

    The same input asked twice of one model counts once, by its newest answer, or the intervals
    would narrow with each repetition; of those the newest 1,000 count. A measure stands only where
    there are ten cases of each class that it needs. Patients are unknown, so cases are drawn for
    the intervals.

    Args:
        cases: Tuples, the newest first, each with `model`, `model_hash`, `threshold`,
            `input_hash`, `probability` and `outcome` ("benign" or "malignant").

    Returns:
        A list of dicts that JSON can hold, the model with most cases first: `model`,
        `model_hash`, `threshold`; `n_cases`, `n_benign`, `n_malignant`, and `n_repeated` and
        `n_older` that did not count; `confusion_matrix` `[[tn, fp], [fn, tp]]`; `sensitivity`,
        `specificity` and `auc`, each `{"value", "low", "high"}` or the text `TOO_FEW`;
        `calibration`, such estimates by the names in `CALIBRATION` with the number
        `ece_by_chance`, or that text; `unit`, that patients are unknown; `caveat`, how these cases
        differ from a test set.

    Raises:
        ValueError: A probability or outcome is out of range.

    Example:
        >>> from collections import namedtuple
        >>> Case = namedtuple("Case", "model model_hash threshold input_hash probability outcome")
        >>> cases = [Case("idc", "00", 0.5, str(i), 0.9, "malignant") for i in range(10)]
        >>> [measured] = measure_outcomes(cases)
        >>> measured["sensitivity"]["value"], measured["specificity"]
        (1.0, 'too few to tell')
    """
    by_judge = sorted(cases, key=_name_judge)  # stable: the newest still first
    measured = [_count(tuple(group)) for _, group in groupby(by_judge, key=_name_judge)]
    return sorted(measured, key=lambda one: -one["n_cases"])


def _name_judge(case):
    return case.model, case.model_hash, case.threshold


def _count(cases):
    newest = {}
    for case in cases:
        newest.setdefault(case.input_hash, case)
    counted = tuple(newest.values())[:MOST_CASES]
    model, model_hash, threshold = _name_judge(cases[0])
    return {
        "model": model,
        "model_hash": model_hash,
        "threshold": threshold,
        "n_cases": len(counted),
        **deepcopy(_measure(counted)),
        "n_repeated": len(cases) - len(newest),
        "n_older": len(newest) - len(counted),
        "unit": PATIENTS_UNKNOWN,
        "caveat": CAVEAT,
    }


@lru_cache(REMEMBERED)
def _measure(cases):
    y_true = [float(case.outcome == "malignant") for case in cases]
    y_prob = [case.probability for case in cases]
    n_malignant = int(sum(y_true))
    n_benign = len(cases) - n_malignant
    has_benign, has_malignant = n_benign >= FEWEST_PATIENTS, n_malignant >= FEWEST_PATIENTS
    has_both = has_benign and has_malignant
    result = evaluate(y_true, y_prob, threshold=cases[0].threshold)
    return {
        "n_benign": n_benign,
        "n_malignant": n_malignant,
        "confusion_matrix": result["confusion_matrix"],
        "sensitivity": result["image"]["sensitivity"] if has_malignant else TOO_FEW,
        "specificity": result["image"]["specificity"] if has_benign else TOO_FEW,
        "auc": result["image"]["auc"] if has_both else TOO_FEW,
        "calibration": _calibrate(y_true, y_prob) if has_both else TOO_FEW,
    }


def _calibrate(y_true, y_prob):
    result = evaluate_calibration(y_true, y_prob)["image"]
    return {name: result[name] for name in (*CALIBRATION, "ece_by_chance")}
