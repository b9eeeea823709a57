"""A chart of what other bands would give: the share rescored against the share of changed decisions, as SVG."""

from collections.abc import Sequence


WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 480, 300, 64, 16, 34, 46
TICKS = 5
STYLE = "font:12px sans-serif;fill:#333"


def curve_svg(points: Sequence[tuple[float, float]], chosen: tuple[float, float], promised: float | None) -> str:
    """The chart.

    Args:
        points: (share rescored, share of changed decisions) of bands, on the rows that chose the band.
        chosen: the same of the band that was chosen, on the rows that certify it.
        promised: the most that the promise allows of all decisions. None: it is of other shares.
    """
    most_rescored = max(*(rescored for rescored, _ in points), chosen[0], 0.01)
    most_changed = max(*(changed for _, changed in points), chosen[1], promised or 0, 1e-4)

    def place(rescored: float, changed: float) -> tuple[float, float]:
        x = LEFT + (WIDTH - LEFT - RIGHT) * rescored / most_rescored
        y = HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * changed / most_changed
        return round(x, 1), round(y, 1)

    left, bottom = place(0, 0)
    right, top = place(most_rescored, most_changed)
    marks = [f'<path d="M{left},{top}V{bottom}H{right}" fill="none" stroke="#333"/>']
    for tick in range(TICKS + 1):
        x, _ = place(most_rescored * tick / TICKS, 0)
        _, y = place(0, most_changed * tick / TICKS)
        marks.append(_text(x, bottom + 16, f"{most_rescored * tick / TICKS:.1%}", "middle"))
        marks.append(_text(left - 6, y + 4, f"{most_changed * tick / TICKS:.2%}", "end"))
    marks.append(_text((left + right) / 2, HEIGHT - 8, "share of documents that the classifier scores", "middle"))
    marks.append(_text(8, 18, "changed decisions, as a share of all", "start"))
    if promised is not None:
        _, y = place(0, promised)
        marks.append(f'<path d="M{left},{y}H{right}" stroke="#b00" stroke-dasharray="4"/>')
        marks.append(_text(right, y - 4, "promised", "end"))
    line = " ".join(f"{x},{y}" for x, y in (place(*point) for point in points))
    marks.append(f'<polyline points="{line}" fill="none" stroke="#06c" stroke-width="2"/>')
    x, y = place(*chosen)
    marks.append(f'<circle cx="{x}" cy="{y}" r="5" fill="#06c"/>')
    marks.append(_text(x, y - 10, "chosen, on the certifying rows", "middle" if left + 90 < x < right - 90 else "end"))
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>\n' + "\n".join(marks) + "\n</svg>\n"


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" style="{STYLE}">{text}</text>'
