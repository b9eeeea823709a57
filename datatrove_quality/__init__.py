"""Model-based quality filtering for DataTrove: score conversations with a classifier, keep or drop by the score."""

from datatrove_quality.config import Score, ScorerConfig, ScoreScale
from datatrove_quality.conversation import (
    ConversationAdapter,
    InvalidConversation,
    RowAdapter,
    ScoresAdapter,
    TextAdapter,
    parse_conversation,
    score_schema,
)
from datatrove_quality.evaluation import Evaluation, evaluate_scores
from datatrove_quality.filter import QualityFilter
from datatrove_quality.jsonl import ConversationJsonlReader
from datatrove_quality.parquet import ConversationParquetReader
from datatrove_quality.scorer import load_scorer


__all__ = [
    "ConversationAdapter",
    "ConversationJsonlReader",
    "ConversationParquetReader",
    "Evaluation",
    "InvalidConversation",
    "QualityFilter",
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
