"""How good scores are: against labels, and at every threshold.

labels, scores ── evaluate_scores ──> Evaluation ──> dict, Markdown, figures
scores ── threshold_for_precision, threshold_for_share ──> ThresholdChoice ──> text

Arrays in, figures out: numpy only, and matplotlib for figures. What reads rows of files is in `columns`,
`labelled_rows`, `labelled_scores` and `scored_sample`.
"""

from datatrove_quality.evaluation.labels import LabelledRow, parse_label
from datatrove_quality.evaluation.metrics import Evaluation, evaluate_scores
from datatrove_quality.evaluation.thresholds import (
    Estimate,
    ThresholdChoice,
    threshold_for_precision,
    threshold_for_share,
)


__all__ = [
    "Estimate",
    "Evaluation",
    "LabelledRow",
    "ThresholdChoice",
    "evaluate_scores",
    "parse_label",
    "threshold_for_precision",
    "threshold_for_share",
]
