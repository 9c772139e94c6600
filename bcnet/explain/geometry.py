"""Where in the picture the cells of a layer lie.

A map is drawn by its cells' centres. Halving and padding move them: in MobileNet, which pads right
and below only, each cell looks half a cell further down and right than an evenly spread grid says;
in ResNet50, half a cell further up and left. Maps drawn without this point beside what they mean.

What belongs here reads the sizes, strides and paddings of layers. It runs nothing.
"""

from typing import NamedTuple

import numpy as np
from keras import layers

WINDOWS = (
    layers.Conv2D,
    layers.DepthwiseConv2D,
    layers.SeparableConv2D,
    layers.MaxPooling2D,
    layers.AveragePooling2D,
)


class Axis(NamedTuple):
    """The centres of cells along one axis, in pixels: `start`, `start + step`, …"""

    start: float
    step: float


def spread_evenly(length, count):
    """Spread cells evenly over an axis, as a picture resized would have them.

    Args:
        length: Pixels.
        count: Cells.

    Returns:
        The `Axis`.

    Example:
        >>> spread_evenly(8, 2)  # each covers four pixels
        Axis(start=1.5, step=4.0)
    """
    return Axis((length / count - 1) / 2, length / count)


def follow_window(axis, length, *, size, stride, padding):
    """Follow cells through a convolution or a pooling along one axis.

    Args:
        axis: Of what the window slides over.
        length: Its number of cells.
        size: Cells that the window spans, dilation included.
        stride: Cells by which it moves.
        padding: "same", which pads what is missing half before, half behind, the larger half
            behind; or "valid".

    Returns:
        The `Axis` of what comes out.

    Example:
        >>> follow_window(Axis(0, 1), 8, size=3, stride=2, padding="same")  # pads behind
        Axis(start=1.0, step=2)
        >>> follow_window(Axis(0, 1), 7, size=3, stride=2, padding="same")  # pads both sides
        Axis(start=0.0, step=2)
    """
    before = 0
    if padding == "same":
        missing = max((-(-length // stride) - 1) * stride + size - length, 0)
        before = missing // 2
    return Axis(axis.start + axis.step * ((size - 1) / 2 - before), axis.step * stride)


def follow_layer(operation, axes, before, after):
    """Follow cells through any operation.

    Args:
        operation: A Keras layer or operation.
        axes: Of rows and of columns, before it.
        before: `(height, width)` of its input, in cells.
        after: The same of its output.

    Returns:
        The axes of its output. What changes the size in a way that is not known here is taken to
        spread its cells evenly over those before.
    """
    if isinstance(operation, WINDOWS):
        return _follow_windows(operation, axes, before)
    if isinstance(operation, layers.ZeroPadding2D):
        return _shift(axes, [-first for first, _ in operation.padding])
    if isinstance(operation, layers.Cropping2D):
        return _shift(axes, [first for first, _ in operation.cropping])
    if before == after:
        return axes
    stretched = map(spread_evenly, before, after)
    return [
        Axis(axis.start + axis.step * even.start, axis.step * even.step)
        for axis, even in zip(axes, stretched, strict=True)
    ]


def flip_axis(axis, length):
    """Follow cells through a reversal of their order.

    Example:
        >>> flip_axis(Axis(1, 2), 3)  # 1, 3, 5 become 5, 3, 1
        Axis(start=5, step=-2)
    """
    return Axis(axis.start + axis.step * (length - 1), -axis.step)


def weigh_cells(axis, count, length):
    """Say what each pixel gets of each cell, linearly between their centres.

    Args:
        axis: Of the cells.
        count: Their number.
        length: Pixels.

    Returns:
        float32 `(length, count)`; rows sum to 1. Beyond the outermost centres they alone count.

    Example:
        >>> weigh_cells(Axis(0, 2), 2, 4)  # the pixel between both, and those beyond
        array([[1. , 0. ], [0.5, 0.5], [0. , 1. ], [0. , 1. ]], dtype=float32)
    """
    places = np.clip((np.arange(length) - axis.start) / axis.step, 0, count - 1)
    return np.maximum(1 - np.abs(places[:, None] - np.arange(count)), 0).astype("float32")


def _follow_windows(layer, axes, before):
    sizes = getattr(layer, "kernel_size", None) or layer.pool_size
    dilations = getattr(layer, "dilation_rate", (1, 1))
    windows = zip(axes, before, sizes, dilations, layer.strides, strict=True)
    return [
        follow_window(
            axis, length, size=(size - 1) * dilation + 1, stride=stride, padding=layer.padding
        )
        for axis, length, size, dilation, stride in windows
    ]


def _shift(axes, cells):
    return [
        Axis(axis.start + axis.step * count, axis.step)
        for axis, count in zip(axes, cells, strict=True)
    ]
