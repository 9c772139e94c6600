"""A `Config` as a JSON file: what a search has found, for a later training to take up."""

import json
import os
from dataclasses import asdict, fields
from pathlib import Path

from bcnet.atomic import write_text
from bcnet.config import Config


def write_config(config: Config, path: str | os.PathLike) -> None:
    """Write a configuration as JSON, whole or not at all.

    Args:
        config: the configuration.
        path: the file to write or replace.
    """
    write_text(path, json.dumps(asdict(config), indent=1) + "\n")


def read_config(path: str | os.PathLike) -> Config:
    """Read a configuration from JSON; what the file does not name has its default.

    Args:
        path: a file as `write_config` writes it, or a person.

    Returns:
        The configuration.

    Raises:
        ValueError: for a file that is not a JSON object, a name that `Config` does not know, or
            a value outside its range.

    Example:
        A file of `{"epochs": 5}` gives `Config(epochs=5)`.
    """
    try:
        values = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not readable as JSON: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f'{path} must hold a JSON object such as {{"epochs": 5}}')
    unknown = values.keys() - {field.name for field in fields(Config)}
    if unknown:
        raise ValueError(
            f"{path} must hold fields of Config. Unknown: {', '.join(sorted(unknown))}"
        )
    if isinstance(values.get("image_size"), list):  # JSON has no tuples
        values["image_size"] = tuple(values["image_size"])
    try:
        return Config(**values)
    except TypeError as error:  # a text where a number belongs
        raise ValueError(f"{path} holds a value of the wrong type: {error}") from error
