"""A model judged on pictures from elsewhere: beside its own test, and once recalibrated there.

Belongs here: what moving a model costs, and how much of that a new slope and intercept would give
back. Does not: writing them into a model (that is what `bcnet calibrate` does).
"""

import numpy as np

from bcnet.evaluate.calibration import evaluate_calibration
from bcnet.evaluate.cases import check_cases, find_logits, group_cases
from bcnet.evaluate.metrics import METRICS, bound_mean, format_estimate
from bcnet.evaluate.paired import Bootstrap
from bcnet.evaluate.scaling import fit_scaling
from bcnet.evaluate.thresholds import count_units

# Four fifths of the patients fit, and five patients of each class are enough to try.
FOLDS = 5

REPAIRED = ("brier", "log_loss", "ece", "slope", "intercept")
"""The measures of calibration that recalibration can change and that are told of it."""


def recalibrate_by_fold(y_true, y_prob, *, patients=None, folds=FOLDS, seed=0):
    """Recalibrate each picture by a slope and an intercept fitted to other patients.

    Args:
        y_true: Labels, shape `(n_images,)`; 0 = benign, 1 = malignant.
        y_prob: Probabilities of malignant, shape `(n_images,)`, 0–1.
        patients: One key per picture, shape `(n_images,)`; None folds pictures.
        folds: How many groups of patients are left out in turn, at least 2.
        seed: Of the division.

    Returns:
        Probabilities, float64 `(n_images,)`.

    Raises:
        ValueError: An argument is empty, of another length or outside its range, a class has
            fewer patients than there are folds, or scores do not rise with malignancy.

    Example:
        >>> y_true, y_prob = np.tile([0, 0, 0, 1], 20), np.full(80, 0.75)
        >>> y_prob[y_true == 1] = 0.76  # hardly told apart, and said far too often
        >>> float(recalibrate_by_fold(y_true, y_prob)[y_true == 0].mean()) < 0.25
        True
    """
    y_true, y_prob = check_cases(y_true, y_prob)
    fewest = min(count_units(y_true, patients))
    if not 2 <= folds <= fewest:
        units = "pictures" if patients is None else "patients"
        raise ValueError(
            f"recalibration in {folds} folds needs {max(folds, 2)} {units} of each class; of one "
            f"there are {fewest}"
        )
    places = _place_patients(y_true, patients, folds, seed)
    logits, recalibrated = find_logits(y_prob), np.empty_like(y_prob)
    for fold in range(folds):
        is_left_out = places == fold
        scaling = fit_scaling(y_true[~is_left_out], logits[~is_left_out])
        recalibrated[is_left_out] = scaling.apply(logits[is_left_out])
    return recalibrated


def _place_patients(y_true, patients, folds, seed):
    """Deal patients, those with alike shares of malignant pictures one after the other."""
    groups = group_cases(patients, len(y_true))
    shares = np.bincount(groups, y_true) / np.bincount(groups)
    by_chance = np.random.default_rng(seed).permutation(len(shares))
    places = np.empty(len(shares), int)
    places[np.lexsort((by_chance, shares))] = np.arange(len(shares)) % folds
    return places[groups]


def judge_recalibration(y_true, y_prob, *, patients=None, draws=2000, seed=0):
    """Judge how much a new slope and intercept alone would repair, on patients not fitted to.

    What is left afterwards, recalibration cannot mend: the order of the pictures, and so the AUC
    within a fold, stays as it is.

    Args:
        y_true: Labels, shape `(n_images,)`; 0 = benign, 1 = malignant.
        y_prob: Probabilities of malignant, shape `(n_images,)`, 0–1.
        patients: One key per picture, shape `(n_images,)`; None draws pictures.
        draws: Number of bootstrap draws.
        seed: Of folds and draws.

    Returns:
        A dict that JSON can hold: `folds`; `slope` and `intercept`, of the logits, fitted to all;
        `after`, what `evaluate_calibration` gives of `recalibrate_by_fold`; `unit`, "patient"
        where every patient has one label, else "image"; `change`, of `brier` and `log_loss` by
        that unit, from before to after with its interval: below 0 is repaired.

    Raises:
        ValueError: As `recalibrate_by_fold` does.

    Example:
        >>> y_true = np.tile([0, 0, 0, 1], 20)
        >>> found = judge_recalibration(y_true, np.where(y_true, 0.98, 0.9))
        >>> found["change"]["brier"]["high"] < 0
        True
    """
    after = recalibrate_by_fold(y_true, y_prob, patients=patients, seed=seed)
    settings = {"draws": draws, "seed": seed}
    cases = Bootstrap(y_true, patients, draws=1)
    earlier, _ = _measure_errors(cases, y_prob)
    later, groups = _measure_errors(cases, after)
    return {
        "folds": FOLDS,
        **fit_scaling(y_true, find_logits(y_prob))._asdict(),
        "after": evaluate_calibration(y_true, after, patients=patients, **settings),
        "unit": cases.unit,
        "change": {
            name: bound_mean(later[name] - earlier[name], patients=groups, **settings)
            for name in later
        },
    }


def _measure_errors(cases, y_prob):
    """The errors of each case, and the number of its patient."""
    y_true, y_prob, groups = cases.merge_cases(y_prob)
    logits = find_logits(y_prob)
    brier, log_loss = (y_prob - y_true) ** 2, np.logaddexp(0, logits) - y_true * logits
    return {"brier": brier, "log_loss": log_loss}, groups


def format_recalibration(before, found):
    """Format what recalibration would repair as a table for the terminal.

    Args:
        before: What `evaluate_calibration` gave of the probabilities as they are.
        found: What `judge_recalibration` gave, or `{"reason"}` where it could not judge.

    Returns:
        A text of several lines without a final newline.

    Example:
        >>> format_recalibration({}, {"reason": "too few"})
        'what recalibration would repair is not known: too few'
    """
    if "reason" in found:
        return f"what recalibration would repair is not known: {found['reason']}"
    unit = found["unit"]
    rows = [[f"by {'picture' if unit == 'image' else unit}", "as it is", "recalibrated", "change"]]
    for name in REPAIRED:
        told = [format_estimate(each[unit][name]) for each in (before, found["after"])]
        change = found["change"].get(name)
        words = "ECE" if name == "ece" else name.replace("_", " ")
        rows.append([words, *told, format_estimate(change) if change else ""])
    note = (
        f"each patient recalibrated by the others, in {found['folds']} folds; fitted to all: "
        f"slope {found['slope']:.3g}, intercept {found['intercept']:.3g}"
    )
    return f"{_align(rows)}\n{note}"


def format_beside(results):
    """Format several judgements side by side, by patient where all have patient metrics.

    Args:
        results: A dict from a heading to what `bcnet.evaluate.metrics.evaluate` gave.

    Returns:
        A text of several lines without a final newline: a column for each.

    Example:
        >>> from bcnet.evaluate.metrics import evaluate
        >>> result = evaluate([0, 0, 1, 1], [0.1, 0.6, 0.4, 0.9])
        >>> format_beside({"at home": result, "here": result}).splitlines()[0].split()
        ['by', 'picture', 'at', 'home', 'here']
    """
    unit = "patient" if all(each["patient"] for each in results.values()) else "image"
    sizes = [each["n_patients" if unit == "patient" else "n_images"] for each in results.values()]
    rows = [
        [f"by {'picture' if unit == 'image' else unit}", *results],
        ["n", *(f"{size:,}" for size in sizes)],
    ]
    for name in METRICS:
        told = [format_estimate(each[unit][name]) for each in results.values()]
        rows.append([name.replace("_", " "), *told])
    return _align(rows)


def _align(rows):
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    cells = [[f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)] for row in rows]
    return "\n".join("  ".join(row).rstrip() for row in cells)
