"""Commands that train networks: one, several in turn to judge them, or many to choose."""

import argparse

from bcnet.cli.options import (
    add_command,
    add_data,
    add_field,
    add_json,
    add_training,
    parse_file,
    read_config,
    read_data,
    write_json,
)
from bcnet.cli.startup import import_workflows


def add_commands(commands) -> None:
    """Add train, cross-validate and tune."""
    _add_train(commands)
    _add_cross_validate(commands)
    _add_tune(commands)


def _add_train(commands):
    command = add_command(
        commands,
        "train",
        _run_train,
        "train a network on patients, judge it on others, and write one model file",
        "bcnet train dataset/ --output models/mine.keras",
    )
    add_data(command)
    command.add_argument(
        "--output", type=parse_file, required=True, metavar="FILE", help="models/NAME.keras"
    )
    _add_division(command)
    command.add_argument("--resume", action="store_true", help="go on from a run cut off")
    command.add_argument("--tensorboard", metavar="DIR", help="also log there, for TensorBoard")
    command.add_argument(
        "--cases",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="write NAME.cases.npz too, for similar cases; it names patients, unlike the model",
    )
    add_training(command)


def _add_division(command):
    command.add_argument("--split", metavar="CSV", help="which picture stands where")
    told = "share of patients (%(default)s); 0 keeps none back"
    add_field(command, "--test", type=float, metavar="SHARE", help=told)


def _run_train(options):
    config = read_config(options)
    manifest = read_data(options)
    workflows = import_workflows()
    from bcnet.evaluate.metrics import format_metrics

    classifier = workflows.train(
        manifest,
        options.output,
        config,
        split=options.split,
        resume=options.resume,
        log_folder=options.tensorboard,
        cases=options.cases,
        progress=True,
    )
    metrics = classifier.card["metrics"]
    part = "test" if "test" in metrics else "validation"
    training = classifier.card["training"]
    print(f"{part} ({manifest.info.name})\n{format_metrics(metrics[part])}")
    print(f"{options.output}: {training['seconds']:.0f} s in {training['precision']}")


def _add_cross_validate(commands):
    command = add_command(
        commands,
        "cross-validate",
        _run_cross_validate,
        "estimate what `train` would reach on new patients",
        "bcnet cross-validate dataset/ --folds 5 --json folds.json",
    )
    add_data(command)
    command.add_argument("--folds", type=int, default=5, metavar="K", help="(%(default)s)")
    told = "which picture stands where; test patients take no part"
    command.add_argument("--split", metavar="CSV", help=told)
    told = "also write each picture's prediction, for bcnet calibrate"
    command.add_argument("--out-of-fold", type=parse_file, metavar="CSV", help=told)
    add_json(command)
    add_training(command)


def _run_cross_validate(options):
    config = read_config(options)
    manifest = read_data(options)
    workflows = import_workflows()
    from bcnet.workflows.cross_validation import format_cross_validation

    result = workflows.cross_validate(
        manifest,
        config,
        folds=options.folds,
        split=options.split,
        out_of_fold=options.out_of_fold,
        progress=True,
    )
    told = format_cross_validation(result)
    print(f"{options.folds} folds by patient ({manifest.info.name})\n{told}")
    write_json(options, result)


def _add_tune(commands):
    command = add_command(
        commands,
        "tune",
        _run_tune,
        "search for better settings of `train`, without a look at the test patients",
        "bcnet tune dataset/ --trials 30 --output best.json",
    )
    add_data(command)
    command.add_argument(
        "--output", type=parse_file, required=True, metavar="FILE", help="best.json, for --config"
    )
    told = "to reach, with those of earlier calls (%(default)s)"
    command.add_argument("--trials", type=int, default=30, metavar="N", help=told)
    told = "instead of the usual ones, e.g. learning_rate batch_size"
    command.add_argument("--search", nargs="+", metavar="FIELD", help=told)
    told = "judge by the mean of K folds, not by the validation patients alone"
    command.add_argument("--folds", type=int, default=1, metavar="K", help=told)
    told = "SQLite file that keeps the trials (beside the output)"
    command.add_argument("--study", type=parse_file, metavar="FILE", help=told)
    _add_division(command)
    add_training(command)


def _run_tune(options):
    config = read_config(options)
    manifest = read_data(options)
    workflows = import_workflows()
    search = workflows.Search(options.trials, options.search, options.folds, options.study)
    result = workflows.tune(
        manifest, options.output, config, search=search, split=options.split, progress=True
    )
    count = result.trials["score"].count()
    print(f"best of {count} trials: validation AUC {result.score:.3f} (chosen for it,")
    print("so flattered: the test patients, whom no trial has seen, tell what it is worth)")
    for name, value in result.parameters.items():
        print(f"  {name} {value}")
    print(*result.files, sep="\n")
