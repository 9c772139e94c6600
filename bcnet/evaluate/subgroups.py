"""Whether a model serves all alike: its measures within subgroups, and the largest gap.

Belongs here: measuring the values of one column against each other. Does not: what the column
means, or how it was read.
"""

from itertools import combinations

import numpy as np

from bcnet.evaluate.bootstrap import CONFIDENCE
from bcnet.evaluate.metrics import format_estimate
from bcnet.evaluate.paired import MEASURES, estimate

COMPARED = ("auc", "balanced_accuracy", "sensitivity", "specificity")
"""What is measured in each subgroup."""

# With nine, not one of whom is missed, up to 28 % may be: 1 − 0.05 ** (1 / 9).
FEWEST_PATIENTS = 10

# More rows than that are no table, and their largest gap is one of hundreds.
MOST_SUBGROUPS = 20

TOO_FEW = "too few to tell"
"""Stands where a measure rests on fewer than `FEWEST_PATIENTS` of a class that it needs."""

UNTOLD = "not told"
"""The subgroup of pictures for which the column is empty."""

_NEEDS = {"sensitivity": [1], "specificity": [0]}  # the labels; all else needs both


def measure_subgroups(y_prob, values, bootstrap, *, threshold=0.5):
    """Measure a model within each subgroup, and the largest gap between two of them.

    All subgroups are measured on the same draws of patients, so that a gap is paired where the
    subgroups share patients, as magnifications do, and not where they do not, as laboratories do.
    A measure stands only where there are ten patients of each class that it needs (ten pictures,
    where patients are unknown). The largest gap is the largest of several: its interval is
    widened for as many as were looked at (Bonferroni), and holds with 95 % for all of them.

    Args:
        y_prob: Probabilities of malignant, `(n_images,)`, 0–1.
        values: The subgroup of each picture, `(n_images,)`; None or NaN where it is not told.
        bootstrap: The truth and the draws, of the same pictures.
        threshold: A case is called malignant from this probability on.

    Returns:
        A dict that JSON can hold: `unit`; `subgroups`, sorted, each a dict of `value` (text),
        `n_images`, `n_patients` (None when unknown), `n_benign` and `n_malignant` (patients with
        such pictures, else pictures), and for each name in `COMPARED` an estimate or the text
        `TOO_FEW`; `largest_gaps`, for each name an estimate with `between`, two values, the
        higher first; None where fewer than two subgroups can be told.

    Raises:
        ValueError: `values` is of another length, or has more than 20 different ones.

    Example:
        >>> from bcnet.evaluate.paired import Bootstrap
        >>> labels, laboratories = [0, 1] * 20, ["a"] * 20 + ["b"] * 20
        >>> scores = [0.1, 0.9] * 10 + [0.1, 0.2] * 10
        >>> result = measure_subgroups(scores, laboratories, Bootstrap(labels))
        >>> result["largest_gaps"]["sensitivity"]["value"]
        1.0
    """
    values = _name_values(values, len(bootstrap.y_true))
    names = sorted(set(values), key=_order)
    if len(names) > MOST_SUBGROUPS:
        raise ValueError(
            f"a column must have at most {MOST_SUBGROUPS} different values to make subgroups; "
            f"ages and dates must be put into bands. Received: {len(names)}"
        )
    rows = {name: np.flatnonzero(values == name) for name in names}
    counts = {name: _count(bootstrap, rows[name]) for name in names}
    samples = {
        name: bootstrap.measure(y_prob, threshold=threshold, rows=rows[name]) for name in names
    }
    told = {
        measure: {
            name: samples[name][:, MEASURES.index(measure)]
            for name in names
            if _is_enough(counts[name], measure)
        }
        for measure in COMPARED
    }
    return {
        "unit": bootstrap.unit,
        "subgroups": [{"value": name, **counts[name], **_describe(told, name)} for name in names],
        "largest_gaps": {measure: find_largest_gap(told[measure]) for measure in COMPARED},
    }


def _name_values(values, n_images):
    names = [UNTOLD if value is None or value != value else str(value) for value in values]
    if len(names) != n_images:
        raise ValueError(
            f"`values` must have one entry per picture. Received: {len(names)} for {n_images}"
        )
    return np.array(names, dtype=object)


def _order(name):
    """Numbers by size, then words, then what is not told."""
    is_number = name.replace(".", "", 1).isdigit()
    return name == UNTOLD, not is_number, float(name) if is_number else 0, name


def _count(bootstrap, rows):
    y_true, groups = bootstrap.y_true[rows], bootstrap.groups[rows]
    n_benign, n_malignant = (len(np.unique(groups[y_true == label])) for label in (0, 1))
    n_patients = None if bootstrap.n_patients is None else len(np.unique(groups))
    return {
        "n_images": len(rows),
        "n_patients": n_patients,
        "n_benign": n_benign,
        "n_malignant": n_malignant,
    }


def _is_enough(counts, measure):
    sizes = counts["n_benign"], counts["n_malignant"]
    return all(sizes[label] >= FEWEST_PATIENTS for label in _NEEDS.get(measure, [0, 1]))


def _describe(told, name):
    return {
        measure: estimate(told[measure][name]) if name in told[measure] else TOO_FEW
        for measure in COMPARED
    }


def find_largest_gap(samples):
    """Find the two subgroups that differ most in a measure, and bound their difference.

    Args:
        samples: By subgroup, the measure on all cases and on each draw, `(1 + draws,)`.

    Returns:
        `{"value", "low", "high", "between"}`: the difference is positive and its interval widened
        for the number of pairs; None for fewer than two subgroups.

    Example:
        >>> find_largest_gap({"a": np.array([0.5, 0.5]), "b": np.array([0.75, 0.75])})
        {'value': 0.25, 'low': 0.25, 'high': 0.25, 'between': ['b', 'a']}
    """
    if len(samples) < 2:
        return None
    ranked = sorted(samples, key=lambda name: samples[name][0])
    lowest, highest = ranked[0], ranked[-1]
    n_pairs = len(list(combinations(ranked, 2)))
    gap = estimate(samples[highest] - samples[lowest], confidence=1 - (1 - CONFIDENCE) / n_pairs)
    return {**gap, "between": [highest, lowest]}


def format_subgroups(column, result):
    """Format the result of `measure_subgroups` as a table for the terminal.

    Args:
        column: What the subgroups are the values of.
        result: What `measure_subgroups` returned.

    Returns:
        A text of several lines without a final newline.

    Example:
        `format_subgroups("laboratory", result).splitlines()[0]` heads the columns.
    """
    rows = tabulate_subgroups(column, result)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def tabulate_subgroups(column, result):
    """Put the result of `measure_subgroups` into words, cell by cell.

    Args:
        column: What the subgroups are the values of.
        result: What `measure_subgroups` returned.

    Returns:
        Rows of equally many texts: the heads, each subgroup, the largest gaps, and between whom.

    Example:
        `tabulate_subgroups("laboratory", result)[0][0]` is "by laboratory".
    """
    head = [f"by {column}", "pictures", "patients", "benign", "malignant"]
    rows = [head + [name.replace("_", " ") for name in COMPARED]]
    for each in result["subgroups"]:
        sizes = [each[name] for name in ("n_images", "n_patients", "n_benign", "n_malignant")]
        rows.append([each["value"], *("unknown" if n is None else f"{n:,}" for n in sizes)])
        rows[-1] += [_format_cell(each[name]) for name in COMPARED]
    gaps = result["largest_gaps"].values()
    rows.append(
        ["largest gap", *[""] * 4, *("–" if gap is None else format_estimate(gap) for gap in gaps)]
    )
    between = ["" if gap is None else " over ".join(gap["between"]) for gap in gaps]
    return [*rows, [*[""] * 5, *between]]


def _format_cell(measured):
    return measured if measured == TOO_FEW else format_estimate(measured)
