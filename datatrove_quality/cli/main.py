"""The command `datatrove-quality`: finds the subcommand, runs it, and turns an error into one line and an exit code.

A subcommand is a module of this package, named as it is typed (with `_` for `-`), and a line in `COMMANDS`. Its
docstring is its help. It has two functions and may have a constant:

    add_options(parser)     adds its options to an `argparse.ArgumentParser`; imports nothing heavy
    run(options)            checks the parsed options, imports what it needs, and does the work
    RESUMES = True          stopped and started again, it goes on where it stopped

A user's mistake is a `ValueError`, an `OSError` that names the file, or an `ImportError` that names the extra. A run
that failed ends with `sys.exit(message)`.
"""

import argparse
import errno
import io
import os
import re
import signal
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from importlib import import_module
from itertools import pairwise
from types import FrameType, ModuleType
from typing import Any, NoReturn

from datatrove_quality import __version__
from datatrove_quality.cli.messages import in_one_line, in_options
from datatrove_quality.runs.terminal import quiet_stderr


# Subcommands in the order in which help lists them, each with the line that describes it there.
COMMANDS = {
    "demo": "score and filter the demo conversations with the demo classifier",
    "inspect": "show, for a few rows, what would be scored",
    "filter": "score conversations and keep those at or above a threshold",
    "annotate": "ask an LLM judge about conversations, to train a classifier on its answers",
    "curate": "clean, deduplicate, score and filter conversations",
    "report": "write an HTML page about scored rows",
    "agree": "say how far a judge agrees with people, and show where it does not",
    "evaluate": "compare a classifier's scores with labels",
    "choose-threshold": "choose a threshold by precision or by the share kept",
    "select": "keep the best of scored documents up to a budget of tokens or a share",
    "distill": "train a small classifier on a large one's scores, as a proxy",
    "calibrate": "certify a cheap proxy that decides the clear documents",
    "train": "fine-tune a classifier on annotated conversations",
    "completion": "print a script that completes this command in a shell",
}

FAILED, MISTAKE = 1, 2
INTERRUPTED, TERMINATED = 128 + signal.SIGINT, 128 + signal.SIGTERM

EXIT_CODES = f"""\
exit codes:
  0    done; with --executor slurm and without --wait: jobs are queued
  {FAILED}    the run failed: the message and the logs say why
  {MISTAKE}    an option, a file or the installation is wrong: the message says what to change
  {INTERRUPTED}  interrupted by Ctrl-C
  {TERMINATED}  stopped by SIGTERM
"""

# What the user's options are not to blame for: a full disk, a broken device, no memory.
_SYSTEM_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ENOMEM}
_NO_MEMORY = (
    "there is not enough memory: give this process more (ulimit -v, --mem of a job), or use fewer --workers, then run "
    "the same command again."
)


class Parser(argparse.ArgumentParser):
    """A parser that takes no abbreviated option, and whose errors are one line."""

    def __init__(self, **options: Any):
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        """End with the message alone.

        Raises:
            SystemExit: always, with the code of a mistake.
        """
        if re.match("unrecognized arguments: [^-]", message):
            message += " (one path is read; put a glob in quotes)"
        self.exit(MISTAKE, f"error: {message}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; what `datatrove-quality` and `python -m datatrove_quality` call.

    Args:
        arguments: the command line without the program's name; None: the process's own.

    Returns:
        The exit code, see `EXIT_CODES`.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    before = signal.signal(signal.SIGTERM, _terminate)
    _open_closed_streams()
    _print_anything()
    try:
        run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:  # of `datatrove-quality ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except (ValueError, OSError, ImportError) as error:
        _print_error(str(error), arguments)
        return FAILED if isinstance(error, OSError) and error.errno in _SYSTEM_ERRORS else MISTAKE
    except MemoryError as error:
        _print_error(f"{_NO_MEMORY} {error}".rstrip(), arguments)
        return FAILED
    except (KeyboardInterrupt, SystemExit) as end:
        return _ended(end, arguments)
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)  # processes that the caller forks later must end by it
    return 0


def run(arguments: Sequence[str]) -> None:
    """Parse a command line and run its subcommand; errors are the subcommand's own.

    Args:
        arguments: the command line without the program's name.
    """
    named = _named(arguments)
    parser = make_parser([named] if named else [])
    if not arguments:
        parser.error(f"give a command: {', '.join(COMMANDS)}; datatrove-quality --help describes them")
    options = parser.parse_args(arguments)
    _require_no_empty_values(arguments)
    with quiet_stderr(not getattr(options, "verbose", False), InOptions(options.command)):
        command(options.command).run(options)


def _require_no_empty_values(arguments: Sequence[str]) -> None:
    """Refuse empty values: as a path, one is the present folder; as a name, nothing.

    Raises:
        ValueError: there is one; names its option.
    """
    for before, word in pairwise(["", *arguments]):
        if not word.strip() or re.fullmatch(r"--[\w-]+=\s*", word):
            option = word.partition("=")[0].strip() or (before if before.startswith("-") else "a path")
            raise ValueError(f"{option} is empty: give a value; is a variable of the shell not set?")


@dataclass(frozen=True)
class InOptions:
    """Messages with the options of a subcommand for the parameters that they name, in this process and its workers.

    Args:
        name: of the subcommand.
    """

    name: str

    def __call__(self, message: str) -> str:
        """A message in one line."""
        parser = Parser(prog=self.name)
        command(self.name).add_options(parser)
        return in_one_line(in_options(message, parser))


def make_parser(filled: Collection[str] = tuple(COMMANDS)) -> Parser:
    """The parser of the command.

    Args:
        filled: the subcommands that get their options. Of the others only the names are known, for help and errors.
    """
    parser = Parser(
        prog="datatrove-quality",
        description="Score conversations with a quality classifier in DataTrove pipelines, and filter by the score.",
        epilog=EXIT_CODES,
    )
    parser.add_argument("--version", action="version", version=f"datatrove-quality {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, line in COMMANDS.items():
        text = command(name).__doc__ if name in filled else None
        subparser = subparsers.add_parser(name, help=line, description=text, epilog=EXIT_CODES)
        if name in filled:
            command(name).add_options(subparser)
            subparser.usage = _usage(subparser)
    return parser


def _usage(parser: argparse.ArgumentParser) -> str:
    """What has to be given; argparse would list fifty options before it says what the command does."""
    words = [_as_typed(action) for action in parser._actions if action.required]
    groups = (group for group in parser._mutually_exclusive_groups if group.required)
    words += [f"({' | '.join(map(_as_typed, group._group_actions))})" for group in groups]
    return " ".join(["%(prog)s", *words, "[OPTIONS]"])


def _as_typed(action: argparse.Action) -> str:
    more = " ..." if action.nargs == "+" else ""
    return " ".join([*action.option_strings[-1:], f"{action.metavar or action.dest.upper()}{more}"])


def command(name: str) -> ModuleType:
    """The module of a subcommand."""
    return import_module(f"datatrove_quality.cli.{name.replace('-', '_')}")


def _open_closed_streams() -> None:
    """Open standard streams that the caller has closed (`2>&-`) on the null device, for worker processes too.

    Python has None for them, to which neither DataTrove nor progress bars can write. A file that is opened later would
    get the number of a closed one, and what libraries print would be in it.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest number that is free: this one
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w" if number else "r", closefd=False))


def _print_anything() -> None:
    """Print what a terminal's encoding lacks as "?": a table must not fail when all rows are written."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _named(arguments: Sequence[str]) -> str | None:
    """The subcommand that a command line names: no option that may come before it takes a value."""
    word = next((word for word in arguments if not word.startswith("-")), None)
    return word if word in COMMANDS else None


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    """End by an exception, which ends the workers too."""
    raise SystemExit(TERMINATED)


def _print_error(message: str, arguments: Sequence[str]) -> None:
    """Show an error: in one line, with the subcommand's options for the parameters that it names."""
    named = _named(arguments)
    print(f"error: {InOptions(named)(message) if named else in_one_line(message)}", file=sys.stderr)


def _ended(end: KeyboardInterrupt | SystemExit, arguments: Sequence[str]) -> int:
    """Say what ended the command, and give its code."""
    code = INTERRUPTED if isinstance(end, KeyboardInterrupt) else end.code
    if isinstance(code, str):
        _print_error(code, arguments)
        return FAILED
    if code in (INTERRUPTED, TERMINATED):
        named = _named(arguments)
        resumes = named is not None and getattr(command(named), "RESUMES", False)
        print("stopped" + ("; the same command goes on where it stopped" if resumes else ""), file=sys.stderr)
    return int(code or 0)
