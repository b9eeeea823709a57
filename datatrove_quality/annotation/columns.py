"""The columns that a judge adds to a row."""

import json
from typing import TYPE_CHECKING, Any

from datatrove_quality.annotation.config import JudgeConfig
from datatrove_quality.annotation.judge import Judgement
from datatrove_quality.config import Unscorable


if TYPE_CHECKING:
    import pyarrow as pa

# Each with its Arrow type; a row has all of them, null where there is nothing to say.
COLUMNS = {
    "judge_score": "float64",
    "judge_level": "int64",
    "judge_spread": "float64",
    "judge_reason": "string",
    "judge_error": "string",
    "judge_answer": "string",
    "judge_repaired": "bool",
    "judge_truncated": "bool",
    "judge_model": "string",
    "judge_rubric": "string",
}


def judged_columns(config: JudgeConfig, judgement: Judgement, truncated: bool) -> dict[str, Any]:
    """The columns of a row that was sent to the judge, or whose answer was stored.

    Args:
        config: who judged.
        judgement: what came of it.
        truncated: whether the judge did not see all of the conversation.
    """
    answers, error = judgement.answers, judgement.error
    columns: dict[str, Any] = dict.fromkeys(COLUMNS)
    texts = [answer.text for answer in answers]
    models = dict.fromkeys(answer.model for answer in answers if answer.model)
    columns |= {
        "judge_answer": texts[0] if len(texts) == 1 else json.dumps(texts, ensure_ascii=False),
        "judge_repaired": any(answer.repaired for answer in answers),
        "judge_truncated": truncated,
        "judge_model": ", ".join(models) or config.model,
        "judge_rubric": config.rubric.identity,
    }
    if error is not None:
        return columns | {"judge_error": error}
    score = sum(judgement.scores) / len(judgement.scores)
    reasons = [answer.reason for answer in answers]
    return columns | {
        "judge_score": float(score),
        "judge_level": round(score),
        "judge_spread": judgement.spread,
        "judge_reason": reasons[0] if len(reasons) == 1 else json.dumps(reasons, ensure_ascii=False),
    }


def unjudged_columns(config: JudgeConfig, error: Unscorable) -> dict[str, Any]:
    """The columns of a row that holds nothing to ask about."""
    empty = dict.fromkeys(COLUMNS)
    return empty | {"judge_error": error.to_text(), "judge_rubric": config.rubric.identity}


def annotated_schema(source: "pa.Schema") -> "pa.Schema":
    """The schema of annotated rows: the source's fields, and the judge's; one of the same name is replaced.

    Args:
        source: the schema of the source files.
    """
    import pyarrow as pa

    ours = {name: pa.field(name, pa.type_for_alias(alias)) for name, alias in COLUMNS.items()}
    kept = [ours.pop(field.name, field) for field in source]
    return pa.schema([*kept, *ours.values()], metadata=source.metadata)
