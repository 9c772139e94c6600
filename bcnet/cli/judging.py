"""Commands that ask a trained model: how good it is, what it says of pictures, and why."""

import sys

from bcnet.cli.options import (
    add_command,
    add_data,
    add_json,
    add_record,
    add_trial,
    parse_file,
    read_data,
    write_json,
)
from bcnet.cli.startup import import_workflows, load_classifier
from bcnet.config import (
    CALIBRATIONS,
    CLASS_NAMES,
    HEATMAP_METHODS,
    PRECISIONS,
    SPLITS,
    THRESHOLD_RULES,
)


def add_commands(commands) -> None:
    """Add evaluate, calibrate, predict and explain."""
    _add_evaluate(commands)
    _add_calibrate(commands)
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
    command.add_argument(
        "--prevalence", type=float, metavar="P", help="say what answers mean where P are malignant"
    )
    command.add_argument("--plots", metavar="DIR", help="also draw the figures there")
    command.add_argument(
        "--by",
        action="append",
        default=[],
        metavar="COLUMN",
        help="also judge its values apart: laboratory, magnification, any column of a CSV",
    )
    add_record(command)
    add_trial(command)
    add_json(command)


def _run_evaluate(options):
    if options.record and not options.by:
        raise ValueError("`--record` keeps subgroups: name them by --by COLUMN")
    classifier = load_classifier(options.model)
    manifest = read_data(options)
    workflows = import_workflows()
    from bcnet.evaluate.calibration import format_calibration
    from bcnet.evaluate.metrics import format_metrics
    from bcnet.evaluate.prevalence import format_projection
    from bcnet.evaluate.subgroups import format_subgroups

    result = workflows.evaluate(
        classifier,
        manifest,
        split=options.split,
        part=options.part,
        threshold=options.threshold,
        prevalence=options.prevalence,
        plots_folder=options.plots,
        by=options.by,
        allow_seen=options.allow_seen,
        precision=options.precision,
        progress=True,
    )
    print(f"{result['part']} ({result['data']})\n{format_metrics(result)}")
    print(f"\n{format_calibration(result['calibration'])}")
    if options.prevalence is not None:
        print(f"\n{format_projection(result['projection'])}")
    for column, subgroups in result.get("subgroups", {}).items():
        print(f"\n{format_subgroups(column, subgroups)}")
    if "seen" in result:
        _print_seen(result)
    if "elsewhere" in result:
        _print_elsewhere(result)
    write_json(options, result)
    if options.record:
        workflows.record_subgroups(classifier, result)
        print(f"recorded in the card of {classifier.path}")


def _print_seen(result):
    from bcnet.evaluate.elsewhere import format_beside
    from bcnet.workflows.ancestry import tell_seen

    print(f"\n{tell_seen(result['seen'], result['n_images'])}")
    if result["unseen"] is None:
        print("without the seen pictures there are none")
    else:
        print(format_beside({"not a test": result, "without the seen": result["unseen"]}))


def _print_elsewhere(result):
    from bcnet.evaluate.elsewhere import format_beside, format_recalibration

    home, found = result["elsewhere"]["home"], result["elsewhere"]["recalibration"]
    print(f"\nexternal validation: made with {result['model_data']}, it knows none of these")
    if home is None:
        print("its card holds no test result to set beside this")
    else:
        own, here = f"its own test ({result['model_data']})", f"here ({result['data']})"
        print(format_beside({own: home, here: result}))
    print(f"\n{format_recalibration(result['calibration'], found)}")


def _add_calibrate(commands):
    command = add_command(
        commands,
        "calibrate",
        _run_calibrate,
        "fit probabilities and threshold to patients who have not trained the model",
        "bcnet calibrate models/mine.keras dataset/ --output models/mine-calibrated.keras",
    )
    command.add_argument("model", metavar="MODEL", help="a .keras file; stays as it is")
    add_data(command)
    command.add_argument(
        "--output", type=parse_file, required=True, metavar="FILE", help="models/NAME.keras"
    )
    told = "which picture stands where; its validation part calibrates"
    command.add_argument("--split", metavar="CSV", help=told)
    told = "of bcnet cross-validate: its predictions calibrate in place of validation patients"
    command.add_argument("--out-of-fold", metavar="CSV", help=told)
    command.add_argument("--method", choices=[*CALIBRATIONS, "none"], default=CALIBRATIONS[0])
    command.add_argument("--threshold-rule", choices=THRESHOLD_RULES, default=THRESHOLD_RULES[0])
    told = "of the rule: the threshold, what a miss weighs in false alarms, or a share to reach"
    command.add_argument("--target", type=float, metavar="X", help=told)
    told = "the probabilities are to hold where P are malignant (as in these pictures)"
    command.add_argument("--prevalence", type=float, metavar="P", help=told)


def _run_calibrate(options):
    classifier = load_classifier(options.model)
    manifest = read_data(options)
    workflows = import_workflows()
    from bcnet.evaluate.metrics import format_estimate

    method = None if options.method == "none" else options.method
    chosen = workflows.CalibrationOptions(
        method, options.threshold_rule, options.target, options.prevalence
    )
    card = workflows.calibrate(
        classifier,
        manifest,
        options.output,
        chosen,
        split=options.split,
        out_of_fold=options.out_of_fold,
        progress=True,
    ).card
    threshold = card["threshold"]
    print(f"threshold {threshold['value']:.3g}: {threshold['rule']} ({threshold['data']})")
    for name, estimate in threshold["reached"].items():
        print(f"  {name} there {format_estimate(estimate)}")
    print(options.output)


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
    _count_status(table)
    told = f"{options.output}: {len(table)} pictures" if options.output else to_csv(table).rstrip()
    print(told)


def _count_status(table):
    told = {
        "unreadable": "could not be read",
        "unlike training data": "are unlike training data: its answers mean little there",
        "refer": "are referred: the model does not know",
    }
    for word, meaning in told.items():
        count = int(table["status"].str.startswith(word).sum())
        if count:
            print(f"{count} of {len(table)} pictures {meaning}", file=sys.stderr)


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
    _count_status(table)
    count = int(table["overlay"].notna().sum())
    told = count_verdicts(table) or "no verdict"
    print(f"{options.output}: {count:,} overlay{'s' * (count != 1)} ({told})")
