"""The command that lets a trained model say "I don't know"."""

from bcnet.cli.options import add_command, add_data, parse_file, read_data
from bcnet.cli.startup import import_workflows, load_classifier


def add_commands(commands) -> None:
    """Add promise."""
    command = add_command(
        commands,
        "promise",
        _run_promise,
        "choose which pictures a model refers, so that it misses few of the rest",
        "bcnet promise models/mine.keras dataset/ --miss-rate 0.05 --output models/careful.keras",
    )
    command.add_argument("model", metavar="MODEL", help="a .keras file")
    add_data(command)
    told = "of the malignant cases answered, called benign at most (what the patients allow)"
    command.add_argument("--miss-rate", type=float, metavar="SHARE", help=told)
    told = "model file to write"
    command.add_argument("--output", type=parse_file, required=True, metavar="FILE", help=told)


def _run_promise(options):
    classifier = load_classifier(options.model)
    manifest = read_data(options)
    workflows = import_workflows()
    from bcnet.workflows.promises import tell_promise

    promised = workflows.promise(
        classifier, manifest, options.output, miss_rate=options.miss_rate, progress=True
    )
    print(f"{options.output}:\n{tell_promise(promised.card)}")
