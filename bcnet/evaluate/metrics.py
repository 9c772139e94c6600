"""How good the answers are, with intervals that respect the patient.

Belongs here: metrics of labels and probabilities, their bootstrap, the choice of a threshold, and
the table that states them. Does not: reading, predicting, drawing.

Every metric of every bootstrap draw is read off one curve: the weighted true and false positives
as the threshold falls past each distinct score. A draw of patients is a weight for each picture,
so the pictures are sorted once for all draws.
"""

import numpy as np

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

THRESHOLD_RULE = "maximum balanced accuracy on validation patients"
"""What `choose_threshold` does, in the words stored beside its answer."""

PATIENTS_UNKNOWN = "image-level: patients unknown"
"""Why there are no patient metrics where the pictures come without patients."""

# An interval holds this share of the draws, and needs at least this share of them to be defined.
CONFIDENCE = 0.95

# float32 probabilities saturate at exactly 0 and 1; their logits must stay finite (here ±16.1).
SMALLEST_PROBABILITY = 1e-7

# Weights drawn at a time: 4 MB an array, whatever the number of pictures.
WEIGHTS_AT_ONCE = 2**19


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
    y_true, y_prob = _check_cases(y_true, y_prob)
    _check_numbers(threshold, draws)
    y_true, y_prob, groups = _sort_pictures(y_true, y_prob, patients)
    settings = {"threshold": threshold, "draws": draws, "seed": seed}
    reason = PATIENTS_UNKNOWN if patients is None else _find_mixed(y_true, groups)
    by_patient = None if reason else _merge_pictures(y_true, y_prob, groups)
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


def choose_threshold(y_true, y_prob):
    """Choose the threshold of maximum balanced accuracy.

    It lies midway between two neighbouring scores, never on one, so that rounding in the last
    digit flips no case. Of several gaps that are equally good the widest wins, and of equally
    wide ones the lowest, because a missed cancer costs more than a false alarm. Scores that tell
    nothing give half the lowest score: everything is called malignant.

    Args:
        y_true: Labels, shape `(n_cases,)`; 0 = benign, 1 = malignant; both must occur.
        y_prob: Probabilities of malignant, shape `(n_cases,)`, 0–1. From validation patients:
            a threshold chosen on the cases it is judged by flatters them.

    Returns:
        The threshold as a float; a case is called malignant when its probability is at least this.

    Raises:
        ValueError: An argument is empty, out of range, or only one class occurs.

    Example:
        >>> choose_threshold([0, 0, 1, 1], [0.125, 0.25, 0.5, 0.75])
        0.375
    """
    y_true, y_prob = _check_cases(y_true, y_prob)
    if y_true.min() == y_true.max():
        raise ValueError(f"`y_true` must hold both classes. Received: only {y_true[0]:.0f}")
    scores, hits, alarms = (counts[1:] for counts in trace_counts(y_true, y_prob))
    # Balanced accuracy times constants: whole numbers, so that equals compare as equal.
    merit = hits * alarms[-1] - alarms * hits[-1]
    below = np.append(scores[1:], 0)
    widths = np.where(merit == merit.max(), scores - below, -1)
    lowest_best = len(widths) - 1 - np.argmax(widths[::-1])
    low, high = below[lowest_best], scores[lowest_best]
    middle = (low + high) / 2
    return float(middle if middle > low else high)


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
    y_prob = _check_probabilities(y_prob)
    keys, groups = _number_patients(patients, len(y_prob))
    return keys, _average_logits(y_prob, groups)


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
    y_true = _check_labels(y_true)
    keys, groups = _number_patients(patients, len(y_true))
    if reason := _find_mixed(y_true, groups):
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
    y_true, y_prob, _ = _sort_pictures(*_check_cases(y_true, y_prob), None)
    hits, alarms = _weigh_counts(y_true, y_prob, np.ones((1, len(y_true))))
    return np.append(np.inf, np.unique(y_prob)[::-1]), hits[0], alarms[0]


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
    _check_numbers(0, draws)
    y_true, y_prob, groups = _sort_pictures(*_check_cases(y_true, y_prob), patients)
    rates = np.linspace(0, 1, 101)
    curves = []
    for weights in _draw_weights(groups, draws, seed):
        for hits, alarms in zip(*_weigh_counts(y_true, y_prob, weights), strict=True):
            if hits[-1] and alarms[-1]:
                curves.append(np.interp(rates, alarms / alarms[-1], hits / hits[-1]))
    if groups.max() == 0 or len(curves) < CONFIDENCE * draws:
        return None
    low, high = np.quantile(curves, _tails(), axis=0)
    return rates, low, high


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
    _check_numbers(0, draws)
    values = _check_vector("values", values)
    if not np.isfinite(values).all():
        raise ValueError(f"`values` must be finite. Received: {values[~np.isfinite(values)][0]}")
    groups = np.arange(len(values))
    if patients is not None:
        _, groups = _number_patients(patients, len(values))
    means = [
        weights @ values / weights.sum(axis=1) for weights in _draw_weights(groups, draws, seed)
    ]
    is_bound = groups.max() > 0
    ends = _bound(np.concatenate(means)) if is_bound else {"low": None, "high": None}
    return {"value": float(values.mean()), **ends}


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


def format_estimate(estimate):
    """Format one estimate of `evaluate` with its interval, as tables and figures state it.

    Args:
        estimate: `{"value", "low", "high"}`.

    Returns:
        The text; it says so where the value or the interval is undefined.

    Example:
        >>> format_estimate({"value": 0.9, "low": 0.8512, "high": 0.95})
        '0.900 [0.851, 0.950]'
    """
    if estimate["value"] is None:
        return "undefined"
    if estimate["low"] is None:
        return f"{estimate['value']:.3f} [no interval]"
    return "{value:.3f} [{low:.3f}, {high:.3f}]".format(**estimate)


def _estimate_metrics(y_true, y_prob, groups, *, threshold, draws, seed):
    """Measure every metric, and bound it by drawing whole groups of cases."""
    every_case_once = np.ones((1, len(y_true)))
    values = _measure(y_true, y_prob, every_case_once, threshold)[0]
    drawn = np.concatenate(
        [
            _measure(y_true, y_prob, weights, threshold)
            for weights in _draw_weights(groups, draws, seed)
        ]
    )
    if groups.max() == 0:
        drawn[:] = np.nan  # One patient, drawn again and again, tells nothing about others.
    return {
        name: {"value": None if np.isnan(value) else float(value), **_bound(samples)}
        for name, value, samples in zip(METRICS, values, drawn.T, strict=True)
    }


def _measure(y_true, y_prob, weights, threshold):
    """Measure all metrics, NaN where undefined, for each row of weights: `(draws, metrics)`."""
    hits, alarms = _weigh_counts(y_true, y_prob, weights)
    positives, negatives = hits[:, -1], alarms[:, -1]
    called = np.count_nonzero(np.diff(y_prob, append=-1)[y_prob >= threshold])  # distinct scores
    tp, fp = hits[:, called], alarms[:, called]
    gained = np.diff(hits)
    # Where nothing is called yet there are no hits either; 1 stands in for the empty count.
    precisions = hits[:, 1:] / np.maximum(hits[:, 1:] + alarms[:, 1:], 1)
    pairs = np.sum(np.diff(alarms) * (hits[:, 1:] + hits[:, :-1]) / 2, axis=1)
    with np.errstate(invalid="ignore"):  # 0 / 0 is how an undefined metric is told
        sensitivity, specificity = tp / positives, (negatives - fp) / negatives
        metrics = {
            "auc": pairs / (positives * negatives),
            "balanced_accuracy": (sensitivity + specificity) / 2,
            "sensitivity": sensitivity,
            "specificity": specificity,
            "accuracy": (tp + negatives - fp) / (positives + negatives),
            "precision": tp / (tp + fp),
            "f1": 2 * tp / (positives + tp + fp),
            "average_precision": np.sum(gained * precisions, axis=1) / positives,
        }
    return np.stack([metrics[name] for name in METRICS], axis=1)


def _weigh_counts(y_true, y_prob, weights):
    """Sum the weights of hits and alarms down to each distinct score of cases in falling order."""
    last_of_score = np.flatnonzero(np.diff(y_prob, append=-1))
    counts = []
    for weighted in (weights * y_true, weights * (1 - y_true)):
        sums = np.cumsum(weighted, axis=1)[:, last_of_score]
        counts.append(np.pad(sums, ((0, 0), (1, 0))))
    return counts


def _draw_weights(groups, draws, seed):
    """Yield blocks of how often each case was drawn, `(draws, cases)`, groups being drawn whole."""
    rng = np.random.default_rng(seed)
    n_groups = groups.max() + 1
    block = max(1, WEIGHTS_AT_ONCE // len(groups))
    for done in range(0, draws, block):
        size = min(block, draws - done)
        drawn = rng.integers(n_groups, size=(size, n_groups))
        drawn += np.arange(size)[:, None] * n_groups
        counts = np.bincount(drawn.ravel(), minlength=size * n_groups)
        yield counts.reshape(size, n_groups)[:, groups].astype(float)


def _bound(samples):
    defined = samples[~np.isnan(samples)]
    if len(defined) < CONFIDENCE * len(samples):
        return {"low": None, "high": None}
    low, high = np.quantile(defined, _tails())
    return {"low": float(low), "high": float(high)}


def _tails():
    return (1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2


def _sort_pictures(y_true, y_prob, patients):
    """Order pictures by falling score, ties by label and patient, and number their patients.

    One order for one set of pictures: whatever order they came in, the draws are the same. Without
    patients each picture is its own.
    """
    groups = np.zeros(len(y_true), int)
    if patients is not None:
        _, groups = _number_patients(patients, len(y_true))
    order = np.lexsort((groups, y_true, -y_prob))
    groups = np.arange(len(order)) if patients is None else groups[order]
    return y_true[order], y_prob[order], groups


def _merge_pictures(y_true, y_prob, groups):
    """Merge the pictures of each patient into one case, in falling order of score."""
    labels = np.bincount(groups, y_true) / np.bincount(groups)
    scores = _average_logits(y_prob, groups)
    return _sort_pictures(labels, scores, np.arange(len(labels)))


def _average_logits(y_prob, groups):
    y_prob = np.clip(y_prob, SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
    logits = np.log(y_prob) - np.log1p(-y_prob)
    return 1 / (1 + np.exp(-np.bincount(groups, logits) / np.bincount(groups)))


def _find_mixed(y_true, groups):
    """Say how many patients have pictures of both classes, or None if no one has."""
    positives, sizes = np.bincount(groups, y_true), np.bincount(groups)
    mixed = np.sum((positives > 0) & (positives < sizes))
    return f"{mixed} of {len(sizes)} patients have pictures of both classes" if mixed else None


def _measure_majority(y_true):
    return float(max(np.mean(y_true == 0), np.mean(y_true == 1)))


def _count_confusion(y_true, y_pred):
    return [[int(np.sum((y_true == i) & (y_pred == j))) for j in (0, 1)] for i in (0, 1)]


def _number_patients(patients, n_images):
    """Return the sorted keys and, for each picture, the place of its patient among them."""
    keys = list(patients)
    if len(keys) != n_images:
        raise ValueError(
            "`patients` must have one key per picture. "
            f"Received: {len(keys)} keys for {n_images} pictures"
        )
    for i, key in enumerate(keys):
        if key is None or key != key or key == "":
            raise ValueError(f"`patients` must have no empty key. Received: patients[{i}]={key!r}")
    return np.unique([str(key) for key in keys], return_inverse=True)


def _check_cases(y_true, y_prob):
    y_true, y_prob = _check_labels(y_true), _check_probabilities(y_prob)
    if len(y_true) != len(y_prob):
        raise ValueError(
            "`y_true` and `y_prob` must have the same length. "
            f"Received: {len(y_true)} labels and {len(y_prob)} probabilities"
        )
    return y_true, y_prob


def _check_labels(y_true):
    y_true = _check_vector("y_true", y_true)
    wrong = np.flatnonzero((y_true != 0) & (y_true != 1))
    if len(wrong):
        i = wrong[0]
        raise ValueError(
            "`y_true` must hold 0 (benign) and 1 (malignant) only. "
            f"Received: y_true[{i}]={y_true[i]:g}"
        )
    return y_true


def _check_probabilities(y_prob):
    y_prob = _check_vector("y_prob", y_prob)
    wrong = np.flatnonzero(~((y_prob >= 0) & (y_prob <= 1)))
    if len(wrong):
        i = wrong[0]
        raise ValueError(f"`y_prob` must be between 0 and 1. Received: y_prob[{i}]={y_prob[i]:g}")
    return y_prob


def _check_vector(name, values):
    """Return the values as float64, so that a threshold is compared in double precision."""
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or not len(values):
        raise ValueError(
            f"`{name}` must be one-dimensional and not empty. Received: shape={values.shape}"
        )
    return values


def _check_numbers(threshold, draws):
    if not 0 <= threshold <= 1:
        raise ValueError(f"`threshold` must be between 0 and 1. Received: threshold={threshold}")
    if draws < 1:
        raise ValueError(f"`draws` must be at least 1. Received: draws={draws}")
