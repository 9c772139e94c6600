"""What each switch of `Config` is worth on one data set, one at a time against the defaults.

Belongs here: the switches and the table. Does not: how one run is trained (`judging`), how runs
are kept (`ledger`) and compared (`pairs`). Both runs of a pair have the same folds and seed.
`python benchmarks/ablation.py --help` says how to run it.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from ledger import Ledger, RunFailed, format_cells, format_header, read_count
from pairs import Difference, compare, judge_difference, measure

from bcnet.cli.startup import import_workflows
from bcnet.config import Config

SWITCHES = {
    "stain_jitter=0": {"stain_jitter": 0.0},
    "stain_jitter=0.15": {"stain_jitter": 0.15},
    "stain_jitter=0.3": {"stain_jitter": 0.3},
    "reinhard": {"stain_normalisation": "reinhard"},
    "macenko": {"stain_normalisation": "macenko"},
    "label_smoothing=0.1": {"label_smoothing": 0.1},
    "mixup=0.2": {"mixup": 0.2},
    "balanced": {"sampling": "balanced"},
    "constant": {"schedule": "constant"},
    "ema=0.99": {"ema": 0.99},
    "tta": {"tta": True},
    "members=3": {"members": 3},
    "progressive": {"progressive": True},
    "float32": {"precision": "float32"},
    "bfloat16": {"precision": "bfloat16"},
}
"""What may be switched, by the name a user types, in the fields of `Config`."""

HEADER = (
    "switch",
    "AUC",
    "difference",
    "each seed's",
    "balanced accuracy",
    "difference",
    "seconds a seed",
    "verdict by AUC",
)


def choose_switches(default: Config, names: Sequence[str] | None) -> dict[str, Config]:
    """Choose what to compare: the switches wanted, or all but those of precision.

    What is the default already is left out.

    Example:
        >>> list(choose_switches(Config(tta=True), ["tta", "ema=0.99"]))
        ['ema=0.99']
    """
    # One of the precisions is what "auto" chooses on this machine: measured only when named.
    names = names or [name for name, change in SWITCHES.items() if "precision" not in change]
    configs = {name: replace(default, **SWITCHES[name]) for name in names}
    same = [name for name, config in configs.items() if config == default]
    if same:
        print(f"the default already: {', '.join(same)}", file=sys.stderr)
    return {name: config for name, config in configs.items() if name not in same}


def measure_seeds(
    ledger: Ledger, name: str, config: Config, arguments: argparse.Namespace
) -> list[dict]:
    """Train and judge with every seed.

    Returns:
        What `judging.score_folds` returned for each.

    Raises:
        RunFailed: when one of the runs does.
    """
    settings = {
        "data": str(Path(arguments.data).resolve()),
        "patients": arguments.limit_patients,
        "folds": arguments.folds,
    }
    return [
        ledger.measure(
            f"{name}, seed {seed}",
            score_late,
            settings | {"config": asdict(replace(config, seed=seed))},
        )
        for seed in range(arguments.seeds)
    ]


def score_late(settings: dict) -> dict:
    """Call `judging.score_folds`, which only the process of a run shall import."""
    import_workflows()  # starts TensorFlow without its chatter
    from judging import score_folds

    return score_folds(settings)


def measure_means(runs: Sequence[dict]) -> np.ndarray:
    """Measure AUC and balanced accuracy of each run: `(runs, 2)`."""
    labels, ones = np.array(runs[0]["labels"]), np.ones(len(runs[0]["labels"]))
    return np.array([measure(labels, np.array(run["scores"]), ones) for run in runs])


def format_row(
    name: str, runs: Sequence[dict], differences: tuple[Difference, Difference] | None = None
) -> str:
    """Format one row of the table: the means of all seeds, and the differences if there are any."""
    auc, balanced_accuracy = (f"{mean:.3f}" for mean in measure_means(runs).mean(axis=0))
    seconds = f"{np.mean([run['seconds'] for run in runs]):,.0f}"
    if differences is None:
        return format_cells(name, auc, "", "", balanced_accuracy, "", seconds, "")
    told = ["{:+.3f} [{:+.3f}, {:+.3f}]".format(*difference[:3]) for difference in differences]
    seeds = ", ".join(f"{value:+.3f}" for value in differences[0].seeds)
    verdict = judge_difference(differences[0])
    return format_cells(name, auc, told[0], seeds, balanced_accuracy, told[1], seconds, verdict)


def run(arguments: argparse.Namespace) -> int:
    """Print the table while it grows.

    Returns:
        The exit status: 0, or 1 where a switch could not be measured.

    Raises:
        RunFailed: when the defaults could not.
    """
    ledger = Ledger(arguments.json)
    default = Config(epochs=arguments.epochs)
    switches = choose_switches(default, arguments.switch)
    print(format_header(*HEADER), flush=True)
    others = measure_seeds(ledger, "default", default, arguments)
    print(format_row("default", others), flush=True)
    status = 0
    for name, config in switches.items():
        try:
            ours = measure_seeds(ledger, name, config, arguments)
            print(format_row(name, ours, compare(ours, others)), flush=True)
        except RunFailed as error:
            print(format_cells(name, f"skipped: {error}"), flush=True)
            status = 1
    aucs = ", ".join(f"{auc:.3f}" for auc, _ in measure_means(others))
    print(f"\nAUC of the default by seed (a seed also changes the folds): {aucs}")
    return status


def parse_arguments(words: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description="Measure what each switch is worth, by cross-validation by patient.",
        epilog="example: python benchmarks/ablation.py dataset/idc --json ablation.json",
    )
    parser.add_argument("data", help="folder, CSV or .npz")
    parser.add_argument("--folds", type=read_count, default=4, metavar="N", help="default: 4")
    parser.add_argument("--seeds", type=read_count, default=2, metavar="N", help="default: 2")
    parser.add_argument(
        "--switch", nargs="+", choices=SWITCHES, metavar="NAME", help=f"of {', '.join(SWITCHES)}"
    )
    parser.add_argument("--epochs", type=read_count, default=Config.epochs, metavar="N")
    parser.add_argument(
        "--limit-patients", type=read_count, metavar="N", help="take about so many patients"
    )
    parser.add_argument("--json", metavar="FILE", help="keep each run there; go on from it")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> int:
    """Run the benchmark.

    Args:
        words: the command line; `sys.argv` by default.

    Returns:
        The exit status: as `run`, or 2 after one line that says what is wrong with the input.
    """
    arguments = parse_arguments(words)
    try:
        return run(arguments)
    except (OSError, ValueError, RunFailed) as error:
        print(f"benchmarks/ablation.py: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
