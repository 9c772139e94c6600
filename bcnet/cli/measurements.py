"""Commands about measurements instead of pictures: `bcnet measurements …`."""

import sys

from bcnet.cli.options import add_command, add_json, parse_file, write_json
from bcnet.cli.startup import import_workflows

MODEL_HELP = "a .skops file, or the name of a model that comes with bcnet"
CSV_HELP = "one row per patient, one named column per measurement"
LABELLED_HELP = f"CSV, {CSV_HELP}, and diagnosis (M or B)"


def add_commands(commands) -> None:
    """Add measurements, and its own commands below it."""
    told = "train, judge and ask models of thirty measurements of cell nuclei"
    group = commands.add_parser("measurements", help=told, description=f"{told.capitalize()}.")
    below = group.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_explore(below)
    _add_train(below)
    _add_evaluate(below)
    _add_predict(below)
    _add_explain(below)


def load_measurement_model(path: str):
    """Load a model of measurements, by path or name, without waiting for TensorFlow."""
    from bcnet.measurements.model import MeasurementModel

    return MeasurementModel.load(path)


def _add_explore(commands):
    command = add_command(
        commands,
        "explore",
        _run_explore,
        "show what labelled measurements look like, on one page with figures",
        "bcnet measurements explore --output exploration/",
    )
    told = f"{LABELLED_HELP} (the Wisconsin data of scikit-learn)"
    command.add_argument("data", nargs="?", metavar="DATA", help=told)
    command.add_argument("--output", metavar="DIR", required=True, help="folder for index.html")


def _run_explore(options):
    explore = import_workflows(tensorflow=False).explore
    print(f"the page is {explore(options.data, options.output, progress=True)}")


def _add_train(commands):
    command = add_command(
        commands,
        "train",
        _run_train,
        "compare kinds of model by nested cross-validation and save the best",
        "bcnet measurements train --output models/wisconsin.skops --quick",
    )
    told = f"{LABELLED_HELP} (the Wisconsin data of scikit-learn)"
    command.add_argument("data", nargs="?", metavar="DATA", help=told)
    command.add_argument(
        "--output", type=parse_file, required=True, metavar="FILE", help="models/NAME.skops"
    )
    command.add_argument("--models", default="all", metavar="all|NAME,…", help="(%(default)s)")
    command.add_argument("--quick", action="store_true", help="a minute: fewer folds, no search")
    command.add_argument("--seed", type=int, default=0, metavar="N", help="same seed, same model")
    told = "also write NAME.pkl, which runs code when loaded, and its SHA-256"
    command.add_argument("--pickle", action="store_true", help=told)
    add_json(command)


def _run_train(options):
    workflows = import_workflows(tensorflow=False)
    names = None if options.models == "all" else options.models.split(",")
    settings = {"names": names, "quick": options.quick, "seed": options.seed}
    model, result = workflows.train_measurements(
        options.data, options.output, **settings, progress=True
    )
    from bcnet.evaluate.abstention import format_band
    from bcnet.measurements.nested import format_models

    print(format_models(result))
    print(f"\nthreshold {model.threshold:.3g}: {model.card['threshold']['rule']}")
    print(format_band(model.card["abstention"], "patient"))
    if options.pickle:
        path = f"{options.output.removesuffix('.skops')}.pkl"
        print(f"{path}: SHA-256 {model.save_pickle(path)}")
    print(f"{options.output}: {result['models'][result['winner']]['words']}")
    write_json(options, result)


def _add_evaluate(commands):
    command = add_command(
        commands,
        "evaluate",
        _run_evaluate,
        "judge a model on patients it has not seen (exit status 1: it has seen some)",
        "bcnet measurements evaluate models/wisconsin.skops ours.csv --json result.json",
    )
    command.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    command.add_argument("data", metavar="DATA", help=LABELLED_HELP)
    command.add_argument("--threshold", type=float, metavar="T", help="instead of the model's")
    told = "judge though the model has seen some, and beside it without those: not a test"
    command.add_argument("--allow-seen", action="store_true", help=told)
    add_json(command)


def _run_evaluate(options):
    model = load_measurement_model(options.model)
    workflows = import_workflows(tensorflow=False)
    result = workflows.evaluate_measurements(
        model, options.data, threshold=options.threshold, allow_seen=options.allow_seen
    )
    from bcnet.evaluate.calibration import format_calibration
    from bcnet.workflows.measurements import format_evaluation

    print(f"{result['part']} ({result['data']})\n{format_evaluation(result)}")
    print(f"\n{format_calibration(result['calibration'], 'row')}")
    if "seen" in result:
        from bcnet.workflows.ancestry import tell_seen

        print(f"\n{tell_seen(result['seen'], result['n_rows'], unit='rows')}")
    if "elsewhere" in result:
        _print_elsewhere(result)
    write_json(options, result)


def _print_elsewhere(result):
    from bcnet.evaluate.elsewhere import format_recalibration

    print(f"\nexternal validation: made with {result['model_data']}, it knows none of these")
    print(format_recalibration(result["calibration"], result["elsewhere"]["recalibration"]))


def _add_predict(commands):
    command = add_command(
        commands,
        "predict",
        _run_predict,
        "give the probability of malignant for each row of a CSV of any length",
        "bcnet measurements predict models/wisconsin.skops ours.csv --output predictions.csv",
    )
    command.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    command.add_argument("data", metavar="CSV", help=CSV_HELP)
    told = "file to write (standard output)"
    command.add_argument("--output", type=parse_file, metavar="FILE", help=told)
    command.add_argument("--threshold", type=float, metavar="T", help="instead of the model's")


def _run_predict(options):
    model = load_measurement_model(options.model)
    counts = import_workflows(tensorflow=False).predict_measurements(
        model, options.data, options.output or sys.stdout, threshold=options.threshold
    )
    told = {
        "unreadable": "could not be read",
        "outside": "are outside the measured range: its answers mean little there",
        "refer": "are referred: the model does not know",
    }
    total = sum(counts.values())
    for word, meaning in told.items():
        if counts[word]:
            print(f"{counts[word]:,} of {total:,} rows {meaning}", file=sys.stderr)
    if options.output:
        print(f"{options.output}: {total:,} rows")


def _add_explain(commands):
    command = add_command(
        commands,
        "explain",
        _run_explain,
        "show what made one patient's answer, and what would have turned it",
        "bcnet measurements explain models/wisconsin.skops ours.csv --row 3 --output why/",
    )
    command.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    command.add_argument("data", metavar="CSV", help=CSV_HELP)
    told = "which patient, from 1, as predict counts them"
    command.add_argument("--row", type=int, required=True, metavar="N", help=told)
    told = "for waterfall.png, contributions.csv and what_if.csv"
    command.add_argument("--output", required=True, metavar="DIR", help=told)


def _run_explain(options):
    model = load_measurement_model(options.model)
    workflows = import_workflows(tensorflow=False)
    report = workflows.explain_measurements(model, options.data, options.output, row=options.row)
    from bcnet.workflows.measurements import format_report

    print(format_report(report))
    print(options.output)
