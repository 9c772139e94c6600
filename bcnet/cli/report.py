"""The command that tells the whole story: the notebook, run and kept as a report."""

from bcnet.cli.options import add_command
from bcnet.cli.startup import import_workflows


def add_commands(commands) -> None:
    """Add notebook."""
    _add_notebook(commands)


def _add_notebook(commands):
    command = add_command(
        commands,
        "notebook",
        _run_notebook,
        "run the notebook top to bottom and leave it with an HTML report and its models",
        "bcnet notebook --data dataset/mine --output report/",
    )
    command.add_argument("--data", metavar="DIR", help="pictures (the built-in data set)")
    command.add_argument("--output", metavar="DIR", default="report", help="(%(default)s/)")
    command.add_argument("--epochs", type=int, metavar="N", help="instead of the notebook's")
    command.add_argument("--image-size", type=int, metavar="N", help="instead of the notebook's")
    command.add_argument("--seed", type=int, metavar="N", help="instead of the notebook's")


def _run_notebook(options):
    names = ("data", "epochs", "image_size", "seed")
    given = {name.upper(): getattr(options, name) for name in names}
    parameters = {name: value for name, value in given.items() if value is not None}
    report = import_workflows(tensorflow=False).run_notebook(
        options.output, parameters, progress=True
    )
    print(f"the report is {report}")
