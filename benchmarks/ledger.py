"""What the long benchmarks share: runs in processes of their own, kept in a file; table lines.

Belongs here: how a run is started, remembered and shown. Does not: what it measures. Nothing heavy
is imported, because what this process holds would count as the memory of the ones it starts.
"""

import argparse
import json
import sys
import tempfile
import traceback
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path

from bcnet.atomic import write_text
from bcnet.config import NETWORKS


class RunFailed(RuntimeError):
    """One run ended in an error, given here in one line; the others can go on."""


class Ledger:
    """Runs by name, with the settings that each was measured with.

    A benchmark that was cut off goes on where it stood: what the file holds with equal settings
    is not measured again.

    Args:
        path: JSON file `{name: {"settings": {...}, "result": {...}}}`, written after each run;
            None keeps nothing.

    Raises:
        ValueError: when the file holds something else.

    Example:
        >>> Ledger(None).measure("two", len, {"a": 1, "b": 2})
        2
    """

    def __init__(self, path: str | Path | None):
        self.path = path and Path(path)
        self.runs = _read_runs(self.path) if self.path and self.path.exists() else {}

    def measure(self, name: str, function: Callable[[dict], object], settings: dict):
        """Measure, in a new process, what is not known yet.

        Args:
            name: of the run.
            function: takes the settings; it and what it returns can be pickled, and the latter
                written as JSON.
            settings: all that the result depends on, as JSON knows it.

        Returns:
            The result.

        Raises:
            RunFailed: as `run_apart` does; nothing is kept then.
        """
        settings = json.loads(json.dumps(settings))  # tuples become lists, as they come back
        known = self.runs.get(name)
        if known is not None and known["settings"] == settings:
            print(f"{name}: known", file=sys.stderr)
            return known["result"]
        print(f"{name} …", file=sys.stderr)
        result = run_apart(function, settings)
        self.runs[name] = {"settings": settings, "result": result}
        if self.path:
            write_text(self.path, _format_runs(self.runs))
        return result


def _format_runs(runs):
    """Give each run one line: some hold a number for each picture."""
    lines = (f"{json.dumps(name)}: {json.dumps(run)}" for name, run in runs.items())
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _read_runs(path):
    try:
        runs = json.loads(path.read_text(encoding="utf-8"))
        if all({"settings", "result"} <= set(run) for run in runs.values()):
            return runs
    except (ValueError, AttributeError, TypeError):  # no JSON, or another JSON
        pass
    raise ValueError(f"`--json` must name a new file, or one of this script's. Received: {path}")


def run_apart(function: Callable, *arguments):
    """Call a function in a new process, which gives all its memory back.

    Returns:
        What the function returns.

    Raises:
        RunFailed: when it raises, or the process is killed, as happens where memory is short.

    Example:
        >>> run_apart(len, "abc")
        3
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        try:
            result, reason = pool.submit(_try, function, *arguments).result()
        except BrokenProcessPool as error:
            raise RunFailed("the process was killed, perhaps for want of memory") from error
    if reason:
        raise RunFailed(reason)
    return result


def _try(function, *arguments):
    """Tell an error in words: not every exception survives the way to another process."""
    try:
        return function(*arguments), ""
    except Exception as error:
        if not isinstance(error, (OSError, ValueError)):  # no fault of the user's
            traceback.print_exc()
        return None, " ".join(f"{type(error).__name__}: {error}".split())


def format_cells(*cells: str) -> str:
    """Format one line of a table in Markdown.

    Example:
        >>> format_cells("idc", "bcnet")
        '| idc | bcnet |'
    """
    return f"| {' | '.join(cells)} |"


def format_header(*cells: str) -> str:
    """Format the two lines above a table in Markdown."""
    return f"{format_cells(*cells)}\n{format_cells(*['---'] * len(cells))}"


def read_count(text: str) -> int:
    """Read a number of something from the command line."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number above 0. Received: {text}")
    return int(text)


def read_weights(text: str) -> tuple[str, str]:
    """Read NETWORK=FILE from the command line."""
    network, separator, file = text.partition("=")
    if not (separator and file and network in NETWORKS):
        raise argparse.ArgumentTypeError(f"must be NETWORK=FILE. Received: {text}")
    return network, file


def add_weights(parser: argparse.ArgumentParser, told: str) -> None:
    """Let the user name ImageNet weights; `dict(arguments.weights)` gives the file by network."""
    told = f"{told}, such as mobilenet=FILE, instead of a download"
    parser.add_argument(
        "--weights", nargs="+", type=read_weights, default=[], metavar="NETWORK=FILE", help=told
    )


def run_in_scratch(run: Callable, arguments: argparse.Namespace, name: str) -> int:
    """Run a benchmark with a folder of its own.

    Args:
        run: `run(arguments, scratch)` gives the exit status.
        arguments: the command line.
        name: of the script.

    Returns:
        The exit status: as `run`, or 2 after one line that says what is wrong with the input.
    """
    try:
        with tempfile.TemporaryDirectory() as scratch:
            return run(arguments, scratch)
    except (OSError, ValueError) as error:
        print(f"benchmarks/{name}: {error}", file=sys.stderr)
        return 2
