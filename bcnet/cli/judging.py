"""Commands that ask a trained model: how good it is, what it says of pictures, and why."""

import sys

from bcnet.cli.options import add_command, add_data, add_json, parse_file, read_data, write_json
from bcnet.cli.startup import import_workflows, load_classifier
from bcnet.config import CLASS_NAMES, HEATMAP_METHODS, PRECISIONS, SPLITS


def add_commands(commands) -> None:
    """Add evaluate, predict and explain."""
    _add_evaluate(commands)
    _add_predict(commands)
    _add_explain(commands)


def _add_evaluate(commands):
    command = add_command(
        commands,
        "evaluate",
        _run_evaluate,
        "judge a model on patients it has not seen (exit status 1: it has seen some)",
        "bcnet evaluate models/mine.keras dataset/ --plots figures/",
    )
    command.add_argument("model", metavar="MODEL", help="a .keras file")
    add_data(command)
    command.add_argument("--split", metavar="CSV", help="which picture stands where")
    command.add_argument("--part", choices=[*SPLITS, "all"], default="test", help="(%(default)s)")
    command.add_argument("--threshold", type=float, metavar="T", help="instead of the model's")
    command.add_argument("--plots", metavar="DIR", help="also draw the figures there")
    command.add_argument("--precision", choices=PRECISIONS, default="float32")
    add_json(command)


def _run_evaluate(options):
    classifier = load_classifier(options.model)
    manifest = read_data(options)
    workflows = import_workflows()
    from bcnet.evaluate.metrics import format_metrics

    result = workflows.evaluate(
        classifier,
        manifest,
        split=options.split,
        part=options.part,
        threshold=options.threshold,
        plots_folder=options.plots,
        precision=options.precision,
        progress=True,
    )
    print(f"{result['part']} ({result['data']})\n{format_metrics(result)}")
    write_json(options, result)


def _add_predict(commands):
    command = add_command(
        commands,
        "predict",
        _run_predict,
        "give the probability of malignant for files or folders, as CSV",
        "bcnet predict models/mine.keras pictures/ --output predictions.csv",
    )
    command.add_argument("model", metavar="MODEL", help="a .keras file")
    command.add_argument("paths", nargs="+", metavar="PATH", help="pictures or folders")
    command.add_argument(
        "--output", type=parse_file, metavar="CSV", help="file to write (standard output)"
    )
    command.add_argument("--threshold", type=float, metavar="T", help="instead of the model's")
    command.add_argument("--precision", choices=PRECISIONS, default="float32")


def _run_predict(options):
    classifier = load_classifier(options.model)
    from bcnet.workflows.scoring import to_csv

    table = import_workflows().predict(
        classifier,
        options.paths,
        output=options.output,
        threshold=options.threshold,
        precision=options.precision,
        progress=True,
    )
    _count_unread(table)
    told = f"{options.output}: {len(table)} pictures" if options.output else to_csv(table).rstrip()
    print(told)


def _count_unread(table):
    unread = int((table["status"] != "ok").sum())
    if unread:
        print(f"{unread} of {len(table)} pictures could not be read", file=sys.stderr)


def _add_explain(commands):
    command = add_command(
        commands,
        "explain",
        _run_explain,
        "show where in each picture the evidence lies, and whether that map can be trusted",
        "bcnet explain models/mine.keras pictures/ --output heatmaps/ --sheet",
    )
    command.add_argument("model", metavar="MODEL", help="a .keras file")
    command.add_argument("paths", nargs="+", metavar="PATH", help="pictures or folders")
    command.add_argument(
        "--output", required=True, metavar="DIR", help="for overlays and explanations.csv"
    )
    command.add_argument("--method", choices=HEATMAP_METHODS, help=f"({HEATMAP_METHODS[0]})")
    command.add_argument("--class", dest="class_name", choices=CLASS_NAMES, help="(malignant)")
    command.add_argument("--precision", choices=PRECISIONS, help="(float32)")
    command.add_argument("--opacity", type=float, metavar="SHARE", help="of the hottest place")
    command.add_argument("--sheet", action="store_true", help="also write contact sheets")
    command.add_argument("--masks", metavar="DIR", help="measure maps by the masks named alike")
    command.add_argument(
        "--raw", choices=["npy", "tiff"], help="also write each map; tiff: 16 bit, 65535 = 1"
    )


def _run_explain(options):
    classifier = load_classifier(options.model)
    workflows = import_workflows()
    from bcnet.workflows.explaining import count_verdicts

    names = ("method", "class_name", "precision", "opacity", "sheet", "masks", "raw")
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    table = workflows.explain(
        classifier,
        options.paths,
        options.output,
        workflows.ExplainOptions(**given),
        progress=True,
    )
    _count_unread(table)
    count = int(table["overlay"].notna().sum())
    told = count_verdicts(table) or "no verdict"
    print(f"{options.output}: {count:,} overlay{'s' * (count != 1)} ({told})")
