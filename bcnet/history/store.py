"""The history: answers kept, searched, completed by what turned out, and deleted.

Belongs here: what a page or a program may ask of the history. Does not: how a database is opened
(`database`), what an answer may hold (`answers`), or how well the models did (`outcomes`).

Whatever is asked is asked for an owner, and only his answers are seen or changed; `owner=None`
are those of nobody, on a server without users.
"""

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from sqlalchemy import func, insert, select, tuple_

from bcnet.config import CLASS_NAMES
from bcnet.history.answers import check_answer, check_choice, check_text, describe_answer
from bcnet.history.changes import delete_answers, describe_change, enter_outcome, write_note
from bcnet.history.database import open_database, reading, writing
from bcnet.history.filters import KNOWN, Filters
from bcnet.history.tables import NOBODY, Answer, Change
from bcnet.history.users import Users

LARGEST_PAGE = 1000
"""Rows of a page at most, and rows that an export holds in memory at a time."""

# An offset beyond this is a slip, and far beyond it no database takes it.
LAST_PAGE = 1_000_000

RETENTION = "(retention)"
"""Stands in the audit where answers grew too old; no user's name has brackets."""

# A thousand years; much more is no date.
MOST_DAYS = 365_000

# What the live metrics need of each answer.
CASE = (
    Answer.model,
    Answer.model_hash,
    Answer.threshold,
    Answer.input_hash,
    Answer.probability,
    Answer.outcome,
)

NEWEST_FIRST = (Answer.time.desc(), Answer.number.desc())


class Page(NamedTuple):
    """Some of the answers that were searched for.

    Attributes:
        rows: the answers of this page, newest first, each a dict.
        total: how many there are on all pages.
    """

    rows: list[dict]
    total: int


class Deleted(NamedTuple):
    """What was deleted.

    Attributes:
        count: how many answers.
        images: ids of kept pictures, whose files the caller must now remove.
    """

    count: int
    images: list[str]


class History:
    """A database of answers; one for a process, shared by its threads.

    Attributes:
        users: who may ask, see `Users`.

    Example:
        >>> with History.open("sqlite:///instance/history.sqlite") as history:
        ...     [id] = history.add([{"kind": "picture", "model": "idc", "model_hash": "00",
        ...                          "input_hash": "11", "status": "ok", "probability": 0.9,
        ...                          "threshold": 0.5, "label": "malignant"}])
        ...     history.set_outcome(id, "benign")
        ...     history.search(label="malignant").rows[0]["outcome"]
        'benign'
    """

    def __init__(self, engine):
        self._engine = engine
        self.users = Users(engine)

    @classmethod
    def open(cls, url: str) -> "History":
        """Open a history, made or brought up to date where needed.

        Args:
            url: "sqlite:///FILE" or "postgresql+psycopg://USER:PASSWORD@HOST/NAME".

        Raises:
            ValueError: The URL is of another kind.
            HistoryError: See `bcnet.history.database.open_database`.

        Example:
            `History.open("sqlite:///instance/history.sqlite")`
        """
        return cls(open_database(url))

    def close(self) -> None:
        """Give back all connections; SQLite then folds its log into the one file."""
        self._engine.dispose()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def add(self, answers: Sequence[dict]) -> list[str]:
        """Keep answers, all of them or none; once this returns they are on the disk.

        No picture and no name is kept unless it is given.

        Args:
            answers: Dicts. Each must have `kind` ("picture" or "measurements"), `model`,
                `model_hash`, `input_hash` and `status` (what follows its first ": " becomes
                `reason`), and may have `time` (now by default), `batch` (UUID; a new one for all
                answers without), `owner`, `probability`, `threshold`, `label`, `verdicts` (a
                dict). Where the operator keeps them: `name`, `image` (an id), `measurements`.

        Returns:
            The id of each, a UUID4.

        Raises:
            ValueError: A key or a value is not allowed.
            HistoryError: The database fails; none was kept.

        Example:
            See `History`.
        """
        batch = str(uuid.uuid4())
        rows = [check_answer(answer, batch) for answer in answers]
        if rows:
            with writing(self._engine) as session:
                session.execute(insert(Answer), rows)
        return [row["id"] for row in rows]

    def get(self, id: str, owner: str | None = None) -> dict | None:
        """Get one answer.

        Returns:
            All that is known of it, absent values as None; None where the owner has no such answer.

        Raises:
            HistoryError: The database fails.

        Example:
            `history.get(id, "anna")` is None for an answer of bea.
        """
        with reading(self._engine) as session:
            row = session.scalar(select(Answer).where(*_name_one(id, owner)))
            return row and describe_answer(row)

    def search(
        self, *, owner: str | None = None, page: int = 1, size: int = 50, **filters: object
    ) -> Page:
        """Find the answers of an owner, newest first.

        Args:
            owner: Whose.
            page: From 1; beyond the last one there are no rows.
            size: Rows of a page, 1–1000.
            **filters: Those of `Filters`: model, model_hash, label, status, batch, kind, outcome,
                since, until, text.

        Raises:
            ValueError: A filter, or the value of one, is not allowed.
            HistoryError: The database fails.

        Example:
            `history.search(outcome="unknown", page=2).total`
        """
        _check_whole("page", page, LAST_PAGE)
        _check_whole("size", size, LARGEST_PAGE)
        conditions = Filters.check(filters).list_conditions(owner)
        found = select(Answer).where(*conditions).order_by(*NEWEST_FIRST)
        with reading(self._engine) as session:
            total = session.scalar(select(func.count()).select_from(Answer).where(*conditions))
            rows = session.scalars(found.offset((page - 1) * size).limit(size))
            return Page([describe_answer(row) for row in rows], total)

    def export(self, *, owner: str | None = None, **filters: object) -> Iterator[dict]:
        """Give all answers that `search` finds, newest first, a thousand in memory at a time.

        Texts are given as they were entered. Whoever writes them into a CSV file for a spreadsheet
        must defuse those that begin with `=`, `+`, `-` or `@`.

        No transaction stays open between two rows, however slowly they are taken; what is added
        meanwhile is not among them, and what is deleted meanwhile may be.

        Args:
            owner: Whose.
            **filters: As for `search`.

        Returns:
            An iterator over dicts.

        Raises:
            ValueError: At once, as for `search`.
            HistoryError: At any row: the database fails.

        Example:
            `sum(1 for _ in history.export())` equals `history.search().total`.
        """
        return self._export(Filters.check(filters).list_conditions(owner))

    def _export(self, conditions):
        place = tuple_(Answer.time, Answer.number)
        found = select(Answer).where(*conditions).order_by(*NEWEST_FIRST).limit(LARGEST_PAGE)
        rest = found
        while True:
            with reading(self._engine) as session:
                rows = session.scalars(rest).all()
            yield from map(describe_answer, rows)
            if len(rows) < LARGEST_PAGE:
                return
            rest = found.where(place < (rows[-1].time, rows[-1].number))

    def set_outcome(
        self, id: str, outcome: str | None, *, owner: str | None = None, by: str | None = None
    ) -> None:
        """Enter what a case turned out to be, say by biopsy; the audit keeps what stood before.

        Args:
            id: Of the answer.
            outcome: "benign", "malignant", or None to take an entry back.
            owner: Whose answer it is.
            by: Who enters it; the owner by default.

        Raises:
            ValueError: The outcome is another.
            LookupError: The owner has no such answer.
            HistoryError: The database fails; nothing was changed.

        Example:
            `history.set_outcome(id, "malignant", owner="anna")`
        """
        check_choice("outcome", outcome, (None, *CLASS_NAMES))
        with self._changing(id, owner) as (session, row):
            enter_outcome(session, row, outcome, by or owner)

    def set_note(
        self, id: str, note: str | None, *, owner: str | None = None, by: str | None = None
    ) -> None:
        """Write a note to an answer, in place of the one before; the audit says that it changed.

        Args:
            id: Of the answer.
            note: A text; None or an empty one takes the note away.
            owner: Whose answer it is.
            by: Who writes it; the owner by default.

        Raises:
            ValueError: The note is too long, or no text.
            LookupError: The owner has no such answer.
            HistoryError: The database fails; nothing was changed.

        Example:
            `history.set_note(id, "biopsy on Monday", owner="anna")`
        """
        note = check_text("note", note) or None
        with self._changing(id, owner) as (session, row):
            write_note(session, row, note, by or owner)

    @contextmanager
    def _changing(self, id, owner):
        """Give a session and one answer, which nobody else changes meanwhile."""
        with writing(self._engine) as session:
            row = session.scalar(select(Answer).where(*_name_one(id, owner)).with_for_update())
            if row is None:
                raise LookupError("there is no such answer; it may have been deleted")
            yield session, row

    def audit(self, id: str, owner: str | None = None) -> list[dict]:
        """List what was changed in an answer, the oldest first, also after it was deleted.

        Returns:
            Dicts: `time`, `by`, `what` ("outcome", "note" or "deleted"), and the outcome `before`
            and `after`. What notes said is not kept.

        Raises:
            HistoryError: The database fails.

        Example:
            `[change["after"] for change in history.audit(id)]`
        """
        conditions = Change.answer == check_text("id", id), Change.owner == (owner or NOBODY)
        found = select(Change).where(*conditions).order_by(Change.number)
        with reading(self._engine) as session:
            return [describe_change(row) for row in session.scalars(found)]

    def delete(
        self, ids: Sequence[str], *, owner: str | None = None, by: str | None = None
    ) -> Deleted:
        """Delete some answers for good, all in one step.

        Args:
            ids: Which; one that the owner does not have is passed over and not counted.
            owner: Whose.
            by: Who deletes them; the owner by default.

        Raises:
            HistoryError: The database fails; none was deleted.

        Example:
            `history.delete([id], owner="anna").count`
        """
        blocks = [ids[start : start + LARGEST_PAGE] for start in range(0, len(ids), LARGEST_PAGE)]
        is_owners = Answer.owner == (owner or NOBODY)
        return self._delete([[is_owners, Answer.id.in_(block)] for block in blocks], by or owner)

    def delete_all(self, owner: str | None = None, *, by: str | None = None) -> Deleted:
        """Delete all answers of an owner for good.

        Args:
            owner: Whose.
            by: Who deletes them; the owner by default.

        Raises:
            HistoryError: The database fails; none was deleted.

        Example:
            `history.delete_all("anna")`, after which `history.search(owner="anna").total` is 0.
        """
        return self._delete([[Answer.owner == (owner or NOBODY)]], by or owner)

    def expire(self, days: float) -> Deleted:
        """Delete whatever answers have grown too old, of all owners.

        Args:
            days: Older than this, above 0.

        Raises:
            ValueError: `days` is not above 0.
            HistoryError: The database fails; none was deleted.

        Example:
            `history.expire(365).count`
        """
        if not 0 < days <= MOST_DAYS:
            raise ValueError(f"`days` must be above 0, and {MOST_DAYS:,} at most. Received: {days}")
        oldest = datetime.now(UTC) - timedelta(days=days)
        return self._delete([[Answer.time < oldest]], RETENTION)

    def _delete(self, blocks, by):
        """Delete the answers of several lists of conditions in one step."""
        deleted = Deleted(0, [])
        with writing(self._engine) as session:
            for conditions in blocks:
                count, images = delete_answers(session, conditions, by)
                deleted = Deleted(deleted.count + count, deleted.images + images)
        return deleted

    def summarise(self, *, owner: str | None = None, **filters: object) -> list[dict]:
        """Measure how well the models did where the outcome is known by now.

        Args:
            owner: Whose answers.
            **filters: As for `search`, but for `outcome`: all that are known are measured.

        Returns:
            For each model file and threshold a dict, see `measure_outcomes`.

        Raises:
            ValueError: A filter, or the value of one, is not allowed.
            HistoryError: The database fails.

        Example:
            `history.summarise(model="idc", since=...)[0]["sensitivity"]`
        """
        # Here, for it brings SciPy, which adding a user or an answer need not wait for.
        from bcnet.history.outcomes import measure_outcomes

        conditions = Filters.check({**filters, "outcome": KNOWN}).list_conditions(owner)
        found = select(*CASE).where(*conditions, Answer.probability.is_not(None))
        with reading(self._engine) as session:
            cases = session.execute(found.order_by(*NEWEST_FIRST)).all()
        return measure_outcomes(cases)


def _name_one(id, owner):
    return Answer.id == check_text("id", id), Answer.owner == (owner or NOBODY)


def _check_whole(name, value, largest):
    if not isinstance(value, int) or not 1 <= value <= largest:
        raise ValueError(
            f"`{name}` must be a whole number from 1 to {largest:,}. Received: {name}={value!r}"
        )
