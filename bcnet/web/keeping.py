"""Pictures that an operator has chosen to keep: written, and removed with their answers."""

from collections.abc import Iterable
from pathlib import Path
from uuid import uuid4

from bcnet.atomic import replace_file


def keep_picture(folder: Path, content: bytes) -> str:
    """Write a picture for its owner's eyes only.

    Args:
        folder: of kept pictures.
        content: PNG, encoded by us.

    Returns:
        Its name in the folder, a UUID.
    """
    name = f"{uuid4()}.png"
    with replace_file(folder / name) as temporary:
        temporary.touch(mode=0o600)
        temporary.write_bytes(content)
    return name


def remove_pictures(folder: Path, names: Iterable[str]) -> None:
    """Remove kept pictures whose answers are gone.

    Args:
        folder: of kept pictures.
        names: in the folder; one that is not there any more is passed over.
    """
    for name in names:
        (folder / name).unlink(missing_ok=True)
