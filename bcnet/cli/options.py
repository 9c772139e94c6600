"""Arguments that several commands share, and what is made of them.

What only one command knows stands with that command.
"""

import argparse
import json
import os
import re
import sys
from collections.abc import Callable
from dataclasses import fields, replace

from bcnet.config import (
    CALIBRATIONS,
    MODALITIES,
    NETWORKS,
    PRECISIONS,
    SAMPLINGS,
    SCHEDULES,
    STAIN_NORMALISATIONS,
    THRESHOLD_RULES,
    Config,
)

FAILED = 1
"""Exit status of a command that ran and found its data wanting."""

DATA_HELP = "folder with class folders, CSV, or MedMNIST-style .npz"


def add_command(
    commands, name: str, run: Callable, summary: str, example: str
) -> argparse.ArgumentParser:
    """Add a command with a help text of one shape.

    Args:
        commands: the action that `add_subparsers` gives.
        name: as typed.
        run: called with the parsed options; gives the exit status, or None for 0.
        summary: what the command does, in lower case and without a full stop.
        example: one whole line to type.

    Returns:
        The command's parser, for its arguments.
    """
    command = commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=f"Example: {example}",
    )
    command.set_defaults(run=run)
    return command


def add_data(command: argparse.ArgumentParser) -> None:
    """Add DATA and how it is to be understood (see `read_data`)."""
    command.add_argument("data", nargs="+", metavar="DATA", help=DATA_HELP)
    command.add_argument(
        "--normal",
        choices=["exclude", "benign"],
        default="exclude",
        help="pictures in normal/ are left out, or count as benign (screening)",
    )
    command.add_argument(
        "--patient-pattern",
        metavar="REGEX",
        help="finds the patient in a picture's path below DATA, e.g. 'case(\\d+)'",
    )
    command.add_argument(
        "--modality",
        choices=["auto", *MODALITIES],
        default="auto",
        help="auto: as dataset.json says, else grey pictures are radiology",
    )


def read_data(options: argparse.Namespace):
    """Read the manifest of DATA and tell the user what he should know of it.

    Args:
        options: of a command that has `add_data`.

    Returns:
        The `bcnet.data.manifest.Manifest`.

    Raises:
        ValueError: as `read_manifest` does.
    """
    from bcnet.data.manifest import read_manifest

    manifest = read_manifest(
        options.data,
        normal=options.normal,
        patient_pattern=options.patient_pattern,
        modality=options.modality,
    )
    for note in manifest.notes:
        print(note, file=sys.stderr)
    if manifest.skipped:
        print(f"{len(manifest.skipped)} files left out (bcnet audit names them)", file=sys.stderr)
    return manifest


def add_training(command: argparse.ArgumentParser) -> None:
    """Add what a training run may be told, with the defaults of `Config` (see `read_config`)."""

    def add(flag, **settings):
        add_field(command, flag, **settings)

    command.add_argument(
        "--config", metavar="FILE", help="JSON, as bcnet tune writes it; other options override it"
    )

    add("--model", choices=NETWORKS, help="network (%(default)s)")
    add("--image-size", type=parse_size, metavar="N", help="pixels a side, or HEIGHTxWIDTH")
    add("--epochs", type=int, metavar="N", help="passes over the pictures (by their number)")
    add("--batch-size", type=int, metavar="N", help="pictures per step (by their number)")
    add("--learning-rate", type=float, metavar="X", help="Adam's highest rate (the network's own)")
    add("--patience", type=int, metavar="N", help="epochs to wait for a better one (by number)")
    add("--validation", type=float, metavar="SHARE", help="share of patients (%(default)s)")
    add("--seed", type=int, metavar="N", help="same seed, same run (%(default)s)")
    add("--precision", choices=PRECISIONS, help="of training (%(default)s)")
    add(
        "--weights",
        metavar="imagenet|FILE|none",
        help="of a backbone; imagenet, its default, is downloaded",
    )
    add(
        "--initial-weights",
        metavar="MODEL",
        help="start from the matching layers of this file",
    )
    add("--alpha", type=float, metavar="SHARE", help="of mobilenet's channels: 1, .75, .5 or .25")
    add("--end", metavar="LAYER", help="of a backbone: the last to be used (its own)")
    add("--fine-tune-rate", type=float, metavar="X", help="of pretrained layers")
    add("--fine-tune-from", metavar="BLOCK", help="first block let loose (the network's own)")
    add("--schedule", choices=SCHEDULES, help="of the rate (%(default)s)")
    add("--warmup-epochs", type=int, metavar="N", help="passes in which it rises (%(default)s)")
    add("--label-smoothing", type=float, metavar="SHARE", help="(%(default)s)")
    add("--mixup", type=float, metavar="ALPHA", help="mix pairs of pictures; 0: none (%(default)s)")
    add("--sampling", choices=SAMPLINGS, help="of unequal classes (%(default)s)")
    add("--stain-jitter", type=float, metavar="SHARE", help="of tissue (%(default)s)")
    methods = [*STAIN_NORMALISATIONS, "none"]
    add("--stain-normalisation", choices=methods, help="inside the network (none)")
    add("--ema", type=float, metavar="MOMENTUM", help="average the weights; 0: no (%(default)s)")
    add(
        "--progressive",
        action=argparse.BooleanOptionalAction,
        help="half of the epochs at half the size first",
    )
    add("--members", type=int, metavar="N", help="networks to average (%(default)s)")
    add(
        "--tta",
        action=argparse.BooleanOptionalAction,
        help="average over each picture's symmetries too",
    )
    methods = [*CALIBRATIONS, "none"]
    add("--calibration", choices=methods, help="by validation patients (%(default)s)")
    add("--threshold-rule", choices=THRESHOLD_RULES, help="on validation patients (%(default)s)")
    add("--target", type=float, metavar="X", help="of the rule: threshold, cost of a miss or share")


def add_field(command: argparse.ArgumentParser, flag: str, *, help: str, **settings) -> None:
    """Add an option for a field of `Config`, which is among the parsed options only if given.

    So an option left out does not override what `--config` says.

    Args:
        command: the command's parser.
        flag: `--` and the field's name.
        help: may show the field's default by `%(default)s`.
        settings: as for `add_argument`.
    """
    default = getattr(Config, flag.strip("-").replace("-", "_"))
    told = help % {"default": default}
    command.add_argument(flag, default=argparse.SUPPRESS, help=told, **settings)


def read_config(options: argparse.Namespace) -> Config:
    """Read the configuration of a training run: the file's, overridden by what was typed.

    Args:
        options: of a command that has `add_training`.

    Returns:
        The configuration; of a backbone, with ImageNet weights unless others were named.

    Raises:
        ValueError: as `Config` and `workflows.config_file.read_config` do.
    """
    names = {field.name for field in fields(Config)} & set(vars(options))
    given = {name: getattr(options, name) for name in names}
    if given["modality"] == "auto":
        del given["modality"]
    config = _read_file(options.config)
    beginnings = (config.weights, given.get("initial_weights", config.initial_weights))
    if given.get("model", "cnn") != "cnn" and beginnings == (None, None):
        given.setdefault("weights", "imagenet")
    none = {name: None for name, value in given.items() if value == "none"}
    return replace(config, **given | none)


def _read_file(path):
    if path is None:
        return Config()
    from bcnet.workflows import config_file

    return config_file.read_config(path)


def parse_size(text: str) -> tuple[int, int]:
    """Read a size in pixels.

    Args:
        text: `N` or `HEIGHTxWIDTH`.

    Returns:
        `(height, width)`.

    Raises:
        ArgumentTypeError: for anything else.

    Example:
        >>> parse_size("64"), parse_size("50x100")
        ((64, 64), (50, 100))
    """
    match = re.fullmatch(r"(\d+)(?:x(\d+))?", text.lower())
    if not match:
        raise argparse.ArgumentTypeError(f"must be N or HEIGHTxWIDTH. Received: {text}")
    height, width = match.groups()
    return int(height), int(width or height)


def parse_file(text: str) -> str:
    """Refuse a folder as the file to write, before an hour's work has to find out.

    Args:
        text: a path.

    Returns:
        The path.

    Raises:
        ArgumentTypeError: for a folder.
    """
    if os.path.isdir(text):
        raise argparse.ArgumentTypeError(f"must be a file. Received the folder {text}")
    return text


def add_trial(command: argparse.ArgumentParser) -> None:
    """Add how a test may be bent, by those who know that it is."""
    told = "judge though the model has seen some, and say so: not a test"
    command.add_argument("--allow-seen", action="store_true", help=told)
    told = "arithmetic of the network (%(default)s; another moves probabilities)"
    command.add_argument("--precision", choices=PRECISIONS, default="float32", help=told)


def add_record(command: argparse.ArgumentParser) -> None:
    """Add `--record`, by which a test is kept in the model file."""
    told = "also keep it in MODEL's card, for bcnet card to show; only of a test"
    command.add_argument("--record", action="store_true", help=told)


def add_json(command: argparse.ArgumentParser) -> None:
    """Add `--json FILE` (see `write_json`)."""
    command.add_argument(
        "--json", type=parse_file, metavar="FILE", help="also write the result as JSON"
    )


def write_json(options: argparse.Namespace, result: dict) -> None:
    """Write a result where `--json` asks for it."""
    if options.json:
        from bcnet.atomic import write_text

        write_text(options.json, json.dumps(result, indent=1, allow_nan=False) + "\n")
