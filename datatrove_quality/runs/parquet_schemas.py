"""The columns of several Parquet files together, where no value of any file would change."""

from typing import TYPE_CHECKING


if TYPE_CHECKING:
    import pyarrow as pa


def common_schema(schemas: "list[pa.Schema]") -> "pa.Schema":
    """The columns of all files, without metadata.

    Raises:
        pyarrow.ArrowException: two files disagree about a column.
    """
    import pyarrow as pa

    merged = pa.unify_schemas(schemas, promote_options="permissive")
    _refuse_loss(schemas, merged)
    return merged


def _refuse_loss(schemas: "list[pa.Schema]", merged: "pa.Schema") -> None:
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
