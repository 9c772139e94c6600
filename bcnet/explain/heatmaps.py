"""Heatmaps: where in a picture a network finds evidence for a class.

What belongs here turns a binary Keras model and a batch of pictures into maps. How a model is
looked into belongs to `graph`, the arithmetic of the CAM family to `cam`, the methods that ask a
network many times to `probing`; whether a map deserves belief is judged elsewhere; files and
figures are made elsewhere.

Every map is computed at the logit: a saturated sigmoid or softmax has no gradient left.
"""

from functools import partial

import numpy as np

from bcnet.config import CLASS_NAMES, HEATMAP_METHODS
from bcnet.explain import cam, probing
from bcnet.explain.graph import (
    compile_pass,
    find_explained_layers,
    find_layer,
    locate_cells,
)
from bcnet.explain.scaling import divide_by_maximum, enlarge

__all__ = [
    "BATCH_SIZE",
    "METHODS",
    "class_activation",
    "explain_batch",
    "grad_cam",
    "grad_cam_plus_plus",
    "hires_cam",
    "integrated_gradients",
    "layer_cam",
    "occlusion",
    "score_cam",
    "smooth_grad",
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
            the last convolution once activated, and where a model averages several members, that
            of each, explained together (see `graph.find_explained_layers`).
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
    return _explain("grad_cam", model, images, class_name, layer, positive_unit)


def grad_cam_plus_plus(model, images, *, class_name="malignant", layer=None, positive_unit=1):
    """Show evidence by Grad-CAM++, which does more justice to several small objects.

    Chattopadhay et al. 2018, "Grad-CAM++: Improved Visual Explanations for Deep Convolutional
    Networks", https://arxiv.org/abs/1710.11063.

    Args:
        model: As for `grad_cam`.
        images: As for `grad_cam`.
        class_name: As for `grad_cam`.
        layer: As for `grad_cam`.
        positive_unit: As for `grad_cam`.

    Returns:
        As `grad_cam`.

    Raises:
        ValueError: As for `grad_cam`.

    Example:
        As for `grad_cam`.
    """
    return _explain("grad_cam_plus_plus", model, images, class_name, layer, positive_unit)


def layer_cam(model, images, *, class_name="malignant", layer=None, positive_unit=1):
    """Show evidence by LayerCAM, which keeps places apart and so suits earlier, finer layers too.

    Jiang et al. 2021, "LayerCAM: Exploring Hierarchical Class Activation Maps for Localization",
    https://doi.org/10.1109/TIP.2021.3089943.

    Args:
        model: As for `grad_cam`.
        images: As for `grad_cam`.
        class_name: As for `grad_cam`.
        layer: As for `grad_cam`.
        positive_unit: As for `grad_cam`.

    Returns:
        As `grad_cam`.

    Raises:
        ValueError: As for `grad_cam`.

    Example:
        As for `grad_cam`.
    """
    return _explain("layer_cam", model, images, class_name, layer, positive_unit)


def hires_cam(model, images, *, class_name="malignant", layer=None, positive_unit=1):
    """Show evidence by HiResCAM, which shows only places that the network really used.

    Draelos and Carin 2020, "Use HiResCAM instead of Grad-CAM for faithful explanations of
    convolutional neural networks", https://arxiv.org/abs/2011.08891.

    Args:
        model: As for `grad_cam`.
        images: As for `grad_cam`.
        class_name: As for `grad_cam`.
        layer: As for `grad_cam`.
        positive_unit: As for `grad_cam`.

    Returns:
        As `grad_cam`.

    Raises:
        ValueError: As for `grad_cam`.

    Example:
        As for `grad_cam`.
    """
    return _explain("hires_cam", model, images, class_name, layer, positive_unit)


def score_cam(model, images, *, class_name="malignant", layer=None, positive_unit=1):
    """Show evidence by Score-CAM: each channel counts what it adds when only it is let through.

    Wang et al. 2020, "Score-CAM: Score-Weighted Visual Explanations for Convolutional Neural
    Networks", https://arxiv.org/abs/1910.01279. A channel's weight is the logit of the picture seen
    through it less that of the bare mean colour. Of many channels the 64 that
    vary the most are tried, each with one pass of the network.

    Args:
        model: As for `grad_cam`.
        images: As for `grad_cam`.
        class_name: As for `grad_cam`.
        layer: As for `grad_cam`.
        positive_unit: As for `grad_cam`.

    Returns:
        As `grad_cam`.

    Raises:
        ValueError: As for `grad_cam`.

    Example:
        As for `grad_cam`.
    """
    return _explain("score_cam", model, images, class_name, layer, positive_unit)


def integrated_gradients(model, images, *, class_name="malignant", layer=None, positive_unit=1):
    """Show evidence pixel by pixel, by the gradients on the way from bare colour to picture.

    Sundararajan et al. 2017, "Axiomatic Attribution for Deep Networks",
    https://arxiv.org/abs/1703.01365. What speaks against the class is left out of the map.

    Args:
        model: As for `grad_cam`.
        images: As for `grad_cam`.
        class_name: As for `grad_cam`.
        layer: None: the whole network is asked.
        positive_unit: As for `grad_cam`.

    Returns:
        As `grad_cam`.

    Raises:
        ValueError: As for `grad_cam`, or a layer is named.

    Example:
        As for `grad_cam`.
    """
    return _explain("integrated_gradients", model, images, class_name, layer, positive_unit)


def smooth_grad(model, images, *, class_name="malignant", layer=None, positive_unit=1):
    """Show which pixels move the answer most, by gradients averaged over noisy copies.

    Smilkov et al. 2017, "SmoothGrad: removing noise by adding noise",
    https://arxiv.org/abs/1706.03825. The map is the largest size of the mean gradient over the
    colours; a pixel that moves the answer speaks neither for nor against a class, so both classes
    have the same map. The noise is drawn anew from the same seed for each call.

    Args:
        model: As for `grad_cam`.
        images: As for `grad_cam`.
        class_name: As for `grad_cam`; changes nothing.
        layer: None: the whole network is asked.
        positive_unit: As for `grad_cam`.

    Returns:
        As `grad_cam`.

    Raises:
        ValueError: As for `grad_cam`, or a layer is named.

    Example:
        As for `grad_cam`.
    """
    return _explain("smooth_grad", model, images, class_name, layer, positive_unit)


def occlusion(model, images, *, class_name="malignant", layer=None, positive_unit=1):
    """Show evidence by covering the picture patch by patch and watching the logit fall.

    Zeiler and Fergus 2014, "Visualizing and Understanding Convolutional Networks",
    https://arxiv.org/abs/1311.2901. Slow, but nothing about the network is assumed: it may even be
    without convolutions. A patch is a sixth of the shorter side; a pixel gets the mean fall of the
    patches that covered it.

    Args:
        model: As for `grad_cam`.
        images: As for `grad_cam`.
        class_name: As for `grad_cam`.
        layer: None: the whole network is asked.
        positive_unit: As for `grad_cam`.

    Returns:
        As `grad_cam`.

    Raises:
        ValueError: As for `grad_cam`, or a layer is named.

    Example:
        As for `grad_cam`.
    """
    return _explain("occlusion", model, images, class_name, layer, positive_unit)


METHODS = {name: globals()[name] for name in HEATMAP_METHODS}
"""The methods by name."""


def explain_batch(
    model,
    images,
    *,
    method=HEATMAP_METHODS[0],
    class_name="malignant",
    layer=None,
    positive_unit=1,
):
    """Give predictions and heatmaps, from the same forward pass where a CAM method is asked for.

    Args:
        model: As for `grad_cam`.
        images: As for `grad_cam`.
        method: One of `METHODS`.
        class_name: As for `grad_cam`.
        layer: As for `grad_cam`.
        positive_unit: As for `grad_cam`.

    Returns:
        `(predictions, heatmaps)`: float32 `(n, units)`, what the model itself answers, and
        float32 `(n, height, width)`, what the method's function gives.

    Raises:
        ValueError: As for `grad_cam`, or there is no such method.

    Example:
        >>> predictions, heatmaps = explain_batch(build_cnn((64, 64)), np.zeros((5, 64, 64, 3)))
        >>> predictions.shape, heatmaps.shape
        ((5, 1), (5, 64, 64))
    """
    images = np.asarray(images)
    predictions, maps = _run(method, model, images, class_name, layer, positive_unit)
    if method not in _PIXEL_METHODS:
        axes = locate_cells(model, _choose_layers(model, layer))
        maps = enlarge(maps, images.shape[1:3], axes)
    return predictions, divide_by_maximum(maps)


def class_activation(
    model,
    images,
    *,
    method=HEATMAP_METHODS[0],
    class_name="malignant",
    layer=None,
    positive_unit=1,
):
    """Give maps as computed: at the layer's resolution and in the logit's unit.

    For comparing pictures with one another, which dividing by each maximum forbids.

    Args:
        model: As for `grad_cam`.
        images: As for `grad_cam`.
        method: One of `METHODS`.
        class_name: As for `grad_cam`.
        layer: As for `grad_cam`.
        positive_unit: As for `grad_cam`.

    Returns:
        float32 `(n, h, w)`, at least 0.

    Raises:
        ValueError: As for `explain_batch`.

    Example:
        >>> class_activation(build_cnn((64, 64)), np.zeros((5, 64, 64, 3))).shape
        (5, 16, 16)
    """
    return _run(method, model, np.asarray(images), class_name, layer, positive_unit)[1]


def _explain(method, model, images, class_name, layer, positive_unit):
    _, heatmaps = explain_batch(
        model,
        images,
        method=method,
        class_name=class_name,
        layer=layer,
        positive_unit=positive_unit,
    )
    return heatmaps


def _run(method, model, images, class_name, layer, positive_unit):
    """Predictions `(n, units)` and raw maps `(n, h, w)`, a batch at a time."""
    _check_arguments(method, model, images, class_name, positive_unit)
    open_pass = partial(compile_pass, model, positive_unit=positive_unit)
    if method in _CAM_STEPS:
        ask = open_pass(_CAM_STEPS[method], layers=_choose_layers(model, layer))
    elif method == "score_cam":
        layers = _choose_layers(model, layer)
        axes = locate_cells(model, layers)
        ask = partial(probing.probe_score_cam, open_pass, layers, axes)
    elif layer is None:
        ask = partial(_PIXEL_METHODS[method], open_pass)
    else:
        raise ValueError(
            f"`layer` must be None, as {method} asks the whole network. Received: {layer!r}"
        )
    sign = 1.0 if class_name == CLASS_NAMES[1] else -1.0
    starts = range(0, len(images), BATCH_SIZE)
    batches = [ask(images[start : start + BATCH_SIZE], sign) for start in starts]
    predictions, maps = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    _check_finite(maps)
    return predictions, maps


def _choose_layers(model, layer):
    return find_explained_layers(model) if layer is None else [find_layer(model, layer)]


def _make_cam_step(combine):
    def map_evidence(score, activations, join):
        return combine(join(activations), join(cam.take_gradient(score, x) for x in activations))

    return map_evidence


# Made once: a pass is compiled for a function, and found again by it.
_CAM_STEPS = {
    "grad_cam": _make_cam_step(cam.combine_grad_cam),
    "grad_cam_plus_plus": _make_cam_step(cam.combine_grad_cam_plus_plus),
    "layer_cam": _make_cam_step(cam.combine_layer_cam),
    "hires_cam": _make_cam_step(cam.combine_hires_cam),
}

_PIXEL_METHODS = {
    "integrated_gradients": probing.probe_integrated_gradients,
    "smooth_grad": probing.probe_smooth_grad,
    "occlusion": probing.probe_occlusion,
}


def _check_arguments(method, model, images, class_name, positive_unit):
    if method not in METHODS:
        raise ValueError(f"`method` must be one of {', '.join(METHODS)}. Received: {method!r}")
    if class_name not in CLASS_NAMES:
        raise ValueError(f"`class_name` must be one of {CLASS_NAMES}. Received: {class_name!r}")
    if positive_unit not in (0, 1):
        raise ValueError(f"`positive_unit` must be 0 or 1. Received: {positive_unit!r}")
    inputs = getattr(model, "inputs", None)
    if not inputs:
        return  # named by `graph`, which knows what a model must be
    expected = inputs[0].shape[1:]
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
