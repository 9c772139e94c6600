"""What is changed after an answer was given, each change with its row in the audit.

Belongs here: changes within a session that somebody has begun. Does not: who may ask for them, and
for which answers.
"""

from datetime import UTC, datetime

from sqlalchemy import delete, insert

from bcnet.history.tables import UNKNOWN, Answer, Change

OUTCOME, NOTE, DELETED = "outcome", "note", "deleted"
"""What a change was of."""


def enter_outcome(session, row, outcome, by):
    """Set the outcome of an answer; one that stands already is no change and leaves no trace.

    Args:
        session: One that writes.
        row: An `Answer` of that session.
        outcome: "benign", "malignant" or None.
        by: Who enters it, or None.

    Example:
        After "benign" and then "malignant" the audit has two rows, the second with before="benign"
        and after="malignant".
    """
    outcome = outcome or UNKNOWN
    if outcome == row.outcome:
        return
    now = datetime.now(UTC)
    session.add(_make_change(row, OUTCOME, now, by, before=row.outcome, after=outcome))
    row.outcome = outcome
    row.outcome_by, row.outcome_time = (None, None) if outcome == UNKNOWN else (by, now)


def write_note(session, row, note, by):
    """Set the note of an answer; the audit says that it changed, not what it said.

    Args:
        session: One that writes.
        row: An `Answer` of that session.
        note: A text, or None.
        by: Who writes it, or None.

    Example:
        After `write_note(session, row, "seen again", "anna")` the audit has a row of "note".
    """
    if note != row.note:
        session.add(_make_change(row, NOTE, datetime.now(UTC), by))
        row.note = note


def delete_answers(session, conditions, by):
    """Delete answers; of each the audit keeps the id and its outcomes, no text and no value.

    Args:
        session: One that writes.
        conditions: Which, on `Answer`.
        by: Who deletes them, or None.

    Returns:
        How many there were, and the ids of their kept pictures.

    Example:
        `delete_answers(session, [Answer.owner == "anna"], "anna")` is `(0, [])` the second time.
    """
    gone = delete(Answer).where(*conditions).returning(Answer.id, Answer.owner, Answer.image)
    rows = session.execute(gone).all()
    now = datetime.now(UTC)
    if rows:
        session.execute(insert(Change), [_describe(row, DELETED, now, by) for row in rows])
    return len(rows), [row.image for row in rows if row.image is not None]


def _make_change(row, what, now, by, *, before=None, after=None):
    return Change(**_describe(row, what, now, by), before=before, after=after)


def _describe(row, what, now, by):
    return {"answer": row.id, "owner": row.owner, "time": now, "by": by, "what": what}


def describe_change(row):
    """Turn a row of `Change` into a dict; an outcome that was unknown is None.

    Example:
        `describe_change(row)` of a first outcome has before=None and after="benign".
    """
    told = {name: getattr(row, name) for name in ("time", "by", "what", "before", "after")}
    return {name: None if value == UNKNOWN else value for name, value in told.items()}
