"""What was downloaded, turned into folders of pictures that bcnet reads.

Everything is written below the folder that the caller names; he decides when it is shown.
"""

import gzip
import os
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import h5py
import numpy as np

from bcnet.config import CLASS_NAMES, SPLITS

DAMAGED = (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile)
"""What reading a damaged archive raises."""

CHUNK = 2**20
"""Bytes unpacked at a time."""

PATCHES = 1024
"""Patches in memory at a time: 28 MB of the 96×96 ones."""

Update = Callable[[int], object]
"""Called with the number of pictures written since its last call."""


def unpack_tar(archives: list[Path], target: Path, update: Update) -> None:
    """Unpack the files of `.tar.gz` archives below a folder.

    Only regular files are written, with neither the owner nor the rights that the archive states.

    Args:
        archives: The `.tar.gz` files.
        target: The folder to make.
        update: Told of every file.

    Raises:
        ValueError: If a member is a link or device, or would lie outside `target`.
        DAMAGED: Whatever the reading of a damaged archive raises.

    Example:
        A member `../x.png` raises; a member `a/x.png` becomes `target/a/x.png`.
    """
    target.mkdir(parents=True)
    for archive in archives:
        with gzip.open(archive) as plain, tarfile.open(fileobj=plain, mode="r|") as members:
            for member in members:
                _write_member(members, member, target)
                update(int(member.isfile()))
            while plain.read(CHUNK):  # at its very end gzip compares what was read with its sum
                pass


def convert_pcam(archives: list[Path], target: Path, update: Update) -> None:
    """Turn PatchCamelyon's HDF5 files into PNGs by part and class.

    A patch is named after its place in its file, `valid_x[7]` becoming
    `validation/benign/000007.png` where `valid_y[7]` is 0. Memory stays the same for any number
    of patches; the disk holds one unpacked HDF5 file at a time.

    Args:
        archives: The six `.h5.gz` files: patches and labels of train, validation and test.
        target: The folder to make.
        update: Told of the patches written.

    Raises:
        ValueError: If patches and labels do not belong together.
        DAMAGED: Whatever the reading of a damaged archive raises.
    """
    target.mkdir(parents=True)
    for split, patches, labels in zip(SPLITS, archives[::2], archives[1::2], strict=True):
        with _open_hdf5(patches, target) as x, _open_hdf5(labels, target) as y:
            _write_patches(x["x"], y["y"][:].ravel(), target / split, update)


def _write_member(members: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    # What leads out of the folder is refused on every system, whatever it counts as a root.
    path = Path(os.path.abspath(target / member.name))
    inside = path.is_relative_to(os.path.abspath(target))
    if not inside or not (member.isfile() or member.isdir()):
        raise ValueError(f"Archives must hold files below themselves. Received: {member.name}")
    if member.isfile():
        path.parent.mkdir(parents=True, exist_ok=True)
        with members.extractfile(member) as packed, open(path, "xb") as plain:
            shutil.copyfileobj(packed, plain, CHUNK)


@contextmanager
def _open_hdf5(archive: Path, scratch: Path) -> Iterator[h5py.File]:
    """HDF5 is read at places, gzip from start to end: unpacked for as long as it is needed."""
    with tempfile.TemporaryFile(dir=scratch) as plain:
        with gzip.open(archive) as packed:
            shutil.copyfileobj(packed, plain, CHUNK)
        with h5py.File(plain, "r") as file:
            yield file


def _write_patches(x: h5py.Dataset, labels: np.ndarray, folder: Path, update: Update) -> None:
    if len(x) != len(labels) or x.dtype != np.uint8 or x.shape[3:] != (3,):
        raise ValueError(
            "Patches must be uint8 (N, H, W, 3) with one label each. "
            f"Received: {x.dtype} {x.shape} and {len(labels)} labels"
        )
    for name in CLASS_NAMES:
        (folder / name).mkdir(parents=True)
    for start in range(0, len(x), PATCHES):
        for index, patch in enumerate(x[start : start + PATCHES], start):
            path = folder / CLASS_NAMES[labels[index]] / f"{index:06d}.png"
            _, encoded = cv2.imencode(".png", cv2.cvtColor(patch, cv2.COLOR_RGB2BGR))
            path.write_bytes(encoded)  # unlike imwrite, says why when the disk is full
        update(min(PATCHES, len(x) - start))
