"""The figures of a report and some conversations -> one HTML page that stands by itself.

Everything on the page may come from a stranger's web site: ids, roles, texts, names of columns, error messages. It all
goes through `shown`, which escapes it and makes characters visible that could hide or reorder text. The page has no
script, loads nothing, and tells the browser to allow neither.
"""

import base64
import hashlib
import html
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from datatrove_quality.report.charts import (
    bar_chart,
    kept_chart,
    length_chart,
    round_numbers,
    share_bar,
    short,
    sparkline,
)
from datatrove_quality.report.style import STYLE


LONG_CHARS = 1_000  # a turn of more is shortened, and the rest is a click away
SHORT_CHARS = 700  # of a shortened turn
MOST_TURNS = 12  # that are shown before those in the middle are a click away
MOST_ID_CHARS = 120
MOST_NOTES = 20
COUNTS = (("documents", "documents"), ("with a score", "scored"), ("without", "unscorable"), ("tokens", "tokens"))

# Control characters but tab and line feed, marks that reorder text, line separators, tags, halves of surrogate pairs.
HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f\ud800-\udfff]"
)

# What reads well in columns only: fenced code to its end or the text's, two and more lines of a table, JSON in lines.
COLUMNS = re.compile(
    r"^[ \t]*(`{3,}|~{3,})[^\n]*\n(?:.*?^[ \t]*\1[ \t]*(?:\n|\Z)|.*)"
    r"|(?:^[ \t]*\|[^\n]*(?:\n|\Z)){2,}"
    r"|\A[{\[]\n.*\n[}\]]\s*\Z",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Example:
    """A document to read.

    Args:
        id: of the document.
        place: the file that it is in.
        turns: role and text of each; texts may be long, but should be no longer than a browser bears.
        score: None: it has none.
        tokens: None: not known.
        truncated: whether its end was not among them.
        group: its value of the column that the report groups by.
        error: why it has no score.
        other_score: in the run that this one is compared with.
    """

    id: str
    place: str
    turns: Sequence[tuple[str, str]]
    score: float | None = None
    tokens: int | None = None
    truncated: bool = False
    group: str | None = None
    error: str | None = None
    other_score: float | None = None


@dataclass(frozen=True)
class Section:
    """Documents to read under one title.

    Args:
        title: of the section.
        examples: in the order in which they are shown.
    """

    title: str
    examples: Sequence[Example]


def build_page(figures: dict[str, Any], sections: Sequence[Section], unscorable: dict[str, Example]) -> str:
    """The page.

    Args:
        figures: of `ScoreReport.figures`, with `sources`, `prefix`, `group_by`, `notes`, `scorers`, `stats` (see
            `stats_figures`) and `comparison` beside them.
        sections: the documents to read.
        unscorable: one document for each reason for which some have no score.
    """
    parts = [
        _summary(figures),
        _notes(figures["notes"]),
        _scores(figures) if figures["scored"] else "",
        _all_documents(figures) if figures["stats"] else "",
        _groups(figures) if figures["groups"] else "",
        _unscorable(figures, unscorable),
        _comparison(figures["comparison"]) if figures["comparison"] else "",
        _to_read(figures, sections),
    ]
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'sha256-{digest}'; "
        "base-uri 'none'; form-action 'none'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n<meta name="referrer" content="no-referrer">\n'
        f"<title>Score report</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(part for part in parts if part)
        + "\n</main>\n</body>\n</html>\n"
    )


def shown(text: object, most: int | None = None) -> str:
    """A stranger's text as HTML: escaped, set apart from the text around it, hidden characters made visible."""
    text = str(text)
    return f"<bdi>{_escaped(text if most is None else cut_middle(text, most))}</bdi>"


def cut_middle(text: str, most: int) -> str:
    """A text of about as many characters at most, with a word on what was left out of its middle."""
    if len(text) <= most:
        return text
    head, tail = text[: most * 2 // 3], text[-(most - most * 2 // 3) :]
    return f"{head}\n[… {len(text) - most:,} characters left out …]\n{tail}"


def _escaped(text: str) -> str:
    return HIDDEN.sub(_visible, html.escape(text.replace("\r\n", "\n")))


def _visible(match: re.Match[str]) -> str:
    return f'<span class="hidden-char">U+{ord(match[0]):04X}</span>'


# --- tables --------------------------------------------------------------------------------------------------------


def _count(value: float) -> str:
    return f"{value:,.0f}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def _score(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]], caption: str) -> str:
    """A table of cells that are HTML already, under a caption of our own; the first cell of a row is its head."""
    head = "".join(f'<th scope="col">{cell}</th>' for cell in heads)
    body = "".join(
        f'<tr><th scope="row">{first}</th>' + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>\n"
        for first, *cells in rows
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{caption}"><table><caption>{caption}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table></div>"
    )


def _behind(title: str, content: str) -> str:
    return f"<details><summary>{title}</summary>{content}</details>"


# --- the parts of the page -------------------------------------------------------------------------------------------


def _summary(figures: dict[str, Any]) -> str:
    kept, scores, documents = figures["kept"], figures["scores"], figures["documents"]
    tiles = [("documents", _count(documents), "")]
    if kept:
        tiles.append(
            (f"kept at {figures['threshold']:g}", _percent(kept["documents_share"]), _count(kept["documents"]))
        )
        if figures["tokens"]:
            tiles.append(("tokens kept", _percent(kept["tokens_share"]), f"of {short(figures['tokens'])}"))
    if scores:
        middle = scores["quantiles"]["0.5"]
        tiles.append(("mean score", _score(scores["mean"]), f"median {middle:.2f}"))
    share = figures["unscorable"] / documents if documents else 0
    tiles.append(("without a score", _count(figures["unscorable"]), _percent(share)))
    cells = "".join(
        f'<div class="tile"><dt>{name}</dt><dd>{value}<span>{more}</span></dd></div>' for name, value, more in tiles
    )
    sources = ", ".join(shown(source) for source in figures["sources"])
    made_by = "".join(f"<br>{_scorer(scorer)}" for scorer in figures["scorers"])
    links = '<a href="#scores">Scores</a> '
    if figures["stats"]:
        links += '<a href="#all">All documents</a> '
    links += '<a href="#unscorable">Without a score</a> '
    if figures["comparison"]:
        links += '<a href="#comparison">Comparison</a> '
    links += '<a href="#read">Conversations to read</a>'
    return (
        f'<header><h1>Score report</h1><p class="quiet">{shown(figures["prefix"])} scores of {sources}{made_by}</p>'
        "</header>\n"
        f'<main>\n<dl class="tiles">{cells}</dl>'
        f'<nav aria-label="Parts of the report">{links}</nav>'
    )


def _scorer(scorer: dict[str, Any]) -> str:
    """The model and the scale of the scores, as far as they are known."""
    model, scale = scorer["model"], scorer["scale"]
    of_scale = f", from {scale['low']:g} (bad) to {scale['high']:g} (good)" if scale else ""
    return f"by {shown(model or 'an unnamed model', 200)}{of_scale}"


def _notes(notes: Sequence[str]) -> str:
    if not notes:
        return ""
    items = "".join(f"<li>{shown(note, 600)}</li>" for note in notes[:MOST_NOTES])
    if len(notes) > MOST_NOTES:
        items += f"<li>{_count(len(notes) - MOST_NOTES)} more are in report.json.</li>"
    return f'<section class="notes" aria-label="What to know"><h2>What to know</h2><ul>{items}</ul></section>'


def _scores(figures: dict[str, Any]) -> str:
    charts = [*_histograms(figures), _kept_curve(figures), _lengths(figures) if figures["lengths"] else ""]
    outside = figures["histogram"]["outside"]
    more = f"<p>The first and the last bar also hold {_count(outside)} documents beyond them.</p>" if outside else ""
    return f'<section id="scores"><h2>Scores</h2><div class="charts">{"".join(charts)}</div>{more}</section>'


def _figure(chart: str, caption: str, table: str) -> str:
    return f"<figure>{chart}<figcaption>{caption}</figcaption>{_behind('As a table', table)}</figure>"


def _histograms(figures: dict[str, Any], name: str = "") -> list[str]:
    histogram, threshold = figures["histogram"], figures["threshold"]
    return [
        _figure(
            bar_chart(unit, histogram, threshold, name),
            f"{unit.capitalize()} by score",
            _histogram_table(histogram, unit),
        )
        for unit in ("documents", "tokens")
        if unit == "documents" or figures["tokens"]
    ]


def _histogram_table(histogram: dict[str, Any], unit: str) -> str:
    pairs = zip(histogram["from"], histogram[unit], strict=True)
    rows = [(f"{start:g} to {start + histogram['width']:g}", _count(count)) for start, count in pairs]
    return _table(("score", unit), rows, f"{unit.capitalize()} by score")


def _kept_curve(figures: dict[str, Any], name: str = "") -> str:
    key = '<span class="key key-documents"></span>documents'
    if figures["tokens"]:
        key += ' <span class="key key-tokens"></span>tokens'
    table = _thresholds_table(figures["thresholds"])
    return _figure(kept_chart(figures, name), f"Share kept over the threshold: {key}", table)


def _thresholds_table(table: Sequence[dict[str, Any]]) -> str:
    rows = [
        (
            f"{row['threshold']:g}",
            *(_count(row[name]) for name in ("documents", "tokens")),
            *(_percent(row[f"{name}_share"]) for name in ("documents", "tokens")),
        )
        for row in table
    ]
    heads = ("threshold", "documents", "tokens", "of all documents", "of scored tokens")
    return _table(heads, rows, "What each threshold would keep")


def _all_documents(figures: dict[str, Any]) -> str:
    """What `QualityStats` counted, beside the rows that were read."""
    stats, same = figures["stats"], figures["stats"]["same"]
    own_mean = figures["scores"] and figures["scores"]["mean"]
    rows = [(name, _count(stats[key]), _count(figures[key])) for name, key in COUNTS]
    rows.append(("mean score", _score(stats["mean"]), _score(own_mean)))
    if stats["kept"]:
        of_all, of_rows = (_percent(found["kept"]["documents_share"]) for found in (stats, figures))
        rows.append((f"kept at {stats['threshold']:g}", of_all, of_rows))
    words = "They are the rows of this report." if same else "The rows that this report read are not all of them."
    table = _table(("what", "all", "rows read"), rows, "All documents and the rows read")
    charts = "" if same or not stats["scored"] else "".join([*_histograms(stats, "all-"), _kept_curve(stats, "all-")])
    columns = "".join(_stats_groups(column, groups) for column, groups in stats["groups"].items())
    return (
        f'<section id="all"><h2>All documents</h2><p>As QualityStats counted them, scores rounded. {words}</p>{table}'
        f'<div class="charts">{charts}</div>{columns}</section>'
    )


def _stats_groups(column: str, groups: dict[str, Any]) -> str:
    rows = [
        [
            shown(group["value"], 80),
            *(_count(group[name]) for name in ("documents", "unscorable", "tokens")),
            _score(group["mean"]),
        ]
        for group in groups["values"]
    ]
    heads = ("value", "documents", "no score", "tokens", "mean")
    return f"<h3>By {shown(column, 80)}</h3>{_table(heads, rows, 'All documents by value')}"


def _groups(figures: dict[str, Any]) -> str:
    groups, threshold = figures["groups"], figures["threshold"]
    heads = [
        "value",
        *(["kept", "as a bar"] if threshold is not None else []),
        "documents",
        "mean",
        "scores",
        "no score",
    ]
    rows = [_group_row(group, threshold) for group in groups["values"]]
    name = shown(figures["group_by"], 80)
    distinct = f"{'more than ' if groups['more'] else ''}{_count(groups['distinct'])}"
    rest = f"; the {len(groups['values']) - 1} commonest, and the rest together" if groups["not_shown"] else ""
    table = _table(heads, rows, "Scores by value")
    shares = _behind("What other thresholds would keep", _group_thresholds(groups["values"]))
    return f"<section><h2>By {name}</h2><p>{distinct} values{rest}.</p>{table}{shares}</section>"


def _group_row(group: dict[str, Any], threshold: float | None) -> list[str]:
    share = group["kept"] and group["kept"]["documents_share"]
    return [
        shown(group["value"], 80),
        *([_percent(share), share_bar(share or 0)] if threshold is not None else []),
        _count(group["documents"]),
        _score(group["mean"]),
        sparkline(group["histogram"], threshold),
        _count(group["unscorable"]),
    ]


def _group_thresholds(groups: Sequence[dict[str, Any]]) -> str:
    """The kept share of each group at about eight thresholds, out of its histogram."""
    starts = groups[0]["histogram"]["from"]
    # Not at the first, whose bar also holds what lies below it.
    wanted = [value for value in round_numbers(starts[0], starts[-1]) if value in starts[1:]] or starts[1::8]
    rows = []
    for group in groups:
        counts = group["histogram"]["documents"]
        above = (sum(counts[starts.index(value) :]) for value in wanted)
        rows.append([shown(group["value"], 80), *(_percent(n / group["documents"]) for n in above)])
    return _table(["value", *(f"{value:g}" for value in wanted)], rows, "Share of documents kept at each threshold")


def _lengths(figures: dict[str, Any]) -> str:
    lengths = figures["lengths"]
    chart = length_chart(lengths, figures["threshold"])
    heads = ["tokens from", *(f"{start:g}" for start in lengths["from_score"])]
    rows = [
        [_count(size), *map(_count, row)]
        for size, row in zip(lengths["from_tokens"], lengths["documents"], strict=True)
    ]
    return _figure(chart, "Length in tokens against score", _table(heads, rows, "Documents by tokens and score"))


def _unscorable(figures: dict[str, Any], examples: dict[str, Example]) -> str:
    intro = '<section id="unscorable"><h2>Without a score</h2>'
    if not figures["reasons"]:
        return intro + "<p>Every document has a score.</p></section>"
    documents = figures["documents"]
    rows = [(shown(name), _count(count), _percent(count / documents)) for name, count in figures["reasons"].items()]
    table = _table(("reason", "documents", "of all"), rows, "Documents without a score, by reason")
    cards = "".join(_behind(f"An example: {shown(reason)}", _card(example)) for reason, example in examples.items())
    return f"{intro}{table}{cards}</section>"


def _comparison(comparison: dict[str, Any]) -> str:
    rows = [
        ("documents in both", comparison["documents_in_both"]),
        ("only in this run", comparison["only_here"]),
        ("only in the other run", comparison["only_there"]),
        ("rows that repeat an id, here / there", comparison["repeated_ids"]),
        ("rows without an id, here / there", comparison["without_id"]),
        ("scored in one run only, here / there", comparison["scored_in_one_only"]),
    ]
    decisions, moved = comparison.get("decisions"), comparison["moved"]
    if decisions:
        rows += [(name.replace("_", " "), count) for name, count in decisions.items() if name != "differ_share"]
    cells = [(name, _both(value)) for name, value in rows]
    if decisions:
        cells.append(("decisions that differ", _percent(decisions["differ_share"])))
    if moved:
        cells.append(("scores that changed", _count(moved["changed"])))
        cells += [
            (words, f"{moved[name]:+.4f}")
            for words, name in (("mean change", "mean"), ("lowest change", "lowest"), ("highest change", "highest"))
        ]
        cells.append(("mean size of a change", f"{moved['mean_size']:.4f}"))
        cells += [(f"change, {float(q):.0%} quantile", f"{value:+.4f}") for q, value in moved["quantiles"].items()]
    table = _table(("what", "this run against the other"), cells, "Comparison with the other run")
    return f'<section id="comparison"><h2>Against {shown(", ".join(comparison["against"]))}</h2>{table}</section>'


def _both(value: Any) -> str:
    return f"{_count(value['here'])} / {_count(value['there'])}" if isinstance(value, dict) else _count(value)


# --- conversations to read -------------------------------------------------------------------------------------------


def _to_read(figures: dict[str, Any], sections: Sequence[Section]) -> str:
    links = "".join(
        f'<a href="#read-{at}">{section.title} ({len(section.examples)})</a> ' for at, section in enumerate(sections)
    )
    parts = "".join(
        f'<section id="read-{at}"><h3>{section.title}</h3>'
        + ("".join(_card(example, figures["threshold"]) for example in section.examples) or "<p>None.</p>")
        + "</section>\n"
        for at, section in enumerate(sections)
    )
    return (
        f'<section id="read"><h2>Conversations to read</h2><nav aria-label="Samples">{links}</nav>\n{parts}</section>'
    )


def _card(example: Example, threshold: float | None = None) -> str:
    facts = [f'<b class="score">{_score(example.score)}</b>'] if example.score is not None else []
    if example.other_score is not None:
        facts.append(f"<span>there {_score(example.other_score)}</span>")
    if example.score is not None and threshold is not None:
        kept = example.score >= threshold
        facts.append(f'<span class="{"kept" if kept else "dropped"}">{"kept" if kept else "dropped"}</span>')
    if example.tokens is not None:
        unseen = ", its end unseen" if example.truncated else ""
        facts.append(f"<span>{_count(example.tokens)} tokens{unseen}</span>")
    if example.group is not None:
        facts.append(shown(example.group, MOST_ID_CHARS))
    facts.append(f"<code>{shown(example.id, MOST_ID_CHARS)}</code>")
    error = f'<p class="error">{shown(example.error, 600)}</p>' if example.error else ""
    turns = [_turn(role, text) for role, text in example.turns]
    if len(turns) > MOST_TURNS:
        half = MOST_TURNS // 2
        middle = _behind(f"{len(turns) - 2 * half} more turns", "".join(turns[half:-half]))
        turns = [*turns[:half], middle, *turns[-half:]]
    body = "".join(turns) or '<p class="quiet">There is no text in this row.</p>'
    place = f'<p class="place">{shown(example.place, 300)}</p>'
    return f'<article><p class="facts">{" ".join(facts)}</p>{error}{body}{place}</article>'


def _turn(role: str, text: str) -> str:
    name = role if role in ("user", "assistant", "system", "tool") else "other"
    is_long = len(text) > LONG_CHARS
    body = _text(cut_middle(text, SHORT_CHARS) if is_long else text)
    if is_long:
        body += _behind(f"Unfold {len(text):,} characters", _text(text))
    return f'<div class="turn {name}"><p class="role">{shown(role, 40)}</p>{body}</div>'


def _text(text: str) -> str:
    """A text as it is, code and tables in letters of one width."""
    parts, end = [], 0
    for found in COLUMNS.finditer(text):
        parts += [_escaped(text[end : found.start()]), f'<code class="block" dir="ltr">{_escaped(found[0])}</code>']
        end = found.end()
    return f'<div class="text" dir="auto">{"".join(parts)}{_escaped(text[end:])}</div>'
