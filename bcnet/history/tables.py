"""The tables of the history, as SQLAlchemy maps them.

Belongs here: columns, and the indexes by which they are searched. Does not: creating them, which
is done by `migrations` alone; a test compares the two.
"""

from datetime import UTC, datetime

from sqlalchemy import JSON, DateTime, Double, ForeignKey, Index, LargeBinary, String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

NOBODY = ""
"""Owner of answers on a server without users; not NULL, where PostgreSQL sorts by no index."""

UNKNOWN = "unknown"
"""Outcome of a case of which none was entered; not NULL for the same reason."""


class Instant(TypeDecorator):
    """A moment in UTC; SQLite keeps no time zones and PostgreSQL answers in the server's."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value, dialect):
        """Turn any aware moment into UTC."""
        return value and value.astimezone(UTC)

    def process_result_value(self, value, dialect):
        """Give every moment its zone back."""
        if value is None or value.tzinfo:
            return value and value.astimezone(UTC)
        return value.replace(tzinfo=UTC)


class Base(DeclarativeBase):
    """Whatever is a table of the history."""


class Answer(Base):
    """One answer of a model to one picture or one row of measurements.

    Attributes:
        number: the database's own, rising; it orders answers of the same moment.
        id: UUID4, the only name by which anyone outside asks for it.
        owner: name of the user who asked; `NOBODY` on a server without users.
        time: when it was answered.
        kind: "picture" or "measurements".
        batch: UUID4 of what was asked together.
        model: name of the model.
        model_hash: SHA-256 of its file.
        input_hash: SHA-256 of what was uploaded.
        probability: of malignant, 0–1; None for what could not be read.
        threshold: from which probability the model says malignant.
        label: "benign" or "malignant"; None as above.
        status: "ok", "refer", "unlike training data" …: what stands before a colon.
        reason: what stands behind it.
        verdicts: of the input gate, the heatmap …, by name.
        outcome: what it turned out to be: "benign", "malignant" or `UNKNOWN`.
        outcome_by: who entered that.
        outcome_time: when.
        note: a free text.
        name: of the file or row; None unless the operator keeps it.
        image: id of the kept picture; None unless the operator keeps it.
        measurements: by feature; None unless the operator keeps them.
    """

    __tablename__ = "answers"

    number: Mapped[int] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(String(36), unique=True)
    owner: Mapped[str]
    time: Mapped[datetime] = mapped_column(Instant)
    kind: Mapped[str]
    batch: Mapped[str] = mapped_column(String(36))
    model: Mapped[str]
    model_hash: Mapped[str]
    input_hash: Mapped[str]
    probability: Mapped[float | None] = mapped_column(Double)
    threshold: Mapped[float | None] = mapped_column(Double)
    label: Mapped[str | None]
    status: Mapped[str]
    reason: Mapped[str | None]
    verdicts: Mapped[dict] = mapped_column(JSON)
    outcome: Mapped[str]
    outcome_by: Mapped[str | None]
    outcome_time: Mapped[datetime | None] = mapped_column(Instant)
    note: Mapped[str | None]
    name: Mapped[str | None]
    image: Mapped[str | None]
    measurements: Mapped[dict | None] = mapped_column(JSON(none_as_null=True))

    # Whatever is asked for, it is somebody's and the newest comes first.
    __table_args__ = (
        Index("answers_by_time", "owner", "time", "number"),
        *(
            Index(f"answers_by_{column}", "owner", column, "time", "number")
            for column in ("kind", "batch", "model", "label", "status", "outcome")
        ),
    )


class Change(Base):
    """One row of the audit: what somebody changed after the answer was given.

    No text of a note is kept here, so that a deleted note is gone; and no foreign key, so that
    the rows of a deleted answer stay.

    Attributes:
        number: the database's own, rising.
        answer: id of the answer.
        owner: as in `Answer`.
        time: when.
        by: who; None on a server without users.
        what: "outcome", "note" or "deleted".
        before: the outcome before; None for the others.
        after: the outcome after; None for the others.
    """

    __tablename__ = "changes"

    number: Mapped[int] = mapped_column(primary_key=True)
    answer: Mapped[str] = mapped_column(String(36), index=True)
    owner: Mapped[str]
    time: Mapped[datetime] = mapped_column(Instant)
    by: Mapped[str | None]
    what: Mapped[str]
    before: Mapped[str | None]
    after: Mapped[str | None]


class User(Base):
    """Who may ask on a server that is open to a network.

    Attributes:
        name: by which he signs in, lower case.
        salt: random, his own.
        digest: scrypt of his password with that salt.
        cost: of that scrypt, so that a later bcnet may raise it.
        created: when he was added.
    """

    __tablename__ = "users"

    name: Mapped[str] = mapped_column(primary_key=True)
    salt: Mapped[bytes] = mapped_column(LargeBinary)
    digest: Mapped[bytes] = mapped_column(LargeBinary)
    cost: Mapped[int]
    created: Mapped[datetime] = mapped_column(Instant)


class Token(Base):
    """What a program shows instead of a password; it goes when its user goes.

    Attributes:
        digest: SHA-256 of the token: 256 random bits need no slow hash.
        user: whose it is.
        created: when it was made.
    """

    __tablename__ = "tokens"

    digest: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    user: Mapped[str] = mapped_column(ForeignKey("users.name", ondelete="CASCADE"), index=True)
    created: Mapped[datetime] = mapped_column(Instant)
