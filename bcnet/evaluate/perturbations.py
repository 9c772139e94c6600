"""What happens to pictures between laboratories, scanners and archives, in five severities each.

Belongs here: functions from uint8 pictures and an amount to uint8 pictures of the same shape, the
same every time. Does not: what a model makes of them (`robustness`), and random changes for
training (`bcnet.data.augment`).
"""

from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np

from bcnet.data.stain_vectors import STAIN_VECTORS


class Perturbation(NamedTuple):
    """One way in which pictures change.

    Attributes:
        name: as tables and figures call it.
        unit: what the amounts mean.
        amounts: of severities 1 to 5.
        apply: called with pictures uint8 `(n, height, width, 3)` and an amount; gives the same.
        tissue_only: whether it needs stained tissue to make sense.
    """

    name: str
    unit: str
    amounts: tuple[float, ...]
    apply: Callable
    tissue_only: bool = False


def shift_stain(images, share):
    """Change the balance of the two stains, as between laboratories.

    Optical densities are unmixed by the vectors of Ruifrok & Johnston 2001, the amounts scaled,
    and mixed again.

    Args:
        images: uint8 `(n, height, width, 3)`, haematoxylin and eosin.
        share: by which haematoxylin grows and eosin shrinks, −1 to 1; below 0 the reverse.

    Returns:
        uint8 of the same shape.

    Example:
        >>> white = np.full((1, 1, 1, 3), 255, np.uint8)
        >>> shift_stain(white, 0.5).ravel().tolist()  # glass stays glass
        [255, 255, 255]
    """
    amounts = np.diag([1 + share, 1 - share, 1])
    mixing = np.linalg.inv(STAIN_VECTORS) @ amounts @ STAIN_VECTORS
    # One is added so that black (0) has a finite density; white (255) has density 0.
    density = -np.log((np.float32(images) + 1) / 256)
    return _to_pixels(np.exp(-density @ np.float32(mixing)) * 256 - 1)


def scale_light(images, change):
    """Make pictures lighter or darker, as by exposure.

    Args:
        images: uint8 `(n, height, width, 3)`.
        change: share by which every value grows; below 0 it shrinks.

    Returns:
        uint8 of the same shape.

    Example:
        >>> scale_light(np.array([[[[100, 200, 250]]]], np.uint8), 0.1).ravel().tolist()
        [110, 220, 255]
    """
    return _to_pixels(np.float32(images) * (1 + change))


def scale_contrast(images, change):
    """Spread values about each picture's mean grey, or draw them together.

    Args:
        images: uint8 `(n, height, width, 3)`.
        change: share by which every distance from the mean grows; below 0 it shrinks.

    Returns:
        uint8 of the same shape.

    Example:
        >>> scale_contrast(np.array([[[[90, 100, 110]]]], np.uint8), -0.5).ravel().tolist()
        [95, 100, 105]
    """
    mean = np.float32(images.mean(axis=(1, 2, 3), keepdims=True))
    return _to_pixels(mean + (1 + change) * (images - mean))


def blur(images, sigma):
    """Put pictures out of focus.

    Args:
        images: uint8 `(n, height, width, 3)`.
        sigma: standard deviation of the Gaussian, in pixels.

    Returns:
        uint8 of the same shape.

    Example:
        >>> blur(np.full((1, 4, 4, 3), 9, np.uint8), 2.0).max()
        np.uint8(9)
    """
    return np.stack([cv2.GaussianBlur(image, (0, 0), sigma) for image in images])


def add_noise(images, deviation):
    """Add the noise of a sensor, to each pixel and channel by itself.

    The noise is drawn from a seed made of the picture, so that it does not depend on which others
    stand beside it.

    Args:
        images: uint8 `(n, height, width, 3)`.
        deviation: standard deviation, in grey levels.

    Returns:
        uint8 of the same shape.

    Example:
        >>> add_noise(np.full((1, 64, 64, 3), 128, np.uint8), 10).std().round()
        np.float64(10.0)
    """
    noise = [
        np.random.default_rng(image.astype(np.uint64).sum(axis=(1, 2))).standard_normal(
            image.shape, np.float32
        )
        for image in images
    ]
    return _to_pixels(images + deviation * np.stack(noise))


def compress(images, quality):
    """Compress pictures as JPEG, and read them again.

    Args:
        images: uint8 `(n, height, width, 3)`.
        quality: of libjpeg, 1–100; colours at half of the resolution.

    Returns:
        uint8 of the same shape.

    Example:
        >>> compress(np.full((1, 8, 8, 3), 128, np.uint8), 50).max()
        np.uint8(128)
    """
    return np.stack([_compress_one(image, int(quality)) for image in images])


def _compress_one(image, quality):
    _, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1]


def reduce_resolution(images, factor):
    """Take pictures with fewer pixels, and enlarge them again.

    Args:
        images: uint8 `(n, height, width, 3)`.
        factor: how many pixels, along each side, become one.

    Returns:
        uint8 of the same shape.

    Example:
        >>> reduce_resolution(np.full((1, 4, 4, 3), 9, np.uint8), 2).max()
        np.uint8(9)
    """
    height, width = images.shape[1:3]
    size = max(1, round(width / factor)), max(1, round(height / factor))
    small = [cv2.resize(image, size, interpolation=cv2.INTER_AREA) for image in images]
    return np.stack([cv2.resize(each, (width, height)) for each in small])


def rotate(images, degrees):
    """Turn pictures about their centre; what comes in at the corners is mirrored.

    Args:
        images: uint8 `(n, height, width, 3)`.
        degrees: counter-clockwise.

    Returns:
        uint8 of the same shape.

    Example:
        >>> picture = np.arange(27, dtype=np.uint8).reshape(1, 3, 3, 3)
        >>> bool((rotate(picture, 90) == np.rot90(picture, axes=(1, 2))).all())
        True
    """
    height, width = images.shape[1:3]
    turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1)
    border = cv2.BORDER_REFLECT_101
    return np.stack(
        [cv2.warpAffine(image, turn, (width, height), borderMode=border) for image in images]
    )


def _to_pixels(values):
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _lower(amounts):
    return tuple(-amount for amount in amounts)


_SHARES = (0.1, 0.2, 0.3, 0.4, 0.5)
_SPREADS = (0.15, 0.3, 0.45, 0.6, 0.75)

PERTURBATIONS = (
    Perturbation("bluer stain", "haematoxylin + and eosin −", _SHARES, shift_stain, True),
    Perturbation("pinker stain", "haematoxylin − and eosin +", _lower(_SHARES), shift_stain, True),
    Perturbation("lighter", "share of every value", _SHARES, scale_light),
    Perturbation("darker", "share of every value", _lower(_SHARES), scale_light),
    Perturbation("more contrast", "share of the distance from the mean", _SPREADS, scale_contrast),
    Perturbation(
        "less contrast", "share of the distance from the mean", _lower(_SPREADS), scale_contrast
    ),
    Perturbation("blur", "sigma in pixels", (0.5, 1, 1.5, 2, 3), blur),
    Perturbation("noise", "deviation in grey levels", (4, 8, 12, 20, 30), add_noise),
    Perturbation("JPEG", "quality", (80, 60, 40, 20, 10), compress),
    Perturbation("down-sampling", "pixels made one", (1.25, 1.5, 2, 3, 4), reduce_resolution),
    Perturbation("rotation", "degrees", (5, 10, 20, 30, 45), rotate),
)
"""All of them. Laboratories err to either side, so that what has two sides is tried on both."""


def choose_perturbations(modality):
    """Choose what can happen to pictures of a kind.

    Args:
        modality: "tissue" or "radiology", whose pictures have no stain.

    Returns:
        A tuple of `Perturbation`.

    Example:
        >>> len(choose_perturbations("tissue")), len(choose_perturbations("radiology"))
        (11, 9)
    """
    return tuple(each for each in PERTURBATIONS if modality == "tissue" or not each.tissue_only)
