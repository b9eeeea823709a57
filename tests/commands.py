"""Running subcommands in tests, through the function that the installed command calls."""

import subprocess
import sys
from typing import Any

from datatrove_quality.cli.main import run


def run_command(*arguments: Any) -> None:
    """Run the command line in this process; errors are raised as the subcommand raises them."""
    run([str(argument) for argument in arguments])


def run_filter(*arguments: Any) -> None:
    """The subcommand `filter`, with thresholds to which a random model's scores lie on both sides."""
    run_command("filter", *arguments, "--allow-outside-scale")


def start_command(*arguments: Any, **options: Any) -> subprocess.CompletedProcess:
    """Run the command line in a process of its own, as a user does, and wait for it."""
    command = [sys.executable, "-m", "datatrove_quality", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, **options)
