"""Stain normalisation: every picture in one laboratory's colours, inside the network's own graph.

What belongs here turns RGB 0–255 into RGB 0–255 with `keras.ops` alone, so that it is saved with
the network, runs on each of Keras's backends and cannot be forgotten at prediction. Each picture
is treated by itself; one that normalisation would harm passes unchanged. Random changes of stain,
for training only, belong to `data.augment`.

Inside, n pictures of p pixels are `(n, 3, p)`: sums over channels are many times as fast so.
"""

import math
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from bcnet.config import STAIN_NORMALISATIONS

# Light through glass, and the natural optical density from which a pixel is tissue: Io and beta
# of Macenko 2009. Density is averaged over R, G, B: asked of each, it would drop light eosin.
GLASS = 240.0
TISSUE_DENSITY = 0.15

# Rows haematoxylin and eosin: unit vectors of optical density in R, G, B, and the amount of each
# that 99 % of the pixels stay below. HERef and maxCRef of the code that is used everywhere,
# https://github.com/mitkovetta/staining-normalization.
REFERENCE_STAINS = np.float32([[0.5626, 0.7201, 0.4062], [0.2159, 0.8012, 0.5581]])
REFERENCE_AMOUNTS = np.float32([1.9705, 1.0308])

# Mean and deviation of l, alpha, beta in a breast carcinoma, TCGA-A2-A3XS-DX1: the standard of
# Amgad 2019 (https://doi.org/10.1093/bioinformatics/btz083) and of HistomicsTK.
REFERENCE_MEAN = np.float32([8.74108109, -0.12440419, 0.0444982])
REFERENCE_DEVIATION = np.float32([0.6135447, 0.10989545, 0.0286032])

# Reinhard 2001, equations 4 and 6: RGB to cones, and their logarithms to l, alpha, beta.
CONES = np.float32([[0.3811, 0.5783, 0.0402], [0.1967, 0.7244, 0.0782], [0.0241, 0.1288, 0.8444]])
OPPONENTS = np.float32([[1, 1, 1], [1, 1, -2], [1, -1, 0]]) / np.sqrt(np.float32([[3], [6], [2]]))

# What must hold before: enough tissue (Reinhard's mean and deviation are of the whole picture, so
# glass would become tissue); more green absorbed than by grey, which takes a third in each channel
# (haematoxylin 43 %, eosin 51 %); two directions of colour rather than one with noise; and no
# stain so faint that noise and compression would be stretched into structure.
LEAST_TISSUE = {"macenko": 0.1, "reinhard": 0.5}
LEAST_GREEN = 0.35
LEAST_ANGLE = 10.0  # degrees
MOST_STRETCH = 5.0

# What must hold after: the same structure in grey, no less than half of its contrast, and few
# pixels of tissue newly black or white. Chosen by eye on three sets of H&E.
LEAST_SIMILARITY = 0.9
LEAST_CONTRAST = 0.5
MOST_CLIPPED = 0.2

LUMINANCE = np.float32([[0.299], [0.587], [0.114]])
TINY = 1e-6


class StainCheck(NamedTuple):
    """What normalisation did to each picture.

    Attributes:
        changed: boolean `(n,)`; False where the picture passed unchanged.
        similarity: float32 `(n,)`, −1 to 1: correlation of the grey values before and after.
        contrast: float32 `(n,)`: deviation of the grey values after, divided by that before.
        clipped: float32 `(n,)`, 0 to 1: share of the tissue newly at 0 or 255 in a channel.
    """

    changed: np.ndarray
    similarity: np.ndarray
    contrast: np.ndarray
    clipped: np.ndarray


def normalise_stain(image, method):
    """Bring the colours of H&E tissue to a fixed reference, each picture by itself.

    "macenko" finds the picture's two stains and exchanges them for the reference's, so that
    glass stays glass (Macenko 2009, https://doi.org/10.1109/ISBI.2009.5193250). "reinhard" gives
    mean and deviation of the whole picture in l, alpha, beta those of the reference: faster, for
    pictures filled with tissue (Reinhard 2001, https://doi.org/10.1109/38.946629).

    A picture passes unchanged when it has too little tissue (macenko 10 %, reinhard 50 %), is
    not purple (grey, inverted, black), shows one stain only, or would be stretched more than five
    times; and when the result would lose the grey structure (correlation below 0.9), half of the
    contrast, or a fifth of the tissue to clipping. `check_normalised` counts how often that is.
    What is estimated from a picture counts as constant where gradients are taken.

    Args:
        image: RGB in 0–255, `(n, height, width, 3)`, uint8 or float: an array, a tensor, or the
            symbolic input of a functional model of fixed height and width.
        method: One of `config.STAIN_NORMALISATIONS`.

    Returns:
        float32 in 0–255, the same shape; symbolic where `image` is.

    Raises:
        ValueError: If `method` or the shape of `image` is not as described.

    Example:
        >>> white = np.full((1, 8, 8, 3), 255, "uint8")
        >>> float(ops.min(normalise_stain(white, "macenko")))
        255.0
    """
    _check_arguments(image, method)
    if not isinstance(image, keras.KerasTensor):
        return _normalise(image, method)
    alone = keras.Input(image.shape[1:], dtype=image.dtype)
    graph = keras.Model(alone, _normalise(alone, method))
    return keras.models.clone_model(graph, clone_function=_rename).call(image)


def check_normalised(before, after):
    """Compare pictures with what `normalise_stain` made of them, one by one.

    Args:
        before: RGB in 0–255, `(n, height, width, 3)`, uint8 or float.
        after: float32 of the same shape, from `normalise_stain`.

    Returns:
        `StainCheck`; the mean of its `changed` is the share of pictures that were normalised.

    Raises:
        ValueError: If the shapes differ.

    Example:
        >>> white = np.full((1, 8, 8, 3), 255, "uint8")
        >>> check_normalised(white, normalise_stain(white, "macenko")).changed
        array([False])
    """
    before, after = (np.asarray(image, "float32") for image in (before, after))
    if before.shape != after.shape or before.ndim != 4:
        raise ValueError(
            "`before` and `after` must be (n, height, width, 3) of one shape. "
            f"Received: {before.shape} and {after.shape}"
        )
    pixels = [_lay_out(image) for image in (before, after)]
    measures = _compare(*pixels, _measure_density(pixels[0])[1])
    changed = (before != after).any(axis=(1, 2, 3))
    return StainCheck(changed, *(ops.convert_to_numpy(measure) for measure in measures))


def _check_arguments(image, method):
    if method not in STAIN_NORMALISATIONS:
        allowed = ", ".join(STAIN_NORMALISATIONS)
        raise ValueError(f"`method` must be one of {allowed}. Received: method={method!r}")
    shape = tuple(image.shape)
    if len(shape) != 4 or shape[3] != 3 or not shape[1] or not shape[2]:
        raise ValueError(
            "`image` must be (n, height, width, 3) of fixed height and width. "
            f"Received: image.shape={shape}"
        )


def _rename(operation):
    """The same operation under a name that no layer of a network has, such as "mean"."""
    config = operation.get_config()
    return operation.__class__.from_config({**config, "name": f"stain_{operation.name}"})


def _normalise(image, method):
    picture = ops.cast(image, "float32")
    before = _lay_out(picture)
    density, tissue = _measure_density(before)
    match = _match_stains if method == "macenko" else _match_colours
    after, is_sound = match(before, density, tissue)
    after = ops.clip(after, 0.0, 255.0)
    is_stained = _is_stained(density, tissue, LEAST_TISSUE[method])
    keep = is_sound & is_stained & _is_unharmed(*_compare(before, after, tissue))
    after = ops.reshape(ops.transpose(after, (0, 2, 1)), (-1, *picture.shape[1:]))
    return ops.where(keep[:, None, None, None], after, picture)


def _lay_out(picture):
    height, width = picture.shape[1:3]
    return ops.transpose(ops.reshape(picture, (-1, height * width, 3)), (0, 2, 1))


def _measure_density(pixels):
    """Optical density `(n, 3, p)`, and which pixels are tissue, 1 or 0, `(n, 1, p)`."""
    # One is added so that black (0) has a finite density.
    density = ops.log(GLASS / (ops.clip(pixels, 0.0, 255.0) + 1.0))
    is_tissue = ops.mean(density, axis=1, keepdims=True) > TISSUE_DENSITY
    return density, ops.cast(is_tissue, "float32")


def _is_stained(density, tissue, least_tissue):
    absorbed = ops.sum(density * tissue, axis=-1)  # (n, 3)
    green = absorbed[:, 1] / ops.maximum(ops.sum(absorbed, axis=-1), TINY)
    return (ops.mean(tissue, axis=(1, 2)) >= least_tissue) & (green >= LEAST_GREEN)


def _match_stains(_, density, tissue):
    """Macenko's method: pixels `(n, 3, p)` and whether to trust them, `(n,)`."""
    unmixing, is_separable = _invert_stains(_find_stains(density, tissue))
    amounts = ops.matmul(unmixing, density)  # (n, 2, p)
    scale, is_clear = _limit_stretch(REFERENCE_AMOUNTS, _find_99th(amounts, ops.ones_like(tissue)))
    change = ops.matmul(REFERENCE_STAINS.T, scale[:, :, None] * unmixing)  # (n, 3, 3)
    changed = ops.matmul(ops.stop_gradient(change), density)
    # Clipped here, as the exponential of what is far outside has no finite gradient.
    changed = ops.clip(changed, math.log(GLASS / 256), math.log(GLASS))
    return GLASS * ops.exp(-changed) - 1.0, is_separable & is_clear


def _find_stains(density, tissue):
    """The two outermost directions of the tissue's densities, the redder absorber first."""
    count = ops.maximum(ops.sum(tissue, axis=-1, keepdims=True), 1.0)
    centred = (density - ops.sum(density * tissue, axis=-1, keepdims=True) / count) * tissue
    scatter = ops.matmul(centred, ops.transpose(centred, (0, 2, 1))) / count
    _, axes = ops.linalg.eigh(scatter)  # as columns, eigenvalues ascending
    plane = ops.flip(ops.transpose(axes, (0, 2, 1))[:, 1:], axis=1)  # (n, 2, 3)
    # An eigenvector's sign is arbitrary, but densities are positive.
    plane = plane * ops.where(ops.sum(plane, axis=-1, keepdims=True) < 0, -1.0, 1.0)
    on_plane = ops.matmul(plane, density)
    angle = ops.arctan2(on_plane[:, 1], on_plane[:, 0])
    outermost = _find_99th(ops.stack([angle, -angle], axis=1), tissue)
    outermost = outermost * np.float32([1, -1])  # the 99th percentile and the first
    directions = ops.stack([ops.cos(outermost), ops.sin(outermost)], axis=-1)
    stains = ops.matmul(directions, plane)
    is_ordered = stains[:, :1, :1] >= stains[:, 1:, :1]
    return ops.where(is_ordered, stains, ops.flip(stains, axis=1))


def _invert_stains(stains):
    """The pseudo-inverse of two unit vectors, as rows, and whether they differ, `(n,)`."""
    cosine = ops.sum(stains[:, :1] * stains[:, 1:], axis=-1, keepdims=True)
    squared_sine = 1.0 - cosine**2
    least = math.sin(math.radians(LEAST_ANGLE)) ** 2
    unmixing = (stains - cosine * ops.flip(stains, axis=1)) / ops.maximum(squared_sine, least)
    return unmixing, squared_sine[:, 0, 0] >= least


def _find_99th(values, mask):
    """The value that 1 % of the masked ones exceed, along the last axis: `(n, k, p)` to `(n, k)`.

    Sorting so few is many times as fast as a quantile of all.
    """
    most_above = (values.shape[-1] - 1) // 100
    highest, _ = ops.top_k(ops.where(mask > 0, values, -1e9), most_above + 1)
    count = ops.sum(mask, axis=-1, keepdims=True) + ops.zeros_like(highest[:, :, :1])
    above = ops.cast(0.01 * ops.maximum(count - 1.0, 0.0), "int32")
    return ops.take_along_axis(highest, above, axis=-1)[:, :, 0]


def _match_colours(before, *_):
    """Reinhard's method: pixels `(n, 3, p)` and whether to trust them, `(n,)`."""
    light = ops.clip(before, 0.0, 255.0) + 1.0
    colours = ops.matmul(OPPONENTS, ops.log(ops.matmul(CONES, light)))
    mean = ops.mean(colours, axis=-1, keepdims=True)
    scale, is_clear = _limit_stretch(REFERENCE_DEVIATION, ops.std(colours, axis=-1))
    centred = colours - ops.stop_gradient(mean)
    changed = centred * ops.stop_gradient(scale)[:, :, None] + REFERENCE_MEAN[:, None]
    cones = ops.exp(ops.matmul(OPPONENTS.T, changed))  # its rows are orthonormal
    return ops.matmul(np.linalg.inv(CONES), cones) - 1.0, is_clear


def _limit_stretch(wanted, found):
    """By how much to scale each of `(n, k)`, and whether that is within the limit, `(n,)`."""
    least = wanted / MOST_STRETCH
    scale = ops.divide(wanted, ops.maximum(found, least))
    return scale, ops.all(found >= least, axis=-1)


def _compare(before, after, tissue):
    """Similarity, contrast and share clipped, each `(n,)`, as `StainCheck` explains them."""
    greys = [ops.sum(pixels * LUMINANCE, axis=1) for pixels in (before, after)]
    centred = [grey - ops.mean(grey, axis=-1, keepdims=True) for grey in greys]
    deviations = [ops.std(grey, axis=-1) + TINY for grey in greys]  # without structure: 1, 1
    together = ops.mean(centred[0] * centred[1], axis=-1) + TINY**2
    newly = ops.cast(_is_clipped(after) & ~_is_clipped(before), "float32") * tissue[:, 0]
    clipped = ops.sum(newly, axis=-1) / ops.maximum(ops.sum(tissue, axis=(1, 2)), 1.0)
    return together / (deviations[0] * deviations[1]), deviations[1] / deviations[0], clipped


def _is_clipped(pixels):
    return (ops.min(pixels, axis=1) <= 0.0) | (ops.max(pixels, axis=1) >= 255.0)


def _is_unharmed(similarity, contrast, clipped):
    return (
        (similarity >= LEAST_SIMILARITY) & (contrast >= LEAST_CONTRAST) & (clipped <= MOST_CLIPPED)
    )
