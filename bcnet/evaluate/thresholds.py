"""Where malignant begins: a threshold chosen by a rule that can be stated and defended.

Belongs here: the rules, what they reach, and how much so few patients can show. Does not: which
cases choose; they must not be those that judge.
"""

import math

import numpy as np

from bcnet.config import THRESHOLD_RULES
from bcnet.evaluate.bootstrap import CONFIDENCE
from bcnet.evaluate.cases import check_cases, check_labels, number_patients, require_both_classes
from bcnet.evaluate.metrics import trace_counts

# What `target` means to the rules that have one: its name, and what it may be.
TARGETS = {
    "fixed": ("the threshold itself", lambda target: 0 < target < 1),
    "cost": ("how many false alarms one miss weighs", lambda target: target > 0),
    "sensitivity": ("the share of malignant cases to find", lambda target: 0 < target < 1),
    "specificity": ("the share of benign cases to pass", lambda target: 0 < target < 1),
}

WORDS = {
    "youden": "maximum balanced accuracy",
    "f1": "maximum F1",
    "fixed": "{:g}, fixed beforehand",
    "cost": "least cost, a miss weighing {:g} false alarms",
    "sensitivity": "sensitivity of at least {:g}",
    "specificity": "specificity of at least {:g}",
}


def choose_threshold(y_true, y_prob, *, rule="youden", target=None):
    """Choose the threshold that a rule finds best.

    It lies midway between two neighbouring scores, never on one, so that rounding in the last
    digit flips no case. Of several gaps that are equally good the widest wins, and of equally
    wide ones the lowest, because a missed cancer costs more than a false alarm. Scores that tell
    nothing give half the lowest score: everything is called malignant.

    A sensitivity is reached with as few false alarms as possible, a specificity with as few
    misses. Either is what these cases say; new ones will be above or below it.

    Args:
        y_true: Labels, shape `(n_cases,)`; 0 = benign, 1 = malignant; both must occur.
        y_prob: Probabilities of malignant, shape `(n_cases,)`, 0–1. From validation patients, or
            each from a model that has not seen the patient: a threshold chosen on the cases it
            is judged by flatters them.
        rule: "youden" (maximum of sensitivity + specificity), "fixed", "f1", "cost",
            "sensitivity" or "specificity".
        target: What `TARGETS` says for the rule; None for the rules that have none.

    Returns:
        The threshold as a float; a case is called malignant when its probability is at least this.

    Raises:
        ValueError: An argument is empty or out of range, only one class occurs, or no threshold
            has that specificity and finds anything.

    Example:
        >>> choose_threshold([0, 0, 1, 1], [0.125, 0.25, 0.5, 0.75])
        0.375
        >>> choose_threshold([0, 1, 0, 1], [0, 0.25, 0.5, 1], rule="specificity", target=0.9)
        0.75
    """
    check_rule(rule, target)
    y_true, y_prob = check_cases(y_true, y_prob)
    require_both_classes(y_true)
    if rule == "fixed":
        return float(target)
    scores, hits, alarms = (counts[1:] for counts in trace_counts(y_true, y_prob))
    merit = _rate_thresholds(rule, target, hits, alarms)
    if merit.max() == -np.inf:
        raise ValueError(
            f"no threshold has a specificity of {target:g} and calls anything malignant; the "
            f"largest is {1 - alarms[0] / alarms[-1]:.3g}"
        )
    return _place_threshold(scores, merit)


def _rate_thresholds(rule, target, hits, alarms):
    """Rate each threshold; of the numbers that are compared, equals are equal to the last digit."""
    n_malignant, n_benign = hits[-1], alarms[-1]
    if rule == "youden":
        return hits * n_benign - alarms * n_malignant
    if rule == "f1":
        return 2 * hits / (n_malignant + hits + alarms)
    if rule == "cost":
        return target * hits - alarms
    if rule == "sensitivity":
        return np.where(hits / n_malignant >= target, hits - alarms * (n_malignant + 1), -np.inf)
    passed = (n_benign - alarms) / n_benign
    return np.where(passed >= target, hits * (n_benign + 1) - alarms, -np.inf)


def _place_threshold(scores, merit):
    below = np.append(scores[1:], 0)
    widths = np.where(merit == merit.max(), scores - below, -1)
    lowest_best = len(widths) - 1 - np.argmax(widths[::-1])
    low, high = below[lowest_best], scores[lowest_best]
    middle = (low + high) / 2
    return float(middle if middle > low else high)


def check_rule(rule, target):
    """Raise `ValueError` unless the rule is known and the target is one of that rule's.

    Args:
        rule: One of `bcnet.config.THRESHOLD_RULES`.
        target: As for `choose_threshold`.
    """
    if rule not in THRESHOLD_RULES:
        allowed = ", ".join(THRESHOLD_RULES)
        raise ValueError(f"`threshold_rule` must be one of {allowed}. Received: {rule!r}")
    if rule not in TARGETS:
        if target is not None:
            raise ValueError(f"`target` is for {', '.join(TARGETS)}. Received: {target} for {rule}")
        return
    meaning, is_allowed = TARGETS[rule]
    if target is None or not (math.isfinite(target) and is_allowed(target)):
        bounds = "above 0" if rule == "cost" else "between 0 and 1"
        raise ValueError(
            f"`target` must be {meaning}, {bounds}, for the rule {rule}. Received: {target}"
        )


def require_showable(y_true, *, rule, target, patients=None):
    """Refuse a sensitivity or specificity that so few patients cannot show.

    Even if not one of n patients were missed, a share of 0.05 ** (1 / n) is all they show with
    95 % confidence (Clopper and Pearson 1934). Pictures of one patient resemble each other, so
    patients with a picture of the class are counted; pictures where patients are unknown.

    Args:
        y_true: Labels of the pictures that are to choose, shape `(n_images,)`.
        rule: As for `choose_threshold`; the other rules promise no share.
        target: As for `choose_threshold`.
        patients: One key per picture, or None.

    Raises:
        ValueError: Naming the largest target that can be shown, and how many would show this one.

    Example:
        >>> require_showable([1] * 59, rule="sensitivity", target=0.95)  # 0.05 ** (1 / 59) = 0.9505
    """
    check_rule(rule, target)
    if rule not in ("sensitivity", "specificity"):
        return
    label = 1 if rule == "sensitivity" else 0
    count = count_units(y_true, patients)[label]
    largest = find_largest_target(count)
    if target > largest:
        units = "pictures" if patients is None else "patients"
        kind = "malignant" if label else "benign"
        needed = math.ceil(math.log(1 - CONFIDENCE) / math.log(target))
        raise ValueError(
            f"a {rule} of {target:g} cannot be shown by {count} {kind} {units}: {largest:.3f} at "
            f"most, if they are all answered rightly; {needed} are needed"
        )


def find_largest_target(count):
    """Find the largest share that `count` cases can show, if all of them are answered rightly.

    Example:
        >>> round(find_largest_target(33), 3)
        0.913
    """
    return (1 - CONFIDENCE) ** (1 / count) if count else 0.0


def count_units(y_true, patients=None):
    """Count the independent cases of each class: patients with a picture of it, else pictures.

    Args:
        y_true: Labels, shape `(n_images,)`.
        patients: One key per picture; None when they are unknown.

    Returns:
        `(benign, malignant)`; a patient with pictures of both counts in both.

    Example:
        >>> count_units([0, 1, 1, 1], ["anna", "anna", "anna", "bea"])
        (1, 2)
    """
    y_true = check_labels(y_true)
    groups = np.arange(len(y_true))
    if patients is not None:
        _, groups = number_patients(patients, len(y_true))
    return tuple(len(np.unique(groups[y_true == label])) for label in (0, 1))


def describe_rule(rule, target=None):
    """Describe a rule in the words that are stored beside its threshold.

    Example:
        >>> describe_rule("sensitivity", 0.95)
        'sensitivity of at least 0.95'
    """
    return WORDS[rule].format(target)
