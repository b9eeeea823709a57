"""The charts of the report's page: SVG that takes its colors from the page.

This is the only module that makes markup itself. `_tag` escapes whatever it is given but markup.
"""

import math
from collections.abc import Sequence

from markupsafe import Markup, escape

from datatrove_quality.report.figures import Histogram, Lengths, ScoreFigures, ThresholdRow


# A chart's coordinates: its frame, and within it the plot.
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 460, 262, 52, 10, 36, 38
KEY_STEPS = 5  # of the color key


def bar_chart(unit: str, histogram: Histogram, threshold: float | None, name: str = "") -> Markup:
    """Documents or tokens by score; scores below the threshold are gray.

    Args:
        unit: "documents" or "tokens".
        histogram: of the scores.
        threshold: None: no threshold.
        name: tells the chart from others of its kind.
    """
    counts = histogram.documents if unit == "documents" else histogram.tokens
    low, high, most = histogram.from_[0], histogram.to, max([*counts, 1])
    width = (WIDTH - LEFT - RIGHT) / len(counts)
    bars = [
        _tag(
            "rect",
            class_=_side(start, histogram.width, threshold),
            x=round(LEFT + at * width + 0.4, 1),
            y=_y(count / most),
            width=round(max(width - 0.8, 0.5), 1),
            height=round(HEIGHT - BOTTOM - _y(count / most), 1),
        )
        for at, (start, count) in enumerate(zip(histogram.from_, counts, strict=True))
    ]
    labels = [(value / most, short(value)) for value in round_numbers(0, most, steps=5) if value == int(value)]
    top = histogram.from_[counts.index(max(counts))]
    about = (
        f"{len(counts)} bars from {low:g} to {high:g}; the highest, from {top:g} on, has {max(counts):,.0f} {unit}."
    )
    marks = [*_axes(low, high, labels, ("score", unit)), *bars, *_threshold_mark(threshold, low, high)]
    return _chart(f"{name}{unit}", f"{unit.capitalize()} by score", about, marks)


def kept_chart(figures: ScoreFigures, name: str = "") -> Markup:
    """The share kept over the threshold: a line for documents, and one for tokens where these are known.

    Args:
        figures: of the rows, or of the statistics.
        name: tells the chart from others of its kind.
    """
    table = figures.thresholds
    low, high = table[0].threshold, table[-1].threshold
    lines = [_curve(table, [row.documents_share for row in table], "line-documents")]
    if figures.tokens:
        lines.append(_curve(table, [row.tokens_share for row in table], "line-tokens"))
    labels = [(share, f"{share:.0%}") for share in (0, 0.25, 0.5, 0.75, 1)]
    about = f"The share of documents kept falls from {table[0].documents_share or 0:.1%} at {low:g} to 0% at {high:g}."
    marks = [
        *_axes(low, high, labels, ("threshold", "share kept")),
        *lines,
        *_threshold_mark(figures.threshold, low, high),
    ]
    return _chart(f"{name}kept", "Share kept over the threshold", about, marks)


def length_chart(lengths: Lengths, threshold: float | None) -> Markup:
    """Documents by length and score: the more, the darker."""
    grid, starts = lengths.documents, lengths.from_score
    low, high, most = starts[0], starts[-1] + lengths.width, max(max(row) for row in grid)
    cells = [
        _tag(
            "rect",
            class_="cell",
            fill_opacity=_opacity(count / most),
            x=_x(column / len(starts)),
            y=_y((row + 1) / len(grid)),
            width=round((WIDTH - LEFT - RIGHT) / len(starts) - 0.6, 1),
            height=round((HEIGHT - TOP - BOTTOM) / len(grid) - 0.6, 1),
        )
        for row, counts in enumerate(grid)
        for column, count in enumerate(counts)
        if count
    ]
    sizes = [f"{size}" if size < 1024 else f"{size // 1024}k" for size in lengths.from_tokens]
    labels = [(at / len(grid), size) for at, size in enumerate(sizes)][:: 1 + len(grid) // 9]
    commonest = max(range(len(grid)), key=lambda row: sum(grid[row]))
    about = (
        "The darker a cell, the more documents. Most documents have "
        f"{lengths.from_tokens[commonest]:,} to {2 * lengths.from_tokens[commonest]:,} tokens."
    )
    marks = [
        *_axes(low, high, labels, ("score", "length in tokens")),
        *cells,
        *_threshold_mark(threshold, low, high),
    ]
    return _chart("lengths", "Documents by length and score", about, marks)


def color_key() -> Markup:
    """The colors of `length_chart` from the fewest documents to the most; the numbers should be beside it."""
    cells = [
        _tag("rect", class_="cell", fill_opacity=_opacity((at / (KEY_STEPS - 1)) ** 2), x=16 * at, width=15, height=12)
        for at in range(KEY_STEPS)
    ]
    return _tag("svg", *cells, class_="color-key", viewBox=f"0 0 {16 * KEY_STEPS} 12", aria_hidden="true")


def sparkline(histogram: Histogram, threshold: float | None) -> Markup:
    """A histogram as high as a line of text."""
    counts = histogram.documents
    most = max([*counts, 1])
    heights = [round(20 * count / most, 1) for count in counts]
    bars = [
        _tag(
            "rect",
            class_=_side(start, histogram.width, threshold),
            x=2 * at,
            y=f"{20 - height:.1f}",
            width=1.6,
            height=height,
        )
        for at, (start, height) in enumerate(zip(histogram.from_, heights, strict=True))
        if height
    ]
    top = histogram.from_[counts.index(max(counts))]
    return _spark(*bars, width=2 * len(counts), role="img", aria_label=f"most documents from {top:g} on")


def share_bar(share: float) -> Markup:
    """A share as a bar as high as a line of text; the number should be beside it."""
    track = _tag("rect", class_="track", width=100, height=20)
    return _spark(
        track, _tag("rect", class_="bar", width=f"{share * 100:.1f}", height=20), width=100, aria_hidden="true"
    )


def round_numbers(low: float, high: float, steps: int = 8) -> list[float]:
    """Round numbers between two others, with at most so many steps between them."""
    sizes = [size * 10.0**power for power in range(-2, 15) for size in (1, 2, 5)]
    step = next((size for size in sizes if (high - low) / size <= steps), sizes[-1])
    first = math.ceil(low / step - 1e-9)
    return [round((first + at) * step, 6) for at in range(steps + 1) if (first + at) * step <= high + 1e-9]


def short(value: float) -> str:
    """A number in a few characters."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def _tag(name: str, *content: str, **attributes: str | float) -> Markup:
    """An element; "_" in an attribute's name means "-", but at its end for nothing."""
    names = (f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"' for key, value in attributes.items())
    return Markup(f"<{name}{''.join(names)}>{''.join(map(escape, content))}</{name}>")


def _chart(name: str, title: str, description: str, marks: Sequence[Markup]) -> Markup:
    return _tag(
        "svg",
        _tag("title", title, id=f"{name}-title"),
        _tag("desc", description, id=f"{name}-about"),
        *marks,
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_labelledby=f"{name}-title {name}-about",
    )


def _spark(*marks: Markup, width: float, **attributes: str) -> Markup:
    return _tag("svg", *marks, class_="spark", viewBox=f"0 0 {width} 20", preserveAspectRatio="none", **attributes)


def _axes(low: float, high: float, y_labels: Sequence[tuple[float, str]], names: tuple[str, str]) -> list[Markup]:
    """Lines across at the labels of the y axis, round numbers along the x axis, and the names of both (x, y)."""
    marks = []
    for share, label in y_labels:
        marks.append(_tag("line", class_="grid", x1=LEFT, x2=WIDTH - RIGHT, y1=_y(share), y2=_y(share)))
        marks.append(_label(label, LEFT - 6, _y(share) + 4, "end"))
    for value in round_numbers(low, high):
        marks.append(_label(f"{value:g}", _x((value - low) / (high - low)), HEIGHT - 22, "middle"))
    x_name, y_name = names
    marks.append(_label(x_name, (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 4, "middle", "axis"))
    marks.append(_label(y_name, 2, 12, "start", "axis"))
    return marks


def _label(text: str, x: float, y: float, anchor: str, kind: str = "tick") -> Markup:
    return _tag("text", text, class_=kind, x=x, y=y, text_anchor=anchor)


def _threshold_mark(threshold: float | None, low: float, high: float) -> list[Markup]:
    if threshold is None or not low <= threshold <= high:
        return []
    x = _x((threshold - low) / (high - low))
    anchor, shift = ("end", -4) if x > WIDTH * 0.7 else ("start", 4)
    line = _tag("line", class_="threshold", x1=x, x2=x, y1=TOP - 8, y2=HEIGHT - BOTTOM)
    return [line, _label(f"threshold {threshold:g}", x + shift, TOP - 9, anchor, "threshold-label")]


def _curve(table: Sequence[ThresholdRow], shares: Sequence[float | None], style: str) -> Markup:
    low, high = table[0].threshold, table[-1].threshold
    points = (
        f"{_x((row.threshold - low) / (high - low))},{_y(share or 0)}"
        for row, share in zip(table, shares, strict=True)
    )
    return _tag("polyline", class_=style, points=" ".join(points))


def _side(start: float, width: float, threshold: float | None) -> str:
    if threshold is None:
        return "bar"
    return "bar" if start >= threshold else "bar-cut" if start + width > threshold else "bar-dropped"


def _opacity(share: float) -> str:
    """How dark a cell is that holds this share of the documents in the fullest cell."""
    return f"{0.12 + 0.88 * share**0.5:.2f}"


def _x(share: float) -> float:
    return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)


def _y(share: float) -> float:
    return round(HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM), 1)
