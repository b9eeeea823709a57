"""Errors as the command shows them: in one line, and with options where the library's messages name its parameters."""

import argparse
import ast
import re
import shlex


# What another option of the command does.
_EQUIVALENTS = {
    "TextAdapter and messages_key=None": "--text COLUMN",
    "messages_key=None": "--text",
    "scorer=None": "--scores-from-columns",
}
# A value as messages write it: a quoted text, a tuple of one, or a word; none, where the parameter is meant.
_VALUE = r"""(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|\('[^']*',\)|\.\.\.|[\w:+-]+(?:\.[\w+-]+)*|)"""


def in_one_line(text: str) -> str:
    """A message as one line: where its lines are a list, they are told apart by semicolons."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    joined = "".join(line + (" " if line.endswith((".", ":", ",", ";")) else "; ") for line in lines)
    return joined.rstrip(" ;") if lines else text


def in_options(text: str, parser: argparse.ArgumentParser) -> str:
    """A message with the options that a user of the command types: `--min-score 4` for `min_score=4`.

    Args:
        text: the message. Values are told apart from the text around them only by their form.
        parser: of the subcommand: parameters that are not among its options stay as they are.
    """
    text = text.replace(" of ConversationAdapter", "")
    for parameter, option in _EQUIVALENTS.items():
        if option.partition(" ")[0] in parser._option_string_actions:
            text = re.sub(rf"(?<![\w.-]){parameter}(?: \({option}\))?", option, text)
    for action in parser._actions:
        if action.option_strings:
            is_open = isinstance(action, argparse.BooleanOptionalAction)
            flags = action.option_strings[-2:] if is_open else action.option_strings[-1:]
            text = _with_option(text, action.dest, *flags)
    return text


def _with_option(text: str, name: str, flag: str, negative: str = "") -> str:
    """A message with an option in place of one parameter, and of `(--option)` behind it.

    Args:
        text: the message.
        name: of the parameter.
        flag: the option.
        negative: the option for False, if there is one.
    """

    def typed(found: re.Match[str]) -> str:
        verb, value = found["verb"] or "", found["value"]
        if value == "False" and negative:
            return f"{verb}{negative}"
        if value in ("False", "None"):
            return f"{'omit' if verb.islower() else 'Omit'} {flag}" if verb else found[0]
        return f"{verb}{flag}" + ("" if value in (None, "", "True", "...") else f" {_typed(value)}")

    # Not within paths, such as those of folders named language=pt.
    parameter = rf"(?P<verb>\b[Ss]et )?(?<![\w./'\"`-]){name}"
    behind = rf"(?: \((?:{flag}|{negative or flag})(?: [^)]*)?\))"
    text = re.sub(rf"{parameter}=(?P<value>{_VALUE})(?![\w/]){behind}?", typed, text)
    return re.sub(rf"{parameter}(?P<value>){behind}", typed, text)


def _typed(value: str) -> str:
    """A value as it is typed in a shell."""
    if value[0] not in "'\"(":
        return value
    try:
        read = ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value
    return shlex.quote(read if isinstance(read, str) else read[0])
