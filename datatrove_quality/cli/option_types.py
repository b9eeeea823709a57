"""Types of option values, so that argparse reports a wrong value before anything is read."""

import argparse
import math
from pathlib import Path

from datatrove_quality.config import ScoreScale


def positive(text: str) -> int:
    """A whole number from 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: give a whole number from 1")
    return int(text)


def whole(text: str) -> int:
    """A whole number."""
    try:
        return int(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: give a whole number") from error


def number(text: str) -> float:
    """A finite number."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text!r}: give a number, such as 3.5")
    return value


def share(text: str) -> float:
    """A number above 0, up to 1."""
    value = number(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r}: give a number above 0, up to 1, such as 0.01")
    return value


def audit(text: str) -> float:
    """A number from 0 to 1."""
    return 0.0 if number(text) == 0 else share(text)


def scale(text: str) -> ScoreScale:
    """`OFFSET,LOW,HIGH` as a scale."""
    try:
        offset, low, high = text.split(",")
        return ScoreScale(float(offset), int(low), int(high))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: give OFFSET,LOW,HIGH, such as 1,1,5 ({error})") from error


def text_file(path: str) -> str:
    """The text of a file."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise argparse.ArgumentTypeError(f"{path!r} cannot be read as text: {error}") from error
