"""A public data set's folder: whether it is free, what is missing, and what completes it.

The folder holds one set alone: its downloads, `pictures/` where they have to be unpacked, and
`dataset.json`. Which sets there are is said in `catalogue`; how a file is received or unpacked
belongs to `download` and `unpack`.
"""

import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path

from bcnet.atomic import write_text
from bcnet.data.catalogue import PublicSet
from bcnet.data.download import find_checksum, find_record
from bcnet.data.folders import WORDS_FILE
from bcnet.data.unpack import DAMAGED, Update

PICTURES = "pictures"
"""The folder that appears when a set is unpacked as a whole."""

SCRATCH = ".bcnet-unpacking"
"""Where it is unpacked until then: one name, so that a later run clears what a killed one left."""


def locate_data(public: PublicSet, folder: Path) -> Path:
    """Tell what to give to `bcnet audit` or `bcnet train`: the folder, or its `.npz`.

    Example:
        >>> locate_data(find_set("breastmnist-64"), Path("a")).as_posix()
        'a/breastmnist_64.npz'
    """
    return folder if public.arrange else folder / public.files[0].name


def is_complete(public: PublicSet, folder: Path) -> bool:
    """Tell whether a folder holds all of a set.

    Args:
        public: The set.
        folder: Where it should be.

    Returns:
        True when its words and its pictures are there; a file that is read as it is must also
        have its checksum. Unpacked pictures are there as a whole or not at all.

    Example:
        A folder with the archive and `dataset.json`, but without `pictures/`, gives False.
    """
    if not _has_words(public, folder):
        return False
    if public.arrange:
        return (folder / PICTURES).is_dir()
    path = locate_data(public, folder)
    return path.exists() and find_checksum(path, public.files[0]) == public.files[0].checksum


def require_own_folder(public: PublicSet, folder: Path) -> None:
    """Refuse a folder that holds anything else, before hours of downloading find out.

    Args:
        public: The set.
        folder: Where it should be; need not exist.

    Raises:
        FileExistsError: If the folder holds other files, other words, or pictures without words.

    Example:
        A folder with `README.md` is refused; one with the set's archive, or nothing, is not.
    """
    downloads = _list_downloads(public, folder)
    own = {*downloads, *map(find_record, downloads)}
    if _has_words(public, folder):
        own.add(folder / WORDS_FILE)
    there = sorted(folder.iterdir()) if folder.exists() else []
    others = [path for path in there if path not in own and not path.name.startswith(".")]
    if others:
        raise FileExistsError(
            f"{others[0]} is in the way: name a folder that is empty or holds {public.name} alone"
        )


def arrange(public: PublicSet, folder: Path, update: Update) -> None:
    """Unpack a set whose files have all been downloaded, and write its `dataset.json`.

    Args:
        public: The set.
        folder: Where its downloads are; `pictures/` appears there, at once and whole.
        update: Told of the pictures written.

    Raises:
        ValueError: If an archive is damaged or unsafe.

    Example:
        `arrange(find_set("breakhis"), folder, update)` of a folder with the archive adds
        `pictures/BreaKHis_v1/…` and `dataset.json`.
    """
    words = json.dumps(asdict(public.info), indent=2, ensure_ascii=False) + "\n"
    scratch = folder / SCRATCH
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        if public.arrange:
            _unpack(public, folder, scratch / PICTURES, update)
        write_text(folder / WORDS_FILE, words)
        if public.arrange:  # last, so that pictures with words are a complete set
            os.replace(scratch / PICTURES, folder / PICTURES)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _unpack(public: PublicSet, folder: Path, target: Path, update: Update) -> None:
    downloads = _list_downloads(public, folder)
    try:
        public.arrange(downloads, target, update)
    except DAMAGED as error:
        for path in downloads:  # the checksum of a damaged first copy is no measure of others
            find_record(path).unlink(missing_ok=True)
        raise ValueError(
            f"The download in {folder} is damaged; move it away and run this again ({error})"
        ) from error


def _list_downloads(public: PublicSet, folder: Path) -> list[Path]:
    return [folder / file.name for file in public.files]


def _has_words(public: PublicSet, folder: Path) -> bool:
    try:
        words = json.loads((folder / WORDS_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return words == asdict(public.info)
