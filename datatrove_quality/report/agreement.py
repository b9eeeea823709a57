"""Raters' agreement as a page: the figures, and the conversations about which the raters differ, to read."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from datatrove_quality import __version__
from datatrove_quality.atomic_write import write_atomic, write_json
from datatrove_quality.evaluation import agreement_text
from datatrove_quality.evaluation.agreement import Agreement
from datatrove_quality.evaluation.columns import read_columns
from datatrove_quality.evaluation.rated_rows import RatedRows
from datatrove_quality.report.columns import Columns
from datatrove_quality.report.contents import Example, Section, Turn
from datatrove_quality.report.examples import MAX_CHARS, MAX_CHARS_OF_PAGE, MIN_CHARS, turns
from datatrove_quality.report.page import render
from datatrove_quality.report.sources import shown_path
from datatrove_quality.rows.types import Row
from datatrove_quality.runs.inputs import Inputs, path_in


PAGE, NUMBERS, TABLES = "report.html", "agreement.json", "agreement.md"


@dataclass(frozen=True)
class AgreementReport:
    """What is written about raters' agreement.

    Args:
        source: what was read.
        agreement: the figures.
        missing: for each rater the number of rows without a usable level, by reason.
        sections: conversations to read.
    """

    source: str
    agreement: Agreement
    missing: dict[str, dict[str, int]]
    sections: Sequence[Section]


def report_agreement(
    source: str, inputs: Inputs, rows: RatedRows, agreement: Agreement, columns: Columns, sample: int, seed: int
) -> AgreementReport:
    """Read the conversations about which the raters differ.

    Args:
        source: as the user named it.
        inputs: the files.
        rows: that were read of them.
        agreement: of their raters.
        columns: of ids and conversations.
        sample: the most rows for each difference of two raters.
        seed: decides which rows.
    """
    picked: dict[str, list[int]] = {}
    for place, pair in enumerate(agreement.pairs, start=1):
        for difference, numbers in rows.disagreements(place, sample, seed).items():
            more = "higher" if difference > 0 else "lower"
            picked[f"{pair.other} is {abs(difference)} {more} than {pair.labels}"] = numbers
    wanted = {number for numbers in picked.values() for number in numbers}
    limit = max(MIN_CHARS, min(MAX_CHARS, MAX_CHARS_OF_PAGE // max(1, len(wanted))))
    found = {number: _example(row, columns, limit, rows.ratings(number)) for number, row in _whole(inputs, wanted)}
    sections = [Section(title, [found[number] for number in numbers]) for title, numbers in picked.items()]
    missing = {rater: dict(reasons) for rater, reasons in rows.missing.items()}
    return AgreementReport(shown_path(source), agreement, missing, sections)


def write_agreement(report: AgreementReport, settings: dict[str, Any], output: Path) -> Path:
    """Write report.html, agreement.json and agreement.md.

    Args:
        report: of `report_agreement`.
        settings: of the command, for the record.
        output: the folder; made where it is missing.

    Returns:
        The page.

    Raises:
        OSError: a file cannot be written.
    """
    output.mkdir(parents=True, exist_ok=True)
    record = {"settings": settings, "missing": report.missing, "agreement": asdict(report.agreement)}
    write_json(output / NUMBERS, record)
    write_atomic(output / TABLES, agreement_text.describe_agreement(report.agreement))
    date = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    values = {"threshold": None, "date": date, "version": __version__, "tables": agreement_text}
    write_atomic(output / PAGE, render("agreement.html.jinja", report=report, **values))
    return output / PAGE


def _whole(inputs: Inputs, wanted: set[int]) -> Iterator[tuple[int, Row]]:
    """The rows of some numbers, in the order in which all are read."""
    last = max(wanted, default=-1)
    for number, row in enumerate(read_columns(inputs)):
        if number > last:
            return
        if number in wanted:
            yield number, {**row, "file_path": shown_path(path_in(inputs.folder, str(row.get("file_path", ""))))}


def _example(row: Row, columns: Columns, limit: int, ratings: dict[str, int | None]) -> Example:
    """A row as it is shown: what each rater gave, the conversation, and the raters' reasons."""
    reasons = {f"{rater.rpartition('_')[0]}_reason" for rater in ratings}
    said = [Turn(name, text) for name in sorted(reasons) if isinstance(text := row.get(name), str) and text]
    return Example(
        id=str(row.get(columns.id)),
        file=row["file_path"],
        turns=[*turns(row, columns, limit), *said],
        facts=[f"{rater} {'–' if level is None else level}" for rater, level in ratings.items()],
    )
