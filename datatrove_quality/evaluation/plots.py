"""Figures of an evaluation; they need matplotlib."""

from os import PathLike
from typing import Any

import numpy as np

from datatrove_quality.evaluation.arrays import share_of
from datatrove_quality.evaluation.markdown import percent
from datatrove_quality.evaluation.metrics import Evaluation
from datatrove_quality.extras import require_extra


INK, GREY, BLUE, ORANGE = "#222222", "#8a8a8a", "#1f5a99", "#d9730d"


def draw_confusion(evaluation: Evaluation, path: str | PathLike[str]) -> None:
    """Draw the confusion matrix as a PNG: counts, coloured by their share of the row.

    Args:
        evaluation: what to draw.
        path: the file to write.

    Raises:
        ImportError: matplotlib is missing.
    """
    counts = np.array(evaluation.confusion)
    shares = share_of(counts, np.broadcast_to(counts.sum(axis=1, keepdims=True), counts.shape))
    size = len(evaluation.levels)
    figure = _figure(2.2 + 0.85 * size, 1.6 + 0.72 * size)
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), share in np.ndenumerate(shares):
        colour = "white" if share > 0.55 else INK
        text = f"{counts[row, column]:,.0f}\n{share:.0%}" if share else "0"
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=9, linespacing=1.3)
    axes.set_xticks(range(size), map(str, evaluation.levels))
    axes.set_yticks(range(size), map(str, evaluation.levels))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("int_score")
    axes.set_ylabel("label")
    f1, accuracy = percent(evaluation.macro_f1), percent(evaluation.accuracy)
    axes.set_title(f"{evaluation.documents:,} documents · macro F1 {f1} · accuracy {accuracy}", fontsize=10)
    bar = figure.colorbar(image, ax=axes, shrink=0.85, format=lambda share, _: f"{share:.0%}")
    bar.set_label("share of the label's documents")
    bar.outline.set_visible(False)
    figure.savefig(path, dpi=150, format="png")


def draw_thresholds(evaluation: Evaluation, path: str | PathLike[str]) -> None:
    """Draw precision, recall and the kept share over the threshold as a PNG, one panel for each "label >= k".

    Args:
        evaluation: what to draw.
        path: the file to write.

    Raises:
        ImportError: matplotlib is missing.
    """
    levels = evaluation.levels[1:]  # every label is at least the lowest
    columns = len(levels) if len(levels) <= 4 else 3
    rows = -(-len(levels) // columns)
    figure = _figure(max(6.0, 2.9 * columns), 0.9 + 2.7 * rows)
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, level in zip(panels, levels, strict=False):
        _draw_curves(axes, evaluation, level)
    for axes in panels[len(levels) :]:
        axes.set_visible(False)
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=len(names), frameon=False)
    figure.supxlabel("threshold: documents with score ≥ threshold are kept", fontsize=10)
    figure.savefig(path, dpi=150, format="png")


def _draw_curves(axes: Any, evaluation: Evaluation, level: int) -> None:
    rows = evaluation.thresholds
    thresholds = [row.threshold for row in rows]

    def draw(name: str, values: list[float | None], **style: Any) -> None:
        axes.plot(thresholds, [np.nan if value is None else value for value in values], label=name, **style)

    axes.fill_between(thresholds, [row.kept for row in rows], color=GREY, alpha=0.15, linewidth=0)
    draw("documents kept", [row.kept for row in rows], color=GREY, linewidth=1.2)
    if rows[0].tokens_kept is not None:
        draw("tokens kept", [row.tokens_kept for row in rows], color=GREY, linewidth=1.2, linestyle=":")
    draw("precision", [row.precision[level] for row in rows], color=BLUE, linewidth=2)
    draw("recall", [row.recall[level] for row in rows], color=ORANGE, linewidth=2)
    axes.set_title(f"label ≥ {level}", fontsize=10)
    axes.set_xlim(thresholds[0], thresholds[-1])
    axes.set_ylim(0, 1.02)
    axes.set_xticks(evaluation.levels)
    axes.tick_params(labelbottom=True)
    axes.yaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    axes.grid(color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _figure(width: float, height: float) -> Any:
    require_extra("plots", "a figure")
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")
