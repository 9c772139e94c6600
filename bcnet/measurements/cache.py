"""Answers that need not be computed twice: small JSON files, each named by all it depends on.

Belongs here: finding and keeping them. Does not: what they depend on, which only the code that
computes them knows.
"""

import hashlib
import json
from pathlib import Path

from bcnet.atomic import write_text


def digest(value):
    """Digest a value that JSON can hold, or a sequence of bytes; other things by their names.

    Args:
        value: Bytes, or anything `json.dumps` takes; functions and classes stand for their names,
            objects for those of their class, as a memory address would differ in each run.

    Returns:
        64 hexadecimal digits (SHA-256).

    Example:
        >>> digest({"a": 1, "b": len})[:8] == digest({"b": len, "a": 1})[:8]
        True
    """
    if not isinstance(value, bytes):
        value = json.dumps(value, sort_keys=True, default=_name).encode()
    return hashlib.sha256(value).hexdigest()


def recall(folder, key):
    """Recall an answer, or None where there is none that can be trusted.

    A damaged file is as good as none: what it held is computed again and takes its place.

    Args:
        folder: Where answers are kept; None keeps none.
        key: What `digest` made of all that the answer depends on.

    Returns:
        What `keep` was given, or None.
    """
    if folder is None:
        return None
    try:
        entry = json.loads((Path(folder) / f"{key}.json").read_text(encoding="utf-8"))
        return entry["answer"] if entry["digest"] == digest(entry["answer"]) else None
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def keep(folder, key, answer):
    """Keep an answer, whole or not at all.

    Args:
        folder: Where; made if need be. None keeps nothing.
        key: As for `recall`.
        answer: Anything JSON can hold.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     keep(folder, "one", [0.5])
        ...     recall(folder, "one")
        [0.5]
    """
    if folder is not None:
        entry = {"digest": digest(answer), "answer": answer}
        write_text(Path(folder) / f"{key}.json", json.dumps(entry))


def _name(value):
    return getattr(value, "__qualname__", type(value).__qualname__)
