"""A report -> one HTML page that needs nothing else, by the templates in `templates/`.

Everything on the page may come from a stranger's web site: ids, roles, texts, names of columns, error messages. Jinja2
escapes all that a template prints, and `_printed` makes characters visible that could hide or reorder text, so neither
can be forgotten. The only markup that is not a template's is that of `charts`. The page has no script, loads nothing,
and tells the browser to allow neither.
"""

import base64
import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from datatrove_quality.report import charts
from datatrove_quality.report.contents import Report
from datatrove_quality.report.figures import Group
from datatrove_quality.report.text import cut_middle, split_columns, split_hidden, visible


TEMPLATES = Path(__file__).parent / "templates"
LONG_CHARS = 1_000  # a longer turn is shortened, and the whole of it is a click away
SHORT_CHARS = 700  # of a shortened turn
MAX_TURNS = 12  # with more, those in the middle are a click away
MAX_NOTES = 20
OPEN_EXAMPLES = 3  # of a section; the others are a click away


def build_page(report: Report) -> str:
    """The page of a report, as HTML."""
    figures = report.figures
    return render("report.html.jinja", report=report, figures=figures, threshold=figures.threshold)


def render(name: str, **values: Any) -> str:
    """A page, as HTML.

    Args:
        name: of a template that extends page.jinja.
        values: what it shows.
    """
    templates = environment()
    style = templates.get_template("style.css").render()
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return templates.get_template(name).render(**values, style_digest=digest)


def environment() -> Environment:
    """The templates, with all that they may use."""
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        finalize=_printed,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.globals |= {
        "charts": charts,
        "group_thresholds": group_thresholds,
        "limits": {
            "long_chars": LONG_CHARS,
            "short_chars": SHORT_CHARS,
            "turns": MAX_TURNS,
            "notes": MAX_NOTES,
            "open_examples": OPEN_EXAMPLES,
        },
    }
    made.filters |= {
        "count": lambda value: f"{value:,.0f}",
        "percent": lambda value: "–" if value is None else f"{value:.1%}",
        "score": lambda value: "–" if value is None or math.isnan(value) else f"{value:.2f}",
        "plain": lambda value: f"{value:g}",
        "signed": lambda value: f"{value:+.4f}",
        "short": charts.short,
        "cut_middle": cut_middle,
        "split_hidden": split_hidden,
        "split_columns": split_columns,
    }
    return made


def _printed(value: object) -> object:
    """What a template prints in place of a value: markup as it is, of all else a text without hidden characters.

    Raises:
        ValueError: the value is None, which no template should print.
    """
    if value is None:
        raise ValueError("A template of the report prints None.")
    return value if isinstance(value, Markup) else visible(str(value))


def group_thresholds(groups: Sequence[Group]) -> tuple[list[float], list[list[float]]]:
    """The kept share of each group at about eight thresholds, from its histogram.

    Returns:
        The thresholds; and for each group the share of its documents that each would keep.
    """
    starts = groups[0].histogram.from_
    # Not the first, whose bar also holds the scores below it.
    wanted = [value for value in charts.round_numbers(starts[0], starts[-1]) if value in starts[1:]] or starts[1::8]
    shares = [
        [sum(group.histogram.documents[starts.index(value) :]) / group.documents for value in wanted]
        for group in groups
    ]
    return wanted, shares
