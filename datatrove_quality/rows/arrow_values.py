"""Values of Arrow columns: as the conversation is read from them, and as they are stored and written back.

Some columns hold a conversation in a form that only their types tell, see `forms.py`.
"""

import json
import uuid
from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from datatrove_quality.rows.forms import Form, Forms
from datatrove_quality.rows.types import Row


if TYPE_CHECKING:
    import pyarrow as pa


def column_forms(schema: "pa.Schema") -> Forms:
    """The forms of the columns of which the types say more than the values."""
    features = features_of(schema)
    forms = {field.name: _form(field.type, features.get(field.name)) for field in schema}
    return {name: form for name, form in forms.items() if form is not None}


def features_of(schema: "pa.Schema") -> dict[str, Any]:
    """What the `datasets` library says of the columns."""
    try:
        found = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
    except (ValueError, KeyError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}


def _form(kind: "pa.DataType", feature: Any) -> Form:
    """The form of a type's values; None: they are as they are to be read."""
    import pyarrow as pa
    from pyarrow import types

    if isinstance(kind, pa.BaseExtensionType):
        return "json" if kind.extension_name == "arrow.json" else None
    if isinstance(feature, dict) and feature.get("_type") == "ClassLabel":
        return {"names": feature.get("names") or []}
    if types.is_map(kind):
        return {"map": _form(kind.item_type, None)}
    if types.is_struct(kind):
        parts = feature if isinstance(feature, dict) else {}
        forms = {field.name: _form(field.type, parts.get(field.name)) for field in kind}
        found = {name: form for name, form in forms.items() if form is not None}
        return {"struct": found} if found else None
    if types.is_list(kind) or types.is_large_list(kind):
        form = _form(kind.value_type, item_feature(feature))
        return None if form is None else {"list": form}
    return None


def item_feature(feature: Any) -> Any:
    """What a list's feature says of its items."""
    if isinstance(feature, list):
        return feature[0] if feature else None
    return feature.get("feature") if isinstance(feature, dict) else None


def has_numbers(schema: "pa.Schema", column: str) -> bool:
    """Whether a column is there, and is of numbers."""
    from pyarrow import types

    kind = schema.field(column).type if column in schema.names else None
    return kind is not None and (types.is_integer(kind) or types.is_floating(kind))


# --- rows of a batch, and a batch of rows ----------------------------------------------------------------------------


def rows_of_batch(batch: "pa.RecordBatch") -> list[Row]:
    """The rows of a batch; a value that Python has no type for, such as a date beyond its calendar, stays Arrow's.

    Raises:
        UnicodeDecodeError: a text is not UTF-8.
    """
    columns = [_column_values(column) for column in batch.columns]
    names = batch.schema.names
    return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)] if names else []


def _column_values(column: "pa.Array") -> list[Any]:
    from pyarrow import types

    # Python's times have microseconds.
    if not any(types.is_time64(kind) and kind.unit == "ns" for kind in _types_in(column.type)):
        try:
            return column.to_pylist()
        except UnicodeDecodeError:
            raise
        except (ValueError, OverflowError):
            pass
    return list(map(_python_value, column))


def _python_value(value: "pa.Scalar") -> Any:
    """A value in Python's types, in which what they cannot hold stays Arrow's, at any depth."""
    from pyarrow import types

    kind = value.type
    if not value.is_valid:
        return None
    if types.is_struct(kind):
        return {name: _python_value(item) for name, item in value.items()}
    if types.is_map(kind):
        return [(_python_value(pair["key"]), _python_value(pair["value"])) for pair in value.values]
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return list(map(_python_value, value.values))
    if types.is_time64(kind) and kind.unit == "ns":
        return value
    try:
        return value.as_py()
    except UnicodeDecodeError:
        raise
    except (ValueError, OverflowError):
        return value


def scalar_text(value: "pa.Scalar") -> str:
    """A value that stayed Arrow's, for a file of JSON."""
    import pyarrow as pa

    return str(value.cast(pa.string()).as_py())


def record_batch(rows: list[Row], schema: "pa.Schema | None") -> "pa.RecordBatch":
    """A batch of rows, with extension types too, which Arrow does not make of Python's values itself."""
    import pyarrow as pa

    if schema is None or not any(_has_extension(field.type) for field in schema):
        return pa.RecordBatch.from_pylist(rows, schema=schema)
    stored = pa.schema([field.with_type(_storage(field.type)) for field in schema])
    types = {field.name: field.type for field in schema if _has_extension(field.type)}
    values = [{**row, **{name: _stored_value(row.get(name), kind) for name, kind in types.items()}} for row in rows]
    return pa.RecordBatch.from_pylist(values, schema=stored).cast(schema)


@lru_cache(maxsize=16)
def nested_extension(schema: "pa.Schema | None") -> str | None:
    """The first column with an extension type inside another type, of which Arrow makes no array itself."""
    import pyarrow as pa

    fields = [] if schema is None else [field for field in schema if _has_extension(field.type)]
    return next((field.name for field in fields if not isinstance(field.type, pa.BaseExtensionType)), None)


def _types_in(kind: "pa.DataType") -> "Iterable[pa.DataType]":
    yield kind
    for index in range(kind.num_fields):
        yield from _types_in(kind.field(index).type)


def _has_extension(kind: "pa.DataType") -> bool:
    import pyarrow as pa

    return any(isinstance(part, pa.BaseExtensionType) for part in _types_in(kind))


def _storage(kind: "pa.DataType") -> "pa.DataType":
    """The type in which the values of a type are kept, without extensions."""
    import pyarrow as pa
    from pyarrow import types

    if isinstance(kind, pa.BaseExtensionType):
        return _storage(kind.storage_type)
    if types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_storage(kind.value_type)))
    if types.is_large_list(kind):
        return pa.large_list(kind.value_field.with_type(_storage(kind.value_type)))
    if types.is_fixed_size_list(kind):
        return pa.list_(kind.value_field.with_type(_storage(kind.value_type)), kind.list_size)
    if types.is_map(kind):
        return pa.map_(_storage(kind.key_type), kind.item_field.with_type(_storage(kind.item_type)), kind.keys_sorted)
    if types.is_struct(kind):
        return pa.struct([field.with_type(_storage(field.type)) for field in kind])
    return kind


def _stored_value(value: Any, kind: "pa.DataType") -> Any:
    """The value as its type stores it; what is not of the type stays, for Arrow to refuse."""
    import pyarrow as pa
    from pyarrow import types

    if isinstance(kind, pa.BaseExtensionType):
        if isinstance(value, uuid.UUID):
            return value.bytes
        return int(value) if isinstance(value, bool) else value
    if types.is_struct(kind) and isinstance(value, dict):
        kinds = {field.name: field.type for field in kind}
        return {name: _stored_value(item, kinds[name]) if name in kinds else item for name, item in value.items()}
    if types.is_map(kind) and isinstance(value, list):
        return [(_stored_value(key, kind.key_type), _stored_value(item, kind.item_type)) for key, item in value]
    if kind.num_fields == 1 and isinstance(value, list):
        return [_stored_value(item, kind.value_type) for item in value]
    return value
