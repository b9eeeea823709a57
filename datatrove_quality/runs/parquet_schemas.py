"""The columns of several Parquet files together, where no value of any file would change."""

from typing import TYPE_CHECKING, Any

from datatrove_quality.rows.arrow_values import column_forms
from datatrove_quality.rows.forms import Form


if TYPE_CHECKING:
    import pyarrow as pa


def common_schema(schemas: "list[pa.Schema]") -> "pa.Schema":
    """The columns of all files, without metadata.

    Raises:
        pyarrow.ArrowException: two files disagree about a column.
    """
    import pyarrow as pa

    merged = pa.unify_schemas(schemas, promote_options="permissive")
    _require_no_loss(schemas, merged)
    _require_same_labels(schemas)
    return merged


def _require_same_labels(schemas: "list[pa.Schema]") -> None:
    """Numbers that mean one label in one file and another in the next are an error: what is written has one list."""
    import pyarrow as pa
    from pyarrow import types

    labels = [{name: _labels(form) for name, form in column_forms(schema).items()} for schema in schemas]
    for name in {name for found in labels for name in found}:
        first = labels[0].get(name)
        for schema, found in zip(schemas, labels, strict=True):
            has_values = name in schema.names and not types.is_null(schema.field(name).type)
            if has_values and found.get(name) != first:
                raise pa.ArrowTypeError(f"Field {name} has labels that differ: {first}, and {found.get(name)}")


def _labels(form: Form) -> Any:
    """The names of labels within a column's form; None: it has none."""
    if not isinstance(form, dict):
        return None
    if "names" in form:
        return form["names"]
    parts = form.get("struct")
    if not isinstance(parts, dict):
        return _labels(form.get("list", form.get("map")))
    return {name: found for name, part in parts.items() if (found := _labels(part)) is not None} or None


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
