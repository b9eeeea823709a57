"""The Arrow schema of scored rows."""

import json
from typing import TYPE_CHECKING

from datatrove_quality.config import ScorerConfig
from datatrove_quality.rows.score_columns import answer_types, cascade_types, require_prefix, score_types
from datatrove_quality.rows.types import described


if TYPE_CHECKING:
    import pyarrow as pa

    from datatrove_quality.engine.scorer import Scorer


def score_schema(
    source_schema: "pa.Schema",
    prefix: str = "quality",
    scorer: ScorerConfig | None = None,
    all_answers: bool = False,
    cascade: bool = False,
) -> "pa.Schema":
    """The schema of the scored rows: for `ParquetWriter(schema=...)`.

    Args:
        source_schema: the schema of the source files.
        prefix: the prefix of the `QualityFilter`.
        scorer: of the `QualityFilter`, required where it has several outputs; its fingerprint, name and scale are then
            carried in the schema's metadata as `{prefix}_scorer`, in JSON. Finds the model, but loads no weights.
        all_answers: of the `QualityFilter`.
        cascade: whether the `QualityFilter` has one.

    Returns:
        The source's fields and schema metadata as they are, and the nullable columns `{prefix}_score` (float64),
        `{prefix}_int_score` and `{prefix}_tokens` (int64), `{prefix}_truncated` (bool), `{prefix}_error` and
        `filter_reason` (string); with a scorer of several outputs also those of each output; with `all_answers` also
        lists; with a cascade also `{prefix}_proxy_score` (float64) and `{prefix}_scored_by` (string). A field of the
        source with such a name is replaced.

    Raises:
        ValueError: the schema is no pyarrow.Schema, the prefix is not usable, or the scorer's model cannot be found.
    """
    import pyarrow as pa

    from datatrove_quality.engine.scorer import find_scorer

    if not isinstance(source_schema, pa.Schema):
        raise ValueError(
            f"source_schema is {described(source_schema)}: give a pyarrow.Schema, such as "
            "pyarrow.parquet.read_schema(file)"
        )
    require_prefix(prefix)
    found = None if scorer is None else find_scorer(scorer)
    outputs = {} if found is None else {f"{prefix}_{name}": alias for name, alias in found.outputs.columns.items()}
    types = score_types(prefix) | outputs | (cascade_types(prefix) if cascade else {}) | {"filter_reason": "string"}
    ours = {name: pa.field(name, pa.type_for_alias(alias)) for name, alias in types.items()}
    if all_answers:
        lists = {name: pa.list_(pa.type_for_alias(alias)) for name, alias in answer_types(prefix).items()}
        ours |= {name: pa.field(name, kind) for name, kind in lists.items()}
    fields = [ours.get(field.name, field) for field in source_schema]
    names = set(source_schema.names)
    fields += [field for name, field in ours.items() if name not in names]
    key = f"{prefix}_scorer".encode()
    # An earlier scorer's entry does not describe the new scores.
    metadata = {name: value for name, value in (source_schema.metadata or {}).items() if name != key}
    if found is not None:
        metadata[key] = json.dumps(found.describe()).encode()
    return pa.schema(fields, metadata=metadata or None)


def require_writer(writer: object) -> None:
    """Refuse what is no writer of dropped documents, or would lose columns.

    Raises:
        ValueError: it is no DataTrove writer, or one of Parquet without a schema.
    """
    from datatrove.pipeline.writers.parquet import ParquetWriter

    if writer is not None and not callable(getattr(writer, "write", None)):
        raise ValueError(f"exclusion_writer={writer!r}: give a DataTrove writer, or None.")
    if isinstance(writer, ParquetWriter) and writer.schema is None:
        raise ValueError(
            "exclusion_writer: a ParquetWriter without schema= takes its columns from the first dropped document "
            "and loses those of the others; pass schema=score_schema(source_schema)."
        )


def require_output_columns(writer: object, prefix: str, scorer: "Scorer", all_answers: bool, cascade: bool) -> None:
    """Refuse a writer whose schema would lose what several outputs or answers say, or what a cascade does.

    Args:
        writer: of dropped documents; only one of Parquet has a schema.
        prefix: the prefix of the `QualityFilter`.
        scorer: of the `QualityFilter`.
        all_answers: of the `QualityFilter`.
        cascade: whether the `QualityFilter` has one.

    Raises:
        ValueError: it lacks columns; names them.
    """
    from datatrove.pipeline.writers.parquet import ParquetWriter

    if not isinstance(writer, ParquetWriter):
        return
    names = [f"{prefix}_{name}" for name in scorer.outputs.columns]
    names += [*(answer_types(prefix) if all_answers else ()), *(cascade_types(prefix) if cascade else ())]
    more = ", all_answers=True" * all_answers + ", cascade=True" * cascade
    if missing := [name for name in names if name not in writer.schema.names]:
        raise ValueError(
            f"exclusion_writer: its schema has no {', '.join(missing)}, which would be lost: pass "
            f"schema=score_schema(source_schema, {prefix!r}, scorer{more})."
        )
