"""A data set in its own words: its name, licence, modality, and what a negative means there.

From `dataset.json` beside the pictures where there is one; what it leaves unsaid is decided here
from names and a few pictures. Which pictures there are is not asked here.
"""

import json
import os
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import pandas as pd

from bcnet.config import MODALITIES
from bcnet.data.folders import WORDS_FILE
from bcnet.data.naming import NORMAL, SPLIT_WORDS
from bcnet.data.sources import read_sample
from bcnet.readers import UnreadableImageError

LOOKED_AT = 16
"""Pictures decoded per source to tell its modality: a bounded sample, evenly spaced."""

GREY_SPREAD = 24
"""Largest difference of red, green and blue that counts as grey: ultrasound is often tinted."""

GREY_SHARE = 0.95
"""Share of a picture's pixels that must be grey. Of up to 200 pictures of each set, BUS-UCLM
ultrasound has at least 0.97 in 19 of 20, stained tissue (IDC, BreaKHis, PCam) at most 0.88."""


@dataclass(frozen=True, kw_only=True)
class DatasetInfo:
    """What a card and a plot's title say about the data.

    Attributes:
        name: Short name; with the patient id it tells two hospitals' patient 7 apart.
        source: Where the pictures come from, for people to read.
        licence: What may be done with them.
        modality: `"tissue"` or `"radiology"`.
        negative: What label 0 means: `"benign"`, `"normal and benign"`, `"IDC-negative tissue"`.
        simulated: Whether any picture was drawn by a program.

    Example:
        >>> DatasetInfo(name="idc", modality="tissue").negative
        'benign'
    """

    name: str
    source: str = "unknown"
    licence: str = "unknown"
    modality: str
    negative: str = "benign"
    simulated: bool = False


def describe_source(rows: pd.DataFrame, *, modality: str = "auto") -> DatasetInfo:
    """Describe one source: by `dataset.json` where it speaks, else by names and pixels.

    Args:
        rows: The source's pictures: `path`, `name`, `label` (0, 1 or `"normal"`), `source`, and
            `scheme`, the naming scheme of each.
        modality: `"tissue"`, `"radiology"`, or `"auto"`: radiology where most pictures are grey.

    Returns:
        The description. Without a `dataset.json`, its name is empty: see `name_sources`.

    Raises:
        ValueError: If `dataset.json` is damaged.

    Example:
        Two grey pictures and no `dataset.json` give modality `"radiology"`, negative `"benign"`.
    """
    words = {"name": "", "negative": _tell_negative(rows)} | read_words(_find_folders(rows))
    if modality != "auto":
        words["modality"] = modality
    elif "modality" not in words:
        words["modality"] = "radiology" if _look_grey(rows) else "tissue"
    return DatasetInfo(**words)


def name_sources(sources: Sequence[str], given: Collection[str] = ()) -> list[str]:
    """Name sources after their place, so that two places never share a name.

    The parts `train/` and `test/` of one place are one data set: their patient 7 is one patient.

    Args:
        sources: Folders, CSVs or `.npz` files.
        given: Names already taken.

    Returns:
        One name per source: its folder's or file's, with folders above it where names clash.

    Example:
        >>> name_sources(["/a/pictures", "/b/pictures", "/c/train", "/c/test.csv"])
        ['a/pictures', 'b/pictures', 'c', 'c']
    """
    homes = [_find_home(source) for source in sources]
    names = {home: home.name or "data" for home in homes}
    for depth in range(2, max((len(home.parts) for home in homes), default=0)):
        times = Counter([*names.values(), *given])
        for home, name in names.items():
            if times[name] > 1:
                names[home] = "/".join(home.parts[-depth:])
    return [names[home] for home in homes]


def read_words(folders: Iterable[str | Path]) -> dict[str, str | bool]:
    """Read the first `dataset.json` found in some folders.

    Args:
        folders: Where to look, nearest to the pictures first.

    Returns:
        Those of its entries that `DatasetInfo` has, or nothing when there is no such file.

    Raises:
        ValueError: If the file is damaged, or an entry is of the wrong type or an unknown modality.

    Example:
        A `dataset.json` of `{"name": "idc", "year": 2014}` gives `{"name": "idc"}`.
    """
    files = (Path(folder) / WORDS_FILE for folder in folders)
    file = next((file for file in files if file.is_file()), None)
    if file is None:
        return {}
    try:
        words = json.loads(file.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise ValueError(f"{file} must be JSON in UTF-8. Received: {error}") from error
    if not isinstance(words, dict):
        raise ValueError(f"{file} must hold one JSON object. Received: {words!r}")
    return _check_words(words, file)


def combine_infos(infos: Sequence[DatasetInfo]) -> DatasetInfo:
    """Describe several data sets as one.

    Args:
        infos: At least one description.

    Returns:
        Names joined by ` + `, other words by `; `; simulated when any is. A mixture of modalities
        is radiology, whose augmentation (small shifts, one mirror) is right for tissue too.

    Example:
        >>> a, b = (DatasetInfo(name=name, modality="tissue") for name in "ab")
        >>> combine_infos([a, b]).name
        'a + b'
    """
    every = {
        field.name: list(dict.fromkeys(getattr(info, field.name) for info in infos))
        for field in fields(DatasetInfo)
    }
    return DatasetInfo(
        name=" + ".join(every["name"]),
        source="; ".join(every["source"]),
        licence="; ".join(every["licence"]),
        modality=every["modality"][0] if len(every["modality"]) == 1 else "radiology",
        negative="; ".join(every["negative"]),
        simulated=any(every["simulated"]),
    )


def _check_words(words: dict, file: Path) -> dict[str, str | bool]:
    example = asdict(DatasetInfo(name="", modality=""))
    known = {key: value for key, value in words.items() if key in example}
    for key, value in known.items():
        if not isinstance(value, type(example[key])) or value == "":
            kind = "true or false" if isinstance(example[key], bool) else "a text"
            raise ValueError(f"`{key}` in {file} must be {kind}. Received: {value!r}")
    if known.get("modality", "tissue") not in MODALITIES:
        raise ValueError(
            f"`modality` in {file} must be one of {', '.join(MODALITIES)}. "
            f"Received: {known['modality']!r}"
        )
    return known


def _find_home(source: str) -> Path:
    place = Path(os.path.realpath(source))
    home = place if place.is_dir() else place.with_suffix("")
    return home.parent if home.name.lower() in SPLIT_WORDS else home


def _find_folders(rows: pd.DataFrame) -> list[str]:
    source = rows["source"].iloc[0]
    if os.path.isdir(source):
        return [source]
    beside = os.path.dirname(source)
    if source.lower().endswith(".npz"):
        return [beside]
    # A CSV may lie far from its pictures: their common folder knows them better.
    common = os.path.commonpath([os.path.abspath(path) for path in rows["path"]])
    return [common, beside]


def _tell_negative(rows: pd.DataFrame) -> str:
    negatives = rows[rows["label"] != 1]
    if len(negatives) and (negatives["scheme"] == "IDC").all():
        return "IDC-negative tissue"
    if rows["source"].iloc[0].lower().endswith(".npz"):
        # Only BreastMNIST has these arrays with malignant = 0; its 1 is "normal, benign".
        return "normal and benign"
    if not (negatives["label"] == NORMAL).any():
        return "benign"
    return "normal and benign" if (negatives["label"] == 0).any() else "normal"


def _look_grey(rows: pd.DataFrame) -> bool:
    places = np.unique(np.linspace(0, len(rows) - 1, LOOKED_AT).astype(int))
    looks = []
    for path, source in rows[["path", "source"]].iloc[places].itertuples(index=False):
        try:
            looks.append(_is_grey(read_sample(path, source)))
        except UnreadableImageError:
            # Whoever reads all pictures names this one; here the others decide.
            continue
    return bool(looks) and np.mean(looks) > 0.5


def _is_grey(image: np.ndarray) -> bool:
    return np.mean(np.ptp(image, axis=-1) <= GREY_SPREAD) >= GREY_SHARE
