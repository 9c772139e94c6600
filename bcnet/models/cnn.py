"""The small network of three convolution blocks, trained from random weights."""

import keras
from keras import layers

from bcnet.models.parts import add_tail, check_image_size, with_precision

# Keras's 0.99 needs hundreds of steps to know the pictures; a small data set has fewer.
NORM_MOMENTUM = 0.9


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
    height, width = check_image_size(image_size, smallest=8)
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
    return with_precision(keras.Model(image, add_tail(x), name="cnn"), precision)
