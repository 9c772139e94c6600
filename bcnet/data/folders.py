"""Pictures in class folders: a folder in, rows and what was left out of them out.

Files are told by name and, where the ending is unknown, by their first bytes. Decoding them is
the readers' work.
"""

import os
import re
from collections import Counter
from collections.abc import Iterator

import pandas as pd

from bcnet.data.naming import CLASS_WORDS, read_class, read_split

PICTURE_ENDINGS = (
    *(".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"),
    *(".pbm", ".pgm", ".ppm", ".pnm"),
)
"""Endings taken at their word; a picture under any other ending is known by its first bytes."""

PICTURE_MAGIC = re.compile(
    rb"\x89PNG\r\n\x1a\n|\xff\xd8\xff|BM|II\*\0|MM\0\*|RIFF....WEBP|P[1-6]\s", re.DOTALL
)
"""First bytes of PNG, JPEG, BMP, TIFF (either byte order), WebP and PNM."""

SYSTEM_NAMES = frozenset(
    ["__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "@eadir"]
)
"""What macOS, Windows and network drives leave in folders, in lower case."""

MASK_FOLDERS = frozenset(["mask", "masks"])
MASK_STEM = re.compile(r".*_mask(_\d+)?", re.IGNORECASE)
"""Outlines that lie beside their pictures, as in BUSI: `benign (1)_mask.png`."""

WORDS_FILE = "dataset.json"
"""The data set's own words, at the top of its folder: used elsewhere, so not skipped."""

IS_MASK = "a mask"
"""Reason for leaving out a mask; the manifest counts masks by it."""

Skipped = list[tuple[str, str]]
"""What was left out: pairs of a path and the reason."""


def list_folder(source: str) -> tuple[pd.DataFrame, Skipped]:
    """List the pictures below a folder with the class and split that their folders name.

    Links to folders are followed, each folder once.

    Args:
        source: The folder as given.

    Returns:
        `(rows, skipped)`: rows sorted by `name`, the path below `source` with `/`, with the
        columns `name`, `path`, `label` (0, 1 or `"normal"`) and `split` (or None); and whatever
        else the folder holds, with reasons.

    Raises:
        ValueError: If no picture stands below a class folder.

    Example:
        `list_folder("data")[0]` of `data/B/x.png` has one row: `B/x.png`, `data/B/x.png`, 0, None.
    """
    skipped: Skipped = []
    rows = []
    for name in sorted(set(_walk(source, skipped)) - {WORDS_FILE}):
        path = os.path.join(source, name)
        *folders, file = name.split("/")
        label = read_class(folders)
        if reason := _find_reason(path, folders, file, label):
            skipped.append((path, reason))
        else:
            rows.append((name, path, label, read_split(folders)))
    if not rows:
        raise ValueError(_describe_absence(source, skipped))
    return pd.DataFrame(rows, columns=["name", "path", "label", "split"], dtype=object), skipped


def find_pictures(source: str) -> tuple[list[str], Skipped]:
    """Find the pictures below a folder of any layout, with or without class folders.

    Args:
        source: The folder as given.

    Returns:
        `(names, skipped)`: sorted paths below `source` with `/`, and whatever else the folder
        holds, with reasons. Masks are no pictures.

    Example:
        `find_pictures("data")[0]` of `data/B/x.png` and `data/notes.txt` is `["B/x.png"]`.
    """
    skipped: Skipped = []
    names = []
    for name in sorted(set(_walk(source, skipped))):
        *folders, file = name.split("/")
        # Any class will do: only the other reasons for leaving a file out are asked for.
        if reason := _find_reason(os.path.join(source, name), folders, file, label=0):
            skipped.append((os.path.join(source, name), reason))
        else:
            names.append(name)
    return names, skipped


def _walk(source: str, skipped: Skipped) -> Iterator[str]:
    # A folder is known by device and inode, so that a link to its own parent ends the walk.
    seen = set()
    waiting = [""]
    while waiting:
        below = waiting.pop()
        folder = os.path.join(source, below) if below else source
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:
            skipped.append((folder, "a link to a folder already read"))
            continue
        seen.add((status.st_dev, status.st_ino))
        for entry in _scan(folder, skipped):
            name = f"{below}/{entry.name}" if below else entry.name
            kind = _tell_kind(entry)
            if kind == "folder":
                # Links wait until all real folders are read, so that the real place wins.
                waiting.insert(0 if entry.is_symlink() else len(waiting), name)
            elif kind == "file":
                yield name
            else:
                skipped.append((os.path.join(source, name), kind))


def _scan(folder: str, skipped: Skipped) -> list[os.DirEntry]:
    try:
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
    except PermissionError as error:
        skipped.append((folder, f"cannot be opened: {error.strerror}"))
        return []
    if not found:
        skipped.append((folder, "an empty folder"))
    return found


def _tell_kind(entry: os.DirEntry) -> str:
    if entry.name.startswith(".") or entry.name.lower() in SYSTEM_NAMES:
        return "hidden or of the system"
    try:
        if entry.is_dir():
            return "folder"
        return "file" if entry.is_file() else "a broken link or no regular file"
    except OSError as error:
        return f"cannot be followed: {error.strerror}"


def _find_reason(path: str, folders: list[str], file: str, label: int | str | None) -> str | None:
    stem, ending = os.path.splitext(file)
    if ending.lower() not in PICTURE_ENDINGS and not _starts_like_picture(path):
        return "not a picture"
    if MASK_STEM.fullmatch(stem) or any(folder.lower() in MASK_FOLDERS for folder in folders):
        return IS_MASK
    return "no class folder above it" if label is None else None


def _starts_like_picture(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return PICTURE_MAGIC.match(file.read(16)) is not None
    except OSError:
        return False


def _describe_absence(source: str, skipped: Skipped) -> str:
    found = Counter(reason for _, reason in skipped)
    counts = "; ".join(f"{reason} ({count})" for reason, count in found.most_common())
    message = (
        f"No picture in a class folder below {source}. Looked for folders "
        f"{', '.join(CLASS_WORDS)} in any case, at any depth. Found: {counts or 'nothing'}."
    )
    if read_class([os.path.basename(os.path.realpath(source))]) is not None:
        message += f" {source} is itself a class folder: give the folder that holds it."
    return message
