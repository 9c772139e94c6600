"""The pictures that the benchmarks work on: found or drawn, chosen, copied or linked as files.

Belongs here: which files there are. Does not: what is done with them.
"""

import argparse
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd

from bcnet.config import CLASS_NAMES
from bcnet.data.manifest import Manifest, read_manifest
from bcnet.data.simulate import simulate
from bcnet.workflows.samples import Pictures, choose_image_size, decode_table

# What `keras.utils.image_dataset_from_directory` takes; it passes over all else in silence.
TUTORIAL_FORMATS = (".bmp", ".gif", ".jpeg", ".jpg", ".png")

# The size of IDC's patches, the public set that most tutorials of this kind train on.
DRAWN_SIDE = 50
SMALLEST_DRAWN_SIDE = 32
DRAWN_PATIENTS, DRAWN_PER_PATIENT = 569, 4

DEFAULT_SIDE = 128  # as in `bcnet train`, where the pictures do not share a size


def draw_pictures(folder: Path, side: int, limit: int | None) -> Path:
    """Draw the built-in data set, or as much of it as `limit` pictures need; return its folder."""
    patients = DRAWN_PATIENTS if limit is None else -(-limit // DRAWN_PER_PATIENT)
    return simulate(
        folder,
        image_size=max(side, SMALLEST_DRAWN_SIDE),
        images_per_patient=DRAWN_PER_PATIENT,
        patients=min(patients, DRAWN_PATIENTS),
    )


def choose_rows(table: pd.DataFrame, limit: int | None) -> pd.DataFrame:
    """Choose at most `limit` rows, evenly spread: a manifest is sorted, so by class as well."""
    if limit is None or limit >= len(table):
        return table
    return table.iloc[np.linspace(0, len(table) - 1, limit).astype(int)]


def copy_pictures(table: pd.DataFrame, folder: Path) -> Path:
    """Copy the pictures of a table, bytes unchanged, into the class folders that all will read.

    Returns:
        The folder.

    Raises:
        ValueError: for a picture that the tutorial's code would pass over.
    """
    for i, (path, label) in enumerate(zip(table["path"], table["label"], strict=True)):
        ending = Path(path).suffix.lower()
        if ending not in TUTORIAL_FORMATS:
            known = ", ".join(TUTORIAL_FORMATS)
            raise ValueError(f"the tutorial's code reads {known} only. Received: {path}")
        target = folder / CLASS_NAMES[label] / f"{i:06}{ending}"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    return folder


def repeat_pictures(folder: Path, target: Path, count: int) -> Path:
    """Fill class folders with `count` hard links to the pictures of `folder`, over and over.

    Returns:
        `target`.
    """
    files = sorted(folder.glob("*/*"))
    for name in CLASS_NAMES:
        (target / name).mkdir(parents=True)
    for i in range(count):
        file = files[i % len(files)]
        os.link(file, target / file.parent.name / f"{i:06}{file.suffix}")
    return target


def prepare(arguments: argparse.Namespace, scratch: Path) -> tuple[Manifest, Pictures, Path]:
    """Find or draw the pictures, decode them, and copy those that can be read.

    Args:
        arguments: the command line.
        scratch: an empty folder.

    Returns:
        The manifest, the pictures decoded, and the folder with the same as files.
    """
    side, limit = arguments.image_size, arguments.limit
    data = arguments.data or draw_pictures(scratch / "simulated", side or DRAWN_SIDE, limit)
    manifest = read_manifest(data)
    table = choose_rows(manifest.table, limit)
    image_size = (side, side) if side else choose_image_size(table, DEFAULT_SIDE)
    pictures = decode_table(table, image_size)
    return manifest, pictures, copy_pictures(pictures.table, scratch / "pictures")
