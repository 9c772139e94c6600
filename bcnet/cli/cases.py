"""The command that hands out what a network sees: for analysis, or as an index of cases."""

from bcnet.cli.options import add_command, add_data, parse_file, read_data
from bcnet.cli.startup import import_workflows, load_classifier
from bcnet.config import SPLITS


def add_commands(commands) -> None:
    """Add features."""
    _add_features(commands)


def _add_features(commands):
    command = add_command(
        commands,
        "features",
        _run_features,
        "write what the network sees of each picture, with label and patient",
        "bcnet features models/mine.keras dataset/ --output features.csv",
    )
    command.add_argument("model", metavar="MODEL", help="a .keras file")
    add_data(command)
    told = ".csv, .npy, or models/NAME.cases.npz for similar cases; it names patients"
    command.add_argument("--output", type=parse_file, required=True, metavar="FILE", help=told)
    told = "only the pictures that the model knows as such (%(default)s)"
    command.add_argument("--part", choices=[*SPLITS, "all"], default="all", help=told)


def _run_features(options):
    classifier = load_classifier(options.model)
    manifest = read_data(options)
    table = import_workflows().extract_features(
        classifier, manifest, options.output, part=options.part, progress=True
    )
    print(f"{options.output}: the features of {len(table)} pictures")
