"""The columns of several Parquet files together, where no value of any file would change."""

import json
from typing import TYPE_CHECKING, Any

from datatrove_quality.rows.arrow_values import features_of, item_feature


if TYPE_CHECKING:
    import pyarrow as pa


def common_schema(schemas: "list[pa.Schema]") -> "pa.Schema":
    """The columns of all files, with the first one's metadata and the labels of all.

    Raises:
        pyarrow.ArrowException: two files disagree about a column.
    """
    import pyarrow as pa

    merged = pa.unify_schemas(schemas, promote_options="permissive")
    _require_no_loss(schemas, merged)
    metadata, features = schemas[0].metadata or {}, _common_features(schemas, merged)
    if features != features_of(schemas[0]):
        metadata = metadata | {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    return merged.with_metadata(metadata or None)


def _common_features(schemas: "list[pa.Schema]", merged: "pa.Schema") -> dict[str, Any]:
    """What the files together say of their columns, as the `datasets` library writes it."""
    described = [(schema, features_of(schema)) for schema in schemas]
    found = {}
    for field in merged:
        with_it = [(schema, features) for schema, features in described if field.name in schema.names]
        files = [(schema.field(field.name).type, features.get(field.name)) for schema, features in with_it]
        found[field.name] = _common_feature(field.name, field.type, files)
    return {name: feature for name, feature in found.items() if feature is not None}


def _common_feature(name: str, kind: "pa.DataType", files: "list[tuple[pa.DataType, Any]]") -> Any:
    """What the files say of a column or a part of one; None: nothing.

    Numbers that mean one label in one file and another in the next are an error: what is written has one list.

    Args:
        name: for the message.
        kind: the common type.
        files: of each file that has it, its type and what it says.
    """
    import pyarrow as pa
    from pyarrow import types

    files = [(own, feature) for own, feature in files if not types.is_null(own)] or files
    said = next((feature for _, feature in files if feature is not None), None)
    labels = [_labels(feature) for _, feature in files]
    if other := [found for found in labels if found != labels[0]]:
        raise pa.ArrowTypeError(f"Field {name} has labels that differ: {labels[0]}, and {other[0]}")
    if types.is_struct(kind):
        parts = {field.name: _common_part(name, field, files) for field in kind}
        return {part: feature for part, feature in parts.items() if feature is not None} or said
    if types.is_list(kind) or types.is_large_list(kind):
        items = [(own.value_type, item_feature(feature)) for own, feature in files]
        item = _common_feature(name, kind.value_type, items)
        if item is not None:
            return {**said, "feature": item} if isinstance(said, dict) else [item]
    return said


def _common_part(name: str, field: "pa.Field", files: "list[tuple[pa.DataType, Any]]") -> Any:
    """As `_common_feature`, of a part of an object."""
    parts = [
        (own.field(field.name).type, feature.get(field.name) if isinstance(feature, dict) else None)
        for own, feature in files
        if own.get_field_index(field.name) >= 0
    ]
    return _common_feature(f"{name}.{field.name}", field.type, parts)


def _labels(feature: Any) -> Any:
    """The names of a column's labels; None: it has none."""
    is_label = isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
    return feature.get("names") if is_label else None


def _require_no_loss(schemas: "list[pa.Schema]", merged: "pa.Schema") -> None:
    """Columns whose common type cannot hold every file's values, or would give them back changed, are an error."""
    import pyarrow as pa

    for schema in schemas:
        for field in schema:
            if not _holds(merged.field(field.name).type, field.type):
                types = sorted({str(other.field(field.name).type) for other in schemas if field.name in other.names})
                raise pa.ArrowTypeError(f"Field {field.name} is one of {', '.join(types)}")


def _holds(wide: "pa.DataType", narrow: "pa.DataType") -> bool:
    """Whether every value of a type comes back as it was from a wider one."""
    from pyarrow import types

    if narrow.equals(wide) or types.is_null(narrow):
        return True
    if types.is_struct(narrow) and types.is_struct(wide):
        fields = (narrow.field(index) for index in range(narrow.num_fields))
        return all(_holds(wide.field(field.name).type, field.type) for field in fields)
    is_list = (types.is_list, types.is_large_list)
    if any(check(narrow) for check in is_list) and any(check(wide) for check in is_list):
        return _holds(wide.value_type, narrow.value_type)
    kinds = (
        (types.is_signed_integer,),
        (types.is_unsigned_integer,),
        (types.is_floating,),
        (types.is_decimal,),
        (types.is_string, types.is_large_string),
        (types.is_binary, types.is_large_binary),
    )
    return any(any(check(narrow) for check in kind) and any(check(wide) for check in kind) for kind in kinds)
