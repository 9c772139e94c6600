"""What a user may hand over as pictures: paths, folders, bytes and arrays, listed and read.

Belongs here: the same answer to "which pictures are meant" for every way of asking. What is done
with them does not.
"""

import os
from typing import NamedTuple

import numpy as np

from bcnet.data.folders import find_pictures
from bcnet.readers import read_image


class Inputs(NamedTuple):
    """Pictures that were handed over, listed.

    Attributes:
        names: as in `Classifier.predict`.
        samples: one tuple per picture, the argument of `read_input`.
    """

    names: list[str]
    samples: list[tuple]


def list_inputs(inputs) -> Inputs:
    """List whatever a user may hand over as pictures: names, and what reads each.

    Args:
        inputs: a path, a folder, bytes, an array, or a sequence of these; `Inputs` stay as they
            are, so that who needs their number need not list them twice.

    Returns:
        Names, and one tuple per picture: `(path,)`, `(bytes,)` or `(array,)`.

    Raises:
        FileNotFoundError: when a path does not exist.
        ValueError: for another kind of input.
    """
    if isinstance(inputs, Inputs):
        return inputs
    one = isinstance(inputs, str | os.PathLike | bytes | bytearray | memoryview | np.ndarray)
    items = [inputs] if one else list(inputs)
    names, samples = [], []
    for i, item in enumerate(items):
        if isinstance(item, str | os.PathLike):
            found = _list_path(os.fspath(item))
        elif isinstance(item, bytes | bytearray | memoryview):
            found = [(f"bytes[{i}]", bytes(item))]
        elif isinstance(item, np.ndarray):
            found = _list_array(item, i)
        else:
            raise ValueError(
                "`inputs` must be paths, bytes or uint8 arrays. Received: "
                f"{type(item).__name__} at position {i}"
            )
        names += [name for name, _ in found]
        samples += [(sample,) for _, sample in found]
    return Inputs(names, samples)


def is_single(inputs) -> bool:
    """Return whether `inputs` is one picture rather than several, or a folder of them."""
    if isinstance(inputs, str | os.PathLike):
        return not os.path.isdir(inputs)
    array = isinstance(inputs, np.ndarray) and inputs.ndim <= 3
    return array or isinstance(inputs, bytes | bytearray | memoryview)


def _list_path(path):
    if not os.path.exists(path):
        raise FileNotFoundError(f"no picture or folder at {path}")
    if not os.path.isdir(path):
        return [(path, path)]
    names, _ = find_pictures(path)
    if not names:
        raise FileNotFoundError(f"no pictures below {path}")
    return [(name, os.path.join(path, name)) for name in names]


def _list_array(array, position):
    if array.dtype != np.uint8 or array.ndim not in (3, 4) or array.shape[-1] != 3:
        raise ValueError(
            "an array of pictures must be uint8 RGB in 0–255, (h, w, 3) or (n, h, w, 3): the model "
            f"normalises by itself. Received: {array.dtype} {array.shape}"
        )
    if array.ndim == 3:
        return [(f"array[{position}]", array)]
    return [(f"array[{i}]", image) for i, image in enumerate(array, start=position)]


def read_input(item) -> np.ndarray:
    """Read one sample of `list_inputs`: uint8 `(h, w, 3)`."""
    return item if isinstance(item, np.ndarray) else read_image(item)
