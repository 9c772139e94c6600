"""What the model files of both kinds share: where they lie, how they open, the card inside.

Belongs here: `.keras` and `.skops` files as zip archives with a member `card.json`. Does not: what
turns one into a model (`modelfile`, `measurements.file`). Standard library only, so that asking a
model of measurements waits for no network.
"""

import json
import os
import zipfile
from pathlib import Path

from bcnet.atomic import replace_file

CARD_MEMBER = "card.json"
KINDS = {".keras": "Keras", ".skops": "skops"}
ENDINGS = tuple(KINDS)

# Hashes of a million pictures have some 25 MB; a few kB of zip can claim a thousand times that.
LARGEST_JSON = 64 * 1024**2

# The trained models that come with the project.
SHIPPED_FOLDER = Path(__file__).resolve().parents[1] / "models"

LOST_CARD = {
    ".keras": "the card was lost (Keras drops it when it saves a file again). "
    "Classifier.load(file, card=ORIGINAL) takes it from the original model file, and "
    "keras.models.load_model(file) still gives the bare network.",
    ".skops": "it has no card: skops alone has written it, or written it again. Train it anew "
    "with `bcnet measurements train`; skops.io.load(file) still gives the bare model.",
}


class ModelFileError(ValueError):
    """A model file that cannot be used, with its path and the reason in one sentence."""

    def __init__(self, path, reason):
        super().__init__(f"{path}: {reason}")
        self.path, self.reason = str(path), reason


def locate_model(name: str | os.PathLike) -> str:
    """Find a model file by its path, or one that comes with the project by its name.

    Args:
        name: a path, or the name of a shipped model, such as "idc".

    Returns:
        The path; as given where it is no shipped model's name.

    Example:
        >>> locate_model("mine.keras")
        'mine.keras'
    """
    is_name = Path(name).name == str(name) and not Path(name).is_file()
    shipped = [SHIPPED_FOLDER / f"{name}{ending}" for ending in ENDINGS]
    found = [str(path) for path in shipped if is_name and path.is_file()]
    return found[0] if found else str(name)


def list_shipped(*endings: str) -> list[str]:
    """List the names of the models that come with the project.

    Args:
        endings: only those of these kinds; all by default.
    """
    return sorted(
        path.stem for path in SHIPPED_FOLDER.iterdir() if path.suffix in (endings or ENDINGS)
    )


def open_archive(path: str | os.PathLike, *endings: str) -> zipfile.ZipFile:
    """Open a model file for looking at its members, which nothing vouches for yet.

    Args:
        path: a model file.
        endings: of the kinds that are taken; both by default.

    Raises:
        FileNotFoundError: when there is no such file.
        ModelFileError: when it is of another kind, or no zip archive.
    """
    endings = endings or ENDINGS
    if not Path(path).is_file():
        shipped = ", ".join(list_shipped(*endings)) or "none"
        raise FileNotFoundError(f"no model file at {path} (models that come with bcnet: {shipped})")
    if Path(path).suffix not in endings:
        raise ModelFileError(path, _tell_other_kind(Path(path).suffix, endings))
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        kind = KINDS[Path(path).suffix]
        raise ModelFileError(path, f"not a {kind} model file, or a truncated one") from error


def read_card(path: str | os.PathLike, *endings: str) -> dict:
    """Read the card of a model file.

    Args:
        path: a `.keras` or `.skops` file.
        endings: of the kinds that are taken; both by default.

    Raises:
        FileNotFoundError: when there is no such file.
        ModelFileError: when it has no card, or one that is not JSON.
    """
    with open_archive(path, *endings) as archive:
        if CARD_MEMBER not in archive.namelist():
            raise ModelFileError(path, LOST_CARD[Path(path).suffix])
        return read_json(path, archive, CARD_MEMBER)


def read_json(path: str | os.PathLike, archive: zipfile.ZipFile, name: str):
    """Read a member that is JSON, or raise `ModelFileError` for `path`."""
    size = archive.getinfo(name).file_size
    if size > LARGEST_JSON:
        raise ModelFileError(path, f"its {name} would unpack to {size:,} bytes")
    try:
        return json.loads(archive.read(name))
    except (ValueError, zipfile.BadZipFile, zipfile.zlib.error, RecursionError) as error:
        raise ModelFileError(path, f"{name} is damaged: {first_line(error)}") from error


def add_card(path: str | os.PathLike, card: dict) -> None:
    """Put a card into a model file that has none yet.

    Raises:
        ValueError: for a card that JSON cannot hold, NaN among it.
    """
    text = json.dumps(card, indent=1, allow_nan=False)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(CARD_MEMBER, text)


def write_card(path: str | os.PathLike, card: dict) -> None:
    """Replace the card of a model file in one step; all else in the file stays as it is.

    Args:
        path: a `.keras` or `.skops` file.
        card: what `json.dumps` takes; NaN is refused.

    Raises:
        FileNotFoundError: when there is no such file.
        ModelFileError: when it is no model file.
        ValueError: for a card that JSON cannot hold, NaN among it.
    """
    with replace_file(path) as temporary:
        with open_archive(path) as old, zipfile.ZipFile(temporary, "w") as new:
            for member in old.infolist():
                if member.filename != CARD_MEMBER:
                    new.writestr(member, old.read(member))
        add_card(temporary, card)


def first_line(error: Exception) -> str:
    """Give the first line of what a library has to say, or its name where it says nothing.

    Example:
        >>> first_line(KeyError())
        'KeyError'
    """
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def _tell_other_kind(ending, endings):
    if ending in ENDINGS:
        told = {".keras": "pictures", ".skops": "measurements"}
        return f"a model of {told[ending]}, where one of {told[endings[0]]} is wanted"
    return f"only {' and '.join(endings)} files are loaded (.h5 and pickles can run code)"
