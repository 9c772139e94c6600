"""Is a picture like those a network was trained on? Three tests and their limits.

Belongs here: fitting the gate to arrays, measuring by it, and its form in a card. Does not:
computing features, reading pictures, or saying how sure an answer is (`abstention`).

A network answers a photograph of a cat as readily as tissue. So each picture is compared with the
training pictures by the features that the network's last layer sees, which know shapes, and by
simple statistics of its colours, which know what a network has learnt to overlook, such as an
empty slide. Either distance is a Mahalanobis distance: how many standard deviations off, along the
directions in which the training pictures vary.

A picture with red and blue exchanged may lie within both, for stains differ more between
laboratories than that. But its colours come nearer to the training pictures once the channels are
back in order, which is the third test: how much nearer would a picture lie with a common fault
undone?
"""

from itertools import combinations_with_replacement, permutations
from typing import NamedTuple

import numpy as np
from scipy.stats import rankdata
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

# The variance (1 = the whole scale) that rounding to 8 bits adds to every channel. Added once more,
# an even picture and one without colour have finite logarithms, at the far end of the scale.
ROUNDING_VARIANCE = 1 / 12 / 255**2

# The entries of a symmetric 3 × 3 matrix that are kept, and where each of the nine is found.
TRIANGLE = tuple(combinations_with_replacement(range(3), 2))
PLACES = {pair: place for place, kept in enumerate(TRIANGLE) for pair in (kept, kept[::-1])}

# Coming nearer by less, in standard deviations, tells of no fault: of a grey picture, which no swap
# changes, it would be rounding.
LEAST_NEARER = 0.1

# Digits kept of each number in the card, and what they may move a distance by.
DIGITS = 6
ROUNDING = 1.001


class Space(NamedTuple):
    """A space in which training pictures lie around 0 with variance 1 along each axis.

    Attributes:
        mean: float32 `(d,)`.
        axes: float32 `(k, d)`, each divided by the standard deviation along it.
    """

    mean: np.ndarray
    axes: np.ndarray

    def measure(self, vectors: np.ndarray) -> np.ndarray:
        """Measure how far vectors `(..., d)` lie off, in standard deviations: float `(...)`."""
        return np.linalg.norm((vectors - self.mean) @ self.axes.T, axis=-1)


class Gate(NamedTuple):
    """What a picture must lie within to be like the training pictures.

    Attributes:
        features: the space of what the network's last layer sees.
        colours: the space of `describe_colours`.
        limits: float `(3,)`, from which on a picture is a stranger, one for each test.
    """

    features: Space
    colours: Space
    limits: np.ndarray

    def measure(self, features: np.ndarray, images: np.ndarray) -> np.ndarray:
        """Measure how far pictures lie off.

        Args:
            features: float `(n, d)`, as the gate was fitted to.
            images: uint8 `(n, height, width, 3)`.

        Returns:
            float `(n,)`, the largest of the three tests, each divided by its limit; above 1 a
            picture is a stranger.

        Example:
            A picture whose features and colours are the means of the training pictures gives 0.
        """
        tests = self.test(features, describe_colours(images))
        return np.max(tests / self.limits[:, None], axis=0)

    def test(self, features: np.ndarray, colours: np.ndarray) -> np.ndarray:
        """Test features `(n, d)` and `describe_colours` `(n, k)` of pictures.

        Returns:
            float `(3, n)`, in standard deviations: how far off the features are, how far the
            colours, and how much nearer these come with a fault undone (below 0: none helps).
        """
        off, undone = map(self.colours.measure, (colours, undo_faults(colours)))
        return np.stack([self.features.measure(features), off, off - undone.min(axis=0)])


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
    gate = Gate(_fit_space(features), _fit_space(colours), np.ones(3))
    return gate._replace(limits=_find_limits(gate.test(held_out_features, held_out_colours)))


def describe_colours(images: np.ndarray) -> np.ndarray:
    """Describe the colours of pictures by ten numbers that staining, scanner and subject move.

    How colours vary together is told by the logarithm of their covariance, a matrix: it weighs a
    direction in which they hardly vary as much as the widest one (Arsigny 2006, "Log-Euclidean
    metrics for fast and simple calculus on diffusion tensors", doi:10.1002/mrm.20965).

    Args:
        images: uint8 `(n, height, width, 3)`.

    Returns:
        float32 `(n, 10)`: the means of red, green and blue, 0–1; six entries of the logarithm of
        their covariance: red, red with green, red with blue, green, green with blue, blue; and
        the logarithm of how much neighbouring pixels differ, squared.

    Example:
        >>> describe_colours(np.full((1, 4, 4, 3), 255, np.uint8))[0].round(1)
        array([  1. ,   1. ,   1. , -13.6,   0. ,   0. , -13.6,   0. , -13.6,
               -13.6], dtype=float32)
    """
    every = -(-max(images.shape[1:3]) // SIDE)
    images = images[:, ::every, ::every].astype(np.float32) / 255
    steps = images[:, :, 1:] - images[:, :, :-1]
    roughness = np.einsum("nhwc,nhwc->n", steps, steps) / max(1, steps[0].size)
    pixels = images.reshape(len(images), -1, 3)
    means = np.einsum("npc->nc", pixels) / pixels.shape[1]
    pixels = pixels - means[:, None]
    covariances = pixels.transpose(0, 2, 1) @ pixels / pixels.shape[1]
    variances, directions = np.linalg.eigh(covariances)
    logarithms = np.log(np.maximum(variances, 0) + ROUNDING_VARIANCE)
    matrices = directions * logarithms[:, None] @ directions.transpose(0, 2, 1)
    kept = [matrices[:, i, j] for i, j in TRIANGLE]
    return np.column_stack([means, *kept, np.log(roughness + ROUNDING_VARIANCE)])


def undo_faults(colours: np.ndarray) -> np.ndarray:
    """Describe pictures as if each of six faults were undone, without looking at them again.

    Args:
        colours: float `(n, 10)`, as `describe_colours` gives them.

    Returns:
        float `(6, n, 10)`: with the channels in each of the five other orders, and the negative.

    Example:
        >>> red = describe_colours(np.array([[[[255, 0, 0]]]], np.uint8))
        >>> undo_faults(red)[:, 0, :3].tolist()[-2:]  # blue, green, red; the negative
        [[0.0, 0.0, 1.0], [0.0, 1.0, 1.0]]
    """
    orders = list(permutations(range(3)))[1:]
    swapped = [colours[:, _reorder(order)] for order in orders]
    negative = np.concatenate([1 - colours[:, :3], colours[:, 3:]], axis=1)
    return np.stack([*swapped, negative])


def _reorder(order):
    """Name the column of `describe_colours` that each one becomes in another channel order."""
    pairs = [3 + PLACES[order[i], order[j]] for i, j in TRIANGLE]
    return [*order, *pairs, 3 + len(TRIANGLE)]


def write_gate(gate: Gate) -> dict:
    """Write a gate as JSON can hold it, each number with six digits."""
    spaces = {"features": gate.features, "colours": gate.colours}
    written = {name: _write_space(space) for name, space in spaces.items()}
    return written | {"limits": gate.limits.tolist()}


def is_earlier_kind(entry: dict) -> bool:
    """Say whether a card holds a gate that `read_gate` cannot read: one without limits of its own.

    Example:
        >>> is_earlier_kind({"features": {"limit": 3.0}}), is_earlier_kind({"reason": "too few"})
        (True, False)
    """
    return "features" in entry and "limits" not in entry


def read_gate(entry: dict) -> Gate:
    """Read a gate from what `write_gate` gave; further entries are ignored."""
    features, colours = (_read_space(entry[name]) for name in ("features", "colours"))
    return Gate(features, colours, np.array(entry["limits"]))


def _fit_space(vectors):
    vectors = np.asarray(vectors, np.float32)
    if not np.isfinite(vectors).all():
        raise ValueError("`features` must be finite. Received: some that are not")
    vectors = vectors[np.random.default_rng(0).permutation(len(vectors))[:MOST_FITTED]]
    width = vectors.shape[1]
    count = min(DIRECTIONS, LARGEST_TABLE // width, width, len(vectors) - 1)
    found = PCA(max(1, count), random_state=0).fit(vectors)
    variance = found.explained_variance_
    spread = np.sqrt(variance + max(LEAST_VARIANCE * variance[0], np.finfo(np.float32).tiny))
    return Space(found.mean_, found.components_ / spread[:, None])


def _find_limits(tests):
    """Find limits that equally many pictures pass in each test `(3, m)`, and 1 % in any."""
    tests = np.stack([*tests[:2], np.maximum(tests[2], LEAST_NEARER)])
    ranks = rankdata(tests, method="min", axis=1).max(axis=0)
    last = np.quantile(ranks, 1 - FLAGGED, method="higher")
    return np.sort(tests, axis=1)[:, int(last) - 1] * ROUNDING


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
    }


def _read_space(entry):
    return Space(*(np.asarray(entry[name], np.float32) for name in Space._fields))


def _shorten(value):
    return float(f"{value:.{DIGITS}g}")
