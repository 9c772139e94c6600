"""What a model would mean elsewhere: among people of whom another share has cancer.

Belongs here: predictive values, counts per 1,000, and net benefit, at a prevalence that the reader
names. Does not: sensitivity and specificity (`metrics`), which are taken to be the same there.
"""

import numpy as np

from bcnet.evaluate.bootstrap import bound_curve, bound_measures, check_draws
from bcnet.evaluate.cases import (
    check_cases,
    find_logits,
    find_mixed,
    find_probabilities,
    merge_pictures,
    require_both_classes,
    sort_pictures,
)
from bcnet.evaluate.metrics import check_threshold, format_estimate, weigh_counts

PROJECTIONS = (
    "ppv",
    "npv",
    "found",
    "missed",
    "false_alarms",
    "passed",
    "number_needed_to_biopsy",
)
"""The numbers, by the only names and in the only order used for them; four count per 1,000."""

# Whom the counts are of.
THOUSAND = 1000

# Probabilities from which somebody might act; at 0 all are treated, at 1 none.
ACTING = np.linspace(0.01, 0.99, 99)


def project_prevalence(y_true, y_prob, *, prevalence, threshold, patients=None, draws=2000, seed=0):
    """Say what answers would mean where a share `prevalence` has cancer.

    A data set rich in cancers flatters the predictive values: of 1,000 women who are screened
    perhaps six have one. Sensitivity and specificity are taken over to there by Bayes' rule, which
    holds if cancers and benign cases there are like the ones here; screening finds smaller ones.

    Cases are patients where every patient has one label, else pictures. Intervals are those of
    `bcnet.evaluate.metrics.evaluate`; the prevalence itself is taken as known.

    Args:
        y_true: Labels, shape `(n_images,)`; 0 = benign, 1 = malignant; both must occur.
        y_prob: Probabilities of malignant, shape `(n_images,)`, 0–1.
        prevalence: Share of malignant cases there, between 0 and 1.
        threshold: A case is called malignant when its probability is at least this; 0–1.
        patients: One key per picture, shape `(n_images,)`; None draws pictures.
        draws: Number of bootstrap draws.
        seed: Same seed, same intervals.

    Returns:
        A dict that JSON can hold: `prevalence`, `threshold`, `unit` ("patient" or "image"), and
        `{"value", "low", "high"}` for each of `PROJECTIONS`. The number needed to biopsy is how
        many are called malignant for one who is, 1 / PPV; None where nothing is called so.

    Raises:
        ValueError: An argument is empty, of another length or outside its range.

    Example:
        >>> result = project_prevalence([0] * 10 + [1] * 10, [0.2] * 9 + [0.8] * 10 + [0.2],
        ...                             prevalence=0.1, threshold=0.5, draws=9)
        >>> [round(result[name]["value"], 9) for name in ("found", "missed", "false_alarms", "ppv")]
        [90.0, 10.0, 90.0, 0.5]
    """
    check_prevalence(prevalence)
    check_threshold(threshold)
    check_draws(draws)
    y_true, y_prob, groups, unit = _take_cases(y_true, y_prob, patients)
    columns = np.stack([y_true, y_true * (y_prob >= threshold), y_prob >= threshold], axis=1)

    def measure(weights):
        malignant, found, called = (weights @ columns).T
        with np.errstate(invalid="ignore", divide="ignore"):  # 0 / 0: undefined
            sensitivity = found / malignant
            alarmed = (called - found) / (weights.sum(axis=1) - malignant)
            return np.stack(_project(sensitivity, alarmed, prevalence), axis=1)

    estimates = bound_measures(PROJECTIONS, measure, groups, draws=draws, seed=seed)
    return {"prevalence": prevalence, "threshold": float(threshold), "unit": unit, **estimates}


def _project(sensitivity, alarmed, prevalence):
    found, missed = prevalence * sensitivity, prevalence * (1 - sensitivity)
    alarms, passed = (1 - prevalence) * alarmed, (1 - prevalence) * (1 - alarmed)
    ppv, npv = found / (found + alarms), passed / (passed + missed)
    needed = np.where(ppv > 0, 1 / ppv, np.nan)
    counts = (THOUSAND * share for share in (found, missed, alarms, passed))
    return [ppv, npv, *counts, needed]


def trace_benefit(y_true, y_prob, *, prevalence=None, patients=None, draws=2000, seed=0):
    """Trace the net benefit of a model against treating all and treating none.

    Vickers and Elkin 2006 (doi:10.1177/0272989X06295361): whoever acts from a probability t on
    takes 1 − t unnecessary acts for t necessary ones, so the benefit of acting is the share of
    true positives less t / (1 − t) times that of false ones. A model is worth using at the t where
    it lies above both others, and only calibrated probabilities show it there.

    Cases are patients where every patient has one label, else pictures.

    Args:
        y_true: Labels, shape `(n_images,)`; 0 = benign, 1 = malignant; both must occur.
        y_prob: Probabilities of malignant, shape `(n_images,)`, 0–1.
        prevalence: Share of malignant cases where it is to be used: probabilities are shifted to
            it, see `shift_prevalence`. None for that of the data.
        patients: One key per picture, shape `(n_images,)`; None draws pictures.
        draws: Number of bootstrap draws.
        seed: Same seed, same band.

    Returns:
        A dict of arrays, each `(99,)`: `threshold` 0.01 … 0.99, net benefit of the `model`, `low`
        and `high` of its pointwise 95 % band (NaN where undefined), of `treat_all` (treating none
        has 0); with `prevalence` and `unit`.

    Raises:
        ValueError: As in `project_prevalence`.

    Example:
        >>> traced = trace_benefit([0, 0, 0, 1], [0.1, 0.2, 0.3, 0.9])
        >>> traced["model"][49].round(9), traced["treat_all"][49].round(9)  # t = 0.5
        (np.float64(0.25), np.float64(-0.5))
    """
    check_draws(draws)
    y_true, y_prob, groups, unit = _take_cases(y_true, y_prob, patients)
    base = y_true.mean()
    if prevalence is not None:
        y_prob = shift_prevalence(y_prob, base, prevalence)
    shares = None if prevalence is None else np.array([prevalence, 1 - prevalence])

    def measure(weights):
        return _measure_benefit(y_true, y_prob, weights, shares)

    low, high = bound_curve(measure, groups, draws=draws, seed=seed)
    there = base if prevalence is None else prevalence
    treat_all = there - (1 - there) * ACTING / (1 - ACTING)
    return {
        "threshold": ACTING,
        "model": measure(np.ones((1, len(y_true))))[0],
        "low": low,
        "high": high,
        "treat_all": treat_all,
        "prevalence": float(there),
        "unit": unit,
    }


def _measure_benefit(y_true, y_prob, weights, shares):
    """Measure the benefit at each of `ACTING`: `(draws, 99)`; `shares` None takes each draw's."""
    counts = np.stack(weigh_counts(y_true, y_prob, weights))  # hits and alarms
    totals = counts[..., -1:]
    scores = np.unique(y_prob)
    called = len(scores) - np.searchsorted(scores, ACTING)
    shares = totals / totals.sum(axis=0) if shares is None else shares[:, None, None]
    with np.errstate(invalid="ignore"):  # 0 / 0: a draw without one of the classes
        found, alarmed = shares * counts[..., called] / totals
    return found - alarmed * ACTING / (1 - ACTING)


def shift_prevalence(y_prob, known, there):
    """Shift probabilities that hold at one prevalence to where another holds.

    The odds change as those of the prevalence do (Bayes' rule); the order stays.

    Args:
        y_prob: Probabilities of malignant, shape `(n_cases,)`, 0–1.
        known: Share of malignant cases at which they hold, between 0 and 1.
        there: Share of malignant cases to shift them to, between 0 and 1.

    Returns:
        float64 `(n_cases,)`.

    Raises:
        ValueError: A share is not between 0 and 1.

    Example:
        >>> shift_prevalence([0.5], 0.5, 0.1).round(6).tolist()
        [0.1]
    """
    for share in (known, there):
        check_prevalence(share)
    known, there = find_logits([known, there])
    return find_probabilities(find_logits(y_prob) + there - known)


def check_prevalence(prevalence):
    """Raise `ValueError` unless a share of malignant cases is between 0 and 1."""
    if not 0 < prevalence < 1:
        raise ValueError(f"`prevalence` must be between 0 and 1. Received: prevalence={prevalence}")


def _take_cases(y_true, y_prob, patients):
    """Take patients as cases where every patient has one label, else pictures."""
    y_true, y_prob = check_cases(y_true, y_prob)
    require_both_classes(y_true)
    y_true, y_prob, groups = sort_pictures(y_true, y_prob, patients)
    if patients is None or find_mixed(y_true, groups):
        return y_true, y_prob, groups, "image"
    return *merge_pictures(y_true, y_prob, groups), "patient"


def format_projection(result):
    """Format the result of `project_prevalence` as a table for the terminal.

    Args:
        result: What `project_prevalence` returned.

    Returns:
        A text of several lines without a final newline.

    Example:
        >>> text = format_projection(project_prevalence([0, 1], [0, 1], prevalence=0.1,
        ...                                             threshold=0.5, draws=9))
        >>> text.splitlines()[0]
        'where 10 % are malignant, of 1,000 pictures (sensitivity and specificity being as here)'
    """
    cases = "women" if result["unit"] == "patient" else "pictures"
    words = {
        "found": "malignant, called so",
        "missed": "malignant, missed",
        "false_alarms": "benign, called malignant",
        "passed": "benign, called so",
        "ppv": "PPV",
        "npv": "NPV",
        "number_needed_to_biopsy": "number needed to biopsy",
    }
    rows = [
        f"where {100 * result['prevalence']:g} % are malignant, of 1,000 {cases} "
        "(sensitivity and specificity being as here)"
    ]
    for name, told in words.items():
        digits = 3 if name in ("ppv", "npv") else 1
        rows.append(f"  {told:<25}{format_estimate(result[name], digits)}")
    return "\n".join(rows)
