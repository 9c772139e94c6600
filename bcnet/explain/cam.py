"""The arithmetic of class activation maps: a layer's output and its gradient in, a map out.

What belongs here needs no network: each step can be worked by hand. Which layer, which class and
how large a map is shown belong to `heatmaps`.

Throughout, `activations` are a layer's output, float32 `(n, h, w, channels)`, `gradients` by how
much the score rises with each of them, of the same shape, and a map is `(n, h, w)`, at least 0.
"""

import tensorflow as tf

__all__ = [
    "average_gradient",
    "combine_grad_cam",
    "combine_grad_cam_plus_plus",
    "combine_hires_cam",
    "combine_layer_cam",
    "take_gradient",
    "weigh_activations",
]


def take_gradient(score, activations):
    """Differentiate a score by a layer's output: the first step of every gradient method.

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
    """Average each channel's gradient over all places: the weights of Grad-CAM.

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
    """Sum the weighted channels and keep what speaks for the class: the last step.

    Args:
        activations: `(n, h, w, channels)`.
        weights: `(n, channels)`, or one for each place as `activations`.

    Returns:
        Tensor `(n, h, w)`, at least 0.

    Example:
        >>> weigh_activations(np.array([[[[1.0, 2.0], [3.0, 1.0]]]]), np.array([[2.0, -3.0]]))
        # 2·1 − 3·2 = −4 -> 0 and 2·3 − 3·1 = 3
    """
    form = "nhwc,nc->nhw" if len(weights.shape) == 2 else "nhwc,nhwc->nhw"
    return tf.nn.relu(tf.einsum(form, activations, weights))


def combine_grad_cam(activations, gradients):
    """Weigh each channel by its mean gradient (Selvaraju et al. 2017).

    Args:
        activations: As in the module's docstring.
        gradients: As in the module's docstring.

    Returns:
        The map.

    Example:
        One channel of activations 4 and 0 with gradients 1 and 2: its weight is 1.5, the map 6, 0.
    """
    return weigh_activations(activations, average_gradient(gradients))


def combine_grad_cam_plus_plus(activations, gradients):
    """Weigh each channel by its positive gradients, each by what it brings (Chattopadhay 2018).

    For `exp(score)`, whose derivatives the paper needs, a gradient g counts
    1 / (2 + g · Σ activations), and these shares are made to sum to 1 in each channel. The factor
    exp(score) itself is left out: it is the same everywhere in a picture, and overflows.

    Args:
        activations: As in the module's docstring.
        gradients: As in the module's docstring.

    Returns:
        The map, but for a factor of its picture.

    Example:
        One channel of activations 2 and 0 with gradients 1 and 2: shares of 1/4 and 1/6, made
        0.6 and 0.4, give the weight 0.6 · 1 + 0.4 · 2 = 1.4, and the map 2.8, 0.
    """
    total = tf.reduce_sum(activations, axis=(1, 2), keepdims=True)
    shares = tf.math.divide_no_nan(1.0, 2.0 + gradients * total)
    shares = tf.where(gradients == 0, 0.0, shares)
    shares = tf.math.divide_no_nan(shares, tf.reduce_sum(shares, axis=(1, 2), keepdims=True))
    return weigh_activations(
        activations, tf.reduce_sum(shares * tf.nn.relu(gradients), axis=(1, 2))
    )


def combine_layer_cam(activations, gradients):
    """Weigh each place of each channel by its own positive gradient (Jiang et al. 2021).

    Args:
        activations: As in the module's docstring.
        gradients: As in the module's docstring.

    Returns:
        The map.

    Example:
        One channel of activations 4 and 1 with gradients −1 and 2: the map is 0, 2.
    """
    return weigh_activations(activations, tf.nn.relu(gradients))


def combine_hires_cam(activations, gradients):
    """Weigh each place of each channel by its own gradient (Draelos and Carin 2020).

    Args:
        activations: As in the module's docstring.
        gradients: As in the module's docstring.

    Returns:
        The map.

    Example:
        Two channels of activations 4 and 1 with gradients −1 and 2 in one place: −2, so 0.
    """
    return weigh_activations(activations, gradients)
