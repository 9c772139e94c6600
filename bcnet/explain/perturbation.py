"""What a network says of a picture when the places that a map calls important come and go.

What belongs here takes pictures, their maps and a way to score pictures; how the score comes about
belongs to `graph`. What a map is like by itself is measured in `measures`.

A place that is taken away is blurred: it keeps its colour and loses what can be recognised, while
black would be something new to see. Maps of networks that know nothing score here as well as any
other: these measures tell whether a map is true to its network, not whether the network is right.
"""

import cv2
import numpy as np

# Wide enough that no nucleus, and no edge of a lesion, can be told; as a share of the shorter side.
BLUR = 1 / 8

# Steps from the picture to the blurred one, each a share of the pixels in the order of their heat.
STEPS = 10

# Pictures per call of the score, for an even memory.
BATCH_SIZE = 32


def trace_deletion(score, images, heatmaps, *, steps=STEPS, seed=0):
    """Blur the pixels of each picture, the hottest first, and follow its score.

    Petsiuk et al. 2018, "RISE", https://arxiv.org/abs/1806.07421. The better the map, the sooner
    the score falls.

    Args:
        score: Function of pictures `(n, height, width, channels)` giving `(n,)`: the probability
            of the class that the maps explain.
        images: `(n, height, width, channels)`, as `score` takes them.
        heatmaps: `(n, height, width)`.
        steps: Number of equal steps.
        seed: Of the order in which equally hot pixels go.

    Returns:
        float64 `(n, steps + 1)`: the score of the picture, then after each step; the last is that
        of the blurred picture. Its mean by `measure_area` is the measure.

    Example:
        Of a score that sees one pixel, the hottest, all but the first value are the blurred one's.
    """
    return _trace(score, images, blur_pictures(images), _rank_pixels(heatmaps, seed), steps)


def trace_insertion(score, images, heatmaps, *, steps=STEPS, seed=0):
    """Bring the pixels into the blurred picture, the hottest first, and follow its score.

    The better the map, the sooner the score rises.

    Args:
        score: As for `trace_deletion`.
        images: As for `trace_deletion`.
        heatmaps: As for `trace_deletion`.
        steps: As for `trace_deletion`.
        seed: As for `trace_deletion`.

    Returns:
        float64 `(n, steps + 1)`: the score of the blurred picture, then after each step; the last
        is that of the picture.

    Example:
        Of a score that sees one pixel, the hottest, all but the first value are the picture's.
    """
    return _trace(score, blur_pictures(images), images, _rank_pixels(heatmaps, seed), steps)


def measure_area(curves):
    """Measure the area under each curve of `trace_deletion` or `trace_insertion`.

    Args:
        curves: `(n, steps + 1)`.

    Returns:
        float64 `(n,)`: the mean height, by trapezoids.

    Example:
        >>> measure_area(np.array([[1.0, 0.0, 0.0]]))
        array([0.25])
    """
    return np.trapezoid(curves, axis=1) / (np.shape(curves)[1] - 1)


def measure_drop(score, images, heatmaps):
    """Measure by how much the score falls when each pixel stays only as far as it is hot.

    Chattopadhay et al. 2018 (https://arxiv.org/abs/1710.11063) darken the rest; here it is
    blurred. Where the score rises, its drop is 0 and it counts as an increase.

    Args:
        score: As for `trace_deletion`.
        images: As for `trace_deletion`.
        heatmaps: `(n, height, width)` in 0–1.

    Returns:
        `(drop, increase)`: float64 `(n,)`, the share of the score lost, and bool `(n,)`, whether
        it rose. Their means are "average drop" and "increase".

    Example:
        A score of 0.8 that becomes 0.6 has a drop of 0.25.
    """
    before, after = _score(score, images), _score(score, _keep(images, heatmaps))
    lost = np.maximum(before - after, 0)
    return np.divide(lost, before, out=np.zeros(len(lost)), where=before > 0), after > before


def blur_pictures(images):
    """Blur pictures until nothing can be recognised.

    Args:
        images: `(n, height, width, channels)`.

    Returns:
        float32, the same shape.

    Example:
        >>> blur_pictures(np.full((1, 8, 8, 3), 7))[0, 0, 0].tolist()
        [7.0, 7.0, 7.0]
    """
    images = np.asarray(images, np.float32)
    sigma = BLUR * min(images.shape[1:3])
    blurred = [cv2.GaussianBlur(image, (0, 0), sigma) for image in images]
    return np.stack(blurred).reshape(images.shape)  # OpenCV drops a single channel


def _keep(images, heatmaps):
    ground, share = blur_pictures(images), np.asarray(heatmaps)[..., None]
    return ground + share * (images - ground)


def _trace(score, images, replacements, ranks, steps):
    """Scores while pixels are replaced in the order of their ranks."""
    pixels = ranks[0].size
    changed = (
        np.where((ranks < step * pixels / steps)[..., None], replacements, images)
        for step in range(steps + 1)
    )
    return np.stack([_score(score, each) for each in changed], axis=1)


def _score(score, images):
    images = np.asarray(images, np.float32)
    starts = range(0, len(images), BATCH_SIZE)
    return np.concatenate([score(images[i : i + BATCH_SIZE]) for i in starts]).astype(np.float64)


def _rank_pixels(heatmaps, seed):
    """Each pixel's place in the order of heat, from 0 for the hottest; chance parts equals."""
    flat = np.reshape(heatmaps, (len(heatmaps), -1))
    lots = np.random.default_rng(seed).random(flat.shape[1])
    order = np.lexsort((np.broadcast_to(lots, flat.shape), -flat), axis=1)
    return np.argsort(order, axis=1).reshape(np.shape(heatmaps))
