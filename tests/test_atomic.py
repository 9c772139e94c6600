"""A file is replaced whole or not at all."""

import errno
import subprocess
import sys
import time

import pytest

from bcnet.atomic import replace_file, write_text


def test_replace_file_puts_the_new_file_in_place(tmp_path):
    file = tmp_path / "new folder" / "a.txt"
    write_text(file, "new")
    assert file.read_text(encoding="utf-8") == "new"


def fill_the_disk(file):
    with replace_file(file) as temporary:
        temporary.write_text("half of the n")
        raise OSError("disk full")


def test_replace_file_keeps_the_old_file_when_writing_fails(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("old")
    with pytest.raises(OSError, match="disk full"):
        fill_the_disk(file)
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert file.read_text() == "old"


def test_replace_file_gives_the_temporary_file_the_same_ending(tmp_path):
    with replace_file(tmp_path / "model.keras") as temporary:
        temporary.write_text("x")
        assert temporary.suffix == ".keras"


def test_replace_file_survives_being_killed(tmp_path):
    file = tmp_path / "a.txt"
    old, new = "o" * 2_000_000, "n" * 2_000_000
    script = (
        "import sys; from bcnet.atomic import write_text\n"
        "while True: write_text(sys.argv[1], sys.argv[2][0] * 2_000_000); print('.', flush=True)"
    )
    for trial in range(20):
        file.write_text(old)
        writer = subprocess.Popen(
            [sys.executable, "-c", script, str(file), "n"], stdout=subprocess.PIPE
        )
        writer.stdout.read(1)  # the first one is written: from now on any moment will do
        time.sleep(0.001 * trial)
        writer.kill()
        writer.communicate()
        assert file.read_text() in (old, new)


def test_replace_file_names_the_file_meant_where_the_disk_is_full(tmp_path):
    full = pytest.raises(OSError, match=r"No space left on device: '.*/notes\.txt'")
    with full, replace_file(tmp_path / "notes.txt"):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_replace_file_does_not_take_the_blame_for_another_file(tmp_path):
    missing = pytest.raises(FileNotFoundError, match=r"nowhere\.txt")
    with missing, replace_file(tmp_path / "notes.txt"):
        (tmp_path / "nowhere.txt").read_text()
