"""Which method's heatmaps to believe: every method, two networks, two data sets with masks.

Belongs here: networks, data sets and tables. Does not: what one run measures (`mapping`).
"""

import argparse
import sys
from collections.abc import Sequence
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
from bcnet.config import HEATMAP_METHODS
from bcnet.evaluate.metrics import format_estimate

# Fields of `Config`; the second is a small pretrained network with coarse maps (6 × 6 cells).
NETWORKS = {
    "cnn": {},
    "mobilenet": {
        "model": "mobilenet",
        "alpha": 0.25,
        "weights": "imagenet",
        "end": "conv_pw_11_relu",
        "image_size": (96, 96),
        "epochs": 8,
    },
}

# Patients of the built-in set are many; those of the other are shared between two networks, each
# of which judges the patients that the other learnt from.
FOLDS = {"simulated": 1, "bus_uclm": 2}

# Enough to see everything work in minutes, not enough to be good.
QUICK_PICTURES, QUICK_PATIENTS, QUICK_EPOCHS = 4, 40, 1
QUICK_METHODS = HEATMAP_METHODS[:2]

SEEDS = 3  # of the small network, for the thresholds

MEASURES = {
    "deletion": "deletion ↓",
    "insertion": "insertion ↑",
    "drop": "average drop ↓",
    "increase": "increase ↑",
    "stability": "stability ↑",
    "cascade": "cascade → 0",
    "pointing": "pointing game ↑",
    "mass": "mass inside ↑",
    "overlap": "best IoU ↑",
}
HEADER = ("method", *MEASURES.values(), "verdicts", "ms a picture", "with verdict")


def list_runs(arguments: argparse.Namespace) -> dict[str, dict]:
    """List what is to be measured: by name, the settings of `mapping`."""
    root = Path(arguments.root)
    if not (root / "bus_uclm").is_dir():
        print(f"not found: {root / 'bus_uclm'}", file=sys.stderr)
    runs = {}
    for data, folds in FOLDS.items():
        place = None if data == "simulated" else str((root / data).resolve())
        for network in NETWORKS:
            if place is None or Path(place).is_dir():
                runs[f"{data}, {network}"] = {
                    **make_settings(arguments, network, f"{data}-{network}-seed0"),
                    "data": place,
                    "masks": place and f"{place}_masks",
                    "folds": folds,
                }
    return runs


def list_threshold_runs(arguments: argparse.Namespace) -> dict[str, dict]:
    """List the networks whose sound maps set the thresholds: by name, the settings."""
    runs = {}
    for network, seed in [*(("cnn", seed) for seed in range(SEEDS)), ("mobilenet", 0)]:
        settings = make_settings(arguments, network, f"simulated-{network}-seed{seed}")
        settings["config"] = {**settings["config"], "seed": seed}
        extra = {"data": None, "masks": None, "folds": 1}
        runs[f"thresholds, {network}, seed {seed}"] = {**settings, **extra}
    return runs


def make_settings(arguments: argparse.Namespace, network: str, name: str) -> dict:
    """Make the settings that do not depend on the data."""
    config = dict(NETWORKS[network])
    if network in arguments.weights:
        config["weights"] = str(Path(arguments.weights[network]).resolve())
    if arguments.quick:
        config["epochs"] = QUICK_EPOCHS
    return {
        "config": config,
        "models": arguments.models and str(Path(arguments.models, name).resolve()),
        "methods": QUICK_METHODS if arguments.quick else HEATMAP_METHODS,
        "pictures": QUICK_PICTURES if arguments.quick else arguments.pictures,
        "patients": QUICK_PATIENTS if arguments.quick else None,
    }


def call_late(name: str, settings: dict, scratch: str) -> dict:
    """Call a function of `mapping`, which only the process of a run shall import."""
    import_workflows()  # starts TensorFlow without its chatter
    import mapping

    return getattr(mapping, name)(settings, scratch)


def format_table(name: str, result: dict) -> str:
    """Format the table of one run, with what is needed to read it.

    Args:
        name: of the run.
        result: what `mapping.measure_methods` returned.
    """
    lines = [
        f"**{name}** ({result['n_images']} malignant pictures of {result['n_patients']} patients; "
        f"AUC on all pictures judged {', '.join(map(format_estimate, result['auc']))})\n",
        format_header(*HEADER),
        *(format_row(method, row) for method, row in result["rows"].items()),
        f"\nthe masks cover {format_estimate(result['chance'])} of the pictures: what chance gets "
        "in the last three measures",
    ]
    if min(auc["low"] or 0 for auc in result["auc"]) <= 0.5:
        lines.append(
            "the interval of the AUC holds 0.5: maps of a network that does not know cannot be "
            "right, whatever the method"
        )
    return "\n".join(lines) + "\n"


def format_row(method: str, row: dict) -> str:
    """Format one line; what a baseline does not have stays empty.

    Example:
        A row without `seconds` ends in two empty cells.
    """
    cells = [format_estimate(row[name]) if name in row else "" for name in MEASURES]
    shares = row.get("verdicts", {})
    words = ", ".join(f"{word} {share:.0%}" for word, share in shares.items() if share)
    seconds = row.get("seconds")
    with_verdict = "" if seconds is None else f"{1000 * (seconds + row['verdict_seconds']):.1f}"
    return format_cells(
        method, *cells, words, "" if seconds is None else f"{1000 * seconds:.1f}", with_verdict
    )


def format_quantiles(name: str, result: dict) -> str:
    """Format what the verdicts look at, of one network's maps.

    Args:
        name: of the run.
        result: what `mapping.describe_sound_maps` returned.
    """
    header = ("measure", "lowest", "1 %", "5 %", "median", "95 %", "99 %", "highest")
    rows = [
        format_cells(measure, *(f"{value:.3f}" for value in values))
        for measure, values in result.items()
        if measure != "blank"
    ]
    title = f"**{name}** (blank: {result['blank']:.1%})\n"
    return "\n".join([title, format_header(*header), *rows]) + "\n"


def run(arguments: argparse.Namespace, scratch: str) -> int:
    """Print the tables as they are measured.

    Returns:
        The exit status: 0, or 1 where a run failed.
    """
    ledger, status = Ledger(arguments.json), 0
    if arguments.quick:
        print("quick: not the figures of the README\n")
    work = ("describe_sound_maps", list_threshold_runs, format_quantiles)
    if not arguments.thresholds:
        work = ("measure_methods", list_runs, format_table)
    function, list_work, show = work
    for name, settings in list_work(arguments).items():
        try:
            name = f"{name}, quick" if arguments.quick else name
            apart = partial(call_late, function, scratch=scratch)
            print(show(name, ledger.measure(name, apart, settings)), flush=True)
        except RunFailed as error:
            print(f"**{name}** skipped: {error}\n", flush=True)
            status = 1
    return status


def parse_arguments(words: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description="Measure the heatmaps of every method against networks and masks.",
        epilog="example: python benchmarks/explanations.py --root dataset --json explained.json",
    )
    parser.add_argument("--root", default="dataset", metavar="FOLDER", help="where the data lie")
    parser.add_argument("--models", metavar="FOLDER", help="keep the networks; use those there")
    parser.add_argument("--pictures", type=read_count, default=60, metavar="N", help="default: 60")
    parser.add_argument("--thresholds", action="store_true", help="what the verdicts look at")
    parser.add_argument("--quick", action="store_true", help="minutes: does it all work?")
    parser.add_argument("--json", metavar="FILE", help="keep each run there; go on from it")
    add_weights(parser, "ImageNet weights")
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
    return run_in_scratch(run, parse_arguments(words), "explanations.py")


if __name__ == "__main__":
    sys.exit(main())
