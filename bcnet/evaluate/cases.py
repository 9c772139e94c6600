"""What is judged: pictures or patients, checked, numbered, merged and put in order.

Belongs here: what every measure asks of its arrays. Does not: the measures, or their intervals.
"""

import numpy as np

PATIENTS_UNKNOWN = "image-level: patients unknown"
"""Why there are no patient metrics where the pictures come without patients."""

# float32 probabilities saturate at exactly 0 and 1; their logits must stay finite (here ±16.1).
SMALLEST_PROBABILITY = 1e-7


def check_cases(y_true, y_prob):
    """Check labels and probabilities, and that there are as many of the one as of the other.

    Args:
        y_true: Labels, shape `(n_cases,)`; 0 = benign, 1 = malignant.
        y_prob: Probabilities of malignant, shape `(n_cases,)`, 0–1.

    Returns:
        Both as float64.

    Raises:
        ValueError: An argument is empty, of another length or out of range.

    Example:
        >>> check_cases([0, 1], [0.25, 0.5])[1].tolist()
        [0.25, 0.5]
    """
    y_true, y_prob = check_labels(y_true), check_probabilities(y_prob)
    if len(y_true) != len(y_prob):
        raise ValueError(
            "`y_true` and `y_prob` must have the same length. "
            f"Received: {len(y_true)} labels and {len(y_prob)} probabilities"
        )
    return y_true, y_prob


def check_labels(y_true):
    """Return labels, shape `(n_cases,)`, as float64; raise `ValueError` unless all are 0 or 1."""
    y_true = check_vector("y_true", y_true)
    wrong = np.flatnonzero((y_true != 0) & (y_true != 1))
    if len(wrong):
        i = wrong[0]
        raise ValueError(
            "`y_true` must hold 0 (benign) and 1 (malignant) only. "
            f"Received: y_true[{i}]={y_true[i]:g}"
        )
    return y_true


def check_probabilities(y_prob):
    """Return probabilities, shape `(n_cases,)`, as float64; raise `ValueError` outside 0–1."""
    y_prob = check_vector("y_prob", y_prob)
    wrong = np.flatnonzero(~((y_prob >= 0) & (y_prob <= 1)))
    if len(wrong):
        i = wrong[0]
        raise ValueError(f"`y_prob` must be between 0 and 1. Received: y_prob[{i}]={y_prob[i]:g}")
    return y_prob


def check_vector(name, values):
    """Return values as float64, so that a threshold is compared in double precision.

    Args:
        name: Of the argument, for the message.
        values: Numbers, shape `(n,)`.

    Raises:
        ValueError: They are not one-dimensional, or there are none.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or not len(values):
        raise ValueError(
            f"`{name}` must be one-dimensional and not empty. Received: shape={values.shape}"
        )
    return values


def require_both_classes(y_true):
    """Raise `ValueError` unless both classes occur among checked labels."""
    if y_true.min() == y_true.max():
        raise ValueError(f"`y_true` must hold both classes. Received: only {y_true[0]:.0f}")


def number_patients(patients, n_images):
    """Return the sorted keys and, for each picture, the place of its patient among them.

    Args:
        patients: One key per picture, shape `(n_images,)`, compared as strings.
        n_images: How many pictures there are.

    Returns:
        Keys, shape `(n_patients,)`, and int `(n_images,)`.

    Raises:
        ValueError: There are more or fewer keys than pictures, or one is empty.

    Example:
        >>> number_patients(["bea", "anna", "bea"], 3)[1].tolist()
        [1, 0, 1]
    """
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


def group_cases(patients, n_cases):
    """Number the patient of each case; without patients each case is its own.

    Args:
        patients: One key per case, shape `(n_cases,)`, as for `number_patients`; or None.
        n_cases: How many cases there are.

    Returns:
        int `(n_cases,)`, from 0 without gaps.

    Raises:
        ValueError: As in `number_patients`.

    Example:
        >>> group_cases(["bea", "anna", "bea"], 3).tolist(), group_cases(None, 2).tolist()
        ([1, 0, 1], [0, 1])
    """
    return np.arange(n_cases) if patients is None else number_patients(patients, n_cases)[1]


def sort_pictures(y_true, y_prob, patients):
    """Order pictures by falling score, ties by label and patient, and number their patients.

    One order for one set of pictures: whatever order they came in, the draws are the same. Without
    patients each picture is its own.

    Args:
        y_true: Labels, float64 `(n_images,)`.
        y_prob: Probabilities of malignant, float64 `(n_images,)`.
        patients: One key per picture, or None.

    Returns:
        Labels, probabilities and the number of each picture's patient, in that order.

    Example:
        >>> sort_pictures(np.array([0, 1]), np.array([0.2, 0.9]), ["anna", "bea"])[2].tolist()
        [1, 0]
    """
    groups = np.zeros(len(y_true), int)
    if patients is not None:
        _, groups = number_patients(patients, len(y_true))
    order = np.lexsort((groups, y_true, -y_prob))
    groups = np.arange(len(order)) if patients is None else groups[order]
    return y_true[order], y_prob[order], groups


def merge_pictures(y_true, y_prob, groups):
    """Merge the pictures of each patient into one case, in falling order of score.

    Args:
        y_true: Labels, float64 `(n_images,)`, the same for all pictures of a patient.
        y_prob: Probabilities of malignant, float64 `(n_images,)`.
        groups: The number of each picture's patient, int `(n_images,)`.

    Returns:
        As `sort_pictures`, a case for each patient.

    Example:
        >>> merge_pictures(np.ones(2), np.array([0.8, 0.5]), np.zeros(2, int))[1].round(6).tolist()
        [0.666667]
    """
    labels = np.bincount(groups, y_true) / np.bincount(groups)
    scores = average_logits(y_prob, groups)
    return sort_pictures(labels, scores, np.arange(len(labels)))


def average_logits(y_prob, groups):
    """Average the logits of each patient's pictures, and return them as a probability.

    Args:
        y_prob: Probabilities of malignant, float64 `(n_images,)`.
        groups: The number of each picture's patient, int `(n_images,)`.

    Returns:
        float64 `(n_patients,)`.
    """
    return find_probabilities(np.bincount(groups, find_logits(y_prob)) / np.bincount(groups))


def find_logits(y_prob):
    """Find the logits of probabilities, clipped to 1e-7 … 1 − 1e-7 so that they stay finite.

    Example:
        >>> find_logits([0.5, 1.0]).round(2).tolist()
        [0.0, 16.12]
    """
    y_prob = np.clip(y_prob, SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
    return np.log(y_prob) - np.log1p(-y_prob)


def find_probabilities(logits):
    """Find the probabilities of logits.

    Example:
        >>> find_probabilities(np.array([-800.0, 0.0])).tolist()
        [0.0, 0.5]
    """
    return np.exp(-np.logaddexp(0, -logits))


def find_mixed(y_true, groups):
    """Say how many patients have pictures of both classes, or None if no one has.

    Args:
        y_true: Labels, float64 `(n_images,)`.
        groups: The number of each picture's patient, int `(n_images,)`.

    Example:
        >>> find_mixed(np.array([0, 1]), np.array([0, 0]))
        '1 of 1 patients have pictures of both classes'
    """
    positives, sizes = np.bincount(groups, y_true), np.bincount(groups)
    mixed = np.sum((positives > 0) & (positives < sizes))
    return f"{mixed} of {len(sizes)} patients have pictures of both classes" if mixed else None
