"""Whether a probability means what it says: 0.8 should be malignant in four of five cases.

Belongs here: measures of calibration and what a reliability diagram shows. Does not: repairing it
(`scaling`), drawing it.
"""

import numpy as np

from bcnet.evaluate.bootstrap import bound_curve, bound_measures, check_draws
from bcnet.evaluate.cases import (
    check_cases,
    find_logits,
    find_mixed,
    merge_pictures,
    sort_pictures,
)
from bcnet.evaluate.metrics import format_estimate
from bcnet.evaluate.scaling import differentiate, fit_logistic

CALIBRATION_METRICS = (
    "brier",
    "reliability",
    "resolution",
    "uncertainty",
    "log_loss",
    "ece",
    "slope",
    "intercept",
)
"""The measures, by the only names and in the only order used for them."""

# Groups of equally many cases: of equally wide ones some would hold three cases, others all.
BINS = 10


def evaluate_calibration(y_true, y_prob, *, patients=None, draws=2000, seed=0):
    """Judge how far probabilities can be taken at their word, by picture and by patient.

    - `brier`: mean squared error, = `reliability` − `resolution` + `uncertainty` (Murphy 1973):
      what is lost by saying other shares than are seen (0 is best), what is gained by telling
      cases apart, and what base rate alone would cost. Shares are taken in ten groups of equally
      many cases by probability; what is told apart inside them counts as resolution (Stephenson et
      al. 2008, doi:10.1175/2007WAF2006116.1), so that the sum is exact.
    - `log_loss`: of the label, probabilities being clipped to 1e-7 … 1 − 1e-7.
    - `ece`: mean distance of probability and share in those groups. It is above 0 by chance even
      where all is well; `ece_by_chance` says by how much, were the cases independent.
    - `slope` and `intercept` of the labels on the logit (Cox 1958): 1 and 0 are best, a slope below
      1 is overconfident, an intercept (at slope 1) below 0 says malignant too often.

    Intervals are those of `bcnet.evaluate.metrics.evaluate`; slope and intercept are refitted by
    one Newton step in each draw (Davidson and MacKinnon 1999, International Economic Review 40).

    Args:
        y_true: Labels, shape `(n_images,)`; 0 = benign, 1 = malignant.
        y_prob: Probabilities of malignant, shape `(n_images,)`, 0–1.
        patients: One key per picture, shape `(n_images,)`; None draws pictures.
        draws: Number of bootstrap draws.
        seed: Same seed, same intervals.

    Returns:
        A dict that JSON can hold: `image` and `patient`, each from the names in
        `CALIBRATION_METRICS` to `{"value", "low", "high"}`, with the number `ece_by_chance`;
        `patient` is None unless every patient has one label. Slope and intercept are undefined
        (None) where one class is missing or the scores separate the classes.

    Raises:
        ValueError: An argument is empty, of another length or outside its range.

    Example:
        >>> result = evaluate_calibration([0, 0, 1, 1], [0.25, 0.25, 0.75, 0.75])["image"]
        >>> [result[name]["value"] for name in ("brier", "reliability", "resolution", "ece")]
        [0.0625, 0.0625, 0.25, 0.25]
    """
    y_true, y_prob = check_cases(y_true, y_prob)
    check_draws(draws)
    y_true, y_prob, groups = sort_pictures(y_true, y_prob, patients)
    is_by_patient = patients is not None and find_mixed(y_true, groups) is None
    by_patient = merge_pictures(y_true, y_prob, groups) if is_by_patient else None
    return {
        "image": _estimate(y_true, y_prob, groups, draws, seed),
        "patient": by_patient and _estimate(*by_patient, draws, seed),
    }


def _estimate(y_true, y_prob, groups, draws, seed):
    """Measure one kind of case: everything is read off weighted sums of what each case adds."""
    bins = assign_bins(y_prob)
    logits = find_logits(y_prob)
    errors = [
        np.ones_like(y_true),
        y_true,
        (y_prob - y_true) ** 2,
        np.logaddexp(0, logits) - y_true * logits,
        *bins.T,
        *(bins * (y_prob - y_true)[:, None]).T,
    ]
    sloped, shifted = _Fit(y_true, logits, sloped=True), _Fit(y_true, logits, sloped=False)
    parts = [np.stack(errors, axis=1), sloped.parts, shifted.parts]
    ends = np.cumsum([part.shape[1] for part in parts])[:-1]
    columns = np.concatenate(parts, axis=1)

    def measure(weights):
        sums, *of_fits = np.split(weights @ columns, ends, axis=1)
        refitted = [fit.refit(of) for fit, of in zip((sloped, shifted), of_fits, strict=True)]
        return np.column_stack([*_read_errors(sums), *(found[:, 0] for found in refitted)])

    chance = np.sqrt(2 / np.pi * (y_prob * (1 - y_prob) @ bins)).sum() / len(y_true)
    estimates = bound_measures(CALIBRATION_METRICS, measure, groups, draws=draws, seed=seed)
    return {**estimates, "ece_by_chance": float(chance)}


def assign_bins(y_prob):
    """Put cases into groups of equally many by probability; equal scores share one.

    Args:
        y_prob: Probabilities of malignant, `(n_cases,)`, 0–1.

    Returns:
        One-hot float64 `(n_cases, n_bins)`, at most `BINS` of them, none empty.

    Example:
        >>> assign_bins(np.array([0.2, 0.9, 0.2])).tolist()
        [[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]
    """
    edges = np.unique(np.quantile(y_prob, np.linspace(0, 1, BINS + 1)[1:-1], method="lower"))
    bins = np.eye(len(edges) + 1)[np.searchsorted(edges, y_prob)]
    return bins[:, bins.any(axis=0)]


def _read_errors(sums):
    """Read all but slope and intercept off the sums of each draw, each `(draws,)`."""
    total = sums[:, 0]
    base, brier, log_loss = sums[:, 1:4].T / total
    counts, excess = np.split(sums[:, 4:], 2, axis=1)
    # An empty group has no excess either; 1 stands in for its count.
    reliability = np.sum(excess**2 / np.maximum(counts, 1), axis=1) / total
    uncertainty = base * (1 - base)
    ece = np.abs(excess).sum(axis=1) / total
    return brier, reliability, reliability + uncertainty - brier, uncertainty, log_loss, ece


class _Fit:
    """A logistic regression on the logit, fitted to all cases and one Newton step in each draw.

    Attributes:
        parts: `(n_cases, k + k²)`, what each case adds to gradient and curvature.
    """

    def __init__(self, y_true, logits, *, sloped):
        ones = np.ones((len(logits), 1))
        design, offset = (np.column_stack([logits, ones]), 0.0) if sloped else (ones, logits)
        found = fit_logistic(design, y_true, offset)
        self.found = np.full(design.shape[1], np.nan) if found is None else found
        start = 0 if found is None else found
        gradients, curvatures = differentiate(design, y_true, offset + (design * start).sum(axis=1))
        self.parts = np.column_stack([gradients, curvatures.reshape(len(ones), -1)])

    def refit(self, sums):
        """Give the coefficients of each draw, `(draws, k)`, NaN where it has none."""
        size = len(self.found)
        gradient, curvature = sums[:, :size, None], sums[:, size:].reshape(-1, size, size).copy()
        singular = np.linalg.matrix_rank(curvature, hermitian=True) < size
        curvature[singular] = np.eye(size)
        steps = np.linalg.solve(curvature, gradient)[..., 0]
        steps[singular] = np.nan
        return self.found + steps


def trace_reliability(y_true, y_prob, *, patients=None, draws=2000, seed=0):
    """Trace what a reliability diagram shows: the share of malignant cases by probability.

    Args:
        y_true: Labels, shape `(n_images,)`; 0 = benign, 1 = malignant.
        y_prob: Probabilities of malignant, shape `(n_images,)`, 0–1.
        patients: One key per picture, shape `(n_images,)`; None draws pictures.
        draws: Number of bootstrap draws.
        seed: Same seed, same intervals.

    Returns:
        A dict of arrays over the groups of `evaluate_calibration`, in rising order: `probability`,
        the mean one of the group; `share`, malignant among its pictures, with `low` and `high`
        of its 95 % interval (NaN where undefined); `count`, its pictures.

    Raises:
        ValueError: As in `evaluate_calibration`.

    Example:
        >>> traced = trace_reliability([0, 1, 1, 1], [0.25, 0.25, 0.75, 0.75])
        >>> traced["probability"].tolist(), traced["share"].tolist()
        ([0.25, 0.75], [0.5, 1.0])
    """
    check_draws(draws)
    y_true, y_prob, groups = sort_pictures(*check_cases(y_true, y_prob), patients)
    bins = assign_bins(y_prob)
    counts = bins.sum(axis=0)

    def measure(weights):
        return _divide(weights @ (bins * y_true[:, None]), weights @ bins)

    low, high = bound_curve(measure, groups, draws=draws, seed=seed)
    share = y_true @ bins / counts
    return {
        "probability": y_prob @ bins / counts,
        "share": share,
        "low": low,
        "high": high,
        "count": counts.astype(int),
    }


def _divide(hits, counts):
    return np.where(counts > 0, hits / np.maximum(counts, 1), np.nan)


def format_calibration(result, case="picture"):
    """Format the result of `evaluate_calibration` as a table for the terminal.

    Args:
        result: What `evaluate_calibration` returned.
        case: What the reader calls one.

    Returns:
        A text of several lines without a final newline.

    Example:
        >>> text = format_calibration(evaluate_calibration([0, 0, 1, 1], [0.2, 0.7, 0.6, 0.9]))
        >>> text.splitlines()[1].split()[:3]
        ['Brier', 'score', '0.175']
    """
    words = {
        "brier": "Brier score",
        "reliability": "  reliability (−)",
        "resolution": "  resolution (+)",
        "uncertainty": "  uncertainty",
        "log_loss": "log loss",
        "ece": "ECE",
    }
    units = [name for name in ("image", "patient") if result[name] is not None]
    rows = [["calibration", *(f"by {case if u == 'image' else u}" for u in units)]]
    for name in CALIBRATION_METRICS:
        rows.append([words.get(name, name), *(format_estimate(result[u][name]) for u in units)])
        if name == "ece":
            rows.append(
                ["  by chance alone", *(f"{result[u]['ece_by_chance']:.3f}" for u in units)]
            )
    return "\n".join("  ".join(f"{cell:<21}" for cell in row).rstrip() for row in rows)
