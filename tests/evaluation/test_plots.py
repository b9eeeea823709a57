"""Figures are drawn."""

from populations import SCALES

from datatrove_quality import evaluate_scores
from datatrove_quality.evaluation.plots import draw_confusion, draw_thresholds


def test_figures_are_png_files(tmp_path):
    """Both figures are drawn for any scale, empty levels and missing tokens included."""
    for scale in SCALES:
        found = evaluate_scores([scale.low, scale.low + 1], [scale.low, scale.low + 2], scale, [3, 4])
        for draw in (draw_confusion, draw_thresholds):
            draw(found, tmp_path / "figure")
            assert (tmp_path / "figure").read_bytes().startswith(b"\x89PNG\r\n")
