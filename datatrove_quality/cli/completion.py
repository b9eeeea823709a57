"""Print a script that completes `datatrove-quality` in a shell: commands, options, their values, and files.

    datatrove-quality completion bash > ~/.local/share/bash-completion/completions/datatrove-quality
    datatrove-quality completion zsh > ~/.zfunc/_datatrove-quality

A new shell completes it; zsh needs `fpath+=~/.zfunc` before `compinit`. Needs the extra `completion`.
"""

import argparse

from datatrove_quality.extras import require_extra


SHELLS = ("bash", "zsh", "tcsh")

# What an option's placeholder says about its values.
_FILES = {"INPUT", "SCORED", "OTHER", "FILE"}
_FOLDERS = {"DIR"}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("shell", choices=SHELLS, help="whose syntax the script has")


def run(options: argparse.Namespace) -> None:
    """Print the script.

    Raises:
        ImportError: the extra is not installed.
    """
    require_extra("completion", "datatrove-quality completion")
    import shtab

    from datatrove_quality.cli.main import make_parser

    parser = make_parser()
    _complete_paths(parser)
    print(shtab.complete(parser, options.shell))


def _complete_paths(parser: argparse.ArgumentParser) -> None:
    """Mark the options that take files and folders, of a parser and its subparsers."""
    import shtab

    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for subparser in action.choices.values():
                _complete_paths(subparser)
        elif action.metavar in _FILES:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
        elif action.metavar in _FOLDERS:
            action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
