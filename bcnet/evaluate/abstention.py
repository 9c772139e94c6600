"""When not to answer: the band of probabilities to refer, and what it promises.

Belongs here: choosing the band from labelled cases, and who falls into it. Does not: whether a
picture is of a kind the network knows at all (`gate`).

A case whose probability is at least `high` is answered malignant, one below `low` benign, and one
between them is referred to a person. A *miss* is a malignant case that is answered benign; the
*miss rate* is the share of misses among the malignant cases that are answered. So it does not
depend on how common cancer is, and the share of misses among all answered cases is never larger.
"""

import math
from typing import NamedTuple

import numpy as np
from scipy.stats import beta

from bcnet.evaluate.bootstrap import CONFIDENCE, check_draws, draw_weights
from bcnet.evaluate.cases import (
    PATIENTS_UNKNOWN,
    check_cases,
    find_mixed,
    find_probabilities,
    merge_pictures,
    sort_pictures,
)

MISS_RATE = 0.05
"""What is promised where the cases allow it and nothing else is asked for."""

# A promise above this helps no one: one cancer in five would be sent home.
LARGEST_MISS_RATE = 0.2

# What `low` may be, fixed before any case is seen (else a promise of 95 % would not be one):
# logits a tenth apart, between the probabilities that float32 can tell from 0 and 1.
LOWS = np.concatenate([[0.0], find_probabilities(np.arange(-160, 161) / 10)])

MEANING = (
    "a miss is a malignant case answered benign; the rate is the share of misses among the "
    "malignant cases answered"
)


class TooFewCases(ValueError):
    """The cases are too few to promise what is asked for, or anything of use."""


class _Steps(NamedTuple):
    """What each candidate of `low` would do, the safest first."""

    lows: np.ndarray
    misses: np.ndarray
    answered: np.ndarray  # malignant cases only
    bounds: np.ndarray  # of the miss rate, from above, each with 95 % confidence


def choose_band(y_true, y_prob, *, threshold, patients=None, miss_rate=None, draws=2000, seed=0):
    """Choose which probabilities to refer, so that few malignant cases are answered benign.

    With 95 % confidence the miss rate of new cases like these is at most `miss_rate`. Candidates
    of `low` are tried from the safest on, and the last is taken before the first that fails
    (fixed-sequence testing: Angelopoulos et al. 2021, "Learn then test", arXiv:2110.01052), so
    that choosing does not break the promise. The band ends at the threshold: who is called
    malignant is looked at anyway.

    Where every patient has one label, a case is a patient, scored by the mean of the logits of
    his pictures, and the bound is exact (Clopper and Pearson 1934); where patients are unknown, a
    case is a picture. Where patients carry both labels, a case is a picture and the bound a
    bootstrap over the patients with malignant pictures, to whom one is added of average size
    whose every picture is missed: without him, no miss seen would mean none to come. So, too,
    does the exact bound count one miss more than it has seen. Of 100 simulated promises by 60
    patients with 20 pictures each 3 were broken, 12 without him, and 32 by the exact bound for
    pictures as if they were independent.

    Args:
        y_true: Labels, shape `(n_images,)`; 0 = benign, 1 = malignant.
        y_prob: Probabilities of malignant, shape `(n_images,)`, 0–1.
        threshold: From which a case is called malignant; the upper end of the band. If it was
            chosen by the same cases, they flatter it a little.
        patients: One key per picture, shape `(n_images,)`; None when they are unknown.
        miss_rate: What to promise, above 0 and below 1; by default 0.05 or, where so few cases
            do not allow it, the smallest that they do (0.2 at most).
        draws: Number of bootstrap draws.
        seed: Same seed, same band.

    Returns:
        A dict that JSON can hold: `low` and `high`, the ends of the band; `miss_rate` and
        `confidence`, the promise; `smallest`, the smallest that could be promised; `unit`,
        "patient" or "picture"; `reason`, why not "patient", else None; `n` and `n_malignant`
        cases; `n_patients`, None when unknown; `answered`, the share of all cases; `misses` among
        `malignant_answered`; and `meaning`, what is a miss and among whom.

    Raises:
        TooFewCases: These cases do not allow such a promise; the message says which they do.
        ValueError: An argument is empty, of another length or out of range.

    Example:
        >>> band = choose_band([0] * 9 + [1] * 59, [0.1] * 9 + [0.9] * 59, threshold=0.5)
        >>> round(band["smallest"], 3), band["misses"], band["answered"]  # 1 - 0.05 ** (1 / 59)
        (0.05, 0, 1.0)
    """
    y_true, y_prob = check_cases(y_true, y_prob)
    _check_numbers(threshold, miss_rate, draws)
    y_true, y_prob, groups = sort_pictures(y_true, y_prob, patients)
    n_patients = None if patients is None else int(groups.max()) + 1
    mixed = find_mixed(y_true, groups)
    if not mixed:
        y_true, y_prob, groups = merge_pictures(y_true, y_prob, groups)
    steps = _try_lows(y_true, y_prob, groups, threshold, (draws, seed) if mixed else None)
    unit = "picture" if mixed or patients is None else "patient"
    miss_rate = _settle_miss_rate(miss_rate, steps, unit)
    last = np.append(steps.bounds > miss_rate, True).argmax() - 1
    low = float(steps.lows[last])
    return {
        "low": low,
        "high": float(threshold),
        "miss_rate": miss_rate,
        "confidence": CONFIDENCE,
        "smallest": float(steps.bounds[0]),
        "unit": unit,
        "reason": mixed or (PATIENTS_UNKNOWN if patients is None else None),
        "n": len(y_true),
        "n_malignant": int(y_true.sum()),
        "n_patients": n_patients,
        "answered": float(1 - find_referred(y_prob, low, threshold).mean()),
        "misses": int(steps.misses[last]),
        "malignant_answered": int(steps.answered[last]),
        "meaning": MEANING,
    }


def find_referred(y_prob, low, high):
    """Find the cases that a band refers.

    Args:
        y_prob: Probabilities of malignant, shape `(n,)`.
        low: Lower end of the band, which is in it.
        high: Upper end, which is not.

    Returns:
        bool `(n,)`.

    Example:
        >>> find_referred(np.array([0.1, 0.2, 0.5]), 0.2, 0.5).tolist()
        [False, True, False]
    """
    return (y_prob >= low) & (y_prob < high)


def read_band(card):
    """Read from a model's card between which probabilities it refers a case.

    Args:
        card: The card of a model of either kind; `abstention` in it is as for `format_band`.

    Returns:
        `(low, high)`; None without a promise.

    Example:
        >>> read_band({"abstention": {"low": 0.1, "high": 0.3}}), read_band({})
        ((0.1, 0.3), None)
    """
    entry = card.get("abstention") or {}
    return (entry["low"], entry["high"]) if "low" in entry else None


def format_band(band: dict, case: str = "picture") -> str:
    """Format a band in one line: what is promised, who is referred, on whom that rests.

    Args:
        band: of `choose_band`, with `data`, the name of the cases; or `reason`, why there is none.
        case: what the reader calls one.

    Example:
        >>> format_band({"reason": "too few cases"}, "patient")
        'no patient is referred: too few cases'
    """
    if "low" not in band:
        return f"no {case} is referred: {band['reason']}"
    referred = "none of them needs to be referred"
    if band["low"] < band["high"]:
        referred = (
            f"from {band['low']:.3g} to {band['high']:.3g} they are referred, "
            f"{band['answered']:.0%} are answered"
        )
    return (
        f"of the malignant {band['unit']}s that are answered, at most {band['miss_rate']:.1%} are "
        f"called benign ({band['confidence']:.0%} confidence); {referred} "
        f"({band['n']:,} {band['unit']}s: {band['data']})"
    )


def bound_rate(events, cases):
    """Bound a rate from above with 95 % confidence (Clopper and Pearson 1934, one-sided).

    Args:
        events: How often it happened, int `(...)`.
        cases: In how many independent cases, int `(...)`.

    Returns:
        float64 `(...)`; 1 where nothing speaks against it.

    Example:
        >>> round(float(bound_rate(0, 33)), 3)  # 1 - 0.05 ** (1 / 33)
        0.087
    """
    events, cases = np.asarray(events), np.asarray(cases)
    spared = cases - events
    bound = beta.ppf(CONFIDENCE, events + 1, np.maximum(spared, 1))
    return np.where(spared > 0, bound, 1.0)


def _try_lows(y_true, y_prob, groups, threshold, bootstrap):
    """Count and bound the misses of each candidate; `bootstrap` is `(draws, seed)` or None."""
    lows = np.append(LOWS[threshold > LOWS], threshold)
    malignant, groups = y_prob[y_true == 1], groups[y_true == 1]
    misses = malignant[:, None] < lows
    answered = misses | (malignant >= threshold)[:, None]
    if bootstrap and len(malignant):
        by_patient = (_sum_groups(flags, groups) for flags in (misses, answered))
        bounds = _bound_by_draws(*by_patient, len(malignant), *bootstrap)
    else:
        bounds = bound_rate(misses.sum(axis=0), answered.sum(axis=0))
    return _Steps(lows, misses.sum(axis=0), answered.sum(axis=0), bounds)


def _sum_groups(flags, groups):
    """Sum the rows of each group that there is."""
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    return np.add.reduceat(flags[order], starts, axis=0, dtype=float)


def _bound_by_draws(misses, answered, n_pictures, draws, seed):
    """Bound the ratio of the sums of two tables `(patients, lows)`, patients being drawn."""
    lost = np.full((1, misses.shape[1]), n_pictures / len(misses))  # the added patient
    misses, answered = np.concatenate([misses, lost]), np.concatenate([answered, lost])
    rates = []
    for weights in draw_weights(np.arange(len(misses)), draws, seed):
        shown = weights @ answered
        rates.append(np.where(shown > 0, weights @ misses / np.maximum(shown, 1e-9), 1.0))
    return np.quantile(np.concatenate(rates), CONFIDENCE, axis=0, method="higher")


def _settle_miss_rate(miss_rate, steps, unit):
    """The promise asked for, if the cases allow it; the usual or smallest if none is."""
    smallest = float(steps.bounds[0])
    told = (
        f"the {steps.answered[0]} malignant {unit}s that are called malignant allow a promise of "
        f"{smallest:.3f} at the smallest, even without a miss"
    )
    if miss_rate is None:
        if smallest > LARGEST_MISS_RATE:
            raise TooFewCases(f"{told}; above {LARGEST_MISS_RATE} none is made")
        return max(MISS_RATE, math.ceil(smallest * 1000) / 1000)
    if miss_rate < smallest:
        raise TooFewCases(f"{told}. Received: miss_rate={miss_rate:g}")
    return float(miss_rate)


def _check_numbers(threshold, miss_rate, draws):
    if not 0 <= threshold <= 1:
        raise ValueError(f"`threshold` must be between 0 and 1. Received: threshold={threshold}")
    if miss_rate is not None and not 0 < miss_rate < 1:
        raise ValueError(f"`miss_rate` must be above 0 and below 1. Received: {miss_rate}")
    check_draws(draws)
