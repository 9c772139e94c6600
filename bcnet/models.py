"""The networks: each takes RGB 0–255 and answers with the probability of malignant.

What belongs here is the shape of a network: which layers, under which names, in which precision.
Training, files, thresholds and heatmaps live elsewhere. Only Keras is imported, so every network
also runs on its other backends (`KERAS_BACKEND=jax`).
"""

import os
import warnings
from numbers import Integral
from pathlib import Path
from textwrap import shorten

import keras
from keras import layers

POLICIES = ("float32", "mixed_bfloat16", "mixed_float16")
"""Keras's names of the arithmetic; weights are float32 in each of them."""

# One whole grey level needs 8 bits of mantissa and its fractions more, bfloat16 has 8 in all;
# and a probability near 0 or 1 is all rounding. So both ends of a network stay in float32.
FLOAT32_LAYERS = (layers.Rescaling, layers.Normalization)
FLOAT32_NAMES = ("logit", "calibration", "probability")

# Keras's 0.99 needs hundreds of steps to know the pictures; a small data set has fewer.
NORM_MOMENTUM = 0.9

# Mean of ImageNet's pixels in the order VGG16 was trained on: blue, green, red (Simonyan &
# Zisserman 2015, https://arxiv.org/abs/1409.1556; the same numbers as Keras's "caffe" mode).
IMAGENET_MEAN_BGR = (103.939, 116.779, 123.68)


def build_cnn(image_size, *, widths=(16, 32, 64), dense=128, dropout=0.5, precision="float32"):
    """Build the small network: three convolution blocks and two fully connected layers.

    Each channel's mean and maximum over the picture are what the fully connected layers see, so
    the network's size does not depend on the picture's, and a few abnormal nuclei count as much
    as many. Batch normalisation stands after the pooling (before it, training is five times slower
    on CPUs, and the function learnt is nearly the same) and not in the first block, where it
    costs most and gained nothing.

    Args:
        image_size: `(height, width)` in pixels, at least 8 each: three poolings halve it thrice.
        widths: Channels of the three convolutions.
        dense: Units of the fully connected layer `dense1`.
        dropout: Share of features, and of those units, silenced in training, from 0 to below 1.
        precision: One of `POLICIES`; see `with_precision`.

    Returns:
        An uncompiled `keras.Model`. Input `image`: `(n, height, width, 3)`, RGB in 0–255, uint8
        or float. Output `probability`: `(n, 1)`, float32, of malignant.

    Raises:
        ValueError: If `image_size`, `widths` or `precision` is not as described.

    Example:
        >>> build_cnn((64, 64)).get_layer("pool3").output.shape
        (None, 8, 8, 64)
    """
    height, width = _check_image_size(image_size, smallest=8)
    if len(widths) != 3:
        raise ValueError(f"`widths` must be three numbers of channels. Received: widths={widths!r}")
    image = keras.Input((height, width, 3), name="image")
    x = layers.Rescaling(1 / 127.5, offset=-1, name="normalise")(image)

    x = layers.Conv2D(widths[0], 3, padding="same", activation="relu", name="conv1")(x)
    x = layers.MaxPooling2D(name="pool1")(x)

    x = layers.Conv2D(widths[1], 3, padding="same", activation="relu", name="conv2")(x)
    x = layers.MaxPooling2D(name="pool2")(x)
    x = layers.BatchNormalization(momentum=NORM_MOMENTUM, name="norm2")(x)

    x = layers.Conv2D(widths[2], 3, padding="same", activation="relu", name="conv3")(x)
    x = layers.MaxPooling2D(name="pool3")(x)
    x = layers.BatchNormalization(momentum=NORM_MOMENTUM, name="norm3")(x)

    mean = layers.GlobalAveragePooling2D(name="mean")(x)
    maximum = layers.GlobalMaxPooling2D(name="maximum")(x)
    x = layers.Concatenate(name="features")([mean, maximum])
    x = layers.Dropout(dropout, name="dropout1")(x)
    x = layers.Dense(dense, activation="relu", name="dense1")(x)
    x = layers.Dropout(dropout, name="dropout2")(x)
    return with_precision(keras.Model(image, _add_tail(x), name="cnn"), precision)


def build_vgg16(image_size, *, weights="imagenet", precision="float32"):
    """Build VGG16 without its 1,000-class top, with a small head of our own.

    Transfer learning: with pretrained weights the thirteen convolutions start frozen and only
    the head learns; `unfreeze(model, "block5")` then tunes the last block. The graph is flat, so
    that every convolution is found by its name, and begins with VGG16's own preprocessing
    (`keras.applications.vgg16.preprocess_input`), written with plain operations.

    Args:
        image_size: `(height, width)` in pixels, at least 32 each: five poolings.
        weights: "imagenet" for Keras's own download (58 MB, kept in `~/.keras`), the path of a
            weights file of VGG16 without top (`….h5` of keras.applications or `….weights.h5`),
            or None for random weights, all of them trainable.
        precision: One of `POLICIES`; see `with_precision`.

    Returns:
        An uncompiled `keras.Model`. Input `image`: `(n, height, width, 3)`, RGB in 0–255, uint8
        or float. Output `probability`: `(n, 1)`, float32, of malignant.

    Raises:
        ConnectionError: If the ImageNet weights cannot be downloaded.
        FileNotFoundError: If the weights file does not exist.
        ValueError: If the file does not hold VGG16's weights, or an argument is not as described.

    Example:
        >>> build_vgg16((64, 64), weights=None).get_layer("block5_conv3").output.shape
        (None, 4, 4, 512)
    """
    height, width = _check_image_size(image_size, smallest=32)
    image = keras.Input((height, width, 3), name="image")
    x = keras.ops.flip(image, axis=-1)  # RGB -> BGR
    x = layers.Rescaling(1.0, offset=[-mean for mean in IMAGENET_MEAN_BGR], name="normalise")(x)
    backbone = _build_vgg16_backbone(x, weights)
    backbone.trainable = weights is None
    x = layers.GlobalAveragePooling2D(name="average")(backbone.output)
    x = layers.Dense(256, activation="relu", name="dense1")(x)
    x = layers.Dropout(0.5, name="dropout")(x)
    return with_precision(keras.Model(image, _add_tail(x), name="vgg16"), precision)


def find_downloaded_vgg16():
    """Find VGG16's ImageNet weights where Keras keeps what it has downloaded.

    Returns:
        The path of the file as text, or None when it was never downloaded.
    """
    home = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")
    path = home / "models" / "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"
    return str(path) if path.is_file() else None


MODELS = {"cnn": build_cnn, "vgg16": build_vgg16}
"""The networks by the name a user types."""


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
        ['block5_conv1', 'block5_conv2', 'block5_conv3', 'dense1', 'logit']
    """
    starts = [i for i, layer in enumerate(model.layers) if layer.name.startswith(block)]
    if not block or not starts:
        names = [layer.name.split("_")[0] for layer in model.layers if layer.weights]
        blocks = [name for name in dict.fromkeys(names) if name != "calibration"]
        raise ValueError(f"`block` must be one of {', '.join(blocks)}. Received: block={block!r}")
    for layer in model.layers[starts[0] :]:
        if not isinstance(layer, layers.BatchNormalization) and layer.name != "calibration":
            layer.trainable = True


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
    rebuilt.set_weights(model.get_weights())
    rebuilt.dtype_policy = precision  # by this, `compile` knows that float16 needs a scaled loss
    return rebuilt


def _must_stay_float32(layer):
    return isinstance(layer, FLOAT32_LAYERS) or layer.name in FLOAT32_NAMES


def _add_tail(x):
    """The end every network shares: a logit, its calibration (identity until set), a sigmoid."""
    x = layers.Dense(1, name="logit")(x)
    x = layers.Dense(1, kernel_initializer="ones", trainable=False, name="calibration")(x)
    return layers.Activation("sigmoid", name="probability")(x)


def _check_image_size(image_size, *, smallest):
    sides = tuple(image_size) if hasattr(image_size, "__len__") else ()
    if len(sides) != 2 or any(not isinstance(n, Integral) or n < smallest for n in sides):
        raise ValueError(
            f"`image_size` must be (height, width), whole numbers of at least {smallest} pixels. "
            f"Received: image_size={image_size!r}"
        )
    return sides


def _build_vgg16_backbone(x, weights):
    if weights == "imagenet":
        return _download_vgg16(x)
    if weights is not None and not Path(weights).is_file():
        raise FileNotFoundError(f"No weights file of VGG16 at {weights}.")
    backbone = keras.applications.VGG16(include_top=False, weights=None, input_tensor=x)
    if weights is not None:
        _load_weights(backbone, Path(weights))
    return backbone


def _download_vgg16(x):
    try:
        return keras.applications.VGG16(include_top=False, weights="imagenet", input_tensor=x)
    except Exception as error:  # Keras raises a bare Exception when a download fails
        reason = shorten(str(error), 300, placeholder=" …")
        raise ConnectionError(
            f"VGG16's ImageNet weights could not be downloaded ({reason}); "
            "a weights file or `weights=None` works without a network."
        ) from error


def _load_weights(backbone, path):
    try:
        with warnings.catch_warnings():
            # Keras warns of bookkeeping that older files lack; a layer that is missing raises.
            warnings.simplefilter("ignore", UserWarning)
            backbone.load_weights(path)
    except Exception as error:  # h5py and Keras have a dozen ways of refusing a foreign file
        reason = shorten(str(error), 300, placeholder=" …")
        raise ValueError(
            f"`weights` must be a file of VGG16 without top. Received: weights={path} ({reason})"
        ) from error
