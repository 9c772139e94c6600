"""Whether a difference between two models could be chance: three tests of paired answers.

Belongs here: p-values. Does not: how large a difference is (`comparison`), which matters more.
"""

import numpy as np
from scipy.stats import binomtest, norm, rankdata

from bcnet.evaluate.bootstrap import WEIGHTS_AT_ONCE
from bcnet.evaluate.paired import MEASURES, measure_auc

COMPARED = tuple(name for name in MEASURES if name not in ("ece", "calibration_shift"))
"""The measures that two models are compared by; of `brier`, less is better."""


def permute_models(y_true, scores, answers, groups, *, draws=2000, seed=0):
    """Test each difference by exchanging the two models' results within patients.

    Were the models equally good, it would not matter whose result is whose, and a patient's cases
    go together, so the test holds however alike they are. For the AUC the scores are exchanged as
    ranks, as two models' scales need not agree (Bandos 2005, https://doi.org/10.1002/sim.2149).
    With few patients all exchanges are tried, and p is exact; else as many as `draws`, with the
    observed one counted among them.

    Args:
        y_true: Labels of the cases, `(n_cases,)`.
        scores: Probabilities of both models, `(2, n_cases)`.
        answers: Whether each model calls the case malignant, bool `(2, n_cases)`.
        groups: The patient of each case, whole numbers from 0, `(n_cases,)`.
        draws: Most exchanges to try.
        seed: Same seed, same p-values.

    Returns:
        The two-sided p-value for each name in `COMPARED`.

    Example:
        >>> y, ranks, groups = np.array([0, 1]), np.array([[0.2, 0.9], [0.9, 0.2]]), np.arange(2)
        >>> permute_models(y, ranks, ranks > 0.5, groups)["accuracy"]  # ±2, 0, 0 of 4 exchanges
        0.5
    """
    swaps = _list_swaps(int(groups.max()) + 1, draws, seed)
    differences = _difference_of_cases(y_true, scores, answers)
    by_patient = np.stack([np.bincount(groups, each) for each in differences.values()], axis=1)
    block = max(1, WEIGHTS_AT_ONCE // len(y_true))
    blocks = [swaps[start : start + block] for start in range(0, len(swaps), block)]
    linear = np.concatenate([(1 - 2.0 * each) @ by_patient for each in blocks])
    found = dict(zip(differences, linear.T, strict=True))
    ranks = np.concatenate([rankdata(each) for each in scores])
    aucs = [_swap_aucs(np.tile(y_true, 2), ranks, each[:, groups]) for each in blocks]
    found["auc"] = np.concatenate(aucs)
    return {name: _count_extremes(found[name]) for name in COMPARED}


def _list_swaps(n_patients, draws, seed):
    """Whose results are exchanged, bool `(swaps, n_patients)`; the first row exchanges none."""
    if 2**n_patients <= draws:
        codes = np.arange(2**n_patients)
        return (codes[:, None] >> np.arange(n_patients)) & 1 == 1
    swaps = np.random.default_rng(seed).random((draws + 1, n_patients)) < 0.5
    swaps[0] = False
    return swaps


def _difference_of_cases(y_true, scores, answers):
    """What each case adds to the difference B − A of every measure that is a mean over cases."""
    positives, n_cases = y_true.sum(), len(y_true)
    right = np.diff(1.0 * (answers == y_true), axis=0)[0]
    sensitivity = right * y_true / positives
    specificity = right * (1 - y_true) / (n_cases - positives)
    return {
        "sensitivity": sensitivity,
        "specificity": specificity,
        "balanced_accuracy": (sensitivity + specificity) / 2,
        "accuracy": right / n_cases,
        "brier": np.diff((scores - y_true) ** 2, axis=0)[0] / n_cases,
    }


def _swap_aucs(y_true, ranks, swaps):
    """AUC of B − AUC of A after each exchange: which half of both models' ranks is whose."""
    of_b = np.hstack([swaps, ~swaps])
    return measure_auc(y_true, ranks, of_b) - measure_auc(y_true, ranks, ~of_b)


def _count_extremes(differences):
    # Sums of the same numbers in another order differ in the last digits.
    extreme = np.abs(differences) >= np.abs(differences[0]) - 1e-12
    return float(np.mean(extreme))


def apply_delong(y_true, scores_a, scores_b, groups):
    """Test the difference of two AUCs by their asymptotic variance.

    Obuchowski 1997 (https://doi.org/10.2307/2533958), which allows several cases of a patient, of
    either class, and is DeLong 1988 (https://doi.org/10.2307/2531595) where each has one. It
    counts on some tens of patients of either class; with fewer, trust the permutation.

    Args:
        y_true: Labels of the cases, `(n_cases,)`; both must occur.
        scores_a: Scores by the first model, `(n_cases,)`.
        scores_b: Scores by the second.
        groups: The patient of each case, whole numbers from 0, `(n_cases,)`.

    Returns:
        `difference` of the AUCs, B − A, its `standard_error`, `z` and two-sided `p`. Without any
        variance, as of equal rankings, `z` is 0 and `p` is 1; with fewer than two patients of
        either class all but the difference are None.

    Example:
        >>> y = np.array([0, 0, 1, 1])
        >>> apply_delong(y, np.array([1, 3, 2, 4]), np.array([1, 2, 3, 4]), np.arange(4))["z"]
        0.7071067811865475
    """
    is_positive = y_true == 1
    components = [_place_cases(is_positive, scores) for scores in (scores_a, scores_b)]
    aucs = [each[is_positive].mean() for each in components]
    # How far each case's component of the difference is from its mean.
    excess = np.diff(components, axis=0)[0] - (aucs[1] - aucs[0])
    variance = _sum_variance(excess, is_positive, groups)
    result = {"difference": float(aucs[1] - aucs[0])}
    if variance is None:
        return result | {"standard_error": None, "z": None, "p": None}
    error = np.sqrt(max(variance, 0))
    z = result["difference"] / error if error > 1e-12 else 0.0
    return result | {"standard_error": float(error), "z": float(z), "p": float(2 * norm.sf(abs(z)))}


def _place_cases(is_positive, scores):
    """Of each case, the share of the other class that it is rightly ranked against."""
    above = np.empty(len(scores))
    for own in (is_positive, ~is_positive):
        wins = rankdata(scores)[own] - rankdata(scores[own])
        above[own] = wins / np.sum(~own)
    return np.where(is_positive, above, 1 - above)


def _sum_variance(excess, is_positive, groups):
    sums, patients = [], []
    for own in (is_positive, ~is_positive):
        sums.append(np.bincount(groups, excess * own / own.sum()))
        patients.append(len(np.unique(groups[own])))
    if min(patients) < 2:
        return None
    n = len(np.unique(groups))
    spreads = [
        count / (count - 1) * each @ each for count, each in zip(patients, sums, strict=True)
    ]
    return sum(spreads) + 2 * n / (n - 1) * sums[0] @ sums[1]


def apply_mcnemar(right_a, right_b):
    """Test whether one model is right where the other is wrong more often than the reverse.

    McNemar's test in its exact form, a binomial test of the cases that one model alone answers
    rightly. It takes all cases for independent: one of each patient.

    Args:
        right_a: Whether the first model answers the case rightly, bool `(n_cases,)`.
        right_b: The same for the second.

    Returns:
        `only_a` and `only_b`, how many cases only that model answers rightly, and two-sided `p`.

    Example:
        >>> apply_mcnemar(np.array([1, 1, 0, 0]) == 1, np.array([1, 0, 1, 1]) == 1)
        {'only_a': 1, 'only_b': 2, 'p': 1.0}
    """
    only_a, only_b = int(np.sum(right_a & ~right_b)), int(np.sum(right_b & ~right_a))
    p = binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0
    return {"only_a": only_a, "only_b": only_b, "p": float(p)}
