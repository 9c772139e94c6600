"""What may change in a picture while its label stays: symmetries, stain, light, small shifts.

Mixing two pictures, which mixes their labels too, is here as well. Every operation works on a
whole batch and takes its random numbers from a seed, so that it runs alike eagerly and inside
tf.data, and a run can be repeated. Sizes never change here.
"""

import numpy as np
import tensorflow as tf

from bcnet.config import MODALITIES
from bcnet.data.stain_vectors import STAIN_VECTORS

# Laboratories differ by about this much in the amount of each stain and in exposure. The first is
# only the default.
STAIN_RANGE = 0.15
BRIGHTNESS_RANGE = 0.10
# As a share of height and width: more would push lesions at the edge out of the picture.
SHIFT_RANGE = 0.06


def check_modality(modality: str) -> None:
    """Raise `ValueError` unless `modality` is one of `MODALITIES`."""
    if modality not in MODALITIES:
        raise ValueError(f"`modality` must be one of {MODALITIES}. Received: modality={modality!r}")


def augment(
    images: tf.Tensor, seed: tf.Tensor, modality: str, *, stain_jitter: float = STAIN_RANGE
) -> tf.Tensor:
    """Change a batch as the modality allows without changing what it shows.

    Args:
        images: uint8 `(b, height, width, 3)`.
        seed: two integers; the same seed gives the same pictures.
        modality: "tissue" (eight symmetries, stain and brightness) or "radiology"
            (left-right flip and small shifts: up and down mean something there).
        stain_jitter: of tissue, as for `jitter_stain`.

    Returns:
        float32 `(b, height, width, 3)` in 0–255.

    Raises:
        ValueError: for an unknown modality.
    """
    check_modality(modality)
    geometry_seed, value_seed = tf.unstack(tf.random.split(tf.cast(seed, tf.int32), 2))
    if modality == "tissue":
        turned = turn_and_flip(images, geometry_seed)
        return jitter_stain(turned, value_seed, stain_jitter=stain_jitter)
    return tf.cast(shift_and_mirror(images, geometry_seed), tf.float32)


def turn_and_flip(images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Draw one of the eight symmetries of the square for each picture: exact, no interpolation.

    Args:
        images: `(b, height, width, 3)`, any dtype; where height and width differ the four
            symmetries of the rectangle are drawn.
        seed: two integers.

    Returns:
        The same shape and dtype.
    """
    batch, height, width = tf.shape(images)[0], images.shape[1], images.shape[2]
    symmetries = list_symmetries(height, width)
    codes = tf.random.stateless_uniform((batch,), seed, 0, len(symmetries), tf.int32)
    # One gather of pixels is four times as fast as reversing and choosing (seen at 50 x 50).
    pixels = tf.reshape(images, (batch, height * width, 3))
    turned = tf.gather(pixels, tf.gather(symmetries, codes), batch_dims=1)
    return tf.reshape(turned, tf.shape(images))


def list_symmetries(height: int, width: int) -> np.ndarray:
    """List the symmetries of a square (8) or a rectangle (4) as permutations of its pixels.

    Args:
        height: in pixels.
        width: in pixels.

    Returns:
        int32 `(8 or 4, height * width)`: for each symmetry, where each pixel is taken from.

    Example:
        >>> list_symmetries(1, 2).tolist()
        [[0, 1], [0, 1], [1, 0], [1, 0]]
    """
    grid = np.arange(height * width, dtype=np.int32).reshape(height, width)
    upright = (grid, grid.T) if height == width else (grid,)
    turns = [flat for g in upright for flat in (g, g[::-1], g[:, ::-1], g[::-1, ::-1])]
    return np.stack([turn.ravel() for turn in turns])


def jitter_stain(
    images: tf.Tensor, seed: tf.Tensor, *, stain_jitter: float = STAIN_RANGE
) -> tf.Tensor:
    """Change the amount of each stain and the exposure, as between laboratories.

    Optical densities are unmixed into stains, each is scaled by 1 ± `stain_jitter`, and light by
    1 ± `BRIGHTNESS_RANGE`; the three steps are one 3 × 3 matrix and one offset per picture.

    Args:
        images: `(b, height, width, 3)` in 0–255.
        seed: two integers.
        stain_jitter: 0 or more and below 1; 0 leaves the stains alone and varies only the light.

    Returns:
        float32 `(b, height, width, 3)` in 0–255.
    """
    batch = tf.shape(images)[0]
    draws = tf.random.stateless_uniform((batch, 4), seed, -1.0, 1.0)
    amounts = tf.linalg.diag(1.0 + stain_jitter * draws[:, :3])
    mixing = np.linalg.inv(STAIN_VECTORS) @ amounts @ STAIN_VECTORS
    light = tf.math.log1p(BRIGHTNESS_RANGE * draws[:, 3])[:, None, None]
    # One is added so that black (0) has a finite density; white (255) has density 0.
    log_intensity = tf.math.log((tf.cast(images, tf.float32) + 1.0) / 256.0)
    pixels = tf.reshape(log_intensity, (batch, -1, 3))
    changed = tf.exp(tf.matmul(pixels, mixing) + light) * 256.0 - 1.0
    return tf.reshape(tf.clip_by_value(changed, 0.0, 255.0), tf.shape(images))


def shift_and_mirror(images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Mirror half of the pictures left to right and move each by whole pixels.

    Args:
        images: `(b, height, width, 3)`, any dtype.
        seed: two integers.

    Returns:
        The same shape and dtype; the row or column at the edge fills what a shift uncovers.
    """
    draws = tf.random.stateless_uniform((3, tf.shape(images)[0]), seed, -1.0, 1.0)
    mirrored = tf.where(draws[0][:, None, None, None] < 0, tf.reverse(images, [2]), images)
    down = _shifted_positions(draws[1], images.shape[1])
    right = _shifted_positions(draws[2], images.shape[2])
    moved = tf.gather(mirrored, down, axis=1, batch_dims=1)
    return tf.gather(moved, right, axis=2, batch_dims=1)


def _shifted_positions(draws, length):
    offsets = tf.cast(tf.round(draws * SHIFT_RANGE * length), tf.int32)
    return tf.clip_by_value(tf.range(length)[None] + offsets[:, None], 0, length - 1)


def mix_up(
    images: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor, *, seed: tf.Tensor, alpha: float
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Mix each picture with the one before it in the batch, and their labels in the same shares.

    Zhang 2018, "mixup: Beyond Empirical Risk Minimization" (https://arxiv.org/abs/1710.09412).
    Each picture has its own share: one for the whole batch, as in the paper's code, would make
    some steps nearly unmixed and others all blurred. Cross-entropy is linear in the label, so
    that the loss of a mixture is the mixture of the two weighted losses.

    Args:
        images: float32 `(b, height, width, 3)`, in an order that says nothing about the labels.
        labels: float32 `(b, 1)`, 0 to 1.
        weights: float32 `(b,)`, above 0.
        seed: two integers.
        alpha: above 0; shares are drawn from Beta(alpha, alpha), so a small one mixes little.

    Returns:
        Mixed images, labels and weights, float32 of the same shapes.

    Example:
        Benign and malignant of weight 1, shares 0.75 and 0.25, give label 0.25 of weight 1.
    """
    share = draw_beta(tf.shape(weights), seed, alpha)
    first, second = share * weights, (1.0 - share) * tf.roll(weights, 1, axis=0)
    mixed_weights = first + second
    one_share = share[:, None, None, None]
    mixed = one_share * images + (1.0 - one_share) * tf.roll(images, 1, axis=0)
    evidence = first[:, None] * labels + second[:, None] * tf.roll(labels, 1, axis=0)
    return mixed, evidence / mixed_weights[:, None], mixed_weights


def draw_beta(shape: tf.Tensor, seed: tf.Tensor, alpha: float) -> tf.Tensor:
    """Draw from Beta(alpha, alpha): g / (g + h) of two gamma variables.

    Their logarithms are drawn, since a gamma variable of small alpha is often 0 in float32. For
    that, gamma(alpha) is gamma(alpha + 1) times a uniform variable to the power of 1 / alpha.

    Args:
        shape: of the result.
        seed: two integers.
        alpha: above 0.

    Returns:
        float32 of that shape, 0 to 1.
    """
    gamma_seed, uniform_seed = tf.unstack(tf.random.split(tf.cast(seed, tf.int32), 2))
    pair = tf.concat([[2], shape], axis=0)
    gamma = tf.random.stateless_gamma(pair, gamma_seed, alpha + 1.0)
    uniform = tf.random.stateless_uniform(pair, uniform_seed, minval=np.finfo(np.float32).tiny)
    logarithms = tf.math.log(gamma) + tf.math.log(uniform) / alpha
    return tf.sigmoid(logarithms[0] - logarithms[1])
