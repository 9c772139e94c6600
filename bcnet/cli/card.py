"""The command that says what a model file is, and whether it still is what it was."""

from bcnet.cli.options import FAILED, add_command, parse_file
from bcnet.cli.startup import import_workflows


def add_commands(commands) -> None:
    """Add card."""
    command = add_command(
        commands,
        "card",
        _run_card,
        "write a model's card, or check that it answers as when saved (exit status 1: it does not)",
        "bcnet card models/mine.keras --output card.html",
    )
    command.add_argument("model", metavar="MODEL", help="a .keras or .skops file")
    action = command.add_mutually_exclusive_group(required=True)
    told = "card.md, for the Hugging Face Hub, or card.html, one file"
    action.add_argument("--output", type=parse_file, metavar="FILE", help=told)
    told = "print reference answers, weights and software, as saved and now"
    action.add_argument("--check", action="store_true", help=told)
    command.add_argument("--licence", metavar="NAME", help="of the model, e.g. MIT (not recorded)")


def _run_card(options):
    if options.check:
        return _check(options)
    workflows = import_workflows()
    print(workflows.write_model_card(options.model, options.output, licence=options.licence))
    return None


def _check(options):
    if options.licence:
        raise ValueError("`--licence` goes with `--output`. Received: --check")
    result = import_workflows().check_model(options.model)
    from bcnet.workflows.checking import format_check

    print(format_check(result))
    return None if result["same"] else FAILED
