"""How good answers are of which every patient has several: one from each repeat of the folds.

Belongs here: metrics of repeats, intervals over patients, paired differences. Does not: where the
answers come from (`nested`), and what the measures are (`bcnet.evaluate.paired`).

Five repeats of 569 patients are 569 patients, not 2,845. So a metric is that of one repeat,
averaged over the repeats, and a draw of the bootstrap takes a patient with all his answers: the
same patients in every repeat, and for every model. The answers of different repeats are never
merged into one score, which would judge a committee that nobody ships.
"""

import numpy as np

from bcnet.evaluate.cases import find_logits, find_probabilities
from bcnet.evaluate.paired import MEASURES, estimate

METRICS = (
    "auc",
    "accuracy",
    "balanced_accuracy",
    "sensitivity",
    "specificity",
    "f1",
    "brier",
    "ece",
)
"""The columns of the table of models, in its order."""

ANSWER_METRICS = ("accuracy", "balanced_accuracy", "sensitivity", "specificity", "f1")
"""Those that depend on the threshold."""


def sample_metrics(y_prob, bootstrap):
    """Measure every metric at a threshold of 0.5, on all patients and on every draw of them.

    Args:
        y_prob: Probabilities of malignant, float64 `(repeats, n_rows)`, 0–1.
        bootstrap: A `bcnet.evaluate.paired.Bootstrap` of the same rows.

    Returns:
        A dict from the names in `METRICS` to float64 `(1 + draws,)`: first the value, then that
        of each draw. Differences of two models are paired.

    Example:
        >>> from bcnet.evaluate.paired import Bootstrap
        >>> bootstrap = Bootstrap([0, 0, 1, 1], list("abcd"), draws=10)
        >>> y_prob = np.array([[0.1, 0.6, 0.4, 0.9], [0.1, 0.2, 0.8, 0.9]])
        >>> samples = sample_metrics(y_prob, bootstrap)
        >>> samples["auc"][0].item()  # the mean of 0.75 and 1
        0.875
    """
    measured = np.mean([bootstrap.measure(each, threshold=0.5) for each in y_prob], axis=0)
    samples = dict(zip(MEASURES, measured.T, strict=True))
    share = sample_share(bootstrap)
    hits, alarms = share * samples["sensitivity"], (1 - share) * (1 - samples["specificity"])
    return {
        name: samples[name] if name != "f1" else 2 * hits / (share + hits + alarms)
        for name in METRICS
    }


def sample_locked(y_prob, thresholds, bootstrap):
    """Measure what depends on the threshold, each fold being judged by its own.

    Args:
        y_prob: As for `sample_metrics`.
        thresholds: That of the fold which answered, float64 `(repeats, n_rows)`, between 0 and 1.
        bootstrap: As for `sample_metrics`.

    Returns:
        As `sample_metrics`, for the names in `ANSWER_METRICS`.
    """
    # Moving the logits by the logit of the threshold makes one of 0.5 of all of them.
    moved = find_probabilities(find_logits(y_prob) - find_logits(thresholds))
    samples = sample_metrics(moved, bootstrap)
    return {name: samples[name] for name in ANSWER_METRICS}


def sample_share(bootstrap):
    """Measure the share of malignant cases, in all and in every draw: float64 `(1 + draws,)`."""
    all_malignant = bootstrap.measure(np.ones(len(bootstrap.y_true)), threshold=0.5)
    return all_malignant[:, MEASURES.index("accuracy")]


def estimate_each(samples):
    """Give each of the samples as `{"value", "low", "high"}`, with its 95 % interval."""
    return {name: estimate(each) for name, each in samples.items()}


def estimate_differences(samples, reference):
    """Give the paired differences of two models, and say of each whether it is within noise.

    Args:
        samples: Of one model, from `sample_metrics`.
        reference: Of the other, on the same bootstrap.

    Returns:
        A dict from each name to `{"value", "low", "high", "within_noise"}`, samples − reference;
        `within_noise` is True unless the interval leaves out 0.

    Example:
        >>> same = {"auc": np.array([0.9, 0.8, 1.0])}
        >>> estimate_differences(same, same)["auc"]["within_noise"]
        True
    """
    differences = {name: estimate(each - reference[name]) for name, each in samples.items()}
    return {name: {**each, "within_noise": _holds_zero(each)} for name, each in differences.items()}


def _holds_zero(difference):
    return difference["low"] is None or difference["low"] <= 0 <= difference["high"]
