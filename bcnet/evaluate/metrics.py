"""How good the answers are, with intervals that respect the patient.

Belongs here: metrics of labels and answers, and the table that states them. Does not: how far a
probability can be taken at its word (`calibration`), reading, predicting, drawing.

Every metric of every bootstrap draw is read off one curve: the weighted true and false positives
as the threshold falls past each distinct score. A draw of patients is a weight for each picture,
so the pictures are sorted once for all draws.
"""

import numpy as np

from bcnet.evaluate.bootstrap import (
    CONFIDENCE,
    TAILS,
    bound_measures,
    check_draws,
    draw_weights,
)
from bcnet.evaluate.cases import (
    PATIENTS_UNKNOWN,
    average_logits,
    check_cases,
    check_labels,
    check_probabilities,
    check_vector,
    find_mixed,
    group_cases,
    merge_pictures,
    number_patients,
    sort_pictures,
)

METRICS = (
    "auc",
    "balanced_accuracy",
    "sensitivity",
    "specificity",
    "accuracy",
    "precision",
    "f1",
    "average_precision",
)
"""The metrics, by the only names and in the only order used for them."""


def evaluate(y_true, y_prob, *, patients=None, threshold=0.5, draws=2000, seed=0):
    """Judge probabilities against the truth, by picture and by patient.

    Pictures of one patient resemble each other, so the 95 % percentile intervals come from drawing
    patients with all their pictures, never single pictures. Patient metrics exist only where every
    patient has one label; his score is that of `score_patients`, judged by the same threshold.

    A metric is undefined (None) where its denominator is empty: AUC and balanced accuracy without
    both classes, sensitivity and average precision without malignant cases, specificity without
    benign ones, precision when nothing is called malignant, F1 when nothing is or is called so.
    Draws that leave a metric undefined do not enter its interval; when more than 5 % do, or when
    there is only one patient to draw, it has none. A perfect score gets an interval of width zero:
    that is what the draws saw, not certainty.

    Args:
        y_true: Labels, shape `(n_images,)`; 0 = benign, 1 = malignant.
        y_prob: Probabilities of malignant, shape `(n_images,)`, 0–1.
        patients: One key per picture, shape `(n_images,)`, compared as strings; None when they
            are unknown, and pictures are drawn instead.
        threshold: A case is called malignant when its probability is at least this; 0–1.
        draws: Number of bootstrap draws.
        seed: Same seed, same intervals, whatever the order of the pictures.

    Returns:
        A dict that JSON can hold: `n_images`; `n_patients`, None when unknown; `threshold`;
        `majority_accuracy` of always naming the larger class; `confusion_matrix`
        `[[tn, fp], [fn, tp]]` of the pictures; `image` and `patient`, each a dict from the names
        in `METRICS` to `{"value", "low", "high"}`; `patient_majority_accuracy`. Where there are
        no patient metrics, both patient entries are None and `patient_reason` says why.

    Raises:
        ValueError: An argument is empty, of another length or outside its range.

    Example:
        >>> result = evaluate([0, 0, 1, 1], [0.1, 0.6, 0.4, 0.9])
        >>> result["confusion_matrix"], result["image"]["auc"]["value"]
        ([[1, 1], [1, 1]], 0.75)
    """
    y_true, y_prob = check_cases(y_true, y_prob)
    check_threshold(threshold)
    check_draws(draws)
    y_true, y_prob, groups = sort_pictures(y_true, y_prob, patients)
    settings = {"threshold": threshold, "draws": draws, "seed": seed}
    reason = PATIENTS_UNKNOWN if patients is None else find_mixed(y_true, groups)
    by_patient = None if reason else merge_pictures(y_true, y_prob, groups)
    return {
        "n_images": len(y_true),
        "n_patients": None if patients is None else int(groups.max()) + 1,
        "threshold": float(threshold),
        "majority_accuracy": _measure_majority(y_true),
        "confusion_matrix": _count_confusion(y_true, y_prob >= threshold),
        "image": _estimate_metrics(y_true, y_prob, groups, **settings),
        "patient": by_patient and _estimate_metrics(*by_patient, **settings),
        "patient_majority_accuracy": by_patient and _measure_majority(by_patient[0]),
        "patient_reason": reason,
    }


def score_patients(y_prob, patients):
    """Score each patient by the mean of the logits of his pictures.

    The logit, not the probability, because evidence from independent pictures adds there; the
    probability is clipped to 1e-7 … 1 − 1e-7 first, so that one saturated picture stays finite.

    Args:
        y_prob: Probabilities of malignant, shape `(n_images,)`, 0–1.
        patients: One key per picture, shape `(n_images,)`, compared as strings.

    Returns:
        The sorted keys, shape `(n_patients,)`, and their probabilities, float64 `(n_patients,)`.

    Raises:
        ValueError: An argument is empty, of another length, out of range, or a key is missing.

    Example:
        >>> keys, scores = score_patients([0.8, 0.5, 0.25], ["anna", "anna", "bea"])
        >>> keys.tolist(), scores.round(6).tolist()  # odds of anna: sqrt(4 × 1) = 2
        (['anna', 'bea'], [0.666667, 0.25])
    """
    y_prob = check_probabilities(y_prob)
    keys, groups = number_patients(patients, len(y_prob))
    return keys, average_logits(y_prob, groups)


def label_patients(y_true, patients):
    """Give each patient the one label of all his pictures.

    Args:
        y_true: Labels, shape `(n_images,)`; 0 = benign, 1 = malignant.
        patients: One key per picture, shape `(n_images,)`, compared as strings.

    Returns:
        The sorted keys, shape `(n_patients,)`, and their labels, float64 `(n_patients,)`: the
        order of `score_patients`.

    Raises:
        ValueError: As in `score_patients`, or a patient has pictures of both classes.

    Example:
        >>> label_patients([1, 1, 0], ["anna", "anna", "bea"])[1].tolist()
        [1.0, 0.0]
    """
    y_true = check_labels(y_true)
    keys, groups = number_patients(patients, len(y_true))
    if reason := find_mixed(y_true, groups):
        raise ValueError(f"Every patient must have one label. Received: {reason}")
    return keys, np.bincount(groups, y_true) / np.bincount(groups)


def trace_counts(y_true, y_prob):
    """Count true and false positives as the threshold falls past each distinct score.

    ROC and precision–recall curves are ratios of these counts.

    Args:
        y_true: Labels, shape `(n_cases,)`; 0 = benign, 1 = malignant.
        y_prob: Probabilities of malignant, shape `(n_cases,)`, 0–1.

    Returns:
        Thresholds in falling order, the first infinite: nothing is called malignant; true
        positives; false positives. Each float64, shape `(n_distinct + 1,)`.

    Raises:
        ValueError: An argument is empty, of another length or out of range.

    Example:
        >>> [counts.tolist() for counts in trace_counts([0, 1, 1], [0.2, 0.2, 0.9])]
        [[inf, 0.9, 0.2], [0.0, 1.0, 2.0], [0.0, 0.0, 1.0]]
    """
    y_true, y_prob, _ = sort_pictures(*check_cases(y_true, y_prob), None)
    hits, alarms = weigh_counts(y_true, y_prob, np.ones((1, len(y_true))))
    return np.append(np.inf, np.unique(y_prob)[::-1]), hits[0], alarms[0]


def weigh_counts(y_true, y_prob, weights):
    """Sum the weights of hits and alarms down to each distinct score.

    Args:
        y_true: Labels, float64 `(n_cases,)`, in the order of the scores.
        y_prob: Probabilities of malignant, float64 `(n_cases,)`, falling.
        weights: How often each case counts, `(draws, n_cases)`.

    Returns:
        Weighted true positives and weighted false positives, each `(draws, n_distinct + 1)`; the
        first column is 0, as nothing is called malignant there.

    Example:
        >>> hits, alarms = weigh_counts(np.array([1, 0]), np.array([0.9, 0.2]), np.array([[3, 1]]))
        >>> hits.tolist(), alarms.tolist()
        ([[0, 3, 3]], [[0, 0, 1]])
    """
    last_of_score = np.flatnonzero(np.diff(y_prob, append=-1))
    counts = []
    for weighted in (weights * y_true, weights * (1 - y_true)):
        sums = np.cumsum(weighted, axis=1)[:, last_of_score]
        counts.append(np.pad(sums, ((0, 0), (1, 0))))
    return counts


def bound_roc(y_true, y_prob, *, patients=None, draws=2000, seed=0):
    """Bound the ROC curve by the bootstrap of `evaluate`, pointwise at 95 %.

    Args:
        y_true: Labels, shape `(n_images,)`; 0 = benign, 1 = malignant.
        y_prob: Probabilities of malignant, shape `(n_images,)`, 0–1.
        patients: One key per picture, shape `(n_images,)`; None draws pictures.
        draws: Number of bootstrap draws; those without both classes are left out.
        seed: Same seed, same band.

    Returns:
        False positive rates, 101 of them from 0 to 1, and the lowest and highest sensitivity
        there, each float64 `(101,)`; None when the draws do not bound it, as in `evaluate`.

    Raises:
        ValueError: As in `evaluate`.

    Example:
        >>> rates, low, high = bound_roc([0, 1] * 10, [0.2, 0.9] * 10)
        >>> float(low.min()), float(high.max())  # told apart in every draw
        (1.0, 1.0)
    """
    check_draws(draws)
    y_true, y_prob, groups = sort_pictures(*check_cases(y_true, y_prob), patients)
    rates = np.linspace(0, 1, 101)
    curves = []
    for weights in draw_weights(groups, draws, seed):
        for hits, alarms in zip(*weigh_counts(y_true, y_prob, weights), strict=True):
            if hits[-1] and alarms[-1]:
                curves.append(np.interp(rates, alarms / alarms[-1], hits / hits[-1]))
    if groups.max() == 0 or len(curves) < CONFIDENCE * draws:
        return None
    low, high = np.quantile(curves, TAILS, axis=0)
    return rates, low, high


def bound_auc_within(y_true, y_prob, networks, *, patients=None, draws=2000, seed=0):
    """Estimate the AUC of the pairs of cases that the same network has judged.

    The networks of a cross-validation have scales of their own, so the AUC of their pooled scores
    is usually lower than what they reach on average (Airola et al. 2011,
    doi:10.1016/j.csda.2010.11.018). This is the mean of their AUCs, weighted by their numbers of
    pairs of a benign and a malignant case.

    Args:
        y_true: Labels, shape `(n_cases,)`; 0 = benign, 1 = malignant.
        y_prob: Probabilities of malignant, shape `(n_cases,)`, 0–1.
        networks: Which network has judged each case, shape `(n_cases,)`.
        patients: One key per case, shape `(n_cases,)`; None draws cases.
        draws: Number of bootstrap draws.
        seed: Same seed, same interval.

    Returns:
        `{"value", "low", "high"}` as in `evaluate`.

    Raises:
        ValueError: As in `evaluate`.

    Example:
        >>> bound_auc_within([0, 1, 0, 1], [0.1, 0.2, 0.8, 0.9], ["a", "a", "b", "b"])["value"]
        1.0
    """
    check_draws(draws)
    y_true, y_prob = check_cases(y_true, y_prob)
    networks = np.asarray(networks)
    if networks.shape != y_true.shape:
        raise ValueError(
            f"`networks` must name one for each of {len(y_true)} cases. "
            f"Received: shape {networks.shape}"
        )
    groups = group_cases(patients, len(y_true))
    order = np.argsort(-y_prob)
    parts = [order[networks[order] == name] for name in np.unique(networks)]

    def measure(weights):
        counts = [weigh_counts(y_true[rows], y_prob[rows], weights[:, rows]) for rows in parts]
        won = sum(_count_won(*each) for each in counts)
        pairs = sum(hits[:, -1] * alarms[:, -1] for hits, alarms in counts)
        with np.errstate(invalid="ignore"):  # 0 / 0: undefined
            return (won / pairs)[:, None]

    return bound_measures(["auc"], measure, groups, draws=draws, seed=seed)["auc"]


def bound_mean(values, *, patients=None, draws=2000, seed=0):
    """Average a measure of pictures, with the interval of the bootstrap of `evaluate`.

    Args:
        values: A finite number for each picture, shape `(n_images,)`.
        patients: One key per picture, shape `(n_images,)`; None draws pictures.
        draws: Number of bootstrap draws.
        seed: Same seed, same interval.

    Returns:
        `{"value", "low", "high"}` as in `evaluate`: the mean over pictures, and its 95 %
        percentile interval; None for the ends where there is only one patient to draw.

    Raises:
        ValueError: An argument is empty, of another length, or a value is not finite.

    Example:
        >>> bound_mean([1, 3, 8], patients=["anna", "anna", "bea"])
        {'value': 4.0, 'low': 2.0, 'high': 8.0}
    """
    check_draws(draws)
    values = check_vector("values", values)
    if not np.isfinite(values).all():
        raise ValueError(f"`values` must be finite. Received: {values[~np.isfinite(values)][0]}")
    groups = group_cases(patients, len(values))

    def measure(weights):
        return (weights @ values / weights.sum(axis=1))[:, None]

    return bound_measures(["mean"], measure, groups, draws=draws, seed=seed)["mean"]


def format_metrics(result):
    """Format the result of `evaluate` as a table for the terminal.

    Args:
        result: What `evaluate` returned; further entries are ignored.

    Returns:
        A text of several lines without a final newline: n, a line per metric with its interval by
        picture and, where it exists, by patient, the majority baseline under the accuracy, and how
        to read it.

    Example:
        >>> text = format_metrics(evaluate([0, 0, 1, 1], [0.1, 0.6, 0.4, 0.9]))
        >>> text.splitlines()[0].split()
        ['4', 'pictures']
    """
    units = ["image"] + ["patient"] * (result["patient"] is not None)
    sizes = [f"{result['n_images']:,} pictures", f"{result['n_patients'] or 0:,} patients"]
    rows = [["", *sizes[: len(units)]]]
    for name in METRICS:
        rows.append([name.replace("_", " "), *(format_estimate(result[u][name]) for u in units)])
        if name == "accuracy":
            baselines = [result["majority_accuracy"], result["patient_majority_accuracy"]]
            rows.append(
                ["  majority class", *(f"{share:.3f}" for share in baselines[: len(units)])]
            )
    drawn = "pictures" if result["n_patients"] is None else f"{result['n_patients']:,} patients"
    notes = [
        f"malignant = positive, from {result['threshold']:.3g} on; "
        f"95 % intervals from a bootstrap over {drawn}"
    ]
    if result["patient"] is None:
        notes.append(f"no patient metrics: {result['patient_reason']}")
    table = ["  ".join(f"{cell:<21}" for cell in row).rstrip() for row in rows]
    return "\n".join([*table, *notes])


def format_estimate(estimate, digits=3):
    """Format one estimate of `evaluate` with its interval, as tables and figures state it.

    Args:
        estimate: `{"value", "low", "high"}`.
        digits: How many stand behind the point.

    Returns:
        The text; it says so where the value or the interval is undefined.

    Example:
        >>> format_estimate({"value": 0.9, "low": 0.8512, "high": 0.95})
        '0.900 [0.851, 0.950]'
    """
    if estimate["value"] is None:
        return "undefined"
    if estimate["low"] is None:
        return f"{estimate['value']:.{digits}f} [no interval]"
    value, low, high = (f"{estimate[name]:.{digits}f}" for name in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def _estimate_metrics(y_true, y_prob, groups, *, threshold, draws, seed):
    """Measure every metric, and bound it by drawing whole groups of cases."""

    def measure(weights):
        return _measure(y_true, y_prob, weights, threshold)

    return bound_measures(METRICS, measure, groups, draws=draws, seed=seed)


def _measure(y_true, y_prob, weights, threshold):
    """Measure all metrics, NaN where undefined, for each row of weights: `(draws, metrics)`."""
    hits, alarms = weigh_counts(y_true, y_prob, weights)
    positives, negatives = hits[:, -1], alarms[:, -1]
    called = np.count_nonzero(np.diff(y_prob, append=-1)[y_prob >= threshold])  # distinct scores
    tp, fp = hits[:, called], alarms[:, called]
    gained = np.diff(hits)
    # Where nothing is called yet there are no hits either; 1 stands in for the empty count.
    precisions = hits[:, 1:] / np.maximum(hits[:, 1:] + alarms[:, 1:], 1)
    with np.errstate(invalid="ignore"):  # 0 / 0 is how an undefined metric is told
        sensitivity, specificity = tp / positives, (negatives - fp) / negatives
        metrics = {
            "auc": _count_won(hits, alarms) / (positives * negatives),
            "balanced_accuracy": (sensitivity + specificity) / 2,
            "sensitivity": sensitivity,
            "specificity": specificity,
            "accuracy": (tp + negatives - fp) / (positives + negatives),
            "precision": tp / (tp + fp),
            "f1": 2 * tp / (positives + tp + fp),
            "average_precision": np.sum(gained * precisions, axis=1) / positives,
        }
    return np.stack([metrics[name] for name in METRICS], axis=1)


def _count_won(hits, alarms):
    """Count the pairs in which the malignant case has the higher score; a tie is half of one."""
    return np.sum(np.diff(alarms) * (hits[:, 1:] + hits[:, :-1]) / 2, axis=1)


def check_threshold(threshold):
    """Return `threshold` as a float if it is a probability, else raise `ValueError`."""
    if not 0 <= threshold <= 1:
        raise ValueError(f"`threshold` must be between 0 and 1. Received: threshold={threshold}")
    return float(threshold)


def _measure_majority(y_true):
    return float(max(np.mean(y_true == 0), np.mean(y_true == 1)))


def _count_confusion(y_true, y_pred):
    return [[int(np.sum((y_true == i) & (y_pred == j))) for j in (0, 1)] for i in (0, 1)]
