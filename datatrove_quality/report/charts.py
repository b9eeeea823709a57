"""The charts of the report's page: SVG that takes its colors from the page and holds no text but ours and numbers."""

import math
from collections.abc import Sequence
from typing import Any


# A chart's coordinates: its frame, and within it the plot.
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 460, 250, 52, 10, 22, 38


def _chart(name: str, title: str, description: str, marks: str) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="{name}-title {name}-about">'
        f'<title id="{name}-title">{title}</title><desc id="{name}-about">{description}</desc>{marks}</svg>'
    )


def _x(share: float) -> float:
    return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)


def _y(share: float) -> float:
    return round(HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM), 1)


def _axes(low: float, high: float, y_labels: Sequence[tuple[float, str]], x_title: str) -> str:
    """Lines across at the labels of the y axis, and whole or round numbers along the x axis."""
    lines = "".join(
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{_y(share)}" y2="{_y(share)}"/>'
        f'<text x="{LEFT - 6}" y="{_y(share) + 4}" text-anchor="end">{label}</text>'
        for share, label in y_labels
    )
    ticks = "".join(
        f'<text x="{_x((value - low) / (high - low))}" y="{HEIGHT - 22}" text-anchor="middle">{value:g}</text>'
        for value in round_numbers(low, high)
    )
    middle = (LEFT + WIDTH - RIGHT) / 2
    return lines + ticks + f'<text x="{middle}" y="{HEIGHT - 4}" text-anchor="middle">{x_title}</text>'


def round_numbers(low: float, high: float, steps: int = 8) -> list[float]:
    """Round numbers between two others, with at most so many steps between them."""
    sizes = [size * 10.0**power for power in range(-2, 15) for size in (1, 2, 5)]
    step = next((size for size in sizes if (high - low) / size <= steps), sizes[-1])
    first = math.ceil(low / step - 1e-9)
    return [round((first + at) * step, 6) for at in range(steps + 1) if (first + at) * step <= high + 1e-9]


def _threshold_mark(threshold: float | None, low: float, high: float) -> str:
    if threshold is None or not low <= threshold <= high:
        return ""
    x = _x((threshold - low) / (high - low))
    anchor = "end" if x > WIDTH * 0.7 else "start"
    label = x - 4 if anchor == "end" else x + 4
    return (
        f'<line class="threshold" x1="{x}" x2="{x}" y1="{TOP - 8}" y2="{HEIGHT - BOTTOM}"/>'
        f'<text class="threshold-label" x="{label}" y="{TOP - 9}" text-anchor="{anchor}">'
        f"threshold {threshold:g}</text>"
    )


def bar_chart(unit: str, histogram: dict[str, Any], threshold: float | None, name: str = "") -> str:
    """Documents or tokens by score; what lies below the threshold is gray. `name` tells it from another."""
    low, counts = histogram["from"][0], histogram[unit]
    high = histogram["from"][-1] + histogram["width"]
    most = max([*counts, 1])
    width = (WIDTH - LEFT - RIGHT) / len(counts)
    bars = "".join(
        f'<rect class="{_side(start, histogram["width"], threshold)}" x="{round(LEFT + at * width + 0.4, 1)}" '
        f'y="{_y(count / most)}" width="{round(max(width - 0.8, 0.5), 1)}" '
        f'height="{round(HEIGHT - BOTTOM - _y(count / most), 1)}"/>'
        for at, (start, count) in enumerate(zip(histogram["from"], counts, strict=True))
    )
    labels = [(value / most, short(value)) for value in round_numbers(0, most, steps=5) if value == int(value)]
    top = histogram["from"][counts.index(max(counts))]
    about = (
        f"{len(counts)} bars from {low:g} to {high:g}; the highest, from {top:g} on, has {max(counts):,.0f} {unit}."
    )
    marks = _axes(low, high, labels, "score") + bars + _threshold_mark(threshold, low, high)
    return _chart(f"{name}{unit}", f"{unit.capitalize()} by score", about, marks)


def _side(start: float, width: float, threshold: float | None) -> str:
    if threshold is None:
        return "bar"
    return "bar" if start >= threshold else "bar-cut" if start + width > threshold else "bar-dropped"


def short(value: float) -> str:
    """A number in a few characters."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def kept_chart(figures: dict[str, Any], name: str = "") -> str:
    """The share kept over the threshold: a line for documents, and one for tokens where these are known.

    Args:
        figures: with `thresholds`, `threshold` and `tokens`.
        name: tells the chart from others of its kind.
    """
    table = figures["thresholds"]
    low, high = table[0]["threshold"], table[-1]["threshold"]
    lines = _curve(table, "documents_share", "line-documents")
    lines += _curve(table, "tokens_share", "line-tokens") if figures["tokens"] else ""
    labels = [(share, f"{share:.0%}") for share in (0, 0.25, 0.5, 0.75, 1)]
    about = f"The share of documents kept falls from {table[0]['documents_share']:.1%} at {low:g} to 0% at {high:g}."
    marks = _axes(low, high, labels, "threshold") + lines + _threshold_mark(figures["threshold"], low, high)
    return _chart(f"{name}kept", "Share kept over the threshold", about, marks)


def length_chart(lengths: dict[str, Any], threshold: float | None) -> str:
    """Documents by length and score: the more, the darker."""
    grid, starts = lengths["documents"], lengths["from_score"]
    low, high = starts[0], starts[-1] + lengths["width"]
    most = max(max(row) for row in grid)
    cells = "".join(
        f'<rect class="cell" fill-opacity="{0.12 + 0.88 * (count / most) ** 0.5:.2f}" '
        f'x="{_x(column / len(starts))}" y="{_y((row + 1) / len(grid))}" '
        f'width="{round((WIDTH - LEFT - RIGHT) / len(starts) - 0.6, 1)}" '
        f'height="{round((HEIGHT - TOP - BOTTOM) / len(grid) - 0.6, 1)}"/>'
        for row, counts in enumerate(grid)
        for column, count in enumerate(counts)
        if count
    )
    sizes = [f"{size}" if size < 1024 else f"{size // 1024}k" for size in lengths["from_tokens"]]
    labels = [(at / len(grid), size) for at, size in enumerate(sizes)][:: 1 + len(grid) // 9]
    marks = _axes(low, high, labels, "score") + cells + _threshold_mark(threshold, low, high)
    commonest = max(range(len(grid)), key=lambda row: sum(grid[row]))
    about = f"The darker, the more documents. Most are of {lengths['from_tokens'][commonest]:,} tokens and more."
    return _chart("lengths", "Length in tokens against score", about, marks)


def _curve(table: Sequence[dict[str, Any]], name: str, style: str) -> str:
    low, high = table[0]["threshold"], table[-1]["threshold"]
    points = " ".join(f"{_x((row['threshold'] - low) / (high - low))},{_y(row[name] or 0)}" for row in table)
    return f'<polyline class="{style}" points="{points}"/>'


def sparkline(histogram: dict[str, Any], threshold: float | None) -> str:
    """A histogram as high as a line of text."""
    counts = histogram["documents"]
    most = max([*counts, 1])
    heights = [round(20 * count / most, 1) for count in counts]
    bars = "".join(
        f'<rect class="{_side(start, histogram["width"], threshold)}" x="{2 * at}" y="{20 - height:.1f}" '
        f'width="1.6" height="{height}"/>'
        for at, (start, height) in enumerate(zip(histogram["from"], heights, strict=True))
        if height
    )
    top = histogram["from"][counts.index(max(counts))]
    return (
        f'<svg class="spark" viewBox="0 0 {2 * len(counts)} 20" preserveAspectRatio="none" role="img" '
        f'aria-label="most documents from {top:g} on">{bars}</svg>'
    )


def share_bar(share: float) -> str:
    """A share as a bar as high as a line of text; the number should stand beside it."""
    return (
        '<svg class="spark" viewBox="0 0 100 20" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="track" width="100" height="20"/>'
        f'<rect class="bar" width="{share * 100:.1f}" height="20"/></svg>'
    )
