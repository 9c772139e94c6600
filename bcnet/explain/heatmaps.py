"""Heatmaps: where in a picture a network finds evidence for a class.

What belongs here turns a binary Keras model and a batch of pictures into maps, or paints a map
over its picture. How a model is looked into belongs to `graph`; whether a map deserves belief is
judged elsewhere; files and figures are made elsewhere.

Every map is computed at the logit: a saturated sigmoid or softmax has no gradient left.
"""

import cv2
import numpy as np
import tensorflow as tf

from bcnet.config import CLASS_NAMES
from bcnet.explain.graph import compile_map, find_last_convolution, find_layer

__all__ = [
    "average_gradient",
    "class_activation",
    "divide_by_maximum",
    "enlarge",
    "explain_batch",
    "find_last_convolution",
    "grad_cam",
    "overlay",
    "take_gradient",
    "weigh_activations",
]

# Pictures per run, for an even memory over a folder of thousands; larger batches gain no speed.
BATCH_SIZE = 32


def grad_cam(model, images, *, class_name="malignant", layer=None, positive_unit=1):
    """Show where a network finds evidence for a class, by Grad-CAM.

    Selvaraju et al. 2017, "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based
    Localization", https://arxiv.org/abs/1610.02391. The map is a few cells wide at the last
    convolution and is enlarged bilinearly: it points at regions, not at outlines.

    Args:
        model: A functional or sequential `keras.Model` of one image input, also with such models
            nested in it. Its output is one unit or two: sigmoid, softmax or logits. Any other
            output is taken for a logit.
        images: `(n, height, width, channels)`, exactly as the model takes them (ours: RGB in
            0–255, uint8 or float).
        class_name: The class whose evidence is shown; for "benign" the sign of the logit flips.
        layer: Name of a layer with output `(n, h, w, channels)`, or the layer itself; by default
            `find_last_convolution(model)`.
        positive_unit: The output unit that stands for malignant, 0 or 1. Of one unit, 0 says
            that it gives the probability of benign.

    Returns:
        float32 `(n, height, width)` in 0–1, 1 = most evidence in that picture. A picture without
        evidence for the class has a map of zeros.

    Raises:
        ValueError: If an argument is not as described, the model has no convolution, or its
            gradient is not finite.

    Example:
        >>> maps = grad_cam(build_cnn((64, 64)), np.zeros((5, 64, 64, 3), dtype="uint8"))
        >>> maps.shape, maps.dtype
        ((5, 64, 64), dtype('float32'))
    """
    _, heatmaps = explain_batch(
        model, images, class_name=class_name, layer=layer, positive_unit=positive_unit
    )
    return heatmaps


def explain_batch(model, images, *, class_name="malignant", layer=None, positive_unit=1, size=None):
    """Give predictions and their `grad_cam` heatmaps from the same forward pass.

    Args:
        model: As for `grad_cam`.
        images: As for `grad_cam`.
        class_name: As for `grad_cam`.
        layer: As for `grad_cam`.
        positive_unit: As for `grad_cam`.
        size: `(height, width)` in pixels of the heatmaps, where the pictures were resized to be
            seen; by default that of `images`.

    Returns:
        `(predictions, heatmaps)`: float32 `(n, units)`, what the model itself answers, and
        float32 `(n, height, width)`, what `grad_cam` gives.

    Raises:
        ValueError: As for `grad_cam`.

    Example:
        >>> predictions, heatmaps = explain_batch(build_cnn((64, 64)), np.zeros((5, 64, 64, 3)))
        >>> predictions.shape, heatmaps.shape
        ((5, 1), (5, 64, 64))
    """
    images = np.asarray(images)
    predictions, maps = _run(model, images, class_name, layer, positive_unit)
    return predictions, divide_by_maximum(enlarge(maps, size or images.shape[1:3]))


def class_activation(model, images, *, class_name="malignant", layer=None, positive_unit=1):
    """Give the Grad-CAM map as computed: at the layer's resolution and in the logit's unit.

    For comparing pictures with one another, which dividing by each maximum forbids.

    Args:
        model: As for `grad_cam`.
        images: As for `grad_cam`.
        class_name: As for `grad_cam`.
        layer: As for `grad_cam`.
        positive_unit: As for `grad_cam`.

    Returns:
        float32 `(n, h, w)`, at least 0.

    Raises:
        ValueError: As for `grad_cam`.

    Example:
        >>> class_activation(build_cnn((64, 64)), np.zeros((5, 64, 64, 3))).shape
        (5, 16, 16)
    """
    return _run(model, np.asarray(images), class_name, layer, positive_unit)[1]


def take_gradient(score, activations):
    """Differentiate a score by a layer's output: the first step of Grad-CAM.

    Only what lies between the two is differentiated. Works where TensorFlow builds a graph.

    Args:
        score: `(n,)`, the logit of each picture.
        activations: `(n, h, w, channels)`, the layer's output it was computed from.

    Returns:
        Tensor as `activations`: by how much the score rises with each of them.

    Raises:
        ValueError: If the score does not depend on the activations.

    Example:
        The gradient of `3 x` is 3 everywhere.
    """
    (gradient,) = tf.gradients(score, activations)
    if gradient is None:
        raise ValueError("`layer` must lead to the model's output. Received one that does not.")
    return gradient


def average_gradient(gradients):
    """Average each channel's gradient over all places: the second step, its weight.

    Args:
        gradients: `(n, h, w, channels)`.

    Returns:
        Tensor `(n, channels)`.

    Example:
        >>> average_gradient(np.array([[[[1.0], [2.0]], [[3.0], [6.0]]]])).numpy()
        array([[3.]])
    """
    return tf.reduce_mean(gradients, axis=(1, 2))


def weigh_activations(activations, weights):
    """Sum the weighted channels and keep what speaks for the class: the third step.

    Args:
        activations: `(n, h, w, channels)`.
        weights: `(n, channels)`.

    Returns:
        Tensor `(n, h, w)`, at least 0.

    Example:
        >>> weigh_activations(np.array([[[[1.0, 2.0], [3.0, 1.0]]]]), np.array([[2.0, -3.0]]))
        # 2·1 − 3·2 = −4 -> 0 and 2·3 − 3·1 = 3
    """
    return tf.nn.relu(tf.reduce_sum(activations * weights[:, None, None, :], axis=-1))


def enlarge(maps, size):
    """Resize maps bilinearly to the size of their pictures.

    Cell centres are kept in place (half-pixel centres), as in the pipeline's own resize, so a
    map lies where its evidence lay.

    Args:
        maps: float32 `(n, h, w)`.
        size: `(height, width)` in pixels.

    Returns:
        float32 `(n, height, width)`.

    Example:
        >>> enlarge(np.array([[[0.0, 1.0]]], dtype="float32"), (1, 4))
        array([[[0.  , 0.25, 0.75, 1.  ]]], dtype=float32)
    """
    height, width = size
    return np.stack([cv2.resize(m, (width, height), interpolation=cv2.INTER_LINEAR) for m in maps])


def divide_by_maximum(maps):
    """Scale each map to a maximum of 1, and leave a map of zeros as it is.

    Args:
        maps: `(n, h, w)`, at least 0.

    Returns:
        float32 `(n, h, w)` in 0–1.

    Example:
        >>> divide_by_maximum(np.array([[[1.0, 4.0]], [[0.0, 0.0]]]))
        array([[[0.25, 1.  ]], [[0.  , 0.  ]]], dtype=float32)
    """
    maps = np.asarray(maps, dtype="float32")
    peaks = maps.max(axis=(1, 2), keepdims=True)
    return np.divide(maps, peaks, out=np.zeros_like(maps), where=peaks > 0)


def overlay(image, heatmap, *, opacity=0.5):
    """Paint a heatmap over its picture, the more strongly the hotter.

    Cold regions show the bare tissue. The colours are viridis, which keep their order for
    colour-blind eyes and in grey print, and whose hot end no stain has.

    Args:
        image: uint8 `(height, width, 3)`, RGB.
        heatmap: `(height, width)` in 0–1.
        opacity: Of the hottest place, from 0 (the picture alone) to 1.

    Returns:
        uint8 `(height, width, 3)`, RGB.

    Raises:
        ValueError: If the picture is not RGB in uint8, the map has another size or values
            outside 0–1, or `opacity` is outside 0–1.

    Example:
        >>> overlay(np.zeros((2, 2, 3), dtype="uint8"), np.ones((2, 2)), opacity=1)[0, 0]
        array([253, 231,  36], dtype=uint8)
    """
    _check_overlay(image, heatmap, opacity)
    levels = np.round(heatmap * 255).astype("uint8")
    colours = cv2.applyColorMap(levels, cv2.COLORMAP_VIRIDIS)[..., ::-1]  # BGR -> RGB
    alpha = opacity * np.asarray(heatmap)[..., None]
    return np.round(image * (1 - alpha) + colours * alpha).astype("uint8")


def _run(model, images, class_name, layer, positive_unit):
    """Predictions `(n, units)` and raw maps `(n, h, w)`, a batch at a time."""
    layer = find_layer(model, layer)
    _check_arguments(model, images, class_name, positive_unit)
    run = compile_map(model, layer, _map_grad_cam, positive_unit=positive_unit)
    sign = 1.0 if class_name == CLASS_NAMES[1] else -1.0
    starts = range(0, len(images), BATCH_SIZE)
    batches = [run(images[start : start + BATCH_SIZE], sign) for start in starts]
    predictions, maps = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    _check_finite(maps)
    return predictions, maps


def _map_grad_cam(score, activations):
    gradients = tf.cast(take_gradient(score, activations), "float32")
    return weigh_activations(tf.cast(activations, "float32"), average_gradient(gradients))


def _check_arguments(model, images, class_name, positive_unit):
    if class_name not in CLASS_NAMES:
        raise ValueError(f"`class_name` must be one of {CLASS_NAMES}. Received: {class_name!r}")
    if positive_unit not in (0, 1):
        raise ValueError(f"`positive_unit` must be 0 or 1. Received: {positive_unit!r}")
    expected = model.inputs[0].shape[1:]
    given = images.shape[1:]
    fits = len(images) > 0 and len(given) == len(expected)
    if not fits or any(e not in (None, g) for e, g in zip(expected, given, strict=True)):
        raise ValueError(
            f"`images` must be a batch of at least one picture of shape {expected}. "
            f"Received: shape {images.shape}"
        )


def _check_finite(maps):
    broken = np.flatnonzero(~np.isfinite(maps).all(axis=(1, 2)))
    if broken.size:
        raise ValueError(
            f"A model must have finite gradients. Received: infinity or NaN for {broken.size} of "
            f"{len(maps)} pictures, first for number {broken[0]}"
        )


def _check_overlay(image, heatmap, opacity):
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(
            f"`image` must be uint8 (height, width, 3). Received: {image.dtype} {image.shape}"
        )
    if heatmap.shape != image.shape[:2]:
        raise ValueError(
            f"`heatmap` must have the picture's size {image.shape[:2]}. Received: {heatmap.shape}"
        )
    if not (heatmap.min() >= 0 and heatmap.max() <= 1):
        raise ValueError(
            f"`heatmap` must be between 0 and 1. Received: {heatmap.min()} to {heatmap.max()}"
        )
    if not 0 <= opacity <= 1:
        raise ValueError(f"`opacity` must be between 0 and 1. Received: opacity={opacity}")
