"""Networks that have forgotten a part of what they learnt, to see whether their maps notice.

Adebayo et al. 2018, "Sanity Checks for Saliency Maps", https://arxiv.org/abs/1810.03292: a map
that stays the same when the weights are random shows the picture, not what the network knows.

What belongs here makes such networks. Comparing their maps belongs to `sanity`.
"""

import keras
import numpy as np
from keras import layers

from bcnet.explain.graph import find_last_convolutions, find_layer, remember


def randomise_layers(model, chosen, *, seed=0):
    """Give a network whose chosen layers have random weights; all others are shared.

    Sharing costs no memory, and training the model later is seen at once. Only the random
    weights stay those of the first call, which is kept as long as the model lives. The model
    itself is not changed.

    Args:
        model: A functional or sequential `keras.Model`, also with such models nested in it.
        chosen: Layers of it, such as `find_head(model)`.
        seed: Same seed, same weights.

    Returns:
        A `keras.Model` with layers of the same names.

    Example:
        >>> model = build_cnn((64, 64))
        >>> other = randomise_layers(model, [model.get_layer("logit")])
        >>> other.get_layer("conv1") is model.get_layer("conv1")
        True
    """
    key = ("random", *(layer.name for layer in chosen), seed)
    return remember(model, key, lambda _: _randomise(model, chosen, np.random.default_rng(seed)))


def randomise_weights(weights, rng):
    """Draw weights that know nothing, of the same size as those that a layer has learnt.

    Args:
        weights: Arrays. Kernels (of two dimensions or more) are drawn anew, normal around zero
            with their own root mean square; vectors (biases, statistics of a normalisation) are
            put in another order, which keeps variances positive.
        rng: `numpy.random.Generator`.

    Returns:
        A list of arrays of the same shapes.

    Example:
        >>> kernel, bias = randomise_weights([np.zeros((2, 3)), np.arange(3)], rng)
        >>> kernel.any(), sorted(bias)
        (False, [0, 1, 2])
    """
    return [
        rng.normal(0, np.sqrt(np.mean(np.square(array))), array.shape)
        if np.ndim(array) >= 2
        else rng.permutation(array)
        if np.ndim(array)
        else array
        for array in weights
    ]


def find_head(model):
    """Find what turns features into an answer: the dense layers, also inside nested models.

    Args:
        model: A functional or sequential `keras.Model`.

    Returns:
        Layers in the order they are computed; none where the network is all convolutions.

    Example:
        >>> [layer.name for layer in find_head(build_cnn((64, 64)))]
        ['dense1', 'logit', 'calibration']
    """
    return [layer for layer in list_layers(model) if isinstance(layer, layers.Dense)]


def find_block(model, layer=None):
    """Find what computes the features that a map explains: the convolution, or each member's.

    Args:
        model: A functional or sequential `keras.Model`.
        layer: The layer explained or its name, as for `heatmaps.grad_cam`. One without a kernel,
            such as an activation, stands for the last convolution too.

    Returns:
        Layers; none where the network has no convolution.

    Raises:
        ValueError: If there is no such layer.

    Example:
        >>> [layer.name for layer in find_block(build_cnn((64, 64)), "conv2")]
        ['conv2']
    """
    if layer is not None and has_kernel(found := find_layer(model, layer)):
        return [found]
    try:
        return find_last_convolutions(model)
    except ValueError:  # there is none, which only some methods mind
        return []


def list_layers(model):
    """List the layers of a model and of those nested in it, in the order they are computed.

    Args:
        model: A functional or sequential `keras.Model`.

    Returns:
        Layers that are not models themselves.

    Example:
        >>> [layer.name for layer in list_layers(build_cnn((64, 64)))][:3]
        ['image', 'normalise', 'conv1']
    """
    inside = (
        list_layers(layer) if isinstance(layer, keras.Model) else [layer] for layer in model.layers
    )
    return [layer for found in inside for layer in found]


def has_kernel(layer):
    """Return whether a layer has weights of two dimensions or more."""
    return any(len(weight.shape) >= 2 for weight in layer.weights)


def _randomise(model, chosen, rng):
    fresh = {}

    def clone(layer):
        if layer not in chosen:
            return layer
        fresh[layer] = layer.__class__.from_config(layer.get_config())
        return fresh[layer]

    plain = keras.Model(
        model.inputs[0], model.outputs[0]
    )  # a clone of a compiled one is compiled too
    other = keras.models.clone_model(plain, clone_function=clone, recursive=True)
    for layer in chosen:  # in their own order, so that a draw does not depend on how it was cloned
        fresh[layer].set_weights(randomise_weights(layer.get_weights(), rng))
    return other
