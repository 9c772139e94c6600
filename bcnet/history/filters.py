"""Which answers are asked for: the filters of search, export and live metrics.

Belongs here: turning filters into conditions. Does not: running them.
"""

from dataclasses import dataclass, fields
from datetime import datetime

from sqlalchemy import or_

from bcnet.config import CLASS_NAMES
from bcnet.history.answers import KINDS, check_choice, check_text, check_time
from bcnet.history.tables import NOBODY, UNKNOWN, Answer

KNOWN = "known"
"""Asks for cases with either outcome."""

EQUAL = ("model", "model_hash", "label", "status", "batch", "kind")
"""Filters that name the value of a column."""


@dataclass(frozen=True, kw_only=True)
class Filters:
    """Narrow the answers of one owner; None does not narrow.

    Attributes:
        model: name of the model.
        model_hash: hash of its file.
        label: "benign" or "malignant".
        status: what stands before a colon: "ok", "refer", "unreadable" …
        batch: id of what was asked together.
        kind: "picture" or "measurements".
        outcome: "benign", "malignant", "unknown" (none entered) or "known" (either).
        since: first moment, with a time zone.
        until: moment before which, with a time zone.
        text: found in the note or the name, as it stands (no wildcards) and whatever its case.

    Example:
        >>> Filters(label="malignant", outcome="unknown").label
        'malignant'
    """

    model: str | None = None
    model_hash: str | None = None
    label: str | None = None
    status: str | None = None
    batch: str | None = None
    kind: str | None = None
    outcome: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    text: str | None = None

    def __post_init__(self):
        for name in ("model", "model_hash", "status", "batch", "text"):
            check_text(name, getattr(self, name))
        check_choice("label", self.label, (None, *CLASS_NAMES))
        check_choice("kind", self.kind, (None, *KINDS))
        check_choice("outcome", self.outcome, (None, *CLASS_NAMES, UNKNOWN, KNOWN))
        check_time("since", self.since)
        check_time("until", self.until)

    @classmethod
    def check(cls, filters):
        """Make filters of a dict; raise `ValueError` for a name or value that is not allowed."""
        names = [field.name for field in fields(cls)]
        for name in filters:
            check_choice("filter", name, names)
        return cls(**filters)

    def list_conditions(self, owner):
        """List the conditions on `Answer`, the owner's first.

        Args:
            owner: Name of a user; None for answers that belong to nobody.
        """
        conditions = [Answer.owner == (owner or NOBODY)]
        for name in EQUAL:
            if getattr(self, name) is not None:
                conditions.append(getattr(Answer, name) == getattr(self, name))
        if self.outcome == KNOWN:
            conditions.append(Answer.outcome.in_(CLASS_NAMES))
        elif self.outcome is not None:
            conditions.append(Answer.outcome == self.outcome)
        if self.since is not None:
            conditions.append(Answer.time >= self.since)
        if self.until is not None:
            conditions.append(Answer.time < self.until)
        if self.text:
            found = (c.icontains(self.text, autoescape=True) for c in (Answer.note, Answer.name))
            conditions.append(or_(*found))
        return conditions
