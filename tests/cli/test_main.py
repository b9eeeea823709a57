"""The command itself: help without waiting, errors in one line, exit codes, and what every subcommand has."""

import os
import re
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from commands import start_command
from samples import read_rows, rows, write_rows

import datatrove_quality
from datatrove_quality.cli import main as cli


ROOT = Path(__file__).resolve().parents[2]
# What takes seconds to import, or brings what does.
HEAVY = ("torch", "transformers", "numpy", "datatrove", "pyarrow", "spacy", "matplotlib", "huggingface_hub", "pandas")


def imported_by(arguments):
    """The heavy modules that a command line has imported when it ends."""
    code = (
        "import sys\n"
        "from datatrove_quality.cli.main import main\n"
        "try:\n    main(sys.argv[1:])\n"
        "except SystemExit:\n    pass\n"
        f"print('HEAVY', *[name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1].split()[1:]


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], *([name, "--help"] for name in cli.COMMANDS)])
def test_help_imports_nothing_heavy(arguments):
    """Help appears at once: what takes time is imported when options are parsed and checked."""
    assert imported_by(arguments) == []


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_help_describes_the_command(name):
    """Each subcommand's help has its example, its options and the exit codes; `%` in a text breaks nothing."""
    done = start_command(name, "--help")
    assert done.returncode == 0 and done.stderr == ""
    assert f"    datatrove-quality {name}" in done.stdout
    assert "exit codes:" in done.stdout
    assert cli.COMMANDS[name] in " ".join(start_command("--help").stdout.split())


def test_version_is_the_packages():
    """The same number in the command, the package and its metadata's source."""
    assert start_command("--version").stdout == f"datatrove-quality {datatrove_quality.__version__}\n"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["tool"]["hatch"]["version"]["path"] == "datatrove_quality/__init__.py"
    assert project["project"]["scripts"] == {"datatrove-quality": "datatrove_quality.cli.main:main"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give a command: demo, inspect, filter"),
        (["fitler"], "invalid choice: 'fitler'"),
        (["filter", "in"], "the following arguments are required: --output"),
        (["filter", "in", "--output", "out", "--min-score", "high"], "argument --min-score: 'high': give a number"),
        (["filter", "in", "--output", "out", "--min", "3"], "unrecognized arguments: --min 3"),
        (["filter", "in", "more", "--output", "out"], "more (one path is read; put a glob in quotes)"),
        (["report", "/no/such/folder", "--output", "out"], "/no/such/folder"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, arguments, message):
    """The error alone, without a usage block or a traceback, and the code of a mistake."""
    done = start_command(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert re.fullmatch(r"error: .*\n", done.stderr) and message in done.stderr
    assert done.stdout == "" and not list(tmp_path.iterdir())


class Command:
    """A subcommand whose end is given."""

    RESUMES = True

    def __init__(self, end):
        self.end = end

    def add_options(self, parser):
        """It has none."""

    def run(self, options):
        """End as given."""
        if isinstance(self.end, BaseException):
            raise self.end
        os.kill(os.getpid(), self.end)


@pytest.mark.parametrize(
    ("end", "code", "line"),
    [
        (ValueError("a=1: give 2"), 2, "error: a=1: give 2\n"),
        (ImportError("needs an extra"), 2, "error: needs an extra\n"),
        (PermissionError(13, "Permission denied", "/root/x"), 2, "error: [Errno 13] Permission denied: '/root/x'\n"),
        (OSError(28, "No space left on device"), 1, "error: [Errno 28] No space left on device\n"),
        (MemoryError("JSON of 9 bytes"), 1, f"error: {cli._NO_MEMORY} JSON of 9 bytes\n"),
        (MemoryError(), 1, f"error: {cli._NO_MEMORY}\n"),
        (SystemExit("2 of 3 tasks failed"), 1, "error: 2 of 3 tasks failed\n"),
        (KeyboardInterrupt(), 130, "stopped; the same command goes on where it stopped\n"),
        (signal.SIGTERM, 143, "stopped; the same command goes on where it stopped\n"),
    ],
)
def test_the_end_of_a_run_is_a_line_and_a_code(monkeypatch, capsys, end, code, line):
    """Exit codes are as `--help` says them."""
    monkeypatch.setattr(cli, "command", lambda name: Command(end))
    before = signal.getsignal(signal.SIGTERM)
    assert cli.main(["demo"]) == code
    assert signal.getsignal(signal.SIGTERM) == before
    assert capsys.readouterr().err == line
    assert re.search(rf"^  {code} +\w", cli.EXIT_CODES, re.MULTILINE)


def test_an_error_of_the_program_shows_where_it_is(monkeypatch):
    """A bug is no user's mistake: it is not put into one line."""
    monkeypatch.setattr(cli, "command", lambda name: Command(KeyError("bug")))
    with pytest.raises(KeyError):
        cli.main(["demo"])


def test_a_pipe_that_is_closed_is_no_traceback():
    """`datatrove-quality completion bash | head` and its like end quietly."""
    pytest.importorskip("shtab")
    command = f"{sys.executable} -m datatrove_quality completion bash | head -c 10"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert done.stderr == "" and len(done.stdout) == 10


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion_knows_commands_and_options(shell):
    """The printed script has each subcommand, and a shell can read it."""
    pytest.importorskip("shtab")
    done = start_command("completion", shell)
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in cli.COMMANDS) and "min-score" in done.stdout
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=done.stdout, text=True, check=True)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_of_another_encoding_gets_the_table(tmp_path, encoding):
    """All rows are written: a sign that the terminal lacks must not make the run look failed."""
    scored = [row | {"quality_score": 4.2, "quality_int_score": 4} for row in rows(3)]
    write_rows(tmp_path / "in/a.jsonl", scored)
    command = [sys.executable, "-m", "datatrove_quality", "filter", str(tmp_path / "in"), "--scores-from-columns"]
    done = subprocess.run(
        [*command, "--output", str(tmp_path / "out")],
        env=os.environ | {"PYTHONIOENCODING": encoding},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert b"documents in" in done.stdout and b"int_score 4  ????" in done.stdout


@pytest.mark.parametrize(("closed", "has_table"), [("2>&-", True), ("<&- >&- 2>&-", False)])
def test_a_run_with_closed_streams_is_done(tmp_path, closed, has_table):
    """As schedulers start it: rows are written, what is printed lands in no file, and the code is that of the run."""
    scored = [row | {"quality_score": 4.2, "quality_int_score": 4} for row in rows(3)]
    write_rows(tmp_path / "in/a.jsonl", scored)
    command = f"{sys.executable} -m datatrove_quality filter in --scores-from-columns --output"
    done = subprocess.run(["bash", "-c", f"{command} out {closed}"], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "") and ("documents in" in done.stdout) == has_table
    assert [row["id"] for row in read_rows(tmp_path / "out/kept")] == [row["id"] for row in scored]
    assert "documents in" not in "".join(path.read_text() for path in tmp_path.rglob("*.*") if path.is_file())
    mistake = f"{command} in/out {closed}"
    assert subprocess.run(["bash", "-c", mistake], capture_output=True, check=False, cwd=tmp_path).returncode == 2
