"""Show what a run did: how scores are spread, what a threshold keeps, and conversations to read.

    datatrove-quality report filtered/ --output report/
    datatrove-quality report scored/*.parquet --threshold 4 --group-by source --output report/
    datatrove-quality report new/ --against old/ --output report/

reads the output of `datatrove-quality filter`, or any JSONL or Parquet files with the score columns of a
`QualityFilter`, and what a `QualityStats` counted of them. It writes `report.html` (one file that needs no network),
`report.json` (all its numbers) and the figures as PNG. Which conversations are shown is drawn by --seed.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from datatrove_quality import InvalidConversation, parse_conversation
from datatrove_quality.cli.option_types import number, positive, share
from datatrove_quality.report.aggregate import ScoreReport
from datatrove_quality.report.comparison import ScoreIndex, compare
from datatrove_quality.report.figures import require_matplotlib, save_figures
from datatrove_quality.report.from_stats import Totals, stats_figures
from datatrove_quality.report.page import HIDDEN, Example, Section, build_page, cut_middle
from datatrove_quality.report.scored_rows import TEXT_COLUMNS, Columns, ScoredRows, as_number, as_value
from datatrove_quality.rows.types import Row
from datatrove_quality.stats import read_stats


# What one conversation, and all of them together, may take of the page, in characters.
MOST_CHARS = 20_000
MOST_CHARS_OF_PAGE = 4_000_000
MOST_TURNS = 200
FEWEST_CHARS = 200


def run(options: argparse.Namespace) -> None:
    """Write the report that the command line asks for.

    Args:
        options: the command line.
    """
    require_matplotlib()
    rows = ScoredRows.find(options.scored)
    rows.share = options.share
    columns = columns_of(options, rows)
    stats = stats_of(options, rows, columns)
    report = ScoreReport(threshold_of(options, rows), options.sample, options.seed)
    index = ScoreIndex(report.threshold) if options.against else None
    for batch, ids in rows.batches(columns, with_ids=index is not None):
        report.add(batch)
        if index:
            index.add(ids, batch.scores)
    if columns.group and not rows.groups_seen and report.documents:
        raise ValueError(f"--group-by {columns.group}: no file has a column of this name.")
    refuse_without_scores("SCORED", report.documents, rows, columns)

    figures = report.figures()
    sections = report.to_read()
    figures["comparison"] = None
    if index:
        figures["comparison"], flips = comparison(options, index)
        sections = flips + sections
    shown, unscorable = examples(rows, columns, sections, report.reason_rows())
    figures |= {"sources": options.scored, "prefix": columns.prefix, "group_by": columns.group}
    figures["scorers"] = [
        {"model": scorer.get("model"), "scale": scorer.get("scale"), "fingerprint": scorer["fingerprint"]}
        for scorer in rows.scorers.values()
    ]
    figures["stats"] = stats_figures(stats, columns.prefix, figures) if stats else None
    figures["notes"] = [*notes(figures, rows, columns), *(figures["comparison"] or {}).get("notes", [])]
    write(Path(options.output), figures, shown, unscorable)


def columns_of(options: argparse.Namespace, rows: ScoredRows) -> Columns:
    """The columns to read: as the command line says, or else the run's record."""
    prefixes = {run["prefix"] for run in rows.runs if run.get("prefix")}
    if not options.prefix and len(prefixes) > 1:
        raise ValueError(f"SCORED: the runs have scores under {sorted(prefixes)}: give one by --prefix.")
    run = rows.runs[0] if rows.runs else {}
    return Columns(
        options.prefix or (prefixes.pop() if prefixes else "quality"),
        options.group_by,
        options.id_key or run.get("id_key") or "id",
        options.messages_key or run.get("messages_key") or run.get("text"),
    )


def threshold_of(options: argparse.Namespace, rows: ScoredRows) -> float | None:
    """The threshold that was given, or else that of the runs, where they agree."""
    if options.threshold is not None:
        return float(options.threshold)
    found = {run.get("min_score") for run in rows.runs}
    if len(found) > 1:
        rows.notes.append(f"The runs have different thresholds, so none is marked: give one by --threshold. ({found})")
    return found.pop() if len(found) == 1 else None


def stats_of(options: argparse.Namespace, rows: ScoredRows, columns: Columns) -> Totals:
    """What `QualityStats` counted, in the folders given or, else, those found beside the rows; nothing: {}."""
    totals: Totals = {}
    for folder in options.stats or rows.stats:
        try:
            found = read_stats(folder, columns.prefix)
        except ValueError as error:
            rows.notes.append(f"Statistics are left out: {error}")
            return {}
        if options.stats and not found:
            raise ValueError(f"--stats {folder}: there are no statistics of {columns.score!r} here.")
        for group, stats in found.items():
            for stat, keys in stats.items():
                own = totals.setdefault(group, {}).setdefault(stat, {})
                own |= {key: own.get(key, 0) + total for key, total in keys.items()}
    return totals


def refuse_without_scores(name: str, documents: int, rows: ScoredRows, columns: Columns) -> None:
    """Refuse rows none of which has a score or an error, with what is there instead."""
    if documents and rows.scores_seen:
        return
    if not documents:
        raise ValueError(f"{name}: no row could be read. " + " ".join(rows.notes[:3]))
    others = sorted({found.removesuffix("_score") for found in rows.other_scores if found.endswith("_score")})
    fix = f"Give --prefix: there are scores under {', '.join(others[:5])}." if others else "Score the files first."
    raise ValueError(f"{name}: none of {documents:,} rows has a column {columns.score!r}. {fix}")


def comparison(options: argparse.Namespace, index: ScoreIndex) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What differs from the other run."""
    other = ScoredRows.find(options.against)
    columns = columns_of(argparse.Namespace(**vars(options) | {"group_by": None}), other)
    # Files alone say nothing of a threshold: what would the same one have decided?
    their = ScoreIndex(threshold_of(options, other) if other.runs else index.threshold)
    documents = 0
    for batch, ids in other.batches(columns, with_ids=True):
        documents += len(ids)
        their.add(ids, batch.scores)
    refuse_without_scores("--against", documents, other, columns)
    figures, sections = compare(index, their, options.sample, options.seed)
    if not figures["documents_in_both"]:
        other.notes.append(f"No id of column {columns.id!r} is in both runs: nothing could be compared.")
    return figures | {"against": options.against, "notes": other.notes}, sections


def examples(
    rows: ScoredRows, columns: Columns, sections: list[dict[str, Any]], reasons: dict[str, int]
) -> tuple[list[Section], dict[str, Example]]:
    """The documents to read, with their texts."""
    numbers = [number for section in sections for number in section["rows"]] + list(reasons.values())
    most = max(FEWEST_CHARS, min(MOST_CHARS, MOST_CHARS_OF_PAGE // max(1, len(numbers))))
    found = {number: example(row, path, columns, most) for number, path, row in rows.whole(numbers, columns)}
    shown = [Section(section["title"], _examples_of(section, found)) for section in sections]
    return shown, {reason: found[number] for reason, number in reasons.items() if number in found}


def _examples_of(section: dict[str, Any], found: dict[int, Example]) -> list[Example]:
    others = section.get("others") or [None] * len(section["rows"])
    pairs = zip(section["rows"], others, strict=True)
    return [replace(found[number], other_score=other) for number, other in pairs if number in found]


def example(row: Row, path: str, columns: Columns, most: int) -> Example:
    """A row as it is shown, its texts no longer than `most` together, or little more where there are many turns."""
    tokens, error = as_number(row.get(columns.tokens)), row.get(columns.error)
    return Example(
        id=str(row.get(columns.id)),
        place=path,
        turns=turns(row, columns, most),
        score=as_number(row.get(columns.score)),
        tokens=None if tokens is None else int(tokens),
        truncated=row.get(columns.truncated) is True,
        group=as_value(row.get(columns.group)) if columns.group else None,
        error=str(error) if error is not None else None,
    )


def turns(row: Row, columns: Columns, most: int) -> list[tuple[str, str]]:
    """The conversation in a row; else its text, or what it holds."""
    texts = {
        name: value for name, value in row.items() if name in (*TEXT_COLUMNS, columns.messages) and value is not None
    }
    try:
        messages = parse_conversation(texts, messages_key=columns.messages if columns.messages in texts else None)
        found = [(message["role"], _content(message)) for message in messages]
    except InvalidConversation:
        found = [(name, value if isinstance(value, str) else str(value)) for name, value in texts.items()]
    if len(found) > MOST_TURNS:
        left_out = f"[… {len(found) - MOST_TURNS:,} turns left out …]"
        found = [*found[: MOST_TURNS // 2], ("", left_out), *found[-MOST_TURNS // 2 :]]
    each = max(FEWEST_CHARS, most // max(1, len(found)))
    spare = max(0, most - sum(min(len(text), each) for _, text in found))
    return [(role, cut_middle(text, each + spare)) for role, text in found]


def _content(message: dict[str, Any]) -> str:
    """What a message says, and the calls of tools that stand beside it."""
    calls = message.get("tool_calls")
    said = [message["content"], calls and json.dumps(calls, ensure_ascii=False, indent=1, default=str)]
    return "\n\n".join(part for part in said if part)


def notes(figures: dict[str, Any], rows: ScoredRows, columns: Columns) -> list[str]:
    """What the reader should know before the numbers."""
    found = list(rows.notes)
    stats = figures["stats"]
    if rows.share < 1:
        of_all = f" of {stats['documents']:,}" if stats else ""
        found.append(f"A sample: {rows.share:.3g} of each file's rows, {figures['documents']:,} documents{of_all}.")
    elif stats and not stats["same"]:
        found.append(
            f"QualityStats and the rows disagree: it counted {_counts(stats, stats['mean'])}; the rows are "
            f"{_counts(figures, (figures['scores'] or {}).get('mean'))}. They are of different runs, or some are "
            "missing."
        )
    if len(figures["scorers"]) > 1:
        found.append(
            f"The scores are of {len(figures['scorers'])} scorers or scales: no threshold means the same for all."
        )
    others = [name for name in rows.other_scores if name.endswith("_score") and not name.endswith("_int_score")]
    if others and figures["reasons"].get("missing_score"):
        found.append(f"Some rows have no {columns.score!r}, but {sorted(others)[:5]}: they count as without a score.")
    if figures["reasons"].get("invalid_score"):
        found.append(f"{figures['reasons']['invalid_score']:,} scores are no finite numbers: NaN is never a score.")
    if figures["threshold"] is None:
        found.append("No threshold is marked: give one by --threshold.")
    if figures["documents_without_tokens"]:
        found.append(
            f"{figures['documents_without_tokens']:,} documents have no {columns.tokens!r}: their length is not known."
        )
    return found


def _counts(figures: dict[str, Any], mean: float | None) -> str:
    of_mean = "" if mean is None else f" of mean {mean:.4f}"
    return f"{figures['documents']:,} documents, {figures['scored']:,} with a score{of_mean}"


def write(output: Path, figures: dict[str, Any], sections: list[Section], unscorable: dict[str, Example]) -> None:
    """Write the page, the numbers and the figures, and say where they are."""
    output.mkdir(parents=True, exist_ok=True)
    figures["figures"] = save_figures(figures, output)
    figures["examples"] = [
        {"section": section.title, "id": example.id, "file": example.place, "score": example.score}
        for section in sections
        for example in section.examples
    ]
    (output / "report.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    (output / "report.html").write_text(build_page(figures, sections, unscorable), encoding="utf-8")
    kept = figures["kept"]
    share = f", {kept['documents']:,} kept at {figures['threshold']:g}" if kept else ""
    print(f"{figures['documents']:,} documents: {figures['scored']:,} with a score{share}.")
    for note in figures["notes"]:
        print(f"note: {HIDDEN.sub('?', note)}")
    print(f"Written to {output / 'report.html'}, report.json and {len(figures['figures'])} figures beside it.")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add = parser.add_argument
    add(
        "scored",
        nargs="+",
        metavar="SCORED",
        help="run folders, folders, files or globs of .jsonl[.gz|.zst] or .parquet",
    )
    add("--output", required=True, metavar="DIR", help="where report.html, report.json and the figures are written")
    add("--threshold", type=number, metavar="X", help="mark this threshold (default: the run's min_score)")
    add("--group-by", metavar="COLUMN", help="show scores by the values of a column, such as source")
    add("--against", nargs="+", metavar="OTHER", help="compare with another run over the same documents, by id")
    add(
        "--stats",
        nargs="+",
        metavar="DIR",
        help="what a QualityStats counted of these documents (default: SCORED/stats-merged or SCORED/stats)",
    )
    add(
        "--share",
        type=share,
        default=1.0,
        metavar="X",
        help="read this share of each file's rows, such as 0.01: of Parquet its beginning, else every 100th",
    )
    add("--sample", type=positive, default=10, metavar="N", help="conversations per score band (default: 10)")
    add("--seed", type=int, default=0, metavar="N", help="decides which conversations (default: 0)")
    add("--prefix", help="of the score columns' names (default: the run's, or quality)")
    add("--id-key", metavar="COLUMN", help="the column that holds the id (default: the run's, or id)")
    add("--messages-key", metavar="COLUMN", help="the column that holds the conversation (default: found by its name)")
