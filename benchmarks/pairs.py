"""Two ways of training compared on the same pictures, with an interval over patients.

Belongs here: arrays in, numbers out. Does not: where the arrays come from.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

# Half of those of `evaluate`: each of these measures both runs of every seed.
DRAWS = 1000

LIMITS = (0.025, 0.975)  # between them lie 95 % of the draws


class Difference(NamedTuple):
    """By how much a metric is higher with one way of training than with the other.

    Attributes:
        value: the mean of the seeds.
        low, high: its 95 % interval, by drawing patients.
        seeds: the difference with each seed.
    """

    value: float
    low: float
    high: float
    seeds: list[float]


def measure(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Measure pictures of which each counts several times or not at all.

    Args:
        labels: `(n,)`, 0 or 1.
        scores: `(n,)`; malignant from 0.5 on.
        weights: `(n,)`, how often each counts.

    Returns:
        AUC and balanced accuracy, `(2,)`; NaN without both classes.

    Example:
        >>> measure(np.array([0, 1, 1]), np.array([0.6, 0.4, 0.9]), np.array([1, 1, 3])).tolist()
        [0.75, 0.375]
    """
    _, ranks = np.unique(scores, return_inverse=True)
    malignant = np.bincount(ranks, weights * labels)
    benign = np.bincount(ranks, weights * (1 - labels))
    below = np.cumsum(benign) - benign / 2  # a tie counts half
    called = weights * (scores >= 0.5)
    with np.errstate(invalid="ignore"):  # 0 / 0 is how an undefined metric is told
        sensitivity = called @ labels / malignant.sum()
        specificity = 1 - called @ (1 - labels) / benign.sum()
        auc = malignant @ below / (malignant.sum() * benign.sum())
    return np.array([auc, (sensitivity + specificity) / 2])


def draw_patients(patients: np.ndarray, *, draws: int, seed: int = 0) -> Iterator[np.ndarray]:
    """Draw as many patients as there are, with all their pictures, again and again.

    Args:
        patients: `(n,)`, the number of each picture's patient, from 0.
        draws: how many draws.
        seed: same seed, same draws.

    Yields:
        `(n,)`, how often each picture was drawn.

    Example:
        >>> [weights.tolist() for weights in draw_patients(np.array([0, 0]), draws=2)]
        [[1, 1], [1, 1]]
    """
    rng = np.random.default_rng(seed)
    count = patients.max() + 1
    for _ in range(draws):
        yield np.bincount(rng.integers(count, size=count), minlength=count)[patients]


def compare(
    ours: Sequence[dict], others: Sequence[dict], *, draws: int = DRAWS
) -> tuple[Difference, Difference]:
    """Compare two ways of training that have judged the same pictures with the same seeds.

    Args:
        ours: a run for each seed, as `judging.score_folds` returns it.
        others: the same of what is subtracted.
        draws: of the bootstrap over patients; those without both classes are left out.

    Returns:
        The differences in AUC and in balanced accuracy.

    Raises:
        ValueError: when the pictures are not the same.
    """
    first, *further = [*ours, *others]
    if any(run[name] != first[name] for run in further for name in ("labels", "patients")):
        raise ValueError("runs can be compared on the same pictures only; measure them anew")
    labels, patients = np.array(first["labels"]), np.array(first["patients"])
    pairs = [
        (np.array(our["scores"]), np.array(other["scores"]))
        for our, other in zip(ours, others, strict=True)
    ]

    def subtract(weights):
        return np.stack(
            [measure(labels, a, weights) - measure(labels, b, weights) for a, b in pairs]
        )

    seeds = subtract(np.ones(len(labels)))
    drawn = [subtract(weights).mean(axis=0) for weights in draw_patients(patients, draws=draws)]
    low, high = np.nanquantile(drawn, LIMITS, axis=0)
    return tuple(
        Difference(seeds[:, i].mean(), low[i], high[i], seeds[:, i].tolist()) for i in range(2)
    )


def judge_difference(difference: Difference) -> str:
    """Put a difference in words.

    The interval knows of patients, not of the chance in training: so that no lucky seed passes
    for a gain, every seed must agree with it.

    Example:
        >>> judge_difference(Difference(0.02, 0.01, 0.03, [0.01, 0.03]))
        'helps'
        >>> judge_difference(Difference(0.02, 0.01, 0.03, [0.05, -0.01]))
        'within noise'
    """
    if difference.low > 0 and min(difference.seeds) > 0:
        return "helps"
    if difference.high < 0 and max(difference.seeds) < 0:
        return "harms"
    return "within noise"
