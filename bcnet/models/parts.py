"""What every network shares: its tail, its precision, and which of its layers may learn.

Only Keras is imported in this folder, so every network also runs on its other backends
(`KERAS_BACKEND=jax`). Training, files, thresholds and heatmaps live elsewhere.
"""

import re
from numbers import Integral

import keras
from keras import layers

POLICIES = ("float32", "mixed_bfloat16", "mixed_float16")
"""Keras's names of the arithmetic; weights are float32 in each of them."""

# One whole grey level needs 8 bits of mantissa and its fractions more, bfloat16 has 8 in all;
# and a probability near 0 or 1 is all rounding. So both ends of a network stay in float32.
FLOAT32_LAYERS = (layers.Rescaling, layers.Normalization)
FLOAT32_NAMES = ("logit", "calibration", "probability")

# A layer's name up to its first number, which is its block's: block5, conv_pw_13, block6a.
BLOCK = r"\D*\d+[a-z]?(?![a-z0-9])|.*"


def unfreeze(model, block):
    """Make a network trainable from a block to its end, in place.

    What stands before the block keeps its flags. Batch normalisation keeps its own too: tuning
    its statistics on a few pictures would undo what the frozen layers were trained with
    (https://keras.io/guides/transfer_learning). So does the calibration, which is set, not
    trained. Compile the model again afterwards.

    Args:
        model: One of our networks.
        block: Beginning of the name of the block's first layer, e.g. "block5".

    Raises:
        ValueError: If no layer's name begins with `block`.

    Example:
        >>> model = build_vgg16((64, 64), weights="vgg16_notop.h5")
        >>> unfreeze(model, "block5")
        >>> [layer.name for layer in model.layers if layer.trainable_weights]
        ['block5_conv1', 'block5_conv2', 'block5_conv3', 'logit']
    """
    for layer in model.layers[find_block(model, block) :]:
        if not isinstance(layer, layers.BatchNormalization) and layer.name != "calibration":
            layer.trainable = True


def find_block(model, block):
    """Find where a block begins, so that its name can be checked before any work.

    Args:
        model: One of our networks.
        block: Beginning of the name of the block's first layer.

    Returns:
        The position of that layer in `model.layers`.

    Raises:
        ValueError: If no layer's name begins with `block`, naming the blocks.

    Example:
        >>> find_block(build_cnn((64, 64)), "conv1")
        2
    """
    starts = [i for i, layer in enumerate(model.layers) if block and layer.name.startswith(block)]
    if not starts:
        names = [re.match(BLOCK, layer.name)[0] for layer in model.layers if layer.weights]
        blocks = [name for name in dict.fromkeys(names) if name != "calibration"]
        raise ValueError(f"`block` must be one of {', '.join(blocks)}. Received: block={block!r}")
    return starts[0]


def with_precision(model, precision):
    """Rebuild a network, with the same weights, under another precision.

    Weights are float32 in every precision, so going there and back changes none of them. The
    layers that see pixels in 0–255 and the tail always compute in float32.

    Args:
        model: A functional or sequential `keras.Model`, also with such models nested in it.
        precision: One of `POLICIES`.

    Returns:
        A new `keras.Model` with equal layer names, weights and `trainable` flags. An optimizer's
        state is not carried over.

    Raises:
        ValueError: If `precision` is not one of `POLICIES`.

    Example:
        >>> model = with_precision(build_cnn((64, 64)), "mixed_bfloat16")
        >>> model.get_layer("conv1").compute_dtype, model.get_layer("logit").compute_dtype
        ('bfloat16', 'float32')
    """
    if precision not in POLICIES:
        allowed = ", ".join(POLICIES)
        raise ValueError(f"`precision` must be one of {allowed}. Received: precision={precision!r}")

    def rebuild(operation):
        config = operation.get_config()
        if isinstance(operation, layers.Layer):
            config["dtype"] = "float32" if _must_stay_float32(operation) else precision
        return operation.__class__.from_config(config)

    clone = keras.models.clone_model(model, clone_function=rebuild, recursive=True)
    # A clone of a compiled model brings an optimizer, three times the weights, into every file.
    rebuilt = keras.Model(clone.input, clone.output, name=model.name)
    copy_weights(model, rebuilt)
    rebuilt.dtype_policy = precision  # by this, `compile` knows that float16 needs a scaled loss
    return rebuilt


def copy_weights(source, target):
    """Give a network, or one layer, the weights of another of the same shape, in place.

    Args:
        source: A `keras.Model` or a layer.
        target: One whose weights have the same shapes in the same order.
    """
    target.set_weights(source.get_weights())
    for layer in target._flatten_layers():
        if isinstance(layer, layers.Normalization):
            layer.finalize_state()  # it computes with copies made when it was built


def _must_stay_float32(layer):
    return isinstance(layer, FLOAT32_LAYERS) or layer.name.endswith(FLOAT32_NAMES)


def add_tail(x):
    """Add the end every network shares: a logit, its calibration, a sigmoid."""
    return add_end(layers.Dense(1, name="logit")(x))


def add_end(logit):
    """Add what follows the logit: its calibration (identity until set) and a sigmoid."""
    x = layers.Dense(1, kernel_initializer="ones", trainable=False, name="calibration")(logit)
    return layers.Activation("sigmoid", name="probability")(x)


def check_image_size(image_size, *, smallest):
    """Return `image_size` as a tuple if both sides are whole and at least `smallest`."""
    sides = tuple(image_size) if hasattr(image_size, "__len__") else ()
    if len(sides) != 2 or any(not isinstance(n, Integral) or n < smallest for n in sides):
        raise ValueError(
            f"`image_size` must be (height, width), whole numbers of at least {smallest} pixels. "
            f"Received: image_size={image_size!r}"
        )
    return sides
