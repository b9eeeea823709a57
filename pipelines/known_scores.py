"""What the input says about the scores that it holds already, so that scores of different making never mix.

A Parquet file that was scored here names its scorer in its schema's metadata, as `{prefix}_scorer`; JSONL cannot.
"""

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from inputs import Inputs
from loguru import logger

from datatrove_quality import ScorerConfig, score_schema
from datatrove_quality.fingerprint import Fingerprint
from datatrove_quality.recorded import recorded_score


if TYPE_CHECKING:
    import pyarrow as pa


def output_schema(inputs: Inputs, prefix: str, scorer: ScorerConfig | None) -> "pa.Schema":
    """The columns of the scored rows of Parquet files, and which scorer made the scores.

    Args:
        inputs: the files.
        prefix: what the names of the score columns begin with.
        scorer: of this run. None: the one that all files name, if they do.
    """
    schema = score_schema(inputs.parquet_schema(), prefix, scorer)
    key = f"{prefix}_scorer"
    recorded = inputs.schema_metadata(key)
    if scorer is None and recorded[0] and len(_scorers(inputs, prefix)) == len(recorded):
        schema = schema.with_metadata((schema.metadata or {}) | {key: recorded[0]})
    return schema


def refuse_without_scores(inputs: Inputs, adapter: Callable, prefix: str) -> None:
    """Refuse a corpus in whose first thousand rows there is no score."""
    sample = inputs.sample(adapter, 1_000)
    if sample and all(recorded_score(doc.metadata, prefix) is None for doc in sample):
        raise ValueError(
            f"--scores-from-columns: the first {len(sample)} rows have no score in a column {prefix + '_score'!r}. "
            "Set --prefix to what its name begins with, or leave --scores-from-columns away to score them."
        )


def refuse_mixed_scores(inputs: Inputs, prefix: str) -> None:
    """Refuse one threshold for the scores of two scorers."""
    files = {scorer["fingerprint"]: path for path, scorer in _scorers(inputs, prefix).items()}
    if len(files) > 1:
        raise ValueError(
            f"INPUT holds scores of {len(files)} scorers, in such files as {', '.join(sorted(files.values()))}: no "
            "threshold means the same for both. Filter them apart, with a glob for each."
        )


def refuse_other_scores(inputs: Inputs, prefix: str, own: Fingerprint) -> None:
    """Refuse to put new scores beside those of another scorer, and say where it is not known."""
    scorers = _scorers(inputs, prefix)
    for path, scorer in scorers.items():
        if scorer["fingerprint"] != own.digest:
            differences = "\n".join(f"  {line}" for line in own.differences(scorer["parts"]))
            raise ValueError(
                f"--reuse-scores: the scores in {path} were made otherwise than this run would make them:\n"
                f"{differences}\n"
                "Give the --model, --dtype and --max-tokens that they were made with, or leave --reuse-scores away."
            )
    if len(scorers) < len(inputs.sizes):
        logger.warning(
            f"{len(inputs.sizes) - len(scorers)} of {len(inputs.sizes)} files do not say what made the scores in them "
            "(Parquet files that were scored here do): they are taken for scores of this model."
        )


def _scorers(inputs: Inputs, prefix: str) -> dict[str, dict[str, Any]]:
    """The description of its scorer by file, see `Fingerprint.describe`; without the files that have none."""
    if not inputs.is_parquet:
        return {}
    found = zip(inputs.sizes, inputs.schema_metadata(f"{prefix}_scorer"), strict=True)
    described = {path: _described(text) for path, text in found}
    return {path: scorer for path, scorer in described.items() if scorer is not None}


def _described(text: str | None) -> dict[str, Any] | None:
    try:
        scorer = json.loads(text or "null")
    except json.JSONDecodeError:  # somebody else's entry of that name
        return None
    is_ours = isinstance(scorer, dict) and "fingerprint" in scorer and isinstance(scorer.get("parts"), dict)
    return scorer if is_ours else None
