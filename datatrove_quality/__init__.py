"""Model-based quality filtering for DataTrove: score conversations with a classifier, keep or drop by the score."""

from typing import TYPE_CHECKING, Any

from datatrove_quality.config import Score, ScorerConfig, ScoreScale
from datatrove_quality.engine.scorer import load_scorer
from datatrove_quality.evaluation.metrics import Evaluation, evaluate_scores
from datatrove_quality.filter import QualityFilter
from datatrove_quality.readers.jsonl import ConversationJsonlReader
from datatrove_quality.readers.parquet import ConversationParquetReader
from datatrove_quality.rows.layouts import parse_conversation
from datatrove_quality.rows.to_document import ConversationAdapter, TextAdapter
from datatrove_quality.rows.to_row import RowAdapter, ScoresAdapter
from datatrove_quality.rows.types import InvalidConversation
from datatrove_quality.schema import score_schema


if TYPE_CHECKING:
    from datatrove_quality.stats import QualityStats

__all__ = [
    "ConversationAdapter",
    "ConversationJsonlReader",
    "ConversationParquetReader",
    "Evaluation",
    "InvalidConversation",
    "QualityFilter",
    "QualityStats",
    "RowAdapter",
    "Score",
    "ScoreScale",
    "ScorerConfig",
    "ScoresAdapter",
    "TextAdapter",
    "evaluate_scores",
    "load_scorer",
    "parse_conversation",
    "score_schema",
]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """QualityStats when it is asked for: DataTrove's stats import tokenizers and take half a second."""
    if name != "QualityStats":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from datatrove_quality.stats import QualityStats

    return QualityStats
