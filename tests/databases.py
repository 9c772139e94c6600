"""Databases for the tests of the history: SQLite always, PostgreSQL where there is a server."""

import os
import shutil
import subprocess
import uuid
from pathlib import Path

import pytest

CLUSTERS = Path("/usr/lib/postgresql")
PROGRAMS = ("initdb", "pg_ctl")

# A cluster for one run of tests: no port, no disk to wait for.
SETTINGS = "-c listen_addresses='' -c fsync=off -c max_connections=40"


def find_programs():
    """Find the newest programs of a PostgreSQL server; None where there are none."""
    folders = sorted(CLUSTERS.glob("*/bin"), key=lambda folder: int(folder.parent.name))
    whole = [folder for folder in folders if all((folder / name).exists() for name in PROGRAMS)]
    return whole[-1] if whole else None


def run_as_server(*command):
    """Run a program of the server; it refuses to be run by root."""
    as_server = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
    subprocess.run([*as_server, *map(str, command)], check=True, capture_output=True, cwd="/")


@pytest.fixture(scope="session")
def postgres():
    """URL of a PostgreSQL server: BCNET_TEST_POSTGRES, or one started for this run."""
    pytest.importorskip("psycopg", reason="PostgreSQL is tested where psycopg is installed")
    if given := os.environ.get("BCNET_TEST_POSTGRES"):
        yield given
        return
    programs = find_programs()
    if not programs or (os.getuid() == 0 and not shutil.which("runuser")):
        pytest.skip("set BCNET_TEST_POSTGRES, or install PostgreSQL, to test the history with it")
    # Not below pytest's own folder, which the server's user may not enter.
    folder = Path("/var/tmp") / f"bcnet-{uuid.uuid4().hex[:8]}"
    try:
        run_as_server(
            programs / "initdb", "-D", folder, "-A", "trust", "-U", "postgres", "-E", "UTF8",
            "--locale=C.UTF-8", "--no-sync",
        )  # fmt: skip
        run_as_server(
            programs / "pg_ctl", "-D", folder, "-w", "-l", folder / "log",
            "-o", f"{SETTINGS} -k {folder}", "start",
        )  # fmt: skip
        yield f"postgresql+psycopg://postgres@/postgres?host={folder}"
    finally:
        run_as_server(programs / "pg_ctl", "-D", folder, "-m", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def make_database(postgres):
    """A function that makes an empty database of that server and gives its URL."""
    from sqlalchemy import create_engine, make_url, text

    server, names = create_engine(postgres, isolation_level="AUTOCOMMIT"), []

    def make():
        names.append(f"bcnet_{uuid.uuid4().hex[:8]}")
        with server.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {names[-1]}"))
        return make_url(postgres).set(database=names[-1]).render_as_string(hide_password=False)

    yield make
    with server.connect() as connection:
        # A server started for this run goes whole.
        for name in names if "BCNET_TEST_POSTGRES" in os.environ else []:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    server.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request, tmp_path):
    """URL of an empty database, of each kind in turn."""
    if request.param == "postgresql":
        return request.getfixturevalue("make_database")()
    return f"sqlite:///{tmp_path}/instance/history.sqlite"


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def shared_history(request, tmp_path_factory):
    """A history of each kind in turn, for all tests of a file."""
    from bcnet.history import History

    if request.param == "postgresql":
        url = request.getfixturevalue("make_database")()
    else:
        url = f"sqlite:///{tmp_path_factory.mktemp('instance')}/history.sqlite"
    with History.open(url) as history:
        yield history


@pytest.fixture
def history(shared_history):
    """The shared history, emptied: making a database takes longer than most tests."""
    from bcnet.history.database import writing
    from bcnet.history.tables import Base

    with writing(shared_history._engine) as session:
        for table in reversed(Base.metadata.sorted_tables):
            session.execute(table.delete())
    return shared_history


def make_answer(**changes):
    """Make an answer as a server without switches keeps it."""
    return {
        "kind": "picture",
        "model": "idc",
        "model_hash": "a" * 64,
        "input_hash": uuid.uuid4().hex,
        "probability": 0.9,
        "threshold": 0.5,
        "label": "malignant",
        "status": "ok",
    } | changes
