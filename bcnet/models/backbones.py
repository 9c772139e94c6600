"""Networks whose convolutions someone else trained: Keras's own, with our ends on both sides.

Each begins with its own preprocessing, written with plain layers, so that it takes RGB 0–255 like
every other model here; its graph is flat, so that every convolution is found by its name. With
pretrained weights the backbone starts frozen and only the head learns; `unfreeze` then lets it
loose from a block on.
"""

import contextlib
import os
import sys
import warnings
from difflib import get_close_matches
from pathlib import Path
from textwrap import shorten
from typing import NamedTuple

import keras
import numpy as np
from keras import layers

from bcnet.models.parts import add_tail, check_image_size, with_precision

# Mean and standard deviation of ImageNet's pixels: in the order blue, green, red that VGG16 and
# ResNet50 were trained on (Keras's "caffe" mode), and in RGB as shares of 255 ("torch" mode).
IMAGENET_MEAN_BGR = (103.939, 116.779, 123.68)
IMAGENET_MEAN_RGB = (0.485, 0.456, 0.406)
IMAGENET_STDDEV_RGB = (0.229, 0.224, 0.225)

# All of these halve the picture five times.
SMALLEST_SIDE = 32

# Of features that were learnt elsewhere a small data set needs few: 0.3 was the best of 0 to 0.5.
HEAD_DROPOUT = 0.3


class Backbone(NamedTuple):
    """What one has to know of a network of `keras.applications`.

    Attributes:
        title: its name in words.
        application: its name in `keras.applications`.
        preprocessing: "caffe", "signed", "torch" or "inside", see `_preprocess`.
        file: its ImageNet weights without top, as Keras names the download.
    """

    title: str
    application: str
    preprocessing: str
    file: str


BACKBONES = {
    "vgg16": Backbone(
        "VGG16", "VGG16", "caffe", "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"
    ),
    "resnet50": Backbone(
        "ResNet50", "ResNet50", "caffe", "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5"
    ),
    "mobilenet": Backbone("MobileNet", "MobileNet", "signed", "mobilenet_{alpha}_224_tf_no_top.h5"),
    "mobilenet_v2": Backbone(
        "MobileNetV2",
        "MobileNetV2",
        "signed",
        "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5",
    ),
    "efficientnet_b0": Backbone(
        "EfficientNetB0", "EfficientNetB0", "inside", "efficientnetb0_notop.h5"
    ),
    "densenet121": Backbone(
        "DenseNet121",
        "DenseNet121",
        "torch",
        "densenet121_weights_tf_dim_ordering_tf_kernels_notop.h5",
    ),
}
"""The backbones by the name a user types."""

# As Keras writes MobileNet's share of channels in the names of its files.
ALPHAS = {1.0: "1_0", 0.75: "7_5", 0.5: "5_0", 0.25: "2_5"}


def build_vgg16(image_size, *, weights="imagenet", end=None, precision="float32"):
    """Build VGG16 without its 1,000-class top, with a small head of our own.

    Args:
        image_size: `(height, width)` in pixels, at least 32 each: five poolings.
        weights: "imagenet" for Keras's own download (58 MB, kept in `~/.keras`), the path of a
            weights file of VGG16 without top (`….h5` of keras.applications or `….weights.h5`),
            or None for random weights, all of them trainable.
        end: Name of the layer whose output is the last to be used; None for all of them. An
            earlier end tells places apart more finely, which small pictures need.
        precision: One of `POLICIES`; see `with_precision`.

    Returns:
        An uncompiled `keras.Model`. Input `image`: `(n, height, width, 3)`, RGB in 0–255, uint8
        or float. Output `probability`: `(n, 1)`, float32, of malignant.

    Raises:
        ConnectionError: If the ImageNet weights cannot be downloaded.
        FileNotFoundError: If the weights file does not exist.
        ValueError: If the file does not hold VGG16's weights, or an argument is not as described.

    Source: Simonyan & Zisserman 2015, https://arxiv.org/abs/1409.1556.

    Example:
        >>> build_vgg16((64, 64), weights=None).get_layer("block5_conv3").output.shape
        (None, 4, 4, 512)
    """
    return _build("vgg16", image_size, weights, end, precision)


def build_resnet50(image_size, *, weights="imagenet", end=None, precision="float32"):
    """Build ResNet50 (94 MB of ImageNet weights); as `build_vgg16` in all else.

    Source: He et al. 2016, https://arxiv.org/abs/1512.03385.

    Example:
        >>> build_resnet50((64, 64), weights=None).get_layer("features").output.shape
        (None, 2048)
    """
    return _build("resnet50", image_size, weights, end, precision)


def build_mobilenet(image_size, *, weights="imagenet", alpha=1.0, end=None, precision="float32"):
    """Build MobileNet (1 to 13 MB of ImageNet weights); as `build_vgg16` in all else.

    Args:
        image_size: As for `build_vgg16`.
        weights: As for `build_vgg16`, of the same `alpha`.
        alpha: Share of the channels: 1, 0.75, 0.5 or 0.25, the smallest and fastest.
        end: As for `build_vgg16`.
        precision: As for `build_vgg16`.

    Source: Howard et al. 2017, https://arxiv.org/abs/1704.04861.

    Example:
        >>> build_mobilenet((64, 64), weights=None, alpha=0.25).get_layer("features").output.shape
        (None, 256)
    """
    if alpha not in ALPHAS:
        allowed = ", ".join(f"{share:g}" for share in ALPHAS)
        raise ValueError(f"`alpha` must be one of {allowed}. Received: alpha={alpha!r}")
    return _build("mobilenet", image_size, weights, end, precision, alpha=float(alpha))


def build_mobilenet_v2(image_size, *, weights="imagenet", end=None, precision="float32"):
    """Build MobileNetV2 (9 MB of ImageNet weights); as `build_vgg16` in all else.

    Source: Sandler et al. 2018, https://arxiv.org/abs/1801.04381.

    Example:
        >>> build_mobilenet_v2((64, 64), weights=None).get_layer("features").output.shape
        (None, 1280)
    """
    return _build("mobilenet_v2", image_size, weights, end, precision)


def build_efficientnet_b0(image_size, *, weights="imagenet", end=None, precision="float32"):
    """Build EfficientNetB0 (17 MB of ImageNet weights); as `build_vgg16` in all else.

    Source: Tan & Le 2019, https://arxiv.org/abs/1905.11946.

    Example:
        >>> build_efficientnet_b0((64, 64), weights=None).get_layer("features").output.shape
        (None, 1280)
    """
    return _build("efficientnet_b0", image_size, weights, end, precision)


def build_densenet121(image_size, *, weights="imagenet", end=None, precision="float32"):
    """Build DenseNet121 (29 MB of ImageNet weights); as `build_vgg16` in all else.

    Source: Huang et al. 2017, https://arxiv.org/abs/1608.06993.

    Example:
        >>> build_densenet121((64, 64), weights=None).get_layer("features").output.shape
        (None, 1024)
    """
    return _build("densenet121", image_size, weights, end, precision)


def find_downloaded(name, *, alpha=1.0):
    """Find a backbone's ImageNet weights where Keras keeps what it has downloaded.

    Args:
        name: One of `BACKBONES`.
        alpha: MobileNet's share of channels.

    Returns:
        The path of the file as text, or None when it was never downloaded.
    """
    home = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")
    path = home / "models" / BACKBONES[name].file.format(alpha=ALPHAS[float(alpha)])
    return str(path) if path.is_file() else None


def _build(name, image_size, weights, end, precision, **width):
    image = keras.Input((*check_image_size(image_size, smallest=SMALLEST_SIDE), 3), name="image")
    backbone = _build_backbone(BACKBONES[name], image, weights, width)
    backbone.trainable = weights is None
    x = layers.GlobalAveragePooling2D(name="features")(_find_end(backbone, end))
    x = layers.Dropout(HEAD_DROPOUT, name="dropout")(x)
    return with_precision(keras.Model(image, add_tail(x), name=name), precision)


def _find_end(backbone, end):
    if end is None:
        return backbone.output
    known = {layer.name: layer.output for layer in backbone.layers if len(layer.output.shape) == 4}
    if end not in known:
        near = get_close_matches(str(end), known, n=3) or list(known)[-3:]
        raise ValueError(
            f"`end` must be a layer of {backbone.name} that gives maps, such as {', '.join(near)}. "
            f"Received: end={end!r}"
        )
    return known[end]


def _preprocess(image, how):
    """Do what `keras.applications.….preprocess_input` does, with plain layers."""
    if how == "caffe":
        x = keras.ops.flip(image, axis=-1)  # RGB -> BGR
        offset = [-mean for mean in IMAGENET_MEAN_BGR]
        return layers.Rescaling(1.0, offset=offset, name="normalise")(x)
    if how == "signed":
        return layers.Rescaling(1 / 127.5, offset=-1.0, name="normalise")(image)
    if how == "torch":
        scale = [1 / (255 * deviation) for deviation in IMAGENET_STDDEV_RGB]
        pairs = zip(IMAGENET_MEAN_RGB, IMAGENET_STDDEV_RGB, strict=True)
        offset = [-mean / deviation for mean, deviation in pairs]
        return layers.Rescaling(scale, offset=offset, name="normalise")(image)
    return image  # EfficientNet brings layers of its own


def _build_backbone(backbone, image, weights, width):
    is_file = weights not in (None, "imagenet")
    if is_file and not Path(weights).is_file():
        raise FileNotFoundError(f"No weights file of {backbone.title} at {weights}.")

    def build(source):
        with warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):
            # MobileNet warns that its weights were trained at 224 pixels, which is no mistake
            # here; Keras writes "Downloading data" to where a user's table may go.
            warnings.simplefilter("ignore", UserWarning)
            built = getattr(keras.applications, backbone.application)(
                include_top=False,
                weights=source,
                input_tensor=_preprocess(image, backbone.preprocessing),
                **width,
            )
        for layer in built.layers:
            if isinstance(layer, layers.Normalization):  # Keras numbers it anew in each model
                layer.name = "standardise"
        return built

    if weights == "imagenet":
        return _download(backbone, build)
    built = build(None)
    if is_file:
        _load_weights(backbone, built, weights)
    return built


def _download(backbone, build):
    try:
        return build("imagenet")
    except Exception as error:  # Keras raises a bare Exception when a download fails
        reason = shorten(str(error), 300, placeholder=" …")
        raise ConnectionError(
            f"{backbone.title}'s ImageNet weights could not be downloaded ({reason}); "
            "a weights file or `weights=None` works without a network."
        ) from error


def _load_weights(backbone, built, path):
    try:
        with warnings.catch_warnings():
            # Keras warns of bookkeeping that older files lack; a layer that is missing raises.
            warnings.simplefilter("ignore", UserWarning)
            built.load_weights(path)
    except Exception as error:  # h5py and Keras have a dozen ways of refusing a foreign file
        reason = shorten(str(error), 300, placeholder=" …")
        raise ValueError(
            f"`weights` must be a file of {backbone.title} without top. "
            f"Received: weights={path} ({reason})"
        ) from error
    if backbone.preprocessing == "inside":
        _divide_by_deviation(built)


def _divide_by_deviation(built):
    """Divide EfficientNet's input by the root of ImageNet's deviation, as Keras does.

    The files hold the deviation where the layer takes the root of a variance, so that Keras adds
    this step to the graph of its own download (and of no other file):
    https://github.com/tensorflow/tensorflow/issues/49930.
    """
    for layer in built.layers:
        if isinstance(layer, layers.Normalization):
            mean, variance, count = layer.get_weights()
            deviation = np.array(IMAGENET_STDDEV_RGB, variance.dtype)
            layer.set_weights([mean, variance * deviation, count])
            layer.finalize_state()
