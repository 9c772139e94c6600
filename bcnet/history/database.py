"""A database opened safely: settings, migrations, and faults told in one line.

Belongs here: what every reader and writer of the history needs. Does not: what is read or written.

SQLite without these settings failed 280 of 320 concurrent writes. WAL lets readers go on while one
writes, `synchronous=FULL` puts a row on the disk before it is acknowledged, and `BEGIN IMMEDIATE`
makes a writer wait for its turn instead of failing when it first writes.
"""

import json
import os
import sqlite3
import time
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, event, inspect, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, TimeoutError
from sqlalchemy.orm import Session

MIGRATIONS = Path(__file__).with_name("migrations")

SCHEMA_TABLE = "bcnet_schema"
"""Where the version of the tables stands; its name tells our databases from those of others."""

SQLITE, POSTGRESQL = "sqlite", "postgresql+psycopg"

# How long a writer waits for his turn; a write takes some milliseconds.
PATIENCE_SECONDS = 15
MOMENT_SECONDS = 0.01

# The owner alone may read what patients' pictures gave.
PRIVATE = 0o600

# Any number will do, if only bcnet takes it: two servers starting at once migrate in turn.
MIGRATION_LOCK = 0x62636E6574

# Alembic keeps what it works on in a module: two threads must not migrate two databases at once.
ALEMBIC = Lock()

WAL = "PRAGMA journal_mode = WAL"

PRAGMAS = (
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    "PRAGMA secure_delete = ON",  # what is deleted is overwritten, not only unlinked
)


class HistoryError(OSError):
    """A history that cannot be opened, read or written, with the reason in one line."""


def open_database(url):
    """Open a database, make or bring up to date its tables, and check that it is whole.

    Args:
        url: "sqlite:///FILE" or "postgresql+psycopg://USER:PASSWORD@HOST/NAME". A missing file is
            made with its folders, readable by its owner only.

    Returns:
        An SQLAlchemy `Engine`.

    Raises:
        ValueError: The URL is of another kind.
        HistoryError: The database cannot be reached or written, is damaged, is not one of bcnet, or
            was written by a newer bcnet.

    Example:
        >>> engine = open_database("sqlite:///instance/history.sqlite")
        >>> engine.dialect.name
        'sqlite'
    """
    url = _check_url(url)
    if url.drivername == SQLITE:
        _make_file(Path(url.database))
    engine = _make_engine(url)
    try:
        with tell_faults(engine):
            _check_pages(engine)
            migrate(engine)
    except BaseException:
        engine.dispose()
        raise
    return engine


def _check_url(url):
    try:
        parsed = make_url(url)
    except ArgumentError:
        parsed = None
    is_file = parsed and parsed.drivername == SQLITE and parsed.database not in (None, ":memory:")
    if not is_file and (parsed is None or parsed.drivername != POSTGRESQL):
        raise ValueError(
            f"`url` must be {SQLITE}:///FILE or {POSTGRESQL}://USER:PASSWORD@HOST/NAME. "
            f"Received: {parsed or url!r}"
        )
    return parsed


def _make_file(path):
    """Make an empty private file; SQLite gives its two companions the same mode."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, PRIVATE))
    except OSError as error:
        raise HistoryError(f"the history {path} cannot be written: {error.strerror}") from error


def _make_engine(url):
    # Parameters are names and values of patients: they must not stand in an error or a log.
    settings = {"hide_parameters": True, "json_serializer": write_json}
    if url.drivername == SQLITE:
        engine = create_engine(url, connect_args={"timeout": PATIENCE_SECONDS}, **settings)
        event.listen(engine, "connect", _set_up)
        event.listen(engine, "begin", _begin)
        return engine
    try:
        return create_engine(url, pool_pre_ping=True, **settings)
    except ModuleNotFoundError as error:
        raise HistoryError('PostgreSQL needs `pip install "psycopg[binary]"`') from error


def write_json(value):
    """Write JSON that every database takes: without NaN.

    Example:
        >>> write_json({"radius_mean": 14.5})
        '{"radius_mean": 14.5}'
    """
    return json.dumps(value, allow_nan=False)


def _set_up(connection, _):
    connection.isolation_level = None  # `_begin` begins, not Python's sqlite3
    _switch_to_wal(connection)
    for pragma in PRAGMAS:
        connection.execute(pragma)
    # SQLite's own knows ASCII only: Ä would not be found by ä.
    connection.create_function("lower", 1, _lower, deterministic=True)


def _switch_to_wal(connection):
    """Wait here for a turn as SQLite does elsewhere: of 1,200 that opened new files 12 failed."""
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return connection.execute(WAL)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                raise
            time.sleep(MOMENT_SECONDS)


def _lower(value):
    return value.lower() if isinstance(value, str) else value


def _begin(connection):
    is_write = connection.get_execution_options().get("is_write")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if is_write else "BEGIN")


def _check_pages(engine):
    """Find a damaged page now, not when a case is looked for."""
    if engine.dialect.name == SQLITE:
        with engine.connect() as connection:
            found = connection.execute(text("PRAGMA quick_check(1)")).scalar()
        if found != "ok":
            raise HistoryError(_tell_damage(engine, found.splitlines()[-1]))


@contextmanager
def reading(engine):
    """Give a session that sees one moment and changes nothing.

    Raises:
        HistoryError: The database fails.

    Example:
        >>> with reading(engine) as session:
        ...     session.scalar(select(func.count(Answer.number)))
        0
    """
    with tell_faults(engine), Session(engine) as session:
        yield session


@contextmanager
def writing(engine):
    """Give a session whose changes are all on the disk at the end, or none after an error.

    Raises:
        HistoryError: The database fails; nothing was changed.

    Example:
        >>> with writing(engine) as session:
        ...     session.execute(delete(Answer).where(Answer.id == id))
    """
    with (
        tell_faults(engine),
        Session(engine.execution_options(is_write=True), expire_on_commit=False) as session,
        session.begin(),
    ):
        yield session


@contextmanager
def tell_faults(engine):
    """Turn a fault of the database into a `HistoryError` of one line, without anyone's data."""
    try:
        yield
    except DBAPIError as error:
        # PostgreSQL names the values concerned from the second line on.
        reason = str(error.orig).strip().partition("\n")[0]
        if "malformed" in reason or "not a database" in reason:
            raise HistoryError(_tell_damage(engine, reason)) from None
        raise HistoryError(
            f"the history {_name(engine)} failed: {reason}. "
            "What was acknowledged before is kept, this request is not"
        ) from None
    except TimeoutError:
        raise HistoryError(f"the history {_name(engine)} is busy; try again") from None


def _tell_damage(engine, reason):
    return (
        f"{_name(engine)} is no whole SQLite file: {reason}. Put a copy in its place, or save what "
        "can be read with the program sqlite3 and its command .recover"
    )


def _name(engine):
    url = engine.url
    return url.database if url.drivername == SQLITE else url.render_as_string()


def migrate(engine, revision=None):
    """Bring the tables to a revision, up or down, and keep every row.

    Args:
        engine: An open database.
        revision: "0001", "0002" …; None for the newest that this bcnet knows.

    Raises:
        HistoryError: The database is of a newer bcnet or of another program.

    Example:
        `migrate(engine, "0001")` before going back to the bcnet that knew no more than that.
    """
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    known = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]
    revision = revision or known[0]
    with ALEMBIC, engine.execution_options(is_write=True).begin() as connection:
        if engine.dialect.name != SQLITE:
            connection.execute(text(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})"))
        current = _find_revision(connection, engine, known)
        config.attributes["connection"] = connection
        if current is None or current < revision:
            command.upgrade(config, revision)
        elif current > revision:
            command.downgrade(config, revision)


def _find_revision(connection, engine, known):
    context = MigrationContext.configure(connection, opts={"version_table": SCHEMA_TABLE})
    current = context.get_current_revision()
    if current is None and inspect(connection).get_table_names():
        raise HistoryError(
            f"{_name(engine)} has tables of another program; name a new file or an empty database"
        )
    if current is not None and current not in known:
        raise HistoryError(
            f"{_name(engine)} was written by a newer bcnet (tables {current}, this bcnet knows "
            f"{known[0]}). Install that bcnet, or name another database"
        )
    return current
