"""The pictures of a manifest, decoded once, with what names them in a card."""

import logging
import os
from typing import NamedTuple

import numpy as np
import pandas as pd

from bcnet.classifier import Classifier
from bcnet.data.manifest import (
    Manifest,
    hash_patient,
    patient_keys,
    patients_known,
    read_sample,
)
from bcnet.data.pipeline import decode_samples
from bcnet.data.split import apply_split, assert_disjoint
from bcnet.readers import UnreadableImageError
from bcnet.workflows.progress import make_bar

logger = logging.getLogger("bcnet")

# Pictures of at most this side are taken as they are when they all share one size.
LARGEST_OWN_SIZE = 224
# How many pictures are looked at to see whether all share one size.
LOOKED_AT = 64


class Pictures(NamedTuple):
    """Readable pictures and their rows, in the same order.

    Attributes:
        images: uint8 `(n, height, width, 3)`.
        table: `n` rows of a manifest with a further column `hash`.
    """

    images: np.ndarray
    table: pd.DataFrame

    @property
    def labels(self) -> np.ndarray:
        """int `(n,)`: 0 = benign, 1 = malignant."""
        return self.table["label"].to_numpy()

    def rows_in(self, part: str) -> np.ndarray:
        """Positions of the pictures of one split."""
        return np.flatnonzero((self.table["split"] == part).to_numpy())

    def patients(self, rows: np.ndarray) -> np.ndarray | None:
        """Patient keys of some rows, None when a patient is unknown."""
        return list_patients(self.table.iloc[rows])


def decode_table(
    table: pd.DataFrame, image_size: tuple[int, int], *, progress: bool = False
) -> Pictures:
    """Decode the pictures of a table at one size; unreadable ones are named and left out.

    Args:
        table: a manifest's table.
        image_size: `(height, width)` in pixels.
        progress: show a bar.

    Raises:
        ValueError: when not one picture can be read.
    """
    samples = list_samples(table)
    with make_bar(len(table), "reading", shown=progress) as bar:
        decoded = decode_samples(samples, image_size, progress=bar.update)
    require_readable(table, decoded.reasons)
    read = decoded.readable
    images = decoded.images if read.all() else decoded.images[read]
    table = table[read].reset_index(drop=True).assign(hash=decoded.hashes[read])
    return Pictures(images, table)


def require_readable(table: pd.DataFrame, reasons: np.ndarray) -> None:
    """Name and count to the user the pictures that could not be read; some must be readable.

    Args:
        table: a manifest's table.
        reasons: `(n,)`, "" or why the picture was not read.

    Raises:
        ValueError: when not one picture was read.
    """
    unread = reasons != ""
    for path, reason in zip(table["path"][unread], reasons[unread], strict=True):
        logger.warning("left out %s: %s", path, reason)
    if unread.all():
        raise ValueError(f"none of the {len(table)} pictures can be read; the last: {reasons[-1]}")
    if unread.any():
        logger.warning("%s of %s pictures could not be read", unread.sum(), len(table))


def take_split(table: pd.DataFrame, path: str | os.PathLike) -> pd.DataFrame:
    """Take the parts that a CSV gives the pictures, and tell the user whom it leaves out.

    Args:
        table: a manifest's table; a split of its own is replaced.
        path: CSV as `bcnet split` writes it.

    Returns:
        The rows that the CSV names, with `split` from it.

    Raises:
        ValueError: for a CSV of folds, and as `data.split.apply_split` does.
    """
    table = apply_split(table.assign(split=None), path)
    for note in table.attrs["notes"]:
        logger.info(note)
    if table["split"].isna().all():
        raise ValueError(f"{path} must have a column `split`. Found: `fold`, which says no part")
    return table


def take_table(manifest: Manifest, split: str | os.PathLike | None) -> pd.DataFrame:
    """Take the rows of a manifest, with the parts that a CSV gives them where there is one.

    Args:
        manifest: the pictures.
        split: CSV as `bcnet split` writes it, or None for the parts that the data bring.

    Returns:
        Rows of which no patient stands in two parts.

    Raises:
        ValueError: as `take_split`, or a patient stands in two parts.
    """
    table = manifest.table if split is None else take_split(manifest.table, split)
    assert_disjoint(table)
    return table


def list_samples(table: pd.DataFrame) -> list[tuple[str, str]]:
    """List `(path, source)` of each row, as `data.manifest.read_sample` takes them."""
    return list(zip(table["path"], table["source"], strict=True))


def list_patients(table: pd.DataFrame) -> np.ndarray | None:
    """List the patient key of each row; None when a patient is unknown."""
    return patient_keys(table).to_numpy() if patients_known(table) else None


def choose_image_size(
    table: pd.DataFrame, default_side: int, *, smallest: int = 1
) -> tuple[int, int]:
    """Choose what a network sees: the pictures' own size when they share one, else a square.

    Args:
        table: a manifest's table; up to `LOOKED_AT` pictures, evenly spread, are looked at.
        default_side: pixels a side when sizes differ, exceed `LARGEST_OWN_SIZE` or are too small.
        smallest: pixels a side that the network needs at least.

    Returns:
        `(height, width)` in pixels.
    """
    shown = np.unique(np.linspace(0, len(table) - 1, LOOKED_AT).astype(int))
    sizes = set()
    for row in list_samples(table.iloc[shown]):
        try:
            sizes.add(read_sample(*row)[..., 0].shape)
        except UnreadableImageError:
            continue  # named when all pictures are decoded
    shared = sizes.pop() if len(sizes) == 1 else None
    if shared and smallest <= min(shared) and max(shared) <= LARGEST_OWN_SIZE:
        return shared
    return default_side, default_side


def score_rows(classifier: Classifier, images: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Score some of many decoded pictures without copying them all out of a memory map.

    Returns:
        float32 `(len(rows),)` probabilities of malignant, computed in float32.
    """
    size = classifier.batch_size
    chunks = [rows[i : i + size] for i in range(0, len(rows), size)]
    return np.concatenate([classifier.predict_images(images[chunk]) for chunk in chunks])


def describe_samples(table: pd.DataFrame) -> dict:
    """Describe the pictures of one split for the card.

    Args:
        table: rows of a manifest with the column `hash`.

    Returns:
        `n_images`, `n_malignant`, `n_patients` (None when unknown), `pictures` and `patients`,
        both sorted hashes.
    """
    known = table["patient_id"].notna()
    patients = sorted({hash_patient(key) for key in patient_keys(table[known])})
    return {
        "n_images": len(table),
        "n_malignant": int(table["label"].sum()),
        "n_patients": len(patients) if known.all() else None,
        "pictures": sorted(set(table["hash"])),
        "patients": patients,
    }
