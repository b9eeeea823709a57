"""A chosen threshold for a person: what it keeps, how sure that is, and what a small sample cannot tell."""

import math

from datatrove_quality.evaluation.markdown import percent
from datatrove_quality.evaluation.thresholds import Estimate, ThresholdChoice


def describe_choice(choice: ThresholdChoice, level: int | None = None) -> str:
    """The threshold and what it keeps, a line each, with 95% intervals; then notes.

    Args:
        choice: what was chosen.
        level: the lowest good label; None: chosen without labels.
    """
    rows: dict[str, Estimate | None] = {
        "documents kept": choice.kept,
        "tokens kept": choice.tokens_kept,
        f"precision, label >= {level}": choice.precision,
        f"recall, label >= {level}": choice.recall,
    }
    lines = [_line("threshold", str(choice.threshold.value), *_ends(choice.threshold))]
    known = ((name, it) for name, it in rows.items() if it is not None)
    lines += [_line(name, percent(it.value), percent(it.low), percent(it.high)) for name, it in known]
    return "\n".join([*lines, *_notes(choice)])


def _line(name: str, value: str, low: str, high: str) -> str:
    return f"{name:<24}{value:>10}   95% interval {low} to {high}"


def _ends(threshold: Estimate) -> tuple[str, str]:
    """The ends of a threshold's interval with three decimals, rounded outwards so that the threshold lies within."""
    low = "none" if threshold.low is None else f"{math.floor(threshold.low * 1_000) / 1_000:.3f}"
    high = "none" if threshold.high is None else f"{math.ceil(threshold.high * 1_000) / 1_000:.3f}"
    return low, high


def _notes(choice: ThresholdChoice) -> list[str]:
    notes = []
    if choice.unreached:
        notes.append(
            f"In {percent(choice.unreached)} of the resamples no threshold reaches it: label more rows to be sure."
        )
    return notes
