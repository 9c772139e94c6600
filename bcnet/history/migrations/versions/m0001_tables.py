"""Make the tables: answers, the audit of their changes, users and their tokens."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade():
    """Make the tables."""
    _make_answers()
    _make_changes()
    _make_users()


def _make_answers():
    op.create_table(
        "answers",
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("id", sa.String(36), nullable=False, unique=True),
        sa.Column("owner", sa.String, nullable=False),
        sa.Column("time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("batch", sa.String(36), nullable=False),
        sa.Column("model", sa.String, nullable=False),
        sa.Column("model_hash", sa.String, nullable=False),
        sa.Column("input_hash", sa.String, nullable=False),
        sa.Column("probability", sa.Double),
        sa.Column("threshold", sa.Double),
        sa.Column("label", sa.String),
        sa.Column("status", sa.String, nullable=False),
        sa.Column("reason", sa.String),
        sa.Column("verdicts", sa.JSON, nullable=False),
        sa.Column("outcome", sa.String, nullable=False),
        sa.Column("outcome_by", sa.String),
        sa.Column("outcome_time", sa.DateTime(timezone=True)),
        sa.Column("note", sa.String),
        sa.Column("name", sa.String),
        sa.Column("image", sa.String),
        sa.Column("measurements", sa.JSON),
    )


def _make_changes():
    op.create_table(
        "changes",
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("answer", sa.String(36), nullable=False),
        sa.Column("owner", sa.String, nullable=False),
        sa.Column("time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("by", sa.String),
        sa.Column("what", sa.String, nullable=False),
        sa.Column("before", sa.String),
        sa.Column("after", sa.String),
    )


def _make_users():
    op.create_table(
        "users",
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("salt", sa.LargeBinary, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("cost", sa.Integer, nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_table(
        "tokens",
        sa.Column("digest", sa.LargeBinary, primary_key=True),
        sa.Column(
            "user", sa.String, sa.ForeignKey("users.name", ondelete="CASCADE"), nullable=False
        ),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
    )


def downgrade():
    """Refuse: no step down loses rows."""
    raise NotImplementedError("below 0001 there is no table to keep the history in")
