"""The README's table of accuracy: a tutorial's network, bcnet's defaults and bcnet's best recipes.

Belongs here: which data sets and contestants there are, the rows and the table. Does not: how one
run is trained and judged (`judging`), how runs are kept (`ledger`). All contestants of a data set
are trained on the same patients and judged on the same others.
`python benchmarks/accuracy.py --help` says how to run it.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

from ledger import (
    Ledger,
    RunFailed,
    add_weights,
    format_cells,
    format_header,
    read_count,
    run_in_scratch,
)

from bcnet.cli.startup import import_workflows
from bcnet.config import Config
from bcnet.evaluate.metrics import format_estimate

# Where each data set lies below the root; the simulated one is drawn when it is needed.
SETS = {
    "idc": "idc",
    "pcam": "pcam",
    "breakhis": "breakhis",
    "bus_uclm": "bus_uclm",
    "breastmnist": "breastmnist/breastmnist.npz",
    "simulated": None,
}

# What serves a data set better than the defaults, in the fields of `Config`.
MOBILENET_V2 = {
    "model": "mobilenet_v2",
    "weights": "imagenet",
    "end": "block_13_expand_relu",
    "image_size": (96, 96),
    "tta": True,
}
RECIPES = {
    "idc": {**MOBILENET_V2, "epochs": 6},
    "pcam": {**MOBILENET_V2, "epochs": 6},
    "breastmnist": {**MOBILENET_V2, "epochs": 12, "batch_size": 32, "members": 3},
    "simulated": {**MOBILENET_V2, "epochs": 8, "batch_size": 32},
}

CONTESTANTS = ("tutorial", "bcnet", "recipe")

# Enough to see everything work in five minutes on two cores, not enough to be good.
QUICK_SEEDS, QUICK_FOLDS, QUICK_IMAGES, QUICK_EPOCHS = 1, 2, 400, 2

HEADER = (
    "data",
    "contestant",
    "judged",
    "pictures / patients",
    "AUC",
    "balanced accuracy",
    "accuracy",
    "accuracy at 0.5",
    "majority",
    "seconds a seed",
    "peak memory",
    "precision",
)


def find_sets(root: Path, names: Sequence[str] | None) -> dict[str, str | None]:
    """Find where the data sets lie.

    Args:
        root: folder that holds them.
        names: those wanted; None for all that are there.

    Returns:
        The path of each, None for the simulated one, in the order of `SETS`.

    Raises:
        FileNotFoundError: for one that is wanted by name and is not there.
    """
    places = {name: below and str((root / below).resolve()) for name, below in SETS.items()}
    absent = [name for name, place in places.items() if place and not Path(place).exists()]
    for name in absent:
        if name in (names or ()):
            raise FileNotFoundError(f"`--sets` names {name}, which is not at {places[name]}")
    if names is None and absent:
        print(f"not found under {root}: {', '.join(absent)}", file=sys.stderr)
    return {name: places[name] for name in SETS if name in (names or SETS) and name not in absent}


def make_config(contestant: str, data: str, arguments: argparse.Namespace) -> Config:
    """Make what a contestant is trained with, but for the seed.

    Example:
        >>> make_config("bcnet", "idc", parse_arguments([])) == Config()
        True
    """
    changes = dict(RECIPES[data]) if contestant == "recipe" else {}
    if changes.get("model") in arguments.weights:
        changes["weights"] = str(Path(arguments.weights[changes["model"]]).resolve())
    config = Config(**changes)
    if arguments.quick:
        return replace(config, epochs=min(QUICK_EPOCHS, config.epochs or QUICK_EPOCHS), members=1)
    return config


def list_rows(names: Sequence[str]) -> list[tuple[str, str]]:
    """List the rows of the table as pairs of data set and contestant.

    Example:
        >>> list_rows(["breakhis"])
        [('breakhis', 'tutorial'), ('breakhis', 'bcnet')]
    """
    rows = [(data, contestant) for data in names for contestant in CONTESTANTS]
    return [row for row in rows if row[1] != "recipe" or row[0] in RECIPES]


def measure_row(
    ledger: Ledger, row: tuple[str, str], *, place: str | None, arguments, scratch: str
) -> list[dict]:
    """Measure one row of the table with every seed.

    Args:
        ledger: where what is known is looked up, and what is new is kept.
        row: data set and contestant.
        place: of the data; None for the simulated set.
        arguments: the command line.
        scratch: folder for the simulated set.

    Returns:
        What `judging.judge` returned for each seed.

    Raises:
        RunFailed: when one of the runs does.
    """
    config = make_config(row[1], row[0], arguments)
    settings = {
        "data": place,
        "tutorial": row[1] == "tutorial",
        "folds": QUICK_FOLDS if arguments.quick else arguments.folds,
        "images": QUICK_IMAGES if arguments.quick else None,
    }
    return [
        ledger.measure(
            f"{', '.join(row)}, seed {seed}{', quick' if arguments.quick else ''}",
            partial(judge_late, scratch=scratch),
            settings | {"config": asdict(replace(config, seed=seed))},
        )
        for seed in range(QUICK_SEEDS if arguments.quick else arguments.seeds)
    ]


def judge_late(settings: dict, scratch: str) -> dict:
    """Call `judging.judge`, which only the process of a run shall import: it loads TensorFlow."""
    import_workflows()  # starts TensorFlow without its chatter
    from judging import judge

    return judge(settings, scratch)


def format_row(row: tuple[str, str], results: Sequence[dict]) -> str:
    """Format one row of the table: seed 0 with its intervals, and the range of all seeds.

    Figures are by patient where every patient has one label, else by picture.

    Args:
        row: data set and contestant.
        results: what `judging.judge` returned for each seed.
    """
    first = results[0]
    unit = "image" if first["patient"] is None else "patient"
    majority = first["majority_accuracy" if unit == "image" else "patient_majority_accuracy"]
    patients = "unknown" if first["n_patients"] is None else f"{first['n_patients']:,}"
    scores = [result[unit] for result in results]
    at_half = [result["at_half"][unit] for result in results]
    peaks = [result["peak_bytes"] for result in results]
    return format_cells(
        *row,
        f"{first['judged']}, by {'picture' if unit == 'image' else unit}",
        f"{first['n_images']:,} / {patients}",
        *(format_metric(scores, name) for name in ("auc", "balanced_accuracy", "accuracy")),
        format_metric(at_half, "accuracy"),
        f"{majority:.3f}",
        f"{sum(result['seconds'] for result in results) / len(results):,.0f}",
        "unknown" if None in peaks else f"{max(peaks) / 1e9:.1f} GB",
        first["precision"],
    )


def format_metric(scores: Sequence[Mapping], name: str) -> str:
    """Format a metric: that of the first seed with its interval, and the range of all.

    Example:
        >>> first, second = {"value": 0.9, "low": 0.8, "high": 1.0}, {"value": 0.85}
        >>> format_metric([{"auc": first}, {"auc": second}], "auc")
        '0.900 [0.800, 1.000], seeds 0.850–0.900'
    """
    text = format_estimate(scores[0][name])
    values = [score[name]["value"] for score in scores if score[name]["value"] is not None]
    if len(values) < 2:
        return text
    return f"{text}, seeds {min(values):.3f}–{max(values):.3f}"


def run(arguments: argparse.Namespace, scratch: str) -> int:
    """Print the table while it grows.

    Returns:
        The exit status: 0, or 1 where a row could not be measured.
    """
    places = find_sets(Path(arguments.root), arguments.sets)
    ledger = Ledger(arguments.json)
    if arguments.quick:
        print("quick: not the figures of the README\n")
    print(format_header(*HEADER), flush=True)
    machine, status = "", 0
    for row in list_rows(list(places)):
        try:
            results = measure_row(
                ledger, row, place=places[row[0]], arguments=arguments, scratch=scratch
            )
            print(format_row(row, results), flush=True)
            machine = results[-1]["machine"]
        except RunFailed as error:
            print(format_cells(*row, f"skipped: {error}"), flush=True)
            status = 1
    if machine:
        print(f"\nthe last row was measured on\n{machine}")
    return status


def parse_arguments(words: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description="Train and judge a tutorial's network and bcnet's on every data set there is.",
        epilog="example: python benchmarks/accuracy.py --root dataset --json accuracy.json",
    )
    parser.add_argument("--root", default="dataset", metavar="FOLDER", help="where the data lie")
    parser.add_argument("--sets", nargs="+", choices=SETS, help="default: all that are there")
    parser.add_argument("--seeds", type=read_count, default=3, metavar="N", help="default: 3")
    parser.add_argument("--folds", type=read_count, default=4, metavar="N", help="default: 4")
    parser.add_argument("--quick", action="store_true", help="five minutes: does it all work?")
    parser.add_argument("--json", metavar="FILE", help="keep each run there; go on from it")
    add_weights(parser, "the recipes' ImageNet weights")
    arguments = parser.parse_args(words)
    arguments.weights = dict(arguments.weights)
    return arguments


def main(words: Sequence[str] | None = None) -> int:
    """Run the benchmark.

    Args:
        words: the command line; `sys.argv` by default.

    Returns:
        The exit status: as `run`, or 2 after one line that says what is wrong with the input.
    """
    return run_in_scratch(run, parse_arguments(words), "accuracy.py")


if __name__ == "__main__":
    sys.exit(main())
