"""The Arrow schema of scored rows."""

import json
from typing import TYPE_CHECKING

from datatrove_quality.config import ScorerConfig
from datatrove_quality.rows.score_columns import check_prefix, score_types
from datatrove_quality.rows.types import described


if TYPE_CHECKING:
    import pyarrow as pa


def score_schema(
    source_schema: "pa.Schema", prefix: str = "quality", scorer: ScorerConfig | None = None
) -> "pa.Schema":
    """The schema of the scored rows: for `ParquetWriter(schema=...)`.

    Args:
        source_schema: the schema of the source files.
        prefix: the prefix of the `QualityFilter`.
        scorer: of the `QualityFilter`; its fingerprint, name and scale are then carried in the schema's metadata as
            `{prefix}_scorer`, in JSON. Finds the model, but loads no weights.

    Returns:
        The source's fields and schema metadata as they are, and the nullable columns `{prefix}_score` (float64),
        `{prefix}_int_score` and `{prefix}_tokens` (int64), `{prefix}_truncated` (bool), `{prefix}_error` and
        `filter_reason` (string). A field of the source with such a name is replaced.

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
    check_prefix(prefix)
    types = score_types(prefix) | {"filter_reason": "string"}
    ours = {name: pa.field(name, pa.type_for_alias(alias)) for name, alias in types.items()}
    fields = [ours.get(field.name, field) for field in source_schema]
    names = set(source_schema.names)
    fields += [field for name, field in ours.items() if name not in names]
    key = f"{prefix}_scorer".encode()
    # An earlier scorer's entry does not describe the new scores.
    metadata = {name: value for name, value in (source_schema.metadata or {}).items() if name != key}
    if scorer is not None:
        metadata[key] = json.dumps(find_scorer(scorer).describe()).encode()
    return pa.schema(fields, metadata=metadata or None)
