"""Score the demo conversations with the demo classifier, keep those at or above a threshold, and show some of both.

    datatrove-quality demo

needs no network and no GPU. Both are part of the package: 648 synthetic conversations in Portuguese, some broken on
purpose, and a classifier of a million parameters that can tell whether an answer is about its question. It is a toy:
use a real classifier for real data.
"""

import argparse
import json
from pathlib import Path

import datatrove_quality
from datatrove_quality.cli.options import add_verbose_option


RESUMES = True

MAX_EXAMPLES = 3


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add = parser.add_argument
    add("--output", default="demo-output", metavar="DIR", help="default: demo-output")
    add("--overwrite", action="store_true", help="delete an earlier run's output in DIR")
    add_verbose_option(parser)


def run(options: argparse.Namespace) -> None:
    """Run `datatrove-quality filter` on the demo, and show rows of both its outputs.

    Args:
        options: the command line.
    """
    from datatrove_quality.cli.main import run as run_command

    folder = demo_folder()
    arguments = [str(folder / "conversations.jsonl"), "--model", str(folder / "demo-classifier")]
    arguments += ["--output", options.output, "--min-score", "3.5"]
    arguments += [f"--{name}" for name in ("overwrite", "verbose") if getattr(options, name)]
    run_command(["filter", *arguments])
    for name in ("kept", "excluded"):
        print_examples(Path(options.output), name)


def demo_folder() -> Path:
    """Where the demo conversations and the demo classifier are: in the installed package, or in a checkout."""
    package = Path(datatrove_quality.__file__).parent
    return next(folder for folder in (package / "demo", package.parent / "examples") if folder.is_dir())


def print_examples(output: Path, name: str) -> None:
    """Print the first rows with a score in an output folder, each cut to a line.

    Args:
        output: of the run.
        name: of the folder in it.
    """
    for path in sorted((output / name).glob("*.jsonl"))[:1]:
        with path.open(encoding="utf-8") as file:
            rows = [row for row in map(json.loads, file) if "quality_score" in row]
        for row in rows[:MAX_EXAMPLES]:
            question, answer = (" ".join(message["content"].split()) for message in row["messages"][-2:])
            print(f"{name:<10}{row['quality_score']:5.2f}  {question:.44} → {answer:.56}")
