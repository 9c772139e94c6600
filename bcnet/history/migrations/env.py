"""Run by Alembic for each migration, within the transaction that `migrate` has begun."""

from alembic import context

from bcnet.history.database import SCHEMA_TABLE

context.configure(
    connection=context.config.attributes["connection"],
    version_table=SCHEMA_TABLE,
    transactional_ddl=True,  # true of SQLite too, as long as nothing commits in between
)
context.run_migrations()
