"""A slope and an intercept that bring a network's logits to what is seen.

Belongs here: temperature and Platt scaling, and the fit behind them. Does not: where the numbers
are kept (the layer `calibration` of the network), and how well they do (`calibration`).
"""

from typing import NamedTuple

import numpy as np

from bcnet.config import CALIBRATIONS
from bcnet.evaluate.cases import (
    check_labels,
    check_vector,
    find_probabilities,
    require_both_classes,
)

# Newton's method doubles its digits with each step; a fit without an end is one that has none.
MOST_STEPS, SMALLEST_STEP = 50, 1e-9


class Scaling(NamedTuple):
    """What a logit is multiplied by and what is then added; a temperature is 1 / slope.

    Attributes:
        slope: Above 0, so that the order of the pictures stays.
        intercept: 0 for temperature scaling.
    """

    slope: float = 1.0
    intercept: float = 0.0

    def apply(self, logits):
        """Turn logits, shape `(n,)`, into probabilities.

        Example:
            >>> Scaling(0.5, 1.0).apply(np.array([-2.0])).tolist()
            [0.5]
        """
        return find_probabilities(self.slope * np.asarray(logits, np.float64) + self.intercept)


def fit_scaling(y_true, logits, *, method="platt"):
    """Fit the scaling under which the labels are most likely.

    "platt" fits slope and intercept (Platt 1999), "temperature" the slope alone (Guo et al. 2017,
    https://arxiv.org/abs/1706.04599). Only an intercept can undo what weighting or drawing the
    classes to equal shares does to all probabilities. Labels are drawn towards one half by Platt's
    amount, (n + 1) / (n + 2), by which even separable scores have a finite slope.

    Args:
        y_true: Labels, shape `(n_images,)`; 0 = benign, 1 = malignant; both must occur.
        logits: The network's, before any calibration, shape `(n_images,)`. Of pictures that have
            not trained it.
        method: "platt" or "temperature".

    Returns:
        A `Scaling`.

    Raises:
        ValueError: An argument is empty or of another length, only one class occurs, or the scores
            do not rise with the labels, so that a scaling would turn their order.

    Example:
        >>> scaling = fit_scaling([0, 0, 0, 1, 0, 1, 1, 1], [-4] * 4 + [4] * 4)
        >>> round(scaling.slope, 3), abs(scaling.intercept) < 1e-9  # ln 2 / 4: 2 / 3 are right
        (0.173, True)
    """
    if method not in CALIBRATIONS:
        allowed = ", ".join(CALIBRATIONS)
        raise ValueError(f"`method` must be one of {allowed}. Received: method={method!r}")
    y_true, logits = check_labels(y_true), check_vector("logits", logits)
    if len(y_true) != len(logits) or not np.isfinite(logits).all():
        raise ValueError("`logits` must be finite, one for each label")
    require_both_classes(y_true)
    columns = [logits] if method == "temperature" else [logits, np.ones_like(logits)]
    found = fit_logistic(np.stack(columns, axis=1), _smooth(y_true))
    if found is None or found[0] <= 0:
        raise ValueError(
            "these pictures cannot calibrate: their scores do not rise with malignancy, and a "
            "calibration must not turn the order"
        )
    return Scaling(*map(float, found))


def _smooth(y_true):
    n_malignant, n_benign = y_true.sum(), (1 - y_true).sum()
    return np.where(y_true == 1, (n_malignant + 1) / (n_malignant + 2), 1 / (n_benign + 2))


def fit_logistic(design, targets, offset=0.0):
    """Fit a logistic regression by Newton's method, without a penalty.

    Args:
        design: float64 `(n, k)`.
        targets: float64 `(n,)`, 0–1.
        offset: Added to the logits, one number or `(n,)`.

    Returns:
        Coefficients, float64 `(k,)`; None where there are no finite ones, or many.

    Example:
        >>> fit_logistic(np.ones((4, 1)), np.array([0, 1, 1, 1.0])).round(4).tolist()  # ln 3
        [1.0986]
    """
    coefficients = np.zeros(design.shape[1])
    loss = _measure_loss(design, targets, offset, coefficients)
    for _ in range(MOST_STEPS):
        gradient, curvature = differentiate(design, targets, offset + design @ coefficients)
        curvature = curvature.sum(axis=0)
        if np.linalg.matrix_rank(curvature) < len(curvature):
            return None
        step = np.linalg.solve(curvature, gradient.sum(axis=0))
        while (after := _measure_loss(design, targets, offset, coefficients + step)) > loss:
            step = step / 2
            if np.abs(step).max() < SMALLEST_STEP:
                return coefficients
        coefficients, loss = coefficients + step, after
        if np.abs(step).max() < SMALLEST_STEP:
            return coefficients
    return None


def differentiate(design, targets, logits):
    """Differentiate the log likelihood of each case by the coefficients, once and twice.

    Args:
        design: float64 `(n, k)`.
        targets: float64 `(n,)`.
        logits: float64 `(n,)`.

    Returns:
        Gradients `(n, k)`, and the negative of the second derivatives `(n, k, k)`.

    Example:
        >>> [part.tolist() for part in differentiate(np.ones((1, 1)), np.ones(1), np.zeros(1))]
        [[[0.5]], [[[0.25]]]]
    """
    found = find_probabilities(logits)
    outer = design[:, :, None] * design[:, None, :]
    return design * (targets - found)[:, None], outer * (found * (1 - found))[:, None, None]


def _measure_loss(design, targets, offset, coefficients):
    logits = offset + design @ coefficients
    return np.sum(np.logaddexp(0, logits) - targets * logits)
