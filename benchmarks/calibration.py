"""Whether calibration on validation patients helps others: ECE, Brier score and log loss, in folds.

Belongs here: fitting each scaling in each fold, and the table. Does not: which data sets there are
(`accuracy`), how runs are kept (`ledger`). A fold's network is trained once and scaled in each way,
so that nothing but the scaling differs. `python benchmarks/calibration.py --help` says how to run
it.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

from accuracy import SETS, find_sets, format_metric
from ledger import Ledger, RunFailed, format_cells, format_header, read_count, run_in_scratch

from bcnet.cli.startup import import_workflows
from bcnet.config import CALIBRATIONS, Config

METHODS = ("none", *CALIBRATIONS)

MEASURED = {"ece": "ECE", "brier": "Brier score", "log_loss": "log loss"}
"""Of the measures of `bcnet.evaluate.calibration`, by their names in the table; less is better."""

HEADER = (
    "data",
    "pictures / patients",
    "calibration",
    *MEASURED.values(),
    "ECE by chance alone",
    "folds calibrated",
)


def measure_late(settings: dict, scratch: str) -> dict:
    """Calibrate and judge with one seed, in a process that may load TensorFlow.

    Args:
        settings: `data`, a path, or None for the built-in pictures; `images`, about how many to
            take, with whole patients, or None; `config`, fields of `Config`; `folds`.
        scratch: folder for the built-in pictures.

    Returns:
        `n_images`; `n_patients`, None when unknown; for each of `METHODS` what
        `evaluate_calibration` gives by picture, and `folds`, how many of them were calibrated.
    """
    import_workflows()  # starts TensorFlow without its chatter
    from judging import open_data

    from bcnet.evaluate.calibration import evaluate_calibration
    from bcnet.workflows.samples import list_patients

    manifest = open_data(settings["data"], settings["images"], scratch)
    table, scalings = score_folds(manifest, Config(**settings["config"]), settings["folds"])
    patients = list_patients(table)
    result = {
        "n_images": len(table),
        "n_patients": None if patients is None else len(set(patients)),
    }
    for method in METHODS:
        y_prob = apply_scalings(table, [fold[method] for fold in scalings])
        judged = evaluate_calibration(table["label"], y_prob, patients=patients)["image"]
        result[method] = judged | {"folds": sum(fold[method] is not None for fold in scalings)}
    return result


def score_folds(manifest, config: Config, folds: int):
    """Train a network in each fold, and fit every scaling to its validation patients.

    Returns:
        What `judge_folds` gives; and for each fold, by method, a `Scaling`, or None where bcnet
        would not calibrate: too few patients, or scores that do not rise with malignancy.
    """
    from bcnet.workflows import judge_folds
    from bcnet.workflows.fitting import fit_network

    scalings = []

    def fit(pictures, config, **told):
        network, history = fit_network(pictures, config, **told)
        scalings.append(fit_scalings(network, pictures, config))
        return network, history

    table = judge_folds(manifest, config, folds=folds, fit=fit, progress=sys.stderr.isatty())
    return table, scalings


def fit_scalings(network, pictures, config: Config) -> dict:
    """Fit every scaling as the end of a training does; the network itself stays as it is."""
    from bcnet.classifier import Classifier
    from bcnet.evaluate.scaling import Scaling
    from bcnet.workflows.calibration import calibrate_trained, cut_at_logit
    from bcnet.workflows.samples import score_rows

    classifier, rows = Classifier(network, {}), pictures.rows_in("validation")
    logits = score_rows(cut_at_logit(classifier), pictures.images, rows)
    found = {"none": None}
    for method in CALIBRATIONS:
        told = replace(config, calibration=method)
        calibrate_trained(classifier, logits, pictures.table.iloc[rows], told, "validation")
        entry = classifier.card["calibration"]
        found[method] = Scaling(entry["slope"], entry["intercept"]) if "slope" in entry else None
    classifier.set_scaling(Scaling())
    return found


def apply_scalings(table, scalings: Sequence):
    """Apply to each picture the scaling of its fold.

    Args:
        table: with `fold` and `probability`, which is not calibrated.
        scalings: a `Scaling` for each fold, or None to leave it.

    Returns:
        Probabilities, float64 `(n,)`.
    """
    from bcnet.evaluate.cases import find_logits

    y_prob = table["probability"].to_numpy(float, copy=True)
    logits, folds = find_logits(y_prob), table["fold"].to_numpy()
    for fold, scaling in enumerate(scalings):
        if scaling is not None:
            y_prob[folds == fold] = scaling.apply(logits[folds == fold])
    return y_prob


def format_row(data: str, method: str, results: Sequence[dict], folds: int) -> str:
    """Format one row of the table: seed 0 with its intervals, and the range of all seeds.

    Args:
        data: name of the set.
        method: one of `METHODS`.
        results: what `measure_late` returned for each seed.
        folds: how many there are.
    """
    first, judged = results[0], [result[method] for result in results]
    patients = "unknown" if first["n_patients"] is None else f"{first['n_patients']:,}"
    calibrated = sum(each["folds"] for each in judged)
    return format_cells(
        data,
        f"{first['n_images']:,} / {patients}",
        method,
        *(format_metric(judged, name) for name in MEASURED),
        f"{judged[0]['ece_by_chance']:.3f}",
        f"{calibrated} of {folds * len(results)}",
    )


def run(arguments: argparse.Namespace, scratch: str) -> int:
    """Print the table while it grows.

    Returns:
        The exit status: 0, or 1 where a data set could not be measured.
    """
    places = find_sets(Path(arguments.root), arguments.sets)
    ledger, status = Ledger(arguments.json), 0
    config = Config(epochs=arguments.epochs, validation=arguments.validation)
    print(format_header(*HEADER), flush=True)
    for data, place in places.items():
        settings = {"data": place, "images": arguments.images, "folds": arguments.folds}
        try:
            results = [
                ledger.measure(
                    f"{data}, seed {seed}",
                    partial(measure_late, scratch=scratch),
                    settings | {"config": asdict(replace(config, seed=seed))},
                )
                for seed in range(arguments.seeds)
            ]
        except RunFailed as error:
            print(format_cells(data, f"skipped: {error}"), flush=True)
            status = 1
            continue
        for method in METHODS:
            print(format_row(data, method, results, arguments.folds), flush=True)
    return status


def parse_arguments(words: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description="Measure what calibrating on validation patients does for others, in folds.",
        epilog="example: python benchmarks/calibration.py --root dataset --sets idc",
    )
    parser.add_argument("--root", default="dataset", metavar="FOLDER", help="where the data lie")
    parser.add_argument("--sets", nargs="+", choices=SETS, help="default: all that are there")
    parser.add_argument("--seeds", type=read_count, default=3, metavar="N", help="default: 3")
    parser.add_argument("--folds", type=read_count, default=4, metavar="N", help="default: 4")
    told = "of the other patients, who calibrate (%(default)s); small sets need more"
    parser.add_argument(
        "--validation", type=float, default=Config.validation, metavar="SHARE", help=told
    )
    parser.add_argument("--epochs", type=read_count, default=Config.epochs, metavar="N")
    parser.add_argument("--images", type=read_count, metavar="N", help="take about so many")
    parser.add_argument("--json", metavar="FILE", help="keep each run there; go on from it")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> int:
    """Run the benchmark.

    Args:
        words: the command line; `sys.argv` by default.

    Returns:
        The exit status: as `run`, or 2 after one line that says what is wrong with the input.
    """
    return run_in_scratch(run, parse_arguments(words), "calibration.py")


if __name__ == "__main__":
    sys.exit(main())
