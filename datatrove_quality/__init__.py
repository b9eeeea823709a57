"""Model-based quality filtering for DataTrove: score conversations with a classifier, keep or drop by the score."""

from importlib import import_module
from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from datatrove_quality.annotation.config import Connection as Connection
    from datatrove_quality.annotation.config import JudgeConfig as JudgeConfig
    from datatrove_quality.annotation.rubric import load_rubric as load_rubric
    from datatrove_quality.annotation.step import LLMJudge as LLMJudge
    from datatrove_quality.cascade.calibration import calibrate_cascade as calibrate_cascade
    from datatrove_quality.cascade.values import Cascade as Cascade
    from datatrove_quality.config import Score as Score
    from datatrove_quality.config import ScorerConfig as ScorerConfig
    from datatrove_quality.config import ScoreScale as ScoreScale
    from datatrove_quality.curation.answer_filters import AnswerFilter as AnswerFilter
    from datatrove_quality.curation.personal_data import MaskPII as MaskPII
    from datatrove_quality.curation.rule_filter import ConversationRules as ConversationRules
    from datatrove_quality.engine.scorer import load_scorer as load_scorer
    from datatrove_quality.evaluation.metrics import Evaluation as Evaluation
    from datatrove_quality.evaluation.metrics import evaluate_scores as evaluate_scores
    from datatrove_quality.filter import QualityFilter as QualityFilter
    from datatrove_quality.readers.jsonl import ConversationJsonlReader as ConversationJsonlReader
    from datatrove_quality.readers.parquet import ConversationParquetReader as ConversationParquetReader
    from datatrove_quality.rows.layouts import parse_conversation as parse_conversation
    from datatrove_quality.rows.per_message import PerMessage as PerMessage
    from datatrove_quality.rows.to_document import ConversationAdapter as ConversationAdapter
    from datatrove_quality.rows.to_document import TextAdapter as TextAdapter
    from datatrove_quality.rows.to_row import RowAdapter as RowAdapter
    from datatrove_quality.rows.to_row import ScoresAdapter as ScoresAdapter
    from datatrove_quality.rows.types import InvalidConversation as InvalidConversation
    from datatrove_quality.runs.cluster import Cluster as Cluster
    from datatrove_quality.runs.run import Run as Run
    from datatrove_quality.runs.stages import Stage as Stage
    from datatrove_quality.schema import score_schema as score_schema
    from datatrove_quality.stats import QualityStats as QualityStats

__version__ = "0.1.0"

# Public names and their modules, which are imported at the first use of a name: `datatrove-quality --help` should not
# wait for DataTrove, numpy and their dependencies.
_MODULES = {
    "AnswerFilter": "curation.answer_filters",
    "Cascade": "cascade.values",
    "Cluster": "runs.cluster",
    "Connection": "annotation.config",
    "ConversationAdapter": "rows.to_document",
    "ConversationJsonlReader": "readers.jsonl",
    "ConversationParquetReader": "readers.parquet",
    "ConversationRules": "curation.rule_filter",
    "Evaluation": "evaluation.metrics",
    "InvalidConversation": "rows.types",
    "JudgeConfig": "annotation.config",
    "LLMJudge": "annotation.step",
    "MaskPII": "curation.personal_data",
    "PerMessage": "rows.per_message",
    "QualityFilter": "filter",
    "QualityStats": "stats",
    "RowAdapter": "rows.to_row",
    "Run": "runs.run",
    "Score": "config",
    "ScoreScale": "config",
    "ScorerConfig": "config",
    "ScoresAdapter": "rows.to_row",
    "Stage": "runs.stages",
    "TextAdapter": "rows.to_document",
    "calibrate_cascade": "cascade.calibration",
    "evaluate_scores": "evaluation.metrics",
    "load_rubric": "annotation.rubric",
    "load_scorer": "engine.scorer",
    "parse_conversation": "rows.layouts",
    "score_schema": "schema",
}
__all__ = list(_MODULES)


def __getattr__(name: str) -> Any:
    """Import a public name's module at its first use."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
