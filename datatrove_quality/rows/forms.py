"""Forms of values that only the type of their column tells: JSON text, maps, numbers for the names of roles.

`datasets` writes messages as JSON text with the type `arrow.json` as soon as one of them has a key that another lacks;
DuckDB makes maps of objects. Such a row carries its values as they are to be read, the row as it is stored, and the
forms of its columns. A form is plain data, which a document carries, so that an edited conversation is written back
into the stored row:

    "json"              JSON text
    {"list": form}      a list of such values
    {"struct": forms}   an object, of which some keys have a form
    {"map": form}       a map, which Arrow gives as a list of pairs; null: its values are plain
    {"names": [...]}    numbers for names
"""

from typing import Any

from datatrove_quality.rows.layouts.slots import decoded
from datatrove_quality.rows.types import InvalidConversation, Row


Form = Any  # JSON values as above, which have no recursive type that mypy and pickled documents share
Forms = dict[str, Form]


class DecodedRow(dict[str, Any]):
    """A row whose values can be read without its types.

    Args:
        stored: the columns as they are stored, which are written back.
        forms: of those columns whose values are stored otherwise than they are to be read.
    """

    def __init__(self, stored: Row, forms: Forms) -> None:
        super().__init__(decoded_columns(stored, forms))
        self.stored = stored
        self.forms = forms


def decoded_columns(row: Row, forms: Forms) -> Row:
    """The columns as they are to be read; texts that know their places in a row still do."""
    return {**row, **{name: _decoded(row[name], form) for name, form in forms.items() if name in row}}


def _decoded(value: Any, form: Form) -> Any:
    if value is None or form is None:
        return value
    if form == "json":
        return _from_json(value)
    ((kind, inner),) = form.items()
    if kind == "list":
        return [_decoded(item, inner) for item in value]
    if kind == "struct":
        return {**value, **{name: _decoded(value[name], part) for name, part in inner.items()}}
    if kind == "map":
        return {key: _decoded(item, inner) for key, item in value}
    return inner[value] if isinstance(value, int) and 0 <= value < len(inner) else value


def _from_json(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return decoded(value)
    except InvalidConversation:
        return value
