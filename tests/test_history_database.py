"""The database under the history: settings, faults, migrations, many writers, sudden ends."""

import json
import os
import sqlite3
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from databases import make_answer
from sqlalchemy import event, insert, select, text
from sqlalchemy.exc import StatementError

from bcnet.history import History, HistoryError
from bcnet.history.database import (
    SCHEMA_TABLE,
    _switch_to_wal,
    migrate,
    open_database,
    reading,
    writing,
)
from bcnet.history.filters import Filters
from bcnet.history.store import NEWEST_FIRST
from bcnet.history.tables import Answer, Base, Token, User

WRITERS, WRITES = 8, 10

# Adds answers, for ever or so many, and says so after each; stops with one line at a fault.
WRITER = """
import json, resource, sys
from bcnet.history import History, HistoryError
url, answer, largest, writes = sys.argv[1], *map(json.loads, sys.argv[2:])
history = History.open(url)
if largest:
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
try:
    while writes:
        print(*history.add([answer]), flush=True)
        writes -= 1
except HistoryError as error:
    print(error, file=sys.stderr)
"""


@pytest.fixture
def file(tmp_path):
    return tmp_path / "instance" / "history.sqlite"


@pytest.fixture
def url(file):
    return f"sqlite:///{file}"


def start_writer(url, *, largest=0, writes=-1):
    arguments = [url, *map(json.dumps, (make_answer(), largest, writes))]
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def list_kept(url):
    with History.open(url) as history:
        return {row["id"] for row in history.export()}


# Opening


def test_open_makes_a_private_file_in_a_new_folder(file, url):
    with History.open(url) as history:
        history.add([make_answer()])
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in file.parent.iterdir()}
    assert modes == {f"history.sqlite{ending}": 0o600 for ending in ("", "-wal", "-shm")}


@pytest.mark.parametrize(
    ("pragma", "value"),
    [("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1), ("secure_delete", 1)],
)
def test_open_sets_what_keeps_rows_safe(url, pragma, value):
    with open_database(url).connect() as connection:
        assert connection.execute(text(f"PRAGMA {pragma}")).scalar() == value


def test_open_waits_for_its_turn_at_least_five_seconds(url):
    with open_database(url).connect() as connection:
        assert connection.execute(text("PRAGMA busy_timeout")).scalar() >= 5000


def make_busy(times):
    """Make a connection that finds the file locked so many times, as SQLite tells it."""

    class Busy:
        found = 0

        def execute(self, statement):
            self.found += 1
            if self.found <= times:
                error = sqlite3.OperationalError("database is locked")
                error.sqlite_errorcode = sqlite3.SQLITE_BUSY
                raise error
            return statement

    return Busy()


def test_open_waits_where_sqlite_itself_does_not(monkeypatch):
    assert _switch_to_wal(make_busy(3)) == "PRAGMA journal_mode = WAL"
    monkeypatch.setattr("bcnet.history.database.PATIENCE_SECONDS", 0)
    with pytest.raises(sqlite3.OperationalError, match="database is locked"):
        _switch_to_wal(make_busy(10**6))


@pytest.mark.parametrize(
    "wrong", ["history.sqlite", "sqlite://", "sqlite:///:memory:", "mysql://a:secret@b/c", "", 7]
)
def test_open_refuses_another_kind_of_url(wrong):
    with pytest.raises(ValueError, match="`url` must be sqlite:///FILE or postgresql") as caught:
        History.open(wrong)
    assert "secret" not in str(caught.value)


def test_open_tells_that_a_server_is_not_there():
    pytest.importorskip("psycopg")
    with pytest.raises(HistoryError, match=r"the history .* failed: ") as caught:
        History.open("postgresql+psycopg://anna:secret@127.0.0.1:1/none")
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_open_tells_that_the_folder_is_a_file(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(HistoryError, match=r"/file/a\.sqlite cannot be written: "):
        History.open(f"sqlite:///{tmp_path}/file/a.sqlite")


def test_open_refuses_a_file_that_is_no_database(tmp_path):
    file = tmp_path / "notes.txt"
    file.write_text("not a database " * 100)
    with pytest.raises(HistoryError, match=r"notes\.txt is no whole SQLite file"):
        History.open(f"sqlite:///{file}")
    assert file.read_text() == "not a database " * 100


def test_open_refuses_a_damaged_database(file, url):
    with History.open(url) as history:
        history.add([make_answer() for _ in range(200)])
    pages = bytearray(file.read_bytes())
    pages[8192:16384] = os.urandom(8192)
    file.write_bytes(pages)
    with pytest.raises(HistoryError, match=r"history\.sqlite is no whole SQLite file: .*\.recover"):
        History.open(url)


def test_open_refuses_the_database_of_another_program(tmp_path):
    file = tmp_path / "other.sqlite"
    with sqlite3.connect(file) as other:
        other.execute("CREATE TABLE answers (number)")
    with pytest.raises(HistoryError, match="has tables of another program"):
        History.open(f"sqlite:///{file}")


def test_open_refuses_the_database_of_a_newer_bcnet(database_url):
    with History.open(database_url) as history, writing(history._engine) as session:
        session.execute(text(f"UPDATE {SCHEMA_TABLE} SET version_num = '9999'"))
    with pytest.raises(HistoryError, match=r"written by a newer bcnet \(tables 9999, this bcnet"):
        History.open(database_url)


# Migrations


def test_the_tables_are_those_that_are_mapped(database_url):
    engine = open_database(database_url)
    with engine.connect() as connection:
        options = {"version_table": SCHEMA_TABLE, "compare_type": True}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, Base.metadata) == []
    engine.dispose()


def list_rows(engine):
    with reading(engine) as session:
        return {
            table.name: session.execute(select(table)).all()
            for table in Base.metadata.sorted_tables
        }


def test_migrate_down_and_up_keeps_every_row(database_url):
    with History.open(database_url) as history:
        history.users.add("anna", "correct horse battery")
        history.users.create_token("anna")
        ids = history.add([make_answer(owner="anna", measurements={"a": 1}) for _ in range(3)])
        history.set_outcome(ids[0], "benign", owner="anna")
        history.delete(ids[1:2], owner="anna")
        before = list_rows(history._engine)
        assert all(before.values())
        migrate(history._engine, "0001")
        assert list_rows(history._engine) == before
        migrate(history._engine)
        assert list_rows(history._engine) == before


def test_migrate_below_the_first_tables_is_refused(url):
    from alembic import command
    from alembic.config import Config

    from bcnet.history.database import MIGRATIONS

    with History.open(url) as history:
        history.add([make_answer()])
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        with (
            pytest.raises(NotImplementedError),
            history._engine.begin() as config.attributes["connection"],
        ):
            command.downgrade(config, "base")
        assert history.search().total == 1


def test_many_may_open_other_histories_at_once(tmp_path):
    urls = [f"sqlite:///{tmp_path}/{i}.sqlite" for i in range(WRITERS)]
    with ThreadPoolExecutor(WRITERS) as pool:
        histories = list(pool.map(History.open, urls))
    for history in histories:
        assert history.search().total == 0
        history.close()


def test_many_may_open_a_new_history_at_once(database_url):
    with ThreadPoolExecutor(WRITERS) as pool:
        histories = list(pool.map(History.open, [database_url] * WRITERS))
    for history in histories:
        assert history.search().total == 0
        history.close()


# Speed


def explain(engine, statement):
    """Ask SQLite how it would run a statement."""
    compiled = statement.compile(engine, compile_kwargs={"literal_binds": True})
    with engine.connect() as connection:
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled}").all()
    return " ".join(row[-1] for row in plan)


@pytest.mark.parametrize(
    ("filters", "index"),
    [
        ({}, "answers_by_time"),
        ({"model": "idc"}, "answers_by_model"),
        ({"label": "benign"}, "answers_by_label"),
        ({"status": "refer"}, "answers_by_status"),
        ({"batch": "a"}, "answers_by_batch"),
        ({"kind": "picture"}, "answers_by_kind"),
        ({"outcome": "unknown"}, "answers_by_outcome"),
    ],
    ids=str,
)
def test_search_reads_an_index_in_order(url, filters, index):
    engine = open_database(url)
    conditions = Filters(**filters).list_conditions("anna")
    plan = explain(engine, select(Answer).where(*conditions).order_by(*NEWEST_FIRST).limit(50))
    assert f"USING INDEX {index} " in plan
    assert "TEMP B-TREE" not in plan


@pytest.mark.parametrize("table", [User, Token, Answer], ids=["users", "tokens", "answers"])
def test_what_every_request_asks_is_found_by_its_key(url, table):
    key = {User: User.name, Token: Token.digest, Answer: Answer.id}[table]
    value = b"a" if table is Token else "a"
    engine = open_database(url)
    with engine.connect() as connection:
        compiled = select(table).where(key == value).compile(engine)
        rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled}", (value,)).all()
    assert rows[0][-1].startswith(f"SEARCH {table.__tablename__} USING INDEX")


# Many writers, and faults


def test_many_threads_write_without_an_error(database_url):
    with History.open(database_url) as history:

        def write(_):
            [id] = history.add([make_answer()])
            history.set_outcome(id, "benign")
            return id

        with ThreadPoolExecutor(WRITERS) as pool:
            ids = list(pool.map(write, range(WRITERS * WRITES)))
        assert history.search(outcome="benign").total == len(set(ids)) == WRITERS * WRITES


def test_outcomes_entered_at_once_leave_an_unbroken_audit(database_url):
    with History.open(database_url) as history:
        [id] = history.add([make_answer()])
        with ThreadPoolExecutor(WRITERS) as pool:
            outcomes = ["benign", "malignant"] * WRITES
            list(pool.map(lambda outcome: history.set_outcome(id, outcome), outcomes))
        changes = history.audit(id)
    assert [change["before"] for change in changes[1:]] == [c["after"] for c in changes[:-1]]


def test_many_processes_write_without_an_error(url):
    writers = [start_writer(url, writes=WRITES) for _ in range(WRITERS)]
    answers = [writer.communicate() for writer in writers]
    assert {error for _, error in answers} == {""}
    acknowledged = {id for told, _ in answers for id in told.split()}
    assert len(acknowledged) == WRITERS * WRITES
    assert list_kept(url) == acknowledged


def test_every_acknowledged_row_survives_kill_9(url):
    acknowledged = set()
    for trial in range(3):
        writer = start_writer(url)
        first = writer.stdout.readline()
        time.sleep(0.05 * trial)
        writer.kill()
        rest, _ = writer.communicate()
        acknowledged |= {line for line in f"{first}{rest}".split() if len(line) == 36}
    kept = list_kept(url)
    assert acknowledged <= kept
    assert len(acknowledged) >= 3


def test_a_full_disk_is_one_clear_error_and_loses_nothing(url):
    History.open(url).close()
    told, error = start_writer(url, largest=1_000_000).communicate(timeout=60)
    assert error.startswith("the history /")
    assert "What was acknowledged before is kept, this request is not" in error
    assert error.count("\n") == 1
    assert len(told.split()) > 10
    assert list_kept(url) == set(told.split())


def test_the_history_goes_on_once_there_is_room_again(url):
    with History.open(url) as history:
        [id] = history.add([make_answer()])
        with history._engine.connect() as connection:
            pages = connection.execute(text("PRAGMA page_count")).scalar()

        @event.listens_for(history._engine, "checkout")
        def limit(connection, *_):
            connection.execute(f"PRAGMA max_page_count = {room}")

        room = pages
        with pytest.raises(HistoryError, match="failed: database or disk is full"):
            history.add([make_answer(name="x" * 5000) for _ in range(10)])
        room = 2**30
        assert [row["id"] for row in history.search().rows] == [id]
        assert len(history.add([make_answer()])) == 1


def test_a_read_only_database_is_one_clear_error(url):
    with History.open(url) as history:
        [id] = history.add([make_answer()])

        @event.listens_for(history._engine, "checkout")
        def forbid(connection, *_):
            connection.execute("PRAGMA query_only = ON")

        with pytest.raises(HistoryError, match="failed: attempt to write a readonly database"):
            history.set_note(id, "lost")
        assert history.get(id)["note"] is None


def test_a_fault_tells_nothing_that_was_entered(database_url):
    with History.open(database_url) as history:
        with pytest.raises(HistoryError) as caught, writing(history._engine) as session:
            session.execute(insert(Answer), [{"id": "7", "name": "patient seven"}])
        told = f"{caught.value}"
        assert "null" in told.lower()  # what must not be
        assert "patient seven" not in told
        assert "\n" not in told
        assert caught.value.__suppress_context__  # nor may a log go on to what lies behind it


def test_a_mistake_of_ours_tells_nothing_that_was_entered(url):
    with (
        History.open(url) as history,
        pytest.raises(StatementError) as caught,
        writing(history._engine) as session,
    ):
        session.execute(insert(Answer), [{"name": "patient seven", "time": "no time"}])
    assert "patient seven" not in str(caught.value)


def test_what_is_deleted_is_gone_from_the_file(file, url):
    with History.open(url) as history:
        [id] = history.add([make_answer(name="patient seven.png")])
        history.set_note(id, "a note to be forgotten")
    assert b"patient seven" in file.read_bytes()
    with History.open(url) as history:
        history.delete([id])
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    assert b"patient seven" not in file.read_bytes()
    assert b"to be forgotten" not in file.read_bytes()
