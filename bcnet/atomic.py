"""Write a file whole or not at all: the one way bcnet puts anything on disk.

Seen without it: `kill -9` during `model.save` left unreadable files, and a full disk destroyed
the only copy. Standard library only, so that every floor may use it.
"""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replace_file(path: str | os.PathLike) -> Iterator[Path]:
    """Give a temporary path to write; on success it takes the place of `path` in one step.

    The temporary file lies beside `path` (same file system, same ending), reaches the disk before
    the exchange, and is removed when the block raises: the old file is then still whole.

    Args:
        path: the file to create or replace; missing folders above it are made.

    Yields:
        The path to write to; nothing is there yet.

    Example:
        >>> with replace_file("notes.txt") as temporary:
        ...     _ = temporary.write_text("all or nothing")
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}-{uuid.uuid4().hex[:8]}.partial{path.suffix}")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if error.errno and error.filename in (None, os.fspath(temporary)):
            error.filename, error.filename2 = os.fspath(path), None  # the file meant, in messages
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write UTF-8 text in one step (see `replace_file`)."""
    with replace_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
