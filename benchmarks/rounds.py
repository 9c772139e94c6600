"""What every benchmark of speed shares: rounds in turn, the table, the machine's words, the JSON.

Belongs here: stopwatch, summary and command line. Does not: what is measured.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import NamedTuple

import tensorflow as tf
from ledger import read_count

from bcnet.atomic import write_text

# Versions that speed depends on; peers that are not installed are named as absent.
SOFTWARE = ("tensorflow", "keras", "torch", "onnxruntime", "openvino")
BFLOAT16_UNITS = {"AMX": "amx_bf16", "AVX512-BF16": "avx512_bf16"}


class Case(NamedTuple):
    """One comparison.

    Attributes:
        name: its key in the JSON.
        precision: of bcnet's hidden layers.
        ours: does the work with bcnet once and returns the seconds that count.
        peer: the same with the code compared.
    """

    name: str
    precision: str
    ours: Callable[[], float]
    peer: Callable[[], float]


def time_call(function: Callable) -> float:
    """Call `function`; return the seconds it takes."""
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def take_turns(jobs: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Let all work in turn, once to warm up and then `rounds` times.

    A machine that slows down slows all of them: ratios are taken within a round.

    Args:
        jobs: by name, what does the work once and returns the seconds that count.
        rounds: how many times each counts.

    Returns:
        The seconds of each, in the order of the rounds.

    Example:
        >>> take_turns({"ours": lambda: 1.0, "peer": lambda: 3.0}, 2)
        {'ours': [1.0, 1.0], 'peer': [3.0, 3.0]}
    """
    seconds = {name: [] for name in jobs}
    for _ in range(1 + rounds):
        for name, job in jobs.items():
            seconds[name].append(job())
    return {name: values[1:] for name, values in seconds.items()}


def measure(case: Case, rounds: int) -> list[tuple[float, float]]:
    """Measure one comparison as `take_turns` does.

    Returns:
        For each round the seconds of bcnet and of the peer.
    """
    seconds = take_turns({"peer": case.peer, "ours": case.ours}, rounds)
    return list(zip(seconds["ours"], seconds["peer"], strict=True))


def summarise(pairs: Sequence[tuple[float, float]], count: float, precision: str) -> dict:
    """Turn seconds into work per second and the ratio, each the median of the rounds.

    Args:
        pairs: seconds of bcnet and of the peer, per round.
        count: pictures (or other units of work) handled in each.
        precision: of bcnet.

    Returns:
        `ours` and `peer` (per second), `ratio` (above 1: bcnet is faster), `precision`.

    Example:
        >>> summarise([(1.0, 2.0), (1.0, 4.0), (2.0, 6.0)], 12, "float32")
        {'ours': 12.0, 'peer': 3.0, 'ratio': 3.0, 'precision': 'float32'}
    """
    return {
        "ours": median(count / ours for ours, _ in pairs),
        "peer": median(count / peer for _, peer in pairs),
        "ratio": median(peer / ours for ours, peer in pairs),
        "precision": precision,
    }


def format_header(unit: str) -> str:
    """Format the first line of the table; `unit` is that of both speeds, such as "pictures/s"."""
    return f"{'case':<30} precision  {'bcnet':>11} {'peer':>11}  ratio      min–max  ({unit})"


def format_row(name: str, result: dict, pairs: Sequence[tuple[float, float]]) -> str:
    """Format one line of the table; the last column is the smallest and the largest ratio."""
    ratios = [peer / ours for ours, peer in pairs]
    speeds = f"{result['ours']:>11,.0f} {result['peer']:>11,.0f}"
    spread = f"{min(ratios):.2f}–{max(ratios):.2f}"
    return f"{name:<30} {result['precision']:<9}  {speeds} {result['ratio']:>6.2f}  {spread:>11}"


def describe_machine() -> str:
    """Describe what the figures depend on: processor, how busy it is, GPU and versions."""
    try:
        words = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="ignore")
    except OSError:  # not Linux, where no file tells; the platform may know a name
        words = ""
    names = [line.split(":")[1].strip() for line in words.splitlines() if "model name" in line]
    flags = set(words.split())
    units = [f"{unit} {'yes' if flag in flags else 'no'}" for unit, flag in BFLOAT16_UNITS.items()]
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    gpus = [device.name for device in tf.config.list_physical_devices("GPU")]
    return (
        f"machine   {names[0] if names else platform.processor()}, {os.cpu_count()} cores, "
        f"{', '.join(units)}, GPU {', '.join(gpus) or 'no'}, load {load}\n"
        f"software  Python {platform.python_version()}, "
        + ", ".join(f"{name} {find_version(name) or 'not installed'}" for name in SOFTWARE)
    )


def find_version(package: str) -> str | None:
    """Find the version of an installed package; None when it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def make_parser(description: str, example: str) -> argparse.ArgumentParser:
    """Make the parser with what every benchmark understands."""
    parser = argparse.ArgumentParser(description=description, epilog=f"example: python {example}")
    parser.add_argument("--rounds", type=read_count, metavar="N", default=5, help="default: 5")
    parser.add_argument("--json", metavar="FILE", help="also write the figures there")
    return parser


def add_pictures(parser: argparse.ArgumentParser) -> None:
    """Let the user name the pictures."""
    parser.add_argument("data", nargs="?", help="class folders (default: the built-in pictures)")
    parser.add_argument("--image-size", type=read_count, metavar="N", help="pixels a side")
    parser.add_argument("--limit", type=read_count, metavar="N", help="at most so many pictures")


def run_script(run: Callable, arguments: argparse.Namespace) -> int:
    """Run a benchmark in a folder of its own, and write its figures where asked.

    Args:
        run: `run(arguments, scratch)` prints its table and returns what the JSON holds.
        arguments: the command line.

    Returns:
        The exit status: 0, or 2 after one line that says what is wrong with the input.
    """
    # TensorFlow warns of a function traced many times; here each is another network's.
    tf.get_logger().setLevel("ERROR")
    try:
        with tempfile.TemporaryDirectory() as scratch:
            results = run(arguments, Path(scratch))
        if arguments.json:
            write_text(arguments.json, json.dumps(results, indent=1) + "\n")
    except (OSError, ValueError) as error:
        print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
        return 2
    return 0
