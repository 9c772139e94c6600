"""Pictures in one `.npz`, as MedMNIST ships them: rows and pixels.

MedMNIST codes malignant as 0; it is turned round here, once, and nowhere else.
"""

import os
import re
from functools import lru_cache

import numpy as np
import pandas as pd

ARRAY_SPLITS = {"train": "train", "val": "validation", "test": "test"}
"""MedMNIST's word for a part, as in `val_images`, and bcnet's name for it."""

ENTRY = re.compile(r"(train|val|test)\[(\d+)\]")
"""How one picture of a file is named: `train[17]`."""


def list_arrays(source: str) -> tuple[pd.DataFrame, list[tuple[str, str]]]:
    """List the pictures of a MedMNIST-style file.

    Args:
        source: An `.npz` with `train_images`, `train_labels`, `val_images` … : uint8 (N, H, W) or
            (N, H, W, 3), labels (N, 1) or (N,) with 0 = malignant and 1 = not malignant.

    Returns:
        `(rows, skipped)`: rows in the file's own order with the columns `name` and `path` (both
        `train[17]`), `label` (1 = malignant) and `split`; `skipped` is empty.

    Raises:
        ValueError: If the file holds no such arrays.

    Example:
        `val_labels` of `[[0], [1]]` gives `val[0]` with label 1 and `val[1]` with label 0.
    """
    rows = []
    for part, split in ARRAY_SPLITS.items():
        images = load_array(source, f"{part}_images")
        labels = load_array(source, f"{part}_labels")
        if images is not None or labels is not None:
            _require_pairs(images, labels, f"{part} of {source}")
            names = (f"{part}[{index}]" for index in range(len(labels)))
            rows += [
                (name, name, 1 - int(label), split)
                for name, label in zip(names, labels.ravel(), strict=True)
            ]
    if not rows:
        raise ValueError(
            f"{source} must hold train_images and train_labels (or val_, test_) with at least "
            f"one picture. Found: {', '.join(_open(source).files) or 'nothing'}."
        )
    return pd.DataFrame(rows, columns=["name", "path", "label", "split"], dtype=object), []


def read_entry(source: str, name: str) -> np.ndarray:
    """Read the pixels of one picture of a MedMNIST-style file.

    Args:
        source: The `.npz`.
        name: For example `train[17]`.

    Returns:
        uint8 (H, W, 3); grey is repeated three times. A copy: the caller may write into it.

    Raises:
        ValueError: If the file has no such picture.

    Example:
        `read_entry("breastmnist.npz", "train[0]").shape` is `(28, 28, 3)`.
    """
    match = ENTRY.fullmatch(name)
    images = load_array(source, f"{match[1]}_images") if match else None
    if images is None or int(match[2]) >= len(images):
        raise ValueError(f"{source} must hold the picture asked for. Received: {name}")
    image = images[int(match[2])]
    return image.copy() if image.ndim == 3 else np.repeat(image[..., None], 3, axis=-1)


def load_array(source: str, key: str) -> np.ndarray | None:
    """Load one array of an `.npz`, or take it from memory while the file is unchanged.

    Args:
        source: The `.npz`.
        key: The array's name in it.

    Returns:
        The array, not to be written into, or None when the file has no such array.

    Raises:
        ValueError: If the file is damaged, or holds pickled objects, which could run code.

    Example:
        `load_array("breastmnist.npz", "val_images").shape` is `(78, 28, 28)`.
    """
    status = os.stat(source)
    return _load(os.path.abspath(source), key, (status.st_mtime_ns, status.st_size))


# Six arrays: pictures and labels of the three parts of one file.
@lru_cache(maxsize=6)
def _load(source: str, key: str, _version: tuple[int, int]) -> np.ndarray | None:
    with _open(source) as archive:
        try:
            return archive[key] if key in archive.files else None
        except Exception as error:
            raise ValueError(f"{key} of {source} cannot be read: {error}") from error


def _open(source: str) -> np.lib.npyio.NpzFile:
    try:
        archive = np.load(source, allow_pickle=False)
    except Exception as error:
        raise ValueError(f"{source} must be an .npz file. Received: {error}") from error
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise ValueError(f"{source} must be an .npz file. Received: one bare array.")
    return archive


def _require_pairs(images: np.ndarray | None, labels: np.ndarray | None, where: str) -> None:
    if images is None or labels is None:
        raise ValueError(f"{where} must have both images and labels.")
    grey_or_colour = images.ndim == 3 or (images.ndim == 4 and images.shape[-1] == 3)
    if images.dtype != np.uint8 or not grey_or_colour:
        raise ValueError(
            f"Images in {where} must be uint8 (N, H, W) or (N, H, W, 3). "
            f"Received: {images.dtype} {images.shape}"
        )
    if labels.shape not in [(len(images),), (len(images), 1)]:
        raise ValueError(
            f"Labels in {where} must be ({len(images)}, 1) or ({len(images)},). "
            f"Received: {labels.shape}"
        )
    if not np.isin(labels, (0, 1)).all():
        raise ValueError(
            f"Labels in {where} must be 0 (malignant) or 1. Received: {np.unique(labels)[:5]}"
        )
