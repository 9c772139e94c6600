"""The command line: arguments in, one workflow called, one line out.

No logic lives here, and nothing heavy is imported before it is needed: `bcnet --help` answers
at once.
"""

import argparse
import json
import logging
import os
import re
import sys
from dataclasses import fields

from bcnet import __version__
from bcnet.config import CLASS_NAMES, MODALITIES, PRECISIONS, SPLITS, Config

FAILED, WRONG_INPUT, INTERRUPTED = 1, 2, 130
EXPECTED = (ValueError, OSError, ArithmeticError)

DATA_HELP = "folder with class folders, CSV, or MedMNIST-style .npz"
DISCLAIMER = "For research and teaching. Not a diagnostic device."


def main(arguments: list[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: as typed after `bcnet`; the process's own by default.

    Returns:
        0 when done, 1 when the data or the judgement failed a check, 2 for wrong input (one line
        on stderr), 130 after Ctrl-C.
    """
    options = make_parser().parse_args(arguments)
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("bcnet").setLevel(logging.INFO)
    try:
        status = options.run(options) or 0
        sys.stdout.flush()  # here, where a reader that has gone is still expected
        return status
    except KeyboardInterrupt:
        print("interrupted; finished files are whole", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output, such as `head`, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if not isinstance(error, EXPECTED) and not _is_out_of_memory(error):
            raise  # a fault of ours: the traceback helps whoever reports it
        print(f"bcnet: {_in_one_line(error)}", file=sys.stderr)
        return getattr(error, "exit_status", WRONG_INPUT)


def _is_out_of_memory(error):
    return isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError"


def _in_one_line(error):
    if _is_out_of_memory(error):
        return "not enough memory; a smaller --image-size or --batch-size needs less"
    if isinstance(error, OSError) and error.strerror:
        place = error.filename2 or error.filename  # the file meant, not the one beside it
        return f"{error.strerror}: {place}" if place else error.strerror
    return " ".join(str(error).split()) or type(error).__name__


def _import_workflows(*, tensorflow=True):
    if tensorflow:
        _start_tensorflow_quietly()
    from bcnet import workflows

    return workflows


def _start_tensorflow_quietly():
    """Keep its start-up chatter, which its C++ writes past Python, out of the user's sight."""
    if "tensorflow" in sys.modules:
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    sys.stderr.flush()
    stderr, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        import tensorflow as tf

        tf.config.list_physical_devices()
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)


class _Parser(argparse.ArgumentParser):
    """Says in one line what is wrong; argparse would put the whole usage before it."""

    def error(self, message):
        self.exit(WRONG_INPUT, f"{self.prog}: {message} (see {self.prog} --help)\n")


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of all commands."""
    parser = _Parser(
        prog="bcnet",
        description="Tell benign from malignant in breast pictures, and say how sure that is.",
        epilog=f"{DISCLAIMER} Each command has its own --help with an example.",
    )
    parser.add_argument("--version", action="version", version=f"bcnet {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for add in (
        _add_simulate,
        _add_audit,
        _add_split,
        _add_train,
        _add_cross_validate,
        _add_evaluate,
        _add_predict,
        _add_explain,
        _add_notebook,
    ):
        add(commands)
    return parser


def _add(commands, name, run, summary, example):
    command = commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=f"Example: {example}",
    )
    command.set_defaults(run=run)
    return command


def _add_data(command):
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


def _add_training(command):
    defaults = {field.name: field.default for field in fields(Config)}

    def add(flag, **settings):
        name = flag.strip("-").replace("-", "_")
        command.add_argument(flag, default=defaults[name], **settings)

    add("--model", choices=["cnn", "vgg16"], help="network (%(default)s)")
    add("--image-size", type=_parse_size, metavar="N", help="pixels a side, or HEIGHTxWIDTH")
    add("--epochs", type=int, metavar="N", help="passes over the pictures (%(default)s)")
    add("--batch-size", type=int, metavar="N", help="pictures per step (%(default)s)")
    add("--learning-rate", type=float, metavar="X", help="Adam's highest rate (the network's own)")
    add("--patience", type=int, metavar="N", help="epochs to wait for a better one (%(default)s)")
    add("--validation", type=float, metavar="SHARE", help="share of patients (%(default)s)")
    add("--seed", type=int, metavar="N", help="same seed, same run (%(default)s)")
    add("--precision", choices=PRECISIONS, help="of training (%(default)s)")
    command.add_argument(
        "--weights",
        metavar="imagenet|FILE|none",
        help="of vgg16; imagenet is downloaded (the default for vgg16)",
    )


def _parse_size(text):
    match = re.fullmatch(r"(\d+)(?:x(\d+))?", text.lower())
    if not match:
        raise argparse.ArgumentTypeError(f"must be N or HEIGHTxWIDTH. Received: {text}")
    height, width = match.groups()
    return int(height), int(width or height)


def _parse_file(text):
    """Refuse a folder before an hour's work has to find out."""
    if os.path.isdir(text):
        raise argparse.ArgumentTypeError(f"must be a file. Received the folder {text}")
    return text


def _add_json(command):
    command.add_argument(
        "--json", type=_parse_file, metavar="FILE", help="also write the result as JSON"
    )


def _read_data(options):
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


def _read_config(options):
    names = {field.name for field in fields(Config)} & set(vars(options))
    given = {name: getattr(options, name) for name in names}
    if given["weights"] is None and given["model"] == "vgg16":
        given["weights"] = "imagenet"
    if given["weights"] == "none":
        given["weights"] = None
    return Config(**given)


def _load(options):
    _import_workflows()
    from bcnet.classifier import Classifier

    return Classifier.load(options.model)


def _write_json(options, result):
    if options.json:
        from bcnet.atomic import write_text

        write_text(options.json, json.dumps(result, indent=1, allow_nan=False) + "\n")


def _add_simulate(commands):
    command = _add(
        commands,
        "simulate",
        _run_simulate,
        "draw the built-in data set: simulated cytology of 569 real patients' measurements",
        "bcnet simulate --output dataset/simulated",
    )
    command.add_argument("--output", metavar="DIR", required=True, help="folder to write")
    command.add_argument("--images-per-patient", type=int, default=4, metavar="N")
    command.add_argument("--image-size", type=int, default=128, metavar="N", help="pixels a side")
    command.add_argument("--seed", type=int, default=0, metavar="N", help="same seed, same bytes")
    command.add_argument("--patients", type=int, metavar="N", help="only so many of the 569")


def _run_simulate(options):
    workflows = _import_workflows(tensorflow=False)
    names = ("images_per_patient", "image_size", "seed", "patients")
    settings = {name: getattr(options, name) for name in names}
    folder = workflows.simulate(options.output, **settings, progress=True)
    print(f"simulated pictures are in {folder}")


def _add_audit(commands):
    command = _add(
        commands,
        "audit",
        _run_audit,
        "look for leaks, duplicates and contradictions before training (exit status 1: errors)",
        "bcnet audit dataset/ --json audit.json",
    )
    _add_data(command)
    _add_json(command)


def _run_audit(options):
    workflows = _import_workflows(tensorflow=False)
    from bcnet.data.audit import format_audit

    report = workflows.audit(_read_data(options), json_path=options.json, progress=True)
    print(format_audit(report))
    return 0 if report["verdict"] == "pass" else FAILED


def _add_split(commands):
    command = _add(
        commands,
        "split",
        _run_split,
        "divide pictures into train, validation and test, or folds, by patient",
        "bcnet split dataset/ --output split.csv --test 0.2",
    )
    _add_data(command)
    command.add_argument(
        "--output", type=_parse_file, required=True, metavar="CSV", help="file to write"
    )
    share = {"type": float, "metavar": "SHARE", "help": "share of patients (%(default)s)"}
    command.add_argument("--validation", default=Config.validation, **share)
    command.add_argument("--test", default=Config.test, **share)
    command.add_argument("--folds", type=int, metavar="K", help="folds instead of three parts")
    command.add_argument("--seed", type=int, default=0, metavar="N", help="same seed, same split")


def _run_split(options):
    workflows = _import_workflows(tensorflow=False)
    names = ("validation", "test", "folds", "seed")
    settings = {name: getattr(options, name) for name in names}
    table = workflows.split(_read_data(options), options.output, **settings)
    counts = table["split" if options.folds is None else "fold"].value_counts(sort=False)
    told = ", ".join(f"{part}: {count}" for part, count in sorted(counts.items()))
    print(f"{options.output}: {told} pictures")


def _add_train(commands):
    command = _add(
        commands,
        "train",
        _run_train,
        "train a network on patients, judge it on others, and write one model file",
        "bcnet train dataset/ --output models/mine.keras",
    )
    _add_data(command)
    command.add_argument(
        "--output", type=_parse_file, required=True, metavar="FILE", help="models/NAME.keras"
    )
    command.add_argument("--split", metavar="CSV", help="which picture stands where")
    command.add_argument(
        "--test",
        type=float,
        default=Config.test,
        metavar="SHARE",
        help="share of patients (%(default)s); 0 keeps none back",
    )
    command.add_argument("--resume", action="store_true", help="go on from a run cut off")
    command.add_argument("--tensorboard", metavar="DIR", help="also log there, for TensorBoard")
    _add_training(command)


def _run_train(options):
    config = _read_config(options)
    manifest = _read_data(options)
    workflows = _import_workflows()
    from bcnet.evaluate.metrics import format_metrics

    classifier = workflows.train(
        manifest,
        options.output,
        config,
        split=options.split,
        resume=options.resume,
        log_folder=options.tensorboard,
        progress=True,
    )
    metrics = classifier.card["metrics"]
    part = "test" if "test" in metrics else "validation"
    training = classifier.card["training"]
    print(f"{part} ({manifest.info.name})\n{format_metrics(metrics[part])}")
    print(f"{options.output}: {training['seconds']:.0f} s in {training['precision']}")


def _add_cross_validate(commands):
    command = _add(
        commands,
        "cross-validate",
        _run_cross_validate,
        "estimate what `train` would reach on new patients",
        "bcnet cross-validate dataset/ --folds 5 --json folds.json",
    )
    _add_data(command)
    command.add_argument("--folds", type=int, default=5, metavar="K", help="(%(default)s)")
    _add_json(command)
    _add_training(command)


def _run_cross_validate(options):
    config = _read_config(options)
    manifest = _read_data(options)
    workflows = _import_workflows()
    from bcnet.evaluate.metrics import format_metrics

    result = workflows.cross_validate(manifest, config, folds=options.folds, progress=True)
    print(f"{options.folds} folds by patient ({manifest.info.name})\n{format_metrics(result)}")
    _write_json(options, result)


def _add_evaluate(commands):
    command = _add(
        commands,
        "evaluate",
        _run_evaluate,
        "judge a model on patients it has not seen (exit status 1: it has seen some)",
        "bcnet evaluate models/mine.keras dataset/ --plots figures/",
    )
    command.add_argument("model", metavar="MODEL", help="a .keras file")
    _add_data(command)
    command.add_argument("--split", metavar="CSV", help="which picture stands where")
    command.add_argument("--part", choices=[*SPLITS, "all"], default="test", help="(%(default)s)")
    command.add_argument("--threshold", type=float, metavar="T", help="instead of the model's")
    command.add_argument("--plots", metavar="DIR", help="also draw the figures there")
    command.add_argument("--precision", choices=PRECISIONS, default="float32")
    _add_json(command)


def _run_evaluate(options):
    classifier = _load(options)
    manifest = _read_data(options)
    workflows = _import_workflows()
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
    _write_json(options, result)


def _add_predict(commands):
    command = _add(
        commands,
        "predict",
        _run_predict,
        "give the probability of malignant for files or folders, as CSV",
        "bcnet predict models/mine.keras pictures/ --output predictions.csv",
    )
    command.add_argument("model", metavar="MODEL", help="a .keras file")
    command.add_argument("paths", nargs="+", metavar="PATH", help="pictures or folders")
    command.add_argument(
        "--output", type=_parse_file, metavar="CSV", help="file to write (standard output)"
    )
    command.add_argument("--threshold", type=float, metavar="T", help="instead of the model's")
    command.add_argument("--precision", choices=PRECISIONS, default="float32")


def _run_predict(options):
    classifier = _load(options)
    from bcnet.workflows.scoring import to_csv

    table = _import_workflows().predict(
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
    command = _add(
        commands,
        "explain",
        _run_explain,
        "show where in each picture the evidence lies (Grad-CAM)",
        "bcnet explain models/mine.keras pictures/ --output heatmaps/",
    )
    command.add_argument("model", metavar="MODEL", help="a .keras file")
    command.add_argument("paths", nargs="+", metavar="PATH", help="pictures or folders")
    command.add_argument("--output", required=True, metavar="DIR", help="folder of overlays")
    command.add_argument("--class", dest="class_name", choices=CLASS_NAMES, default=CLASS_NAMES[1])
    command.add_argument("--raw", action="store_true", help="also write each map as .npy")


def _run_explain(options):
    classifier = _load(options)
    table = _import_workflows().explain(
        classifier,
        options.paths,
        options.output,
        class_name=options.class_name,
        raw=options.raw,
        progress=True,
    )
    _count_unread(table)
    print(f"{options.output}: {int(table['overlay'].notna().sum())} overlays")


def _add_notebook(commands):
    command = _add(
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
    report = _import_workflows(tensorflow=False).run_notebook(
        options.output, parameters, progress=True
    )
    print(f"the report is {report}")
