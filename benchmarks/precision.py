"""How far bfloat16 moves single probabilities and labels, and how far another seed does.

Belongs here: scoring the same pictures with model files in two precisions. Does not: training
them, or speed. `python benchmarks/precision.py --help` says how to run it.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from rounds import describe_machine, make_parser, run_script

from bcnet.classifier import Classifier

PERCENTILE = 99


def measure_change(one: np.ndarray, other: np.ndarray, thresholds: Sequence[float]) -> dict:
    """Measure how far two lists of answers to the same pictures differ.

    Args:
        one: `(n,)` probabilities.
        other: the same of someone else.
        thresholds: of the one and of the other.

    Returns:
        `mean`, `percentile_99` and `largest` of the differences, and `labels`, the share of
        pictures that are called otherwise.

    Example:
        >>> measure_change(np.array([0.2, 0.4]), np.array([0.2, 0.6]), (0.5, 0.5))["labels"]
        0.5
    """
    change = np.abs(one - other)
    return {
        "mean": float(change.mean()),
        f"percentile_{PERCENTILE}": float(np.percentile(change, PERCENTILE)),
        "largest": float(change.max()),
        "labels": float(np.mean((one >= thresholds[0]) != (other >= thresholds[1]))),
    }


def compare(models: Sequence[Path], data: Path, precision: str) -> dict[str, dict]:
    """Compare what precision changes with what a seed changes; the largest of each counts.

    Args:
        models: files trained alike, but from different seeds; at least one.
        data: a folder of pictures.
        precision: set against float32.

    Returns:
        By case, `ours` (what precision changes), `peer` (what a seed changes; None for a single
        model), `ratio` (peer / ours: above 1, a seed changes more) and `precision`.
    """
    classifiers = [Classifier.load(model) for model in models]
    thresholds = [classifier.threshold for classifier in classifiers]
    exact, coarse = (
        [_score(classifier, data, chosen) for classifier in classifiers]
        for chosen in ("float32", precision)
    )
    by_precision = [
        measure_change(*pair, (threshold, threshold))
        for *pair, threshold in zip(exact, coarse, thresholds, strict=True)
    ]
    by_seed = [
        measure_change(exact[i], exact[j], (thresholds[i], thresholds[j]))
        for i, j in combinations(range(len(models)), 2)
    ]
    return {
        f"change_{name}": _summarise(
            [change[name] for change in by_precision], [change[name] for change in by_seed]
        )
        | {"precision": precision}
        for name in by_precision[0]
    }


def _score(classifier, data, precision):
    table = classifier.predict(data, precision=precision)
    return table.loc[table["status"] == "ok", "probability"].to_numpy()


def _summarise(ours, peer):
    ours, peer = max(ours), max(peer, default=None)
    return {"ours": ours, "peer": peer, "ratio": peer / ours if peer and ours else None}


def format_change(name: str, result: dict) -> str:
    """Format one line of the table."""
    words = ["–" if result[key] is None else f"{result[key]:.5f}" for key in ("ours", "peer")]
    return f"{name:<24} {result['precision']:<9}  {words[0]:>9} {words[1]:>13}"


def run(arguments: argparse.Namespace, scratch: Path) -> dict[str, dict]:
    """Measure, print the table, and return what the JSON holds."""
    print(describe_machine())
    print("\ncase                     precision  precision  another seed  (probability; share)")
    results = compare(arguments.models, arguments.data, arguments.precision)
    for name, result in results.items():
        print(format_change(name, result))
    return results


def parse_arguments(words: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(
        "Show how far bfloat16 moves probabilities and labels, beside what a seed moves.",
        "benchmarks/precision.py dataset/ seed0.keras seed1.keras --json precision.json",
    )
    parser.add_argument("data", type=Path, help="folder of pictures")
    parser.add_argument("models", type=Path, nargs="+", help="files of one recipe, other seeds")
    parser.add_argument("--precision", choices=["bfloat16", "float16"], default="bfloat16")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> int:
    """Run the benchmark; return the exit status."""
    return run_script(run, parse_arguments(words))


if __name__ == "__main__":
    sys.exit(main())
