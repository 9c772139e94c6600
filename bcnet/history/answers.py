"""What an answer is: checked on its way into a row, a plain dict on its way out.

Belongs here: the keys of an answer and what each may hold. Does not: the database.
"""

import re
import uuid
from datetime import UTC, datetime

from bcnet.config import CLASS_NAMES
from bcnet.history.database import write_json
from bcnet.history.tables import NOBODY, UNKNOWN, Answer

KINDS = ("picture", "measurements")
"""What may be asked about."""

REQUIRED = ("kind", "model", "model_hash", "input_hash", "status")
OPTIONAL = ("time", "batch", "owner", "probability", "threshold", "label", "verdicts")
KEPT_ON_REQUEST = ("name", "image", "measurements")
"""What an operator may turn on; None unless a caller gives it."""

LONGEST_TEXT = 10_000
"""Letters in a note or any other text: two printed pages."""

# NUL, which PostgreSQL refuses, and half letters, which names of files that are not UTF-8 hold.
FORBIDDEN = re.compile("[\0\ud800-\udfff]")


def check_answer(answer, batch):
    """Check an answer and turn it into the values of a row.

    Args:
        answer: A dict as in `History.add`.
        batch: The batch of an answer that names none.

    Returns:
        The values by the names of the columns of `Answer`, with a new id.

    Raises:
        ValueError: A key is missing or unknown, or a value is not allowed.

    Example:
        >>> row = check_answer({"kind": "picture", "model": "idc", "model_hash": "00",
        ...                     "input_hash": "11", "status": "unreadable: empty"}, "a batch")
        >>> row["status"], row["reason"], row["name"]
        ('unreadable', 'empty', None)
    """
    _check_keys(answer)
    status, _, reason = check_text("status", answer["status"]).partition(": ")
    return {
        "id": str(uuid.uuid4()),
        "time": check_time("time", answer.get("time")) or datetime.now(UTC),
        "kind": check_choice("kind", answer["kind"], KINDS),
        "batch": check_text("batch", answer.get("batch")) or batch,
        "owner": check_text("owner", answer.get("owner")) or NOBODY,
        **{name: check_text(name, answer[name]) for name in ("model", "model_hash", "input_hash")},
        **{name: _check_share(name, answer.get(name)) for name in ("probability", "threshold")},
        "label": check_choice("label", answer.get("label"), (None, *CLASS_NAMES)),
        "status": status,
        "reason": reason or None,
        "verdicts": _check_json("verdicts", answer.get("verdicts") or {}),
        "outcome": UNKNOWN,
        "name": check_text("name", answer.get("name")),
        "image": check_text("image", answer.get("image")),
        "measurements": _check_json("measurements", answer.get("measurements")),
    }


def _check_keys(answer):
    missing = [name for name in REQUIRED if answer.get(name) is None]
    unknown = sorted(answer.keys() - {*REQUIRED, *OPTIONAL, *KEPT_ON_REQUEST})
    if missing or unknown:
        raise ValueError(
            f"an answer must have {', '.join(REQUIRED)}, and may have "
            f"{', '.join(OPTIONAL + KEPT_ON_REQUEST)}. "
            f"Received: missing={missing}, unknown={unknown}"
        )
    if answer.get("probability") is not None and not answer.keys() >= {"threshold", "label"}:
        raise ValueError("an answer with `probability` must have `threshold` and `label`")


def check_text(name, value):
    """Return a text that every database takes, or None; raise `ValueError` for any other.

    The message does not hold the text, which may be about a patient.

    Example:
        >>> check_text("note", "seen again in May")
        'seen again in May'
    """
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > LONGEST_TEXT or FORBIDDEN.search(value):
        raise ValueError(
            f"`{name}` must be a text of at most {LONGEST_TEXT:,} letters, without NUL and half "
            f"letters. Received: {type(value).__name__}"
        )
    return value


def check_choice(name, value, choices):
    """Return a value that is one of the choices; raise `ValueError` for any other."""
    if value not in choices:
        raise ValueError(f"`{name}` must be one of {choices}. Received: {name}={value!r}")
    return value


def check_time(name, value):
    """Return a moment with a time zone, or None; raise `ValueError` for any other.

    Example:
        >>> check_time("since", datetime(2026, 5, 1, tzinfo=UTC)).isoformat()
        '2026-05-01T00:00:00+00:00'
    """
    if value is not None and (not isinstance(value, datetime) or value.utcoffset() is None):
        raise ValueError(f"`{name}` must be a datetime with a time zone. Received: {value!r}")
    return value


def _check_share(name, value):
    if value is None:
        return None
    if not 0 <= value <= 1:  # NaN, too, is not between them
        raise ValueError(f"`{name}` must be between 0 and 1. Received: {name}={value}")
    return float(value)


def _check_json(name, value):
    try:
        write_json(value)
    except (TypeError, ValueError):
        value = "something else"
    if not isinstance(value, dict | None):
        raise ValueError(f"`{name}` must be a dict that JSON can hold, without NaN")
    return value


def describe_answer(row):
    """Turn a row of `Answer` into a dict: all columns but the number, absent values as None.

    Example:
        `describe_answer(row)["owner"]` is None on a server without users.
    """
    names = [column.name for column in Answer.__table__.columns if column.name != "number"]
    told = {name: getattr(row, name) for name in names}
    told["owner"] = None if row.owner == NOBODY else row.owner
    told["outcome"] = None if row.outcome == UNKNOWN else row.outcome
    return told
