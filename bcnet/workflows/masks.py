"""Masks of the objects in pictures: found by the pictures' names, and read at their size.

What maps are worth against them is measured in `bcnet.explain.measures`.
"""

import os
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from bcnet.data.folders import IS_MASK, find_pictures
from bcnet.readers import UnreadableImageError, read_image

# As in BUSI, where a picture with two lesions has `x_mask.png` and `x_mask_1.png`.
MASK_ENDING = re.compile(r"_mask(_\d+)?$", re.IGNORECASE)

# Height by width of a mask may differ from the picture's by this share: both were rounded.
PROPORTION_TOLERANCE = 0.02


def find_masks(folder: str | os.PathLike, names: Sequence[str]) -> dict[str, list[Path]]:
    """Find the masks of pictures: files of the same stem, also with `_mask` behind it.

    Args:
        folder: what to search, at any depth.
        names: of the pictures, as paths.

    Returns:
        By picture, its masks; pictures without any are missing. Where folders hold masks of one
        stem, those count whose folder has the name of the picture's.

    Raises:
        FileNotFoundError: when there is no such folder.
        ValueError: when no picture has a mask.

    Example:
        `find_masks("masks", ["benign/x.png"])` is `{"benign/x.png": [Path("masks/x.png")]}`.
    """
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"no folder of masks at {folder}")
    pictures, skipped = find_pictures(os.fspath(folder))
    paths = [Path(folder, name) for name in pictures]
    paths += [Path(path) for path, reason in skipped if reason == IS_MASK]
    by_stem = defaultdict(list)
    for path in sorted(paths):
        by_stem[MASK_ENDING.sub("", path.stem)].append(path)
    found = {name: _choose(by_stem[Path(name).stem], Path(name).parent.name) for name in names}
    found = {name: masks for name, masks in found.items() if masks}
    if not found:
        raise ValueError(
            f"`masks` must hold files named like the pictures. Received: {len(paths)} files in "
            f"{folder}, none of them a mask of {names[0]}" + (" or the others" * (len(names) > 1))
        )
    return found


def read_mask(paths: Sequence[Path], size: tuple[int, int]) -> np.ndarray:
    """Read the objects of one picture: whatever is not black in any of its masks.

    Args:
        paths: its masks.
        size: `(height, width)` in pixels to bring them to, by the nearest pixel.

    Returns:
        bool `(height, width)`.

    Raises:
        UnreadableImageError: when a mask cannot be read, or has other proportions than `size`.

    Example:
        A mask of 4 × 4 pixels for a picture of 2 × 2 is read by every second pixel.
    """
    height, width = size
    mask = np.zeros(size, bool)
    for path in paths:
        objects = read_image(path).any(axis=-1)
        if abs(np.log(objects.shape[0] / objects.shape[1] * width / height)) > PROPORTION_TOLERANCE:
            reason = f"{objects.shape} pixels do not have the proportions of its picture, {size}"
            raise UnreadableImageError(os.fspath(path), reason)
        nearest = {"interpolation": cv2.INTER_NEAREST}
        mask |= cv2.resize(objects.astype(np.uint8), (width, height), **nearest) > 0
    return mask


def _choose(paths, folder):
    if len({path.parent for path in paths}) < 2:
        return paths
    return [path for path in paths if path.parent.name == folder]
