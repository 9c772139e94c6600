"""A Keras model laid open: any layer's output beside the logit, in one compiled function.

What belongs here knows how models are put together: nested, sequential, one unit or two, any
precision. What is made of a layer's output and its logit – which map – belongs to `heatmaps`.

A model is opened once. Models nested in it are laid out as one flat graph of the same layers,
weights shared, so that predictions stay what they are and later training is seen. Where a model
averages over turned pictures, each layer is called once for each turn: what all its calls give
counts, turned back.
"""

import itertools
import threading
import weakref
from functools import partial
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from bcnet.explain.geometry import Axis, flip_axis, follow_layer

CONVOLUTIONS = (
    layers.Conv2D,
    layers.Conv2DTranspose,
    layers.DepthwiseConv2D,
    layers.SeparableConv2D,
)

ACTIVATIONS = (
    layers.Activation,
    layers.ReLU,
    layers.LeakyReLU,
    layers.PReLU,
    layers.ELU,
)

# `keras.ops.flip` and `keras.ops.transpose`, as they stand in a graph.
TURNS = ("Flip", "Transpose")


class _FlatModel(NamedTuple):
    input: keras.KerasTensor
    output: keras.KerasTensor
    score_from: keras.KerasTensor  # what the logit is read from
    outputs: dict  # layer -> what each of its calls gives, in the order they are computed
    known: dict  # what was asked -> what was found or compiled


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
    return find_last_convolutions(model)[-1]


def find_last_convolutions(model):
    """Find the last convolution of each member, where a model averages several.

    These are the convolutions that no other follows and whose outputs have one shape, so that
    their channels can be laid side by side.

    Args:
        model: A functional or sequential `keras.Model`.

    Returns:
        Layers; the last is `find_last_convolution(model)`.

    Raises:
        ValueError: If there is none.

    Example:
        >>> pair = average_members([build_cnn((64, 64)), build_cnn((64, 64))])
        >>> sorted(layer.name for layer in find_last_convolutions(pair))
        ['member1_conv3', 'member2_conv3']
    """
    flat = _open(model)
    last = _find_last(flat, flat.output, _is_spatial_convolution)
    if not last:
        raise ValueError(f"`model` must have a convolution to be explained. Received: {model.name}")
    shape = flat.outputs[last[-1]][0].shape
    return [layer for layer in last if flat.outputs[layer][0].shape == shape]


def find_explained_layers(model):
    """Find what is explained by default: the last convolution of each member, once activated.

    What a convolution gives before its normalisation has an offset that means nothing, so maps of
    it point anywhere. Where it has no activation of its own, the one that follows is taken, behind
    normalisation, shortcut or concatenation, as long as the places stay the same.

    Args:
        model: As for `find_last_convolution`.

    Returns:
        Layers, as `find_last_convolutions`.

    Raises:
        ValueError: If there is no convolution.

    Example:
        >>> [layer.name for layer in find_explained_layers(build_mobilenet((64, 64)))]
        ['conv_pw_13_relu']
    """
    return remember(
        model,
        "explained",
        lambda flat: [_find_activated(flat, layer) for layer in find_last_convolutions(model)],
    )


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
    spatial = [known for known, (output, *_) in outputs.items() if len(output.shape) == 4]
    for known in reversed(spatial):
        if layer is known or layer == known.name:
            return known
    names = ", ".join(known.name for known in spatial if isinstance(known, CONVOLUTIONS))
    raise ValueError(
        "`layer` must be one whose output is (n, h, w, channels), such as the convolutions "
        f"{names}. Received: {layer!r}"
    )


def locate_cells(model, chosen):
    """Find where in the picture the cells of layers' outputs lie.

    Args:
        model: As for `compile_pass`.
        chosen: Layers of the model, from `find_layer`, of one output size.

    Returns:
        The `geometry.Axis` of rows and that of columns, in pixels of the model's input, the mean
        over the layers and over the ways that the model turns its pictures; None where the model
        takes pictures of any size.

    Example:
        >>> model = build_cnn((64, 64))
        >>> locate_cells(model, [model.get_layer("conv3")])[0]  # centres of four pixels each
        Axis(start=1.5, step=4.0)
    """
    return remember(model, ("cells", *chosen), lambda flat: _locate_cells(flat, chosen))


def compile_pass(model, compute, *, layers=(), positive_unit=1):
    """Compile one forward pass that gives predictions and something computed along with them.

    Compiled once per model, `compute`, layers and unit, and kept as long as the model lives.

    Args:
        model: A functional or sequential `keras.Model` with one input and one output.
        compute: Function of `(score, activations, join)`: float32 `(n,)`; a list with what each
            call of each layer gives, `(n, h, w, channels)`, one call for each way that the model
            turns its pictures; and what makes one float32 tensor of such a list, turned back and
            channels side by side. It gives a tensor, and runs where TensorFlow builds a graph, so
            that `tf.gradients` works in it.
        layers: Layers of the model, from `find_layer`; without any, the pictures themselves stand
            in the list.
        positive_unit: The output unit that stands for malignant, 0 or 1.

    Returns:
        A function of `(images, sign)`: a batch as the model takes it, and 1.0 for malignant or
        −1.0 for benign, by which the logit is multiplied to give the score. It gives tensors
        `(predictions, computed)`, both float32, the first `(n, units)`.

    Raises:
        ValueError: If the model does not end in one unit or two.

    Example:
        >>> model = build_cnn((64, 64))
        >>> run = compile_pass(model, lambda _, x, join: join(x), layers=[model.get_layer("conv3")])
        >>> run(np.zeros((5, 64, 64, 3)), 1.0)[1].shape
        TensorShape([5, 16, 16, 64])
    """
    key = (compute, tuple(layers), positive_unit)
    return remember(model, key, lambda flat: _compile(flat, *key))


def compile_features(model):
    """Compile one forward pass that gives what the last dense layer sees of each picture.

    Args:
        model: As for `compile_pass`.

    Returns:
        A function of a batch as the model takes it, giving a float32 tensor `(n, d)`. Where a
        model averages over turned pictures, so are the features; those of several members stand
        side by side. The last layer makes of them what the model answers.

    Raises:
        ValueError: If there is no dense layer.

    Example:
        >>> compile_features(build_cnn((64, 64), dense=8))(np.zeros((5, 64, 64, 3))).shape
        TensorShape([5, 8])
    """
    compute = compile_answers(model)
    return lambda images: compute(images)[1]


def compile_answers(model):
    """Compile one forward pass that gives the features of `compile_features` and the predictions.

    Args:
        model: As for `compile_pass`.

    Returns:
        A function of a batch as the model takes it, giving two float32 tensors, `(n, units)` and
        `(n, d)`.

    Raises:
        ValueError: If there is no dense layer.

    Example:
        >>> answers, features = compile_answers(build_cnn((64, 64)))(np.zeros((5, 64, 64, 3)))
        >>> answers.shape, len(features)
        (TensorShape([5, 1]), 5)
    """
    return remember(model, "answers", lambda flat: _compile_answers(flat, model.name))


def remember(model, key, make):
    """Make something of a model once, and keep it as long as the model lives.

    Args:
        model: As for `compile_pass`.
        key: What it is, hashable; another for each thing made of the model.
        make: Function of the opened model, called when it is first asked for, by one thread only.

    Returns:
        What `make` gave.

    Raises:
        ValueError: If the model cannot be looked into.

    Example:
        >>> model = build_cnn((64, 64))
        >>> remember(model, "list", list) is remember(model, "list", list)
        True
    """
    with _building:
        flat = _open(model)
        if key not in flat.known:
            flat.known[key] = make(flat)
        return flat.known[key]


def _compile_answers(flat, name):
    heads = _find_last(flat, flat.score_from, lambda layer, _: isinstance(layer, layers.Dense))
    if not heads:
        raise ValueError(f"`model` must have a dense layer to give features. Received: {name}")
    calls = [flat.outputs[head] for head in heads]
    seen = [_list_inputs(call)[0] for member in calls for call in member]
    probe = keras.Model(flat.input, [flat.output, *seen])

    def run(images):
        predictions, *features = probe(images, training=False)
        features = iter(features)
        members = [[next(features) for _ in member] for member in calls]
        joined = _join_channels(tf.reduce_mean(views, axis=0) for views in members)
        return tf.cast(predictions, "float32"), joined

    picture = tf.TensorSpec(flat.input.shape, "float32")
    graph = tf.function(run, autograph=False).get_concrete_function(picture)
    return lambda images: graph(tf.cast(images, "float32"))


def _compile(flat, compute, layers, positive_unit):
    places = [call for layer in layers for call in flat.outputs[layer]] or [flat.input]
    probe = keras.Model(flat.input, [*places, flat.score_from, flat.output])
    turns = [_find_turns(place) for place in places]

    def join(tensors):
        return _join_channels(map(_turn_back, tensors, turns))

    def run(images, sign):
        *activations, ending, predictions = probe(images, training=False)
        score = sign * _read_logit(ending, positive_unit)
        return tf.cast(predictions, "float32"), compute(score, activations, join)

    picture = tf.TensorSpec(flat.input.shape, "float32")
    graph = tf.function(run, autograph=False).get_concrete_function(
        picture, tf.TensorSpec((), "float32")
    )
    return lambda images, sign: graph(tf.cast(images, "float32"), tf.constant(sign))


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
    outputs, twins = {}, {}

    def call(operation, *args, **kwargs):
        if _has_graph(operation):
            return lay_out(operation, args[0])  # its layers join the graph in its place
        if operation not in twins:
            twins[operation] = _rename(operation, taken=[twin.name for twin in twins.values()])
        operation = twins[operation]
        result = operation(*args, **kwargs)
        if isinstance(operation, layers.Layer) and isinstance(result, keras.KerasTensor):
            outputs.setdefault(operation, []).append(result)
        return result

    def lay_out(nested, inputs):
        graph = getattr(nested, "_functional", nested)  # of a sequential model
        return graph._run_through_graph(inputs, operation_fn=lambda x: partial(call, x))

    # Whole numbers have no gradient; what takes them gives the same for 7 and 7.0.
    image = keras.Input(batch_shape=model.inputs[0].shape, dtype="float32")
    (output,) = tf.nest.flatten(lay_out(model, image))
    return _FlatModel(image, output, _pass_over_calibration(output), outputs, {})


def _has_graph(operation):
    return isinstance(operation, keras.Model) and bool(getattr(operation, "inputs", None))


def _rename(operation, taken):
    """The operation, or a twin that shares all but its name, where another has the same name.

    Two nested models may both have a layer `conv1`; one graph may not.
    """
    if operation.name not in taken:
        return operation
    twin = object.__new__(type(operation))
    twin.__dict__.update(vars(operation))
    number = next(n for n in itertools.count(2) if f"{operation.name}_{n}" not in taken)
    vars(twin).update(name=f"{operation.name}_{number}", _inbound_nodes=[], _outbound_nodes=[])
    return twin


def _pass_over_calibration(output):
    """The logit of a network with our own tail; any other's output as it is."""
    tensor = output
    for name in ("probability", "calibration"):
        if _get_operation(tensor).name != name:
            return output
        (tensor,) = _list_inputs(tensor)
    return tensor


def _is_spatial_convolution(layer, output):
    return isinstance(layer, CONVOLUTIONS) and tuple(output.shape[1:3]) != (1, 1)


def _find_last(flat, end, is_wanted):
    """The wanted layers that lead to a tensor with no other of them between."""
    leading = set(map(_get_operation, _walk_back(end)))
    wanted = [
        layer
        for layer, (output, *_) in flat.outputs.items()
        if layer in leading and is_wanted(layer, output)
    ]
    followed = set()
    for layer in wanted:
        for before in _list_inputs(flat.outputs[layer][0]):
            followed.update(map(_get_operation, _walk_back(before)))
    return [layer for layer in wanted if layer not in followed]


def _find_activated(flat, convolution):
    """The layer that activates what a convolution gives; the convolution if none does."""
    tensor = flat.outputs[convolution][0]
    size, operation = tensor.shape[1:3], convolution
    readers = {}
    for read in _walk_back(flat.output):
        for before in _list_inputs(read):
            readers.setdefault(id(before), []).append(read)
    while getattr(operation, "activation", None) in (None, keras.activations.linear):
        following = readers.get(id(tensor), [])
        if len(following) != 1 or following[0].shape[1:3] != size:
            return convolution
        (tensor,) = following
        operation = _get_operation(tensor)
        if isinstance(operation, ACTIVATIONS):
            return operation
    return convolution


def _walk_back(tensor):
    """Yield a tensor and those it was computed from."""
    waiting, seen = [tensor], set()
    while waiting:
        tensor = waiting.pop()
        if id(tensor) not in seen:
            seen.add(id(tensor))
            yield tensor
            waiting += _list_inputs(tensor)


def _list_inputs(tensor):
    """The tensors that the call which gave this one was made with."""
    operation, node, _ = tensor._keras_history
    return operation._inbound_nodes[node].input_tensors


def _find_turns(tensor):
    """The operations that turned the picture itself on the way to a tensor, the last first."""
    return max(map(_list_turns, _walk_back(tensor)), key=len)


def _list_turns(tensor):
    """The operations between the picture and a tensor if all are turns, the last first; else []."""
    turns = []
    while type(_get_operation(tensor)).__name__ in TURNS:
        turns.append(_get_operation(tensor))
        tensor = _list_inputs(tensor)[0]
    return turns if isinstance(_get_operation(tensor), layers.InputLayer) else []


def _turn_back(tensor, turns):
    for turn in turns:
        if not hasattr(turn, "axes"):
            tensor = tf.reverse(tensor, _list_flipped(turn))
        elif _is_swap(turn):
            tensor = tf.transpose(tensor, (0, 2, 1, 3))
    return tensor


def _locate_cells(flat, chosen):
    if None in flat.input.shape[1:]:
        return None
    found = np.array([_locate(call) for layer in chosen for call in flat.outputs[layer]])
    return [Axis(*axis) for axis in found.mean(axis=0).tolist()]


def _locate(tensor):
    """The axes of a tensor's cells, turned back as `_turn_back` turns the tensor."""
    way = [tensor]
    while _list_inputs(way[-1]):
        way.append(max(_list_inputs(way[-1]), key=_count_cells))
    axes = [Axis(0.0, 1.0), Axis(0.0, 1.0)]
    places = [step for step in reversed(way) if len(step.shape) == 4]  # without lists of pixels
    for before, after in itertools.pairwise(places):
        operation = _get_operation(after)
        if type(operation).__name__ in TURNS:
            axes = _turn_axes(axes, operation, before.shape)
        else:
            axes = follow_layer(operation, axes, before.shape[1:3], after.shape[1:3])
    shape = tensor.shape
    for turn in _find_turns(tensor):
        axes = _turn_axes(axes, turn, shape)
        shape = (shape[0], shape[2], shape[1], shape[3]) if hasattr(turn, "axes") else shape
    return axes


def _count_cells(tensor):
    return int(np.prod(tensor.shape[1:3])) if len(tensor.shape) == 4 else 0


def _turn_axes(axes, turn, shape):
    if hasattr(turn, "axes"):
        return axes[::-1] if _is_swap(turn) else axes
    flipped = _list_flipped(turn)
    return [
        flip_axis(axis, length) if number in flipped else axis
        for number, axis, length in zip((1, 2), axes, shape[1:3], strict=True)
    ]


def _is_swap(turn):
    return tuple(turn.axes or ()) == (0, 2, 1, 3)


def _list_flipped(turn):
    """The axes of places that are flipped: other colours first is no other view."""
    axes = [] if turn.axis is None else np.atleast_1d(turn.axis) % 4
    return [axis for axis in axes if axis in (1, 2)]


def _join_channels(tensors):
    return tf.concat([tf.cast(tensor, "float32") for tensor in tensors], axis=-1)


def _get_operation(tensor):
    return tensor._keras_history.operation
