"""The one bootstrap of the house: patients are drawn, each with all his pictures.

Belongs here: how draws are made and turned into intervals. Does not: what is measured on them.
"""

import numpy as np

# An interval holds this share of the draws, and needs at least this share of them to be defined.
CONFIDENCE = 0.95
TAILS = ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2)

# Weights drawn at a time: 4 MB an array, whatever the number of pictures.
WEIGHTS_AT_ONCE = 2**19


def draw_weights(groups, draws, seed):
    """Yield blocks of how often each case was drawn, groups being drawn whole.

    Args:
        groups: The number of each case's patient, int `(n_cases,)`, from 0 without gaps.
        draws: How many draws there are in all blocks.
        seed: Same groups and seed, same draws.

    Yields:
        float64 `(draws_of_block, n_cases)`.

    Example:
        >>> weights = next(draw_weights(np.array([0, 0, 1]), 5, seed=0))
        >>> weights.shape, bool((weights[:, 0] == weights[:, 1]).all())
        ((5, 3), True)
    """
    rng = np.random.default_rng(seed)
    n_groups = groups.max() + 1
    block = max(1, WEIGHTS_AT_ONCE // len(groups))
    for done in range(0, draws, block):
        size = min(block, draws - done)
        drawn = rng.integers(n_groups, size=(size, n_groups))
        drawn += np.arange(size)[:, None] * n_groups
        counts = np.bincount(drawn.ravel(), minlength=size * n_groups)
        yield counts.reshape(size, n_groups)[:, groups].astype(float)


def bound_measures(names, measure, groups, *, draws, seed):
    """Measure a set of cases, and bound each measure by the draws.

    One patient, drawn again and again, tells nothing about others: then there are no intervals.

    Args:
        names: Of the measures.
        measure: Called with weights `(draws, n_cases)`; gives `(draws, n_measures)`, NaN where
            one is undefined.
        groups: As for `draw_weights`.
        draws: Number of draws.
        seed: As for `draw_weights`.

    Returns:
        A dict from each name to `{"value", "low", "high"}`, None where undefined.

    Example:
        >>> share = lambda weights: weights[:, :1] / weights.sum(axis=1, keepdims=True)
        >>> bound_measures(["share"], share, np.array([0, 1]), draws=99, seed=0)
        {'share': {'value': 0.5, 'low': 0.0, 'high': 1.0}}
    """
    values = measure(np.ones((1, len(groups))))[0]
    drawn = np.concatenate([measure(weights) for weights in draw_weights(groups, draws, seed)])
    if groups.max() == 0:
        drawn[:] = np.nan
    return {
        name: {"value": None if np.isnan(value) else float(value), **bound_draws(samples)}
        for name, value, samples in zip(names, values, drawn.T, strict=True)
    }


def bound_curve(measure, groups, *, draws, seed):
    """Bound a curve by the draws, pointwise at 95 %.

    Args:
        measure: Called with weights `(draws, n_cases)`; gives `(draws, n_points)`, NaN where a
            point is undefined.
        groups: As for `draw_weights`.
        draws: Number of draws.
        seed: As for `draw_weights`.

    Returns:
        The lower and the upper bound, each `(n_points,)`, NaN where `bound_draws` has none.

    Example:
        >>> low, high = bound_curve(lambda weights: weights, np.array([0, 1]), draws=99, seed=0)
        >>> low.tolist(), high.tolist()
        ([0.0, 0.0], [2.0, 2.0])
    """
    drawn = np.concatenate([measure(weights) for weights in draw_weights(groups, draws, seed)])
    if groups.max() == 0:
        drawn[:] = np.nan
    ends = [bound_draws(samples) for samples in drawn.T]
    return tuple(np.array([end[name] for end in ends], float) for name in ("low", "high"))


def bound_draws(samples, confidence=CONFIDENCE):
    """Bound a measure by its draws: the percentile interval.

    Args:
        samples: The measure in each draw, float64 `(draws,)`, NaN where it was undefined.
        confidence: Share of the draws that the interval holds, and that must be defined.

    Returns:
        `{"low", "high"}`; both None where too many draws left it undefined.

    Example:
        >>> bound_draws(np.repeat([0.25, 0.5, 0.75], [5, 90, 5]))  # 2.5 % off each end
        {'low': 0.25, 'high': 0.75}
    """
    defined = samples[~np.isnan(samples)]
    if len(defined) < confidence * len(samples):
        return {"low": None, "high": None}
    low, high = np.quantile(defined, [(1 - confidence) / 2, (1 + confidence) / 2])
    return {"low": float(low), "high": float(high)}


def check_draws(draws):
    """Raise `ValueError` for fewer than one draw."""
    if draws < 1:
        raise ValueError(f"`draws` must be at least 1. Received: draws={draws}")
