"""A Keras model laid open: any layer's output beside the logit, in one compiled function.

What belongs here knows how models are put together: nested, sequential, one unit or two, any
precision. What is made of a layer's output and its logit – which map – belongs to `heatmaps`.

A model is opened once. Models nested in it are laid out as one flat graph of the same layers,
weights shared, so that predictions stay what they are and later training is seen.
"""

import threading
import weakref
from typing import NamedTuple

import keras
import tensorflow as tf
from keras import layers

CONVOLUTIONS = (
    layers.Conv2D,
    layers.Conv2DTranspose,
    layers.DepthwiseConv2D,
    layers.SeparableConv2D,
)


class _FlatModel(NamedTuple):
    input: keras.KerasTensor
    output: keras.KerasTensor
    outputs: dict  # layer -> its output tensor, in the order they are computed
    compiled: dict  # what was compiled for -> the function


# Keyed weakly by the model itself: what was made for a model goes when the model goes.
_flat_models = weakref.WeakKeyDictionary()

# Two threads must not build on the same layers at once; running what was built needs no lock.
_building = threading.RLock()


def find_last_convolution(model):
    """Find the convolution nearest to the output that still tells places apart.

    Nested models are searched too. A convolution over a single cell (squeeze-and-excitation, or
    one behind a global pooling) knows nothing of places and is passed over.

    Args:
        model: A functional or sequential `keras.Model`.

    Returns:
        The layer.

    Raises:
        ValueError: If there is none.

    Example:
        >>> find_last_convolution(build_cnn((64, 64))).name
        'conv3'
    """
    for layer, output in reversed(_open(model).outputs.items()):
        if isinstance(layer, CONVOLUTIONS) and tuple(output.shape[1:3]) != (1, 1):
            return layer
    raise ValueError(f"`model` must have a convolution to be explained. Received: {model.name}")


def find_layer(model, layer=None):
    """Find a layer that gives maps, also inside nested models.

    Args:
        model: A functional or sequential `keras.Model`.
        layer: Its name, the layer itself, or None for `find_last_convolution(model)`.

    Returns:
        The layer.

    Raises:
        ValueError: If the model has no such layer, or its output is not `(n, h, w, channels)`.

    Example:
        >>> find_layer(build_cnn((64, 64)), "conv2").name
        'conv2'
    """
    if layer is None:
        return find_last_convolution(model)
    outputs = _open(model).outputs
    spatial = [known for known, output in outputs.items() if len(output.shape) == 4]
    for known in reversed(spatial):
        if layer is known or layer == known.name:
            return known
    names = ", ".join(known.name for known in spatial if isinstance(known, CONVOLUTIONS))
    raise ValueError(
        "`layer` must be one whose output is (n, h, w, channels), such as the convolutions "
        f"{names}. Received: {layer!r}"
    )


def compile_map(model, layer, compute, *, positive_unit=1):
    """Compile one forward pass that gives predictions and a map.

    Compiled once per model, layer, `compute` and unit, and kept as long as the model lives.

    Args:
        model: A functional or sequential `keras.Model` with one input and one output.
        layer: A layer of it, from `find_layer`.
        compute: Function of `(score, activations)`, float32 `(n,)` and the layer's output
            `(n, h, w, channels)`, giving maps `(n, h, w)`. It runs where TensorFlow builds a
            graph, so `tf.gradients` works in it.
        positive_unit: The output unit that stands for malignant, 0 or 1.

    Returns:
        A function of `(images, sign)`: a batch as the model takes it, and 1.0 for malignant or
        −1.0 for benign, by which the logit is multiplied. It gives tensors `(predictions, maps)`,
        float32 `(n, units)` and `(n, h, w)`.

    Raises:
        ValueError: If the model does not end in one unit or two.

    Example:
        >>> model = build_cnn((64, 64))
        >>> run = compile_map(model, model.get_layer("conv3"), lambda _, x: x[..., 0])
        >>> run(np.zeros((5, 64, 64, 3)), 1.0)[1].shape
        TensorShape([5, 16, 16])
    """
    with _building:
        flat = _open(model)
        key = (layer, compute, positive_unit)
        if key not in flat.compiled:
            flat.compiled[key] = _compile(flat, layer, compute, positive_unit)
        return flat.compiled[key]


def _compile(flat, layer, compute, positive_unit):
    ends = [output for layer, output in flat.outputs.items() if layer.name == "logit"]
    score_from = ends[-1] if ends else flat.output  # our own tail: before its calibration
    probe = keras.Model(flat.input, [flat.outputs[layer], score_from, flat.output])

    def run(images, sign):
        activations, ending, predictions = probe(images, training=False)
        score = sign * _read_logit(ending, positive_unit)
        return tf.cast(predictions, "float32"), tf.cast(compute(score, activations), "float32")

    picture = tf.TensorSpec(flat.input.shape, flat.input.dtype)
    graph = tf.function(run).get_concrete_function(picture, tf.TensorSpec((), "float32"))
    return lambda images, sign: graph(tf.cast(images, picture.dtype), tf.constant(sign))


def _read_logit(ending, positive_unit):
    """The logit of malignant, `(n,)`, from what a network ends in: (n, 1) or (n, 2)."""
    logits = tf.cast(_undo_activation(ending), "float32")
    if logits.shape.rank != 2 or logits.shape[-1] not in (1, 2):
        raise ValueError(f"`model` must end in one unit or two. Received: {tuple(ending.shape)}")
    if logits.shape[-1] == 2:
        return logits[:, positive_unit] - logits[:, 1 - positive_unit]
    return logits[:, 0] if positive_unit == 1 else -logits[:, 0]


def _undo_activation(ending):
    """The tensor that a closing sigmoid or softmax was applied to; without one, `ending` itself.

    Read from TensorFlow's graph, as the activation may be a layer or part of any other layer.
    """
    operation = ending.op
    while operation.type in ("Cast", "Identity"):
        operation = operation.inputs[0].op
    return operation.inputs[0] if operation.type in ("Sigmoid", "Softmax") else ending


def _open(model):
    with _building:
        if model not in _flat_models:
            _flat_models[model] = _flatten(_check_model(model))
        return _flat_models[model]


def _check_model(model):
    if not getattr(model, "inputs", None):
        raise ValueError(
            "`model` must be functional, or sequential and built: a `call` of its own cannot be "
            f"looked into. Received: {type(model).__name__}"
        )
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ValueError(
            "`model` must have one input and one output. "
            f"Received: {len(model.inputs)} and {len(model.outputs)}"
        )
    return model


def _flatten(model):
    outputs = {}

    def call(operation, *args, **kwargs):
        if isinstance(operation, keras.Model):
            return operation.call(*args, **kwargs)  # its layers join the graph in its place
        result = operation(*args, **kwargs)
        if isinstance(operation, layers.Layer) and isinstance(result, keras.KerasTensor):
            outputs[operation] = result
        return result

    flat = keras.Model(model.inputs[0], model.outputs[0])  # a copy makes no second optimizer
    is_nested = True
    while is_nested:  # each round lays out one level
        is_nested = any(isinstance(layer, keras.Model) for layer in flat.layers)
        outputs.clear()
        flat = keras.models.clone_model(
            flat, clone_function=lambda layer: layer, call_function=call
        )
    return _FlatModel(flat.inputs[0], flat.outputs[0], outputs, {})
