"""What maps are like: how alike, how concentrated, and how well they meet a mask.

What belongs here is arithmetic on arrays. What a network says of changed pictures is measured in
`perturbation`; which numbers make a map unworthy of belief is said in `faithfulness`.

Maps are `(n, height, width)`, at least 0; a number is given for each. None of them is NaN, as a
map without evidence has a place in every definition.
"""

import cv2
import numpy as np
import pandas as pd

# The frame around a picture, as a share of its sides. Cells of padding are as wide as a network's
# last convolution is coarse: an eighth holds them where there are 12 a side, three quarters of them
# where there are 6, and half where there are 3.
FRAME = 1 / 8

# A random map is as coarse as a heatmap: random pixels would be beaten by anything smooth.
RANDOM_CELLS = 8


def correlate_maps(maps, others):
    """Correlate each map with another of the same place, pixel by pixel (Pearson).

    Args:
        maps: `(n, height, width)`.
        others: The same.

    Returns:
        float64 `(n,)`, −1 to 1; 0 where one of the two is the same everywhere, as it then tells
        nothing of the other.

    Example:
        >>> correlate_maps(np.array([[[0, 1, 2]]]), np.array([[[6, 5, 4]]]))
        array([-1.])
    """
    first, second = (_centre(np.asarray(each, np.float64)) for each in (maps, others))
    products = (first * second).sum(axis=(1, 2))
    sizes = np.sqrt((first**2).sum(axis=(1, 2)) * (second**2).sum(axis=(1, 2)))
    return np.divide(products, sizes, out=np.zeros(len(products)), where=sizes > 0).clip(-1, 1)


def correlate_ranks(maps, others):
    """Correlate the order of the pixels in each map with that in another (Spearman).

    Args:
        maps: `(n, height, width)`.
        others: The same.

    Returns:
        float64 `(n,)`, −1 to 1, and 0 as in `correlate_maps`. Equal pixels share their mean rank.

    Example:
        >>> correlate_ranks(np.array([[[0, 1, 2]]]), np.array([[[0, 1, 90]]]))
        array([1.])
    """
    return correlate_maps(*(_rank(np.asarray(each)) for each in (maps, others)))


def measure_contrast(maps):
    """Measure how far each map is from the same heat everywhere.

    Args:
        maps: `(n, height, width)`.

    Returns:
        float64 `(n,)`, 0–1: the share of the heat that lies in the wrong place for an even map; 0
        also for a map of zeros.

    Example:
        >>> measure_contrast(np.array([[[1, 1, 1, 1]], [[4, 0, 0, 0]]]))
        array([0.  , 0.75])
    """
    shares = _share(maps)
    even = 1 / shares[0].size
    return np.maximum(shares - even, 0).sum(axis=(1, 2))


def measure_border(maps):
    """Measure how much of each map lies in the frame of the picture.

    Args:
        maps: `(n, height, width)`.

    Returns:
        float64 `(n,)`, 0–1: the share of the heat in the outer eighth on each side. An even map
        has 0.44, and so has a map of zeros, which prefers no place.

    Example:
        >>> float(measure_border(np.ones((1, 8, 8)))[0])  # 28 of 64 pixels
        0.4375
    """
    height, width = np.shape(maps)[1:]
    frame = np.ones((height, width), bool)
    down, across = max(1, round(FRAME * height)), max(1, round(FRAME * width))
    frame[down : height - down, across : width - across] = False
    return measure_mass(maps, np.broadcast_to(frame, np.shape(maps)))


def measure_mass(maps, masks):
    """Measure how much of each map lies inside a mask.

    Args:
        maps: `(n, height, width)`.
        masks: bool, the same shape.

    Returns:
        float64 `(n,)`, 0–1. An even map, and one of zeros, gets the mask's share of the area: the
        level of chance.

    Example:
        >>> measure_mass(np.array([[[3, 1]]]), np.array([[[True, False]]]))
        array([0.75])
    """
    return np.where(masks, _share(maps), 0).sum(axis=(1, 2)).clip(0, 1)  # rounding adds a little


def point_at_mask(maps, masks):
    """Play the pointing game: does the hottest place lie inside the mask?

    Zhang et al. 2018, "Top-Down Neural Attention by Excitation Backprop",
    https://arxiv.org/abs/1608.00507.

    Args:
        maps: `(n, height, width)`.
        masks: bool, the same shape.

    Returns:
        float64 `(n,)`: 1 or 0, or, of several equally hot places, the share that lies inside. The
        mask's share of the area is the level of chance, and what a map of zeros gets.

    Example:
        >>> point_at_mask(np.array([[[3, 3, 1]]]), np.array([[[True, False, False]]]))
        array([0.5])
    """
    maps = np.asarray(maps)
    return measure_mass(maps == maps.max(axis=(1, 2), keepdims=True), masks)


def find_best_overlap(maps, masks):
    """Find the overlap of each map with its mask at the threshold that suits it best.

    Args:
        maps: `(n, height, width)`.
        masks: bool, the same shape, none of them empty.

    Returns:
        float64 `(n,)`: intersection over union. It is at least the mask's share of the area, as a
        threshold below everything takes the whole picture.

    Raises:
        ValueError: If a mask is empty.

    Example:
        >>> find_best_overlap(np.array([[[3, 2, 1]]]), np.array([[[True, False, False]]]))
        array([1.])
    """
    heat, masks = (np.reshape(each, (len(each), -1)) for each in (maps, masks))
    area = masks.sum(axis=1, keepdims=True)
    if not area.all():
        raise ValueError(f"`masks` must not be empty. Received: {(area == 0).sum()} that are")
    order = np.argsort(-heat, axis=1, kind="stable")
    heat, masks = (np.take_along_axis(each, order, axis=1) for each in (heat, masks))
    hits, taken = masks.cumsum(axis=1), np.arange(1, heat.shape[1] + 1)
    overlap = hits / (area + taken - hits)
    is_last_of_equals = np.diff(heat, axis=1, append=-1) < 0  # a threshold takes all or none
    return np.where(is_last_of_equals, overlap, 0).max(axis=1)


def draw_random_maps(count, size, *, seed=0):
    """Draw maps that know nothing, as coarse as heatmaps are.

    Args:
        count: How many.
        size: `(height, width)` in pixels.
        seed: Same seed, same maps.

    Returns:
        float32 `(count, height, width)` in 0–1: 8 × 8 random cells, enlarged.

    Example:
        >>> draw_random_maps(2, (64, 32)).shape
        (2, 64, 32)
    """
    height, width = size
    cells = np.random.default_rng(seed).random((count, RANDOM_CELLS, RANDOM_CELLS), np.float32)
    return np.stack([cv2.resize(each, (width, height)) for each in cells])


def draw_centre_blobs(count, size):
    """Draw maps that are hottest in the middle, where photographers put what matters.

    Args:
        count: How many.
        size: `(height, width)` in pixels.

    Returns:
        float32 `(count, height, width)` in 0–1: a bell as wide (standard deviation) as a quarter
        of each side.

    Example:
        >>> draw_centre_blobs(1, (3, 3))[0].argmax()
        4
    """
    down, across = (np.exp(-8 * ((np.arange(n) + 0.5) / n - 0.5) ** 2) for n in size)
    blob = np.outer(down, across).astype(np.float32)
    return np.repeat(blob[None], count, axis=0)


def _centre(maps):
    """Subtract the mean; exactly zero where all is the same, which rounding would hide."""
    is_even = np.ptp(maps, axis=(1, 2), keepdims=True) == 0
    return np.where(is_even, 0, maps - maps.mean(axis=(1, 2), keepdims=True))


def _rank(maps):
    flat = pd.DataFrame(maps.reshape(len(maps), -1).T)
    return flat.rank().to_numpy().T.reshape(maps.shape)


def _share(maps):
    """Scale each map to a sum of 1; one of zeros becomes even, for it prefers no place."""
    maps = np.asarray(maps, np.float64)
    sums = maps.sum(axis=(1, 2), keepdims=True)
    return np.divide(maps, sums, out=np.full(maps.shape, 1 / maps[0].size), where=sums > 0)
