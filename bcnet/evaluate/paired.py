"""Several scores judged on the same draws of patients, so that their differences have intervals.

Belongs here: the draws, and the measures that robustness, subgroups and comparison share. Does
not: what is set against what, and the table of a single model (`metrics`).
"""

import numpy as np

from bcnet.evaluate.bootstrap import (
    CONFIDENCE,
    WEIGHTS_AT_ONCE,
    bound_draws,
    check_draws,
    draw_weights,
)
from bcnet.evaluate.calibration import assign_bins
from bcnet.evaluate.cases import average_logits, check_labels, find_mixed, number_patients

MEASURES = (
    "auc",
    "balanced_accuracy",
    "sensitivity",
    "specificity",
    "accuracy",
    "brier",
    "ece",
    "calibration_shift",
)
"""Names and order of the measures. `ece` is the expected calibration error of
`bcnet.evaluate.calibration`; `calibration_shift` is the mean probability of malignant less the
share of malignant cases: above 0, the model says malignant too often on average."""


class Bootstrap:
    """One set of patients and the draws from it, to judge several scores by.

    A case is a patient where every patient has one label, else a picture; what is drawn is always
    the patient with all that is his.

    Args:
        y_true: Labels of the pictures, shape `(n_images,)`; 0 = benign, 1 = malignant.
        patients: One key per picture, shape `(n_images,)`, compared as strings; None when they
            are unknown, and each picture is drawn by itself.
        draws: Number of draws, at least 1.
        seed: Same seed, same draws.

    Attributes:
        y_true: As given, float64.
        groups: The number of each picture's patient, from 0, `(n_images,)`.
        unit: "patient" or "image".
        n_patients: How many there are; None when they are unknown.
        counts: `(draws, n_patients)`, how often each patient was drawn.

    Raises:
        ValueError: An argument is empty, of another length or outside its range.

    Example:
        >>> Bootstrap([0, 1, 1], ["anna", "bea", "bea"]).unit
        'patient'
    """

    def __init__(self, y_true, patients=None, *, draws=2000, seed=0):
        check_draws(draws)
        self.y_true = check_labels(y_true)
        self.groups = np.arange(len(self.y_true))
        if patients is not None:
            _, self.groups = number_patients(patients, len(self.y_true))
        is_mixed = patients is None or find_mixed(self.y_true, self.groups)
        self.unit = "image" if is_mixed else "patient"
        self.n_patients = None if patients is None else int(self.groups.max()) + 1
        blocks = draw_weights(np.arange(self.groups.max() + 1), draws, seed)
        # Bytes, as they are many: no patient among hundreds is drawn 256 times.
        self.counts = np.concatenate([block.astype(np.uint8) for block in blocks])

    def merge_cases(self, y_prob, rows=slice(None)):
        """Turn the pictures of some rows into cases.

        Args:
            y_prob: Probabilities of malignant of all pictures, `(n_images,)`.
            rows: Which pictures; all by default.

        Returns:
            Labels, probabilities (of a patient: as in `metrics.score_patients`) and numbers of
            the patients, each `(n_cases,)`.
        """
        y_true, groups = self.y_true[rows], self.groups[rows]
        y_prob = np.asarray(y_prob, np.float64)[rows]
        if self.unit == "image":
            return y_true, y_prob, groups
        patients, places = np.unique(groups, return_inverse=True)
        labels = np.bincount(places, y_true) / np.bincount(places)
        return labels, average_logits(y_prob, places), patients

    def measure(self, y_prob, *, threshold, rows=slice(None)):
        """Measure scores on all cases and on every draw.

        Args:
            y_prob: As for `merge_cases`.
            threshold: A case is called malignant when its probability is at least this.
            rows: As for `merge_cases`.

        Returns:
            float64 `(1 + draws, len(MEASURES))`, NaN where a measure is undefined: first that of
            all cases, then one row for each draw (NaN throughout where there is only one patient
            to draw). The difference of two such arrays is paired.

        Example:
            >>> bootstrap = Bootstrap([0, 0, 1, 1])
            >>> bootstrap.measure([0.1, 0.6, 0.4, 0.9], threshold=0.5)[0, :4].tolist()
            [0.75, 0.5, 0.5, 0.5]
        """
        y_true, y_prob, groups = self.merge_cases(y_prob, rows)
        counts = np.vstack([np.ones_like(self.counts[:1]), self.counts])
        parts = _take_apart(y_true, y_prob, y_prob >= threshold)
        n = counts.shape[1]
        by_patient = np.stack([np.bincount(groups, part, minlength=n) for part in parts], axis=1)
        block = max(1, WEIGHTS_AT_ONCE // len(groups))
        blocks = [counts[start : start + block] for start in range(0, len(counts), block)]
        auc = np.concatenate([measure_auc(y_true, y_prob, each[:, groups]) for each in blocks])
        measured = _put_together(auc, np.concatenate([each @ by_patient for each in blocks]))
        if n == 1:
            measured[1:] = np.nan
        return measured


def _take_apart(y_true, y_prob, called):
    """What each case adds to the sums that the measures, but for the AUC, are ratios of."""
    hits, passes, excess = y_true * called, (1 - y_true) * ~called, y_prob - y_true
    return y_true, 1 - y_true, hits, passes, excess**2, *(assign_bins(y_prob).T * excess)


def _put_together(auc, totals):
    """Make the measures, in the order of `MEASURES`, of the sums of what `_take_apart` gives."""
    positives, negatives, hits, passes, squares, *excesses = totals.T
    with np.errstate(invalid="ignore", divide="ignore"):  # 0 / 0: undefined
        sensitivity, specificity = hits / positives, passes / negatives
        n_cases = positives + negatives
        measures = [
            auc,
            (sensitivity + specificity) / 2,
            sensitivity,
            specificity,
            (hits + passes) / n_cases,
            squares / n_cases,
            np.abs(excesses).sum(axis=0) / n_cases,
            np.sum(excesses, axis=0) / n_cases,
        ]
    return np.stack(measures, axis=1)


def measure_auc(y_true, scores, weights):
    """Measure the AUC of cases that count several times or not at all.

    Args:
        y_true: Labels, `(n_cases,)`; 0 = benign, 1 = malignant.
        scores: `(n_cases,)`, on any scale.
        weights: Whole numbers `(rows, n_cases)`, 0 or more.

    Returns:
        float64 `(rows,)`; NaN where the weights leave only one class.

    Example:
        >>> measure_auc(np.array([1, 0, 1]), np.array([3, 2, 1]), np.array([[1, 1, 1], [2, 1, 1]]))
        array([0.5       , 0.66666667])
    """
    order = np.argsort(scores)
    positives, negatives = order[y_true[order] == 1], order[y_true[order] == 0]
    up_to = np.pad(np.cumsum(weights[:, positives], axis=1, dtype=float), ((0, 0), (1, 0)))
    lower, upper = (
        np.searchsorted(scores[positives], scores[negatives], side) for side in ("left", "right")
    )
    # Positives that a negative outranks, and half of those that it ties with.
    outranked = up_to[:, lower]
    if (lower < upper).any():
        outranked = (outranked + up_to[:, upper]) / 2
    by_negative = weights[:, negatives].astype(float)
    pairs = up_to[:, -1] * by_negative.sum(axis=1)
    with np.errstate(invalid="ignore"):  # 0 / 0: undefined
        return 1 - np.einsum("ij,ij->i", by_negative, outranked) / pairs


def estimate(samples, *, confidence=CONFIDENCE):
    """Give what `Bootstrap.measure` measured, or differences of it, with percentile intervals.

    Args:
        samples: `(1 + draws,)`: the value, then that of each draw.
        confidence: Share of the draws that the interval holds, and that must be defined.

    Returns:
        `{"value", "low", "high"}` as in `metrics.evaluate`: None where undefined, or where too
        few draws are defined.

    Example:
        >>> estimate(np.array([0.5, 0.0, 1.0, 0.5]), confidence=0.5)
        {'value': 0.5, 'low': 0.25, 'high': 0.75}
    """
    if np.isnan(samples[0]):
        return {"value": None, "low": None, "high": None}
    return {"value": float(samples[0]), **bound_draws(samples[1:], confidence)}
