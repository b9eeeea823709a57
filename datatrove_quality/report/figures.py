"""The figures of a report as PNG files, for slides and papers; extra: plots."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from datatrove_quality.report.page import HIDDEN


if TYPE_CHECKING:
    from matplotlib.axes import Axes


KEPT, DROPPED, MARK, SECOND = "#1f6feb", "#87919d", "#b3261e", "#8a4b00"
MOST_GROUPS = 20


def require_matplotlib() -> None:
    """Say what to install where matplotlib is missing.

    Raises:
        ImportError: it is.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ImportError("The figures need matplotlib: pip install 'datatrove-quality[plots]'") from error


def save_figures(figures: dict[str, Any], folder: Path) -> list[str]:
    """Write `scores.png`, `kept.png`, and, where there is something to show, `lengths.png` and `groups.png`.

    Args:
        figures: of `ScoreReport.figures`.
        folder: where to.

    Returns:
        The names of the files.
    """
    if not figures["scored"]:
        return []
    drawn = {"scores.png": _draw_scores, "kept.png": _draw_kept}
    if figures["lengths"]:
        drawn["lengths.png"] = _draw_lengths
    if figures["groups"]:
        drawn["groups.png"] = _draw_groups
    for name, draw in drawn.items():
        _save(draw, figures, folder / name)
    return list(drawn)


def _save(draw: Any, figures: dict[str, Any], path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    draw(figures, axes)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)


def _draw_scores(figures: dict[str, Any], axes: "Axes") -> None:
    histogram, threshold = figures["histogram"], figures["threshold"]
    lows, width = histogram["from"], histogram["width"]
    colors = [KEPT if threshold is None or low >= threshold else DROPPED for low in lows]
    axes.bar(lows, histogram["documents"], width=width * 0.95, align="edge", color=colors)
    axes.set(xlabel="score", ylabel="documents")
    _mark(threshold, axes)


def _draw_kept(figures: dict[str, Any], axes: "Axes") -> None:
    table = figures["thresholds"]
    x = [row["threshold"] for row in table]
    axes.plot(x, [100 * row["documents_share"] for row in table], color=KEPT, label="documents")
    if figures["tokens"]:
        axes.plot(x, [100 * row["tokens_share"] for row in table], color=SECOND, linestyle="--", label="tokens")
    axes.set(xlabel="threshold", ylabel="% kept", ylim=(0, 100))
    axes.legend(frameon=False)
    _mark(figures["threshold"], axes)


def _draw_lengths(figures: dict[str, Any], axes: "Axes") -> None:
    from matplotlib.colors import PowerNorm

    lengths = figures["lengths"]
    x = [*lengths["from_score"], lengths["from_score"][-1] + lengths["width"]]
    y = [*lengths["from_tokens"], 2 * lengths["from_tokens"][-1]]
    mesh = axes.pcolormesh(x, y, lengths["documents"], cmap="Blues", norm=PowerNorm(0.5))
    axes.figure.colorbar(mesh, ax=axes, label="documents")
    axes.set_yscale("log", base=2)
    axes.set(xlabel="score", ylabel="tokens")
    _mark(figures["threshold"], axes)


def _draw_groups(figures: dict[str, Any], axes: "Axes") -> None:
    groups = figures["groups"]["values"][:MOST_GROUPS][::-1]
    kept = figures["threshold"] is not None
    values = [100 * group["kept"]["documents_share"] if kept else group["mean"] or 0 for group in groups]
    axes.barh(range(len(groups)), values, color=KEPT)
    # Names are data: no mathematics in them, nothing hidden.
    names = [HIDDEN.sub("·", group["value"])[:40] for group in groups]
    axes.set_yticks(range(len(groups)), names, parse_math=False)
    axes.set_xlabel(f"% kept at {figures['threshold']:g}" if kept else "mean score")


def _mark(threshold: float | None, axes: "Axes") -> None:
    if threshold is not None:
        axes.axvline(threshold, color=MARK, label=None)
