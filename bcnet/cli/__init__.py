"""The command line: arguments in, one workflow called, one line out.

Here stand the parser of all commands and what becomes of their faults; each group of commands has
a module, and what several share is in `options` and `startup`. No logic lives in this package,
and nothing heavy is imported before it is needed: `bcnet --help` answers at once.
"""

import argparse
import logging
import os
import sys

from bcnet import __version__
from bcnet.cli import (
    card,
    cases,
    data,
    judging,
    measurements,
    promises,
    report,
    serving,
    training,
    trials,
)

WRONG_INPUT, INTERRUPTED = 2, 130
EXPECTED = (ValueError, OSError, ArithmeticError)

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
    for group in (
        data,
        training,
        judging,
        promises,
        trials,
        cases,
        card,
        measurements,
        report,
        serving,
    ):
        group.add_commands(commands)
    return parser
