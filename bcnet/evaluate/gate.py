"""Is a picture like those a network was trained on? Two distances and their limits.

Belongs here: fitting the gate to arrays, measuring by it, and its form in a card. Does not:
computing features, reading pictures, or saying how sure an answer is (`abstention`).

A network answers a photograph of a cat as readily as tissue. So each picture is compared with the
training pictures twice: by the features that the network's last layer sees, which know shapes, and
by simple statistics of its colours, which know what a network has learnt to overlook, such as an
empty slide. Either distance is a Mahalanobis distance: how many standard deviations off, along the
directions in which the training pictures vary.
"""

from typing import NamedTuple

import numpy as np
from sklearn.decomposition import PCA

FLAGGED = 0.01
"""Share of the held-out pictures that the limits flag."""

# The farthest of n pictures is passed by one new picture in n + 1: with these, by less than 5 %.
FEWEST_HELD_OUT = 20

# Directions kept of the features, fewer where they are so many that the card would outgrow 1 MB;
# the last of them carries 1 % of their variance or less.
DIRECTIONS = 16
LARGEST_TABLE = 50_000

# More training pictures than this tell nothing new of 16 directions.
MOST_FITTED = 20_000

# A direction in which training pictures do not vary (units that never fire) has this share of the
# widest variance, or rounding would make strangers.
LEAST_VARIANCE = 1e-4

# At most this many pixels a side are looked at: the rest say the same and take time.
SIDE = 32

# Added to standard deviations (1 = the whole scale), so that those of an even picture have a
# logarithm: a hundredth is three grey levels.
TRACE = 0.01

# Digits kept of each number in the card, and what they may move a distance by.
DIGITS = 6
ROUNDING = 1.001


class Space(NamedTuple):
    """A space in which training pictures lie around 0 with variance 1 along each axis.

    Attributes:
        mean: float32 `(d,)`.
        axes: float32 `(k, d)`, each divided by the standard deviation along it.
        limit: the distance from which a picture is a stranger.
    """

    mean: np.ndarray
    axes: np.ndarray
    limit: float

    def measure(self, vectors: np.ndarray) -> np.ndarray:
        """Measure how far vectors `(n, d)` lie off: float `(n,)`, 1 = at the limit."""
        return np.linalg.norm((vectors - self.mean) @ self.axes.T, axis=1) / self.limit


class Gate(NamedTuple):
    """What a picture must lie within to be like the training pictures.

    Attributes:
        features: the space of what the network's last layer sees.
        colours: the space of `describe_colours`.
    """

    features: Space
    colours: Space

    def measure(self, features: np.ndarray, images: np.ndarray) -> np.ndarray:
        """Measure how far pictures lie off.

        Args:
            features: float `(n, d)`, as the gate was fitted to.
            images: uint8 `(n, height, width, 3)`.

        Returns:
            float `(n,)`, the larger of both distances; above 1 a picture is a stranger.

        Example:
            A picture whose features and colours are the means of the training pictures gives 0.
        """
        by_features = self.features.measure(features)
        return np.maximum(by_features, self.colours.measure(describe_colours(images)))


def fit_gate(features, colours, held_out_features, held_out_colours):
    """Fit the gate: spaces to the training pictures, limits to those of held-out patients.

    Limits must come from others than the training pictures, which the network has learnt by
    heart: they lie closer together than new ones ever will.

    Args:
        features: float `(n, d)`, what the last layer sees of training pictures.
        colours: float `(n, k)`, their `describe_colours`.
        held_out_features: float `(m, d)`, of patients the network was not trained on.
        held_out_colours: float `(m, k)`.

    Returns:
        A `Gate` that flags at most 1 % of the held-out pictures.

    Raises:
        ValueError: There are fewer than two training or 20 held-out pictures, or a feature is not
            finite.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> pictures = rng.integers(0, 256, (60, 8, 8, 3), dtype=np.uint8)
        >>> features, colours = rng.normal(size=(60, 4)), describe_colours(pictures)
        >>> gate = fit_gate(features[:30], colours[:30], features[30:], colours[30:])
        >>> int((gate.measure(features[30:], pictures[30:]) > 1).sum())
        0
    """
    _check_counts(len(features), len(held_out_features))
    # First each space by itself, so that neither outweighs the other; then both together.
    spaces = [_fit_space(features), _fit_space(colours)]
    held_out = [held_out_features, held_out_colours]
    spaces = [
        _set_limit(space, space.measure(x)) for space, x in zip(spaces, held_out, strict=True)
    ]
    farthest = np.max([s.measure(x) for s, x in zip(spaces, held_out, strict=True)], axis=0)
    return Gate(*(_set_limit(space, farthest) for space in spaces))


def draw_fitted(count: int) -> np.ndarray:
    """Draw the rows of `count` training pictures that a gate is fitted to, 20,000 at most.

    Example:
        >>> draw_fitted(3).tolist()
        [0, 1, 2]
    """
    rows = np.random.default_rng(0).permutation(count)[:MOST_FITTED]
    return np.sort(rows)


def describe_colours(images: np.ndarray) -> np.ndarray:
    """Describe the colours of pictures by ten numbers that staining, scanner and subject move.

    Args:
        images: uint8 `(n, height, width, 3)`.

    Returns:
        float32 `(n, 10)`: the means of red, green and blue, 0–1; logarithms of their standard
        deviations; the correlations of red and green, red and blue, green and blue, drawn towards
        0 where a colour hardly varies; and the logarithm of how much neighbouring pixels differ.

    Example:
        >>> describe_colours(np.full((1, 4, 4, 3), 255, np.uint8))[0].round(1)  # log 0.01 = -4.6
        array([ 1. ,  1. ,  1. , -4.6, -4.6, -4.6,  0. ,  0. ,  0. , -4.6],
              dtype=float32)
    """
    every = -(-max(images.shape[1:3]) // SIDE)
    images = images[:, ::every, ::every].astype(np.float32) / 255
    steps = images[:, :, 1:] - images[:, :, :-1]
    roughness = np.sqrt(np.einsum("nhwc,nhwc->n", steps, steps) / max(1, steps[0].size))
    pixels = images.reshape(len(images), -1, 3)
    means = np.einsum("npc->nc", pixels) / pixels.shape[1]
    # Moments about 0 and not the mean, which saves a pass; rounding is far below the trace.
    products = pixels.transpose(0, 2, 1) @ pixels / pixels.shape[1]
    products -= means[:, :, None] * means[:, None]
    spread = np.sqrt(np.maximum(np.einsum("nii->ni", products), 0)) + TRACE
    first, second = (0, 0, 1), (1, 2, 2)
    correlations = products[:, first, second] / (spread[:, first] * spread[:, second])
    logarithms = np.log(spread), np.log(roughness + TRACE)[:, None]
    return np.concatenate([means, logarithms[0], correlations, logarithms[1]], axis=1)


def write_gate(gate: Gate) -> dict:
    """Write a gate as JSON can hold it, each number with six digits."""
    return {name: _write_space(space) for name, space in gate._asdict().items()}


def read_gate(entry: dict) -> Gate:
    """Read a gate from what `write_gate` gave; further entries are ignored."""
    return Gate(*(_read_space(entry[name]) for name in Gate._fields))


def _fit_space(vectors):
    vectors = np.asarray(vectors, np.float32)
    if not np.isfinite(vectors).all():
        raise ValueError("`features` must be finite. Received: some that are not")
    vectors = vectors[draw_fitted(len(vectors))]
    width = vectors.shape[1]
    count = min(DIRECTIONS, LARGEST_TABLE // width, width, len(vectors) - 1)
    found = PCA(max(1, count), random_state=0).fit(vectors)
    variance = found.explained_variance_
    spread = np.sqrt(variance + max(LEAST_VARIANCE * variance[0], np.finfo(np.float32).tiny))
    return Space(found.mean_, found.components_ / spread[:, None], 1.0)


def _set_limit(space, distances):
    """Widen a space so that at most 1 % of the held-out pictures lie outside."""
    limit = np.quantile(distances, 1 - FLAGGED, method="higher") * ROUNDING
    return space._replace(limit=float(space.limit * limit))


def _check_counts(n_train, n_held_out):
    if n_train < 2 or n_held_out < FEWEST_HELD_OUT:
        raise ValueError(
            f"a gate needs 2 training and {FEWEST_HELD_OUT} held-out pictures. "
            f"Received: {n_train} and {n_held_out}"
        )


def _write_space(space):
    return {
        "mean": [_shorten(value) for value in space.mean],
        "axes": [[_shorten(value) for value in axis] for axis in space.axes],
        "limit": space.limit,
    }


def _read_space(entry):
    mean, axes = (np.asarray(entry[name], np.float32) for name in ("mean", "axes"))
    return Space(mean, axes, entry["limit"])


def _shorten(value):
    return float(f"{value:.{DIGITS}g}")
