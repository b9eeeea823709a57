"""Figures as text: percentages in the one format that the package has for shares, and Markdown tables."""

from collections.abc import Iterable, Sequence
from typing import Any


MISSING = "–"


def percent(share: float | None) -> str:
    """A share as a percentage with one decimal; a dash where it is missing."""
    return MISSING if share is None else f"{share:.1%}"


def decimal(value: float | None) -> str:
    """A figure other than a share, with four decimals; a dash where it is missing."""
    return MISSING if value is None else f"{value:.4f}"


def markdown_table(header: Sequence[Any], rows: Iterable[Sequence[Any]]) -> str:
    """A Markdown table whose first column is aligned to the left and the others to the right.

    Args:
        header: names of the columns, C of them.
        rows: C values each; None is shown as a dash.
    """
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join(
        "| " + " | ".join(MISSING if cell is None else str(cell) for cell in line) + " |" for line in lines
    )
