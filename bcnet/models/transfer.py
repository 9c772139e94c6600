"""From one network into another: weights by layer name, and a network cut in two for its head."""

from typing import NamedTuple

import keras

from bcnet.models.averaging import FIRST_MEMBER
from bcnet.models.parts import copy_weights


class Carried(NamedTuple):
    """Which layers took over weights, and which of those that have weights did not.

    Attributes:
        taken: names of the layers whose weights were taken over.
        left: names of the layers that keep their own: other name or other shapes.
    """

    taken: list[str]
    left: list[str]

    def __str__(self):
        told = f"weights taken over in {len(self.taken)} of {len(self.taken) + len(self.left)}"
        return told + " layers" + (f", not in {', '.join(self.left)}" if self.left else "")


def carry_weights(source, target):
    """Take over the weights of every layer of the same name and shapes, in place.

    The calibration is not taken over: it belongs to the data it was fitted on.

    Args:
        source: A network of ours; of an averaged one, its first member is taken.
        target: The network to fill.

    Returns:
        `Carried`: the names of the layers.

    Raises:
        ValueError: If not one layer fits.

    Example:
        >>> str(carry_weights(build_cnn((50, 50)), build_cnn((64, 64))))
        'weights taken over in 7 of 7 layers'
    """
    nested = [layer for layer in source.layers if layer.name == FIRST_MEMBER]
    body = nested[0] if nested else source
    known = {layer.name.removeprefix(f"{FIRST_MEMBER}_"): layer for layer in body.layers}
    taken, left = [], []
    for layer in target.layers:
        if not layer.weights or layer.name == "calibration":
            continue
        twin = known.get(layer.name)
        if twin is not None and _list_shapes(twin) == _list_shapes(layer):
            copy_weights(twin, layer)
            taken.append(layer.name)
        else:
            left.append(layer.name)
    if not taken:
        raise ValueError(
            f"no layer of {source.name} fits {target.name}: the model to start from must have "
            "the same layers"
        )
    return Carried(taken, left)


def _list_shapes(layer):
    return [tuple(weight.shape) for weight in layer.weights]


def split_head(model, layer="features"):
    """Cut a network in two after a layer: what is computed once, and what learns from it.

    Args:
        model: A network of ours with one path through `layer`.
        layer: Name of the layer whose output is handed over.

    Returns:
        `(body, head)`: pictures to features `(n, d)`, features to `(n, 1)` probabilities. Both
        share their layers with `model`, so training the head trains the model.

    Example:
        >>> body, head = split_head(build_mobilenet((64, 64), weights=None, alpha=0.25))
        >>> body.output_shape, head.input_shape
        ((None, 256), (None, 256))
    """
    cut = model.get_layer(layer)
    features = x = keras.Input(cut.output.shape[1:], name=layer, dtype=cut.output.dtype)
    for following in model.layers[model.layers.index(cut) + 1 :]:
        x = following(x)
    return keras.Model(model.input, cut.output), keras.Model(features, x, name="head")
