"""One source of pictures, as the user names it: a folder, a CSV or an `.npz` file.

The only place that asks which of the three it is.
"""

import os

import numpy as np
import pandas as pd

from bcnet.data.arrays import list_arrays, read_entry
from bcnet.data.folders import Skipped, list_folder
from bcnet.data.tables import list_table
from bcnet.readers import read_image


def list_source(source: str) -> tuple[pd.DataFrame, Skipped]:
    """List the pictures of one source.

    Args:
        source: A folder, a `.csv` or an `.npz`, as given.

    Returns:
        `(rows, skipped)`: rows with the columns `name` (below the source, with `/`), `path`,
        `label` (0, 1 or `"normal"`), `split`, `source` and whatever a CSV tells; and what was
        left out, with reasons.

    Raises:
        FileNotFoundError: If there is nothing at `source`.
        ValueError: If it is of another kind, or holds no pictures.

    Example:
        `list_source("breastmnist.npz")[0]["name"]` starts with `train[0]`.
    """
    if not os.path.exists(source):
        raise FileNotFoundError(f"No folder, .csv or .npz at {source}")
    if os.path.isdir(source):
        rows, skipped = list_folder(source)
    elif _ends_with(source, ".csv"):
        rows, skipped = list_table(source)
    elif _ends_with(source, ".npz"):
        rows, skipped = list_arrays(source)
    else:
        raise ValueError(f"`data` must be a folder, a .csv or an .npz. Received: data={source}")
    return rows.assign(source=source), skipped


def read_sample(path: str, source: str) -> np.ndarray:
    """Read the pixels of one row of a manifest.

    Args:
        path: The row's `path`: a file, or `train[17]` in an `.npz`.
        source: The row's `source`.

    Returns:
        uint8 (H, W, 3), RGB.

    Raises:
        bcnet.readers.UnreadableImageError: If the file is no readable picture.
        ValueError: If the `.npz` has no such picture.

    Example:
        `read_sample("train[0]", "breastmnist.npz").shape` is `(28, 28, 3)`.
    """
    return read_entry(source, path) if _ends_with(source, ".npz") else read_image(path)


def find_base(source: str) -> str:
    """Find what the paths of a source start with.

    Args:
        source: A folder, a `.csv` or an `.npz`, as given.

    Returns:
        The part of each `path` before the picture's name, empty or ending in `/`.

    Example:
        >>> find_base("study/pictures.csv"), find_base("study/data.npz")
        ('study/', '')
    """
    if _ends_with(source, ".npz"):
        return ""
    folder = os.path.dirname(source) if _ends_with(source, ".csv") else source
    return os.path.join(folder, "") if folder else ""


def _ends_with(source: str, ending: str) -> bool:
    return source.lower().endswith(ending)
