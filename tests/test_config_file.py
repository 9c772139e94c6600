"""Configurations as files: what was written is read, and what is wrong is named."""

import pytest

from bcnet.config import Config
from bcnet.workflows.config_file import read_config, write_config


def test_read_config_gives_what_write_config_was_given(tmp_path):
    config = Config(image_size=(50, 100), learning_rate=1e-3, modality="tissue")
    write_config(config, tmp_path / "new" / "best.json")
    assert read_config(tmp_path / "new" / "best.json") == config


def test_read_config_fills_in_the_defaults(tmp_path):
    (tmp_path / "mine.json").write_text('{"epochs": 5}')
    assert read_config(tmp_path / "mine.json") == Config(epochs=5)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"epoch": 5, "epochs": 5}', r"fields of Config\. Unknown: epoch$"),
        ('{"epochs": 0}', "`epochs` must be at least 1"),
        ('{"epochs": "5"}', "mine.json holds a value of the wrong type"),
        ("[1]", "mine.json must hold a JSON object"),
        ('{"epochs": 5', "mine.json is not readable as JSON"),
        ("\udcff", "mine.json is not readable as JSON"),
    ],
)
def test_read_config_refuses(tmp_path, text, told):
    (tmp_path / "mine.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ValueError, match=told):
        read_config(tmp_path / "mine.json")
