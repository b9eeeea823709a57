"""Provenance of existing scores, so that scores of different scorers never mix.

A Parquet file that was scored here names its scorer and scale in its schema's metadata, as `{prefix}_scorer`. For
JSONL, which cannot, the record of the run that wrote it speaks, as long as the files lie where it left them.
"""

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from datatrove.io import get_datafolder
from loguru import logger

from datatrove_quality.config import ScorerConfig, ScoreScale
from datatrove_quality.rows.arrow_values import has_numbers
from datatrove_quality.rows.score_columns import recorded_score, score_column
from datatrove_quality.runs.inputs import Inputs, path_in
from datatrove_quality.runs.run_record import ROW_FOLDERS, recorded_run
from datatrove_quality.schema import score_schema


if TYPE_CHECKING:
    import pyarrow as pa

    from datatrove_quality.engine.scorer import Scorer


def output_schema(
    inputs: Inputs,
    scorers: Mapping[str, ScorerConfig | None],
    all_answers: Collection[str],
    cascades: Collection[str],
) -> "pa.Schema":
    """The columns of the scored rows of Parquet files, and which scorers made the scores.

    Args:
        inputs: the files.
        scorers: by what the names of its score columns begin with, each scorer of the run. None: the rows have these
            scores already, and the scorer is the one that all files name, if they do.
        all_answers: the prefixes of those filters that score all answers of a row.
        cascades: the prefixes of those filters that have a cascade.
    """
    schema = inputs.parquet_schema()
    for prefix, scorer in scorers.items():
        schema = score_schema(schema, prefix, scorer, prefix in all_answers, prefix in cascades)
        key = f"{prefix}_scorer"
        recorded = inputs.schema_metadata(key)
        if scorer is None and recorded[0] and len(_scorers(inputs, prefix)) == len(recorded):
            schema = schema.with_metadata((schema.metadata or {}) | {key: recorded[0]})
    return schema


def sidecar_schema(
    inputs: Inputs,
    id_key: str,
    scorers: Mapping[str, ScorerConfig | None],
    all_answers: Collection[str],
    cascades: Collection[str],
) -> "pa.Schema":
    """The columns of files that hold the scores alone; other arguments as those of `output_schema`.

    Args:
        id_key: the input's column of the id, which keeps its type where it is of numbers.
    """
    import pyarrow as pa

    source = inputs.parquet_schema()
    of_id = source.field(id_key).type if has_numbers(source, id_key) else pa.string()
    schema = pa.schema([("id", of_id), ("file_path", pa.string())])
    for prefix, scorer in scorers.items():
        schema = score_schema(schema, prefix, scorer, prefix in all_answers, prefix in cascades)
    return schema


def require_scores(inputs: Inputs, adapter: Callable, prefix: str, score_of: str | None) -> None:
    """Refuse a corpus in whose first thousand rows there is no score.

    Raises:
        ValueError: it is one.
    """
    sample = inputs.sample(adapter, 1_000)
    if sample and all(recorded_score(doc.metadata, prefix, score_of) is None for doc in sample):
        column, of = score_column({}, prefix, score_of), "" if score_of is None else ", score_of (--score-of)"
        raise ValueError(
            f"scorer=None (--scores-from-columns): the first {len(sample)} rows have no score in a column "
            f"{column!r}. Set prefix (--prefix){of} to what its name begins with, or give a scorer, not scorer=None."
        )


def require_one_scorer(inputs: Inputs, prefix: str) -> dict[str, Any] | None:
    """Refuse one threshold for the scores of two scorers.

    Returns:
        The one that made them all, for the run's record, see `Scorer.describe`; None: it is not known.

    Raises:
        ValueError: there are two.
    """
    described = _scorers(inputs, prefix)
    files = {
        (scorer["fingerprint"], str(scorer.get("scale")), str(scorer.get("outputs"))): path
        for path, scorer in described.items()
    }
    if len(files) > 1:
        raise ValueError(
            f"The input holds scores of {len(files)} scorers or scales, in such files as "
            f"{', '.join(sorted(files.values()))}: no threshold means the same for both. Filter them separately, with "
            "a glob for each."
        )
    if len(described) < len(inputs.sizes):
        if described:
            logger.warning(_not_said(inputs, len(described), "scores of the one that the others name"))
        return None
    return next(iter(described.values()))


def recorded_scale(inputs: Inputs, prefix: str, score_of: str | None = None) -> ScoreScale | None:
    """The scale of the scores that the rows have; None: nothing says it, what says it is invalid, or files differ."""
    scorers = _scorers(inputs, prefix).values()
    if score_of is not None and any(of.get("outputs", {}).get("problem_type") != "regression" for of in scorers):
        return ScoreScale(offset=0, low=0, high=1)  # of a probability, whatever that of the recorded score is
    scales = [scorer.get("scale") for scorer in scorers]
    if not scales or not scales[0] or any(scale != scales[0] for scale in scales):
        return None
    try:
        return ScoreScale(**scales[0])
    except (TypeError, ValueError):  # written by others
        return None


def require_same_scorer(inputs: Inputs, prefix: str, own: "Scorer") -> None:
    """Refuse to put new scores beside those of another scorer or scale, and say where it is not known.

    Raises:
        ValueError: a file has such scores; names it, and what differs.
    """
    described = _scorers(inputs, prefix)
    for path, scorer in described.items():
        differences = own.fingerprint.differences(scorer["parts"])
        scale = asdict(own.scale)
        if scorer.get("scale") not in (None, scale):
            differences.append(f"scale was {scorer['scale']}, is now {scale}")
        outputs = own.outputs.describe().get("outputs")
        if scorer.get("outputs") != outputs:
            differences.append(f"outputs was {scorer.get('outputs')}, is now {outputs}")
        if differences:
            listed = "\n".join(f"  {line}" for line in differences)
            raise ValueError(
                f"reuse_scores (--reuse-scores): the scores in {path} were made with different settings:\n"
                f"{listed}\n"
                "Give the model, dtype, max_tokens and scale that they were made with, or set reuse_scores=False."
            )
    if len(described) < len(inputs.sizes):
        logger.warning(_not_said(inputs, len(described), "scores of this model and scale"))


def described_scorer(text: str | bytes | None, path: str, prefix: str) -> dict[str, Any] | None:
    """What made the scores in a file, see `Scorer.describe`; None: neither the file says it nor a run's record.

    Args:
        text: what a Parquet file's schema metadata hold as `{prefix}_scorer`.
        path: the file's whole path or address.
        prefix: what the names of the score columns begin with.
    """
    return _described(text) or _described_by_run(path.rpartition("/")[0], prefix)


def _scorers(inputs: Inputs, prefix: str) -> dict[str, dict[str, Any]]:
    """The description of its scorer by file; without the files of which it is not known."""
    texts = inputs.schema_metadata(f"{prefix}_scorer") if inputs.is_parquet else [None] * len(inputs.sizes)
    paths = zip(inputs.sizes, texts, strict=True)
    found = {path: described_scorer(text, path_in(inputs.folder, path), prefix) for path, text in paths}
    return {path: scorer for path, scorer in found.items() if scorer is not None}


def _described(text: str | bytes | None) -> dict[str, Any] | None:
    try:
        scorer = json.loads(text or "null")
    except ValueError:  # another program's entry of that name
        return None
    is_ours = isinstance(scorer, dict) and "fingerprint" in scorer and isinstance(scorer.get("parts"), dict)
    return scorer if is_ours else None


@lru_cache
def _described_by_run(folder: str, prefix: str) -> dict[str, Any] | None:
    """What the record of the run says that wrote a folder of rows."""
    root, _, name = folder.rpartition("/")
    try:
        run = recorded_run(get_datafolder(root or "/")) or {}
    except (ValueError, OSError):
        return None
    if name not in run.get("folders", ROW_FOLDERS):
        return None
    filters = [run, *run.get("filters", ())]
    return next((found["scorer"] for found in filters if found.get("prefix") == prefix and found.get("scorer")), None)


def _not_said(inputs: Inputs, known: int, taken_for: str) -> str:
    return (
        f"{len(inputs.sizes) - known} of {len(inputs.sizes)} files do not say what made the scores in them (Parquet "
        f"files that were scored here do, and JSONL files in a run's folder): they are taken for {taken_for}."
    )
