"""Index what the history is searched by, so that 100,000 answers page without delay."""

from alembic import op

revision = "0002"
down_revision = "0001"

FILTERED = ("kind", "batch", "model", "label", "status", "outcome")


def upgrade():
    """Make the indexes."""
    op.create_index("answers_by_time", "answers", ["owner", "time", "number"])
    for column in FILTERED:
        op.create_index(f"answers_by_{column}", "answers", ["owner", column, "time", "number"])
    op.create_index("ix_changes_answer", "changes", ["answer"])
    op.create_index("ix_tokens_user", "tokens", ["user"])


def downgrade():
    """Drop the indexes; no row goes with them."""
    op.drop_index("ix_tokens_user", "tokens")
    op.drop_index("ix_changes_answer", "changes")
    for column in FILTERED:
        op.drop_index(f"answers_by_{column}", "answers")
    op.drop_index("answers_by_time", "answers")
