"""Columns that the user names must be in the input: a misspelt one would be read as empty, and change every score."""

from collections.abc import Callable
from dataclasses import fields
from itertools import islice
from typing import TYPE_CHECKING, Any

from loguru import logger

from datatrove_quality.rows.json_values import json_text
from datatrove_quality.rows.layouts import Where, nested_metadata
from datatrove_quality.rows.types import InvalidConversation, Row, cut, shown


if TYPE_CHECKING:
    from datatrove_quality.runs.inputs import Inputs

# Of all files looked at, in equal parts: a column that few rows have must not pass for a misspelt one.
SAMPLE_ROWS = 100_000
MAX_FILES = 100
_PARAMETERS = ("id_key", *(field.name for field in fields(Where) if field.name != "schema"))


def require_named_columns(inputs: "Inputs", adapter: Callable) -> None:
    """Refuse a column that an adapter names and no file has in its first rows.

    Args:
        inputs: the files, of which the first `MAX_FILES` are looked at.
        adapter: makes a document of a row.

    Raises:
        ValueError: there is such a column; names the parameter, and the columns that there are.
    """
    sought = _Sought(_named(adapter))
    if not sought.missing:
        return
    reader = inputs.reader(sought)
    logger.disable("datatrove_quality.readers")  # what they warn of is left to who reads all
    try:
        paths = list(inputs.sizes)[:MAX_FILES]
        for path in paths:
            for _ in islice(reader.read_file(path), SAMPLE_ROWS // len(paths)):
                if not sought.missing:
                    return
    finally:
        logger.enable("datatrove_quality.readers")
    if sought.count:
        named = ", ".join(f"{parameter}={value!r}" for parameter, value in sought.missing.values())
        there = cut(", ".join(map(shown, sought.columns)), 1_000)
        todo = "Give the names one by one, without commas" if "," in "".join(sought.missing) else "Correct the name"
        raise ValueError(
            f"{named}: none of the first {sought.count} rows has such a column; there are {there}. {todo}."
        )


def _named(adapter: Any) -> dict[str, tuple[str, Any]]:
    """By column, the parameter that names it, and the parameter's value; a default is not the user's."""
    found: dict[str, tuple[str, Any]] = {}
    for parameter in _PARAMETERS:
        value = getattr(adapter, parameter, None)
        if value is None or value == getattr(type(adapter), parameter, None):
            continue
        columns = (value,) if isinstance(value, str) else value
        found |= {column: (parameter, value if isinstance(value, str) else (column,)) for column in columns}
    return found


class _Sought:
    """An adapter that looks at the columns of rows alone.

    Args:
        named: see `_named`.

    Attributes:
        missing: those that no row has had.
        columns: that the rows have.
        count: of the rows.
    """

    def __init__(self, named: dict[str, tuple[str, Any]]):
        self.missing = dict(named)
        self.columns: dict[str, None] = {}
        self.count = 0

    def __call__(self, reader: Any, row: Row, path: str, id_in_file: int | str) -> dict[str, Any]:
        """A document with nothing in it, since DataTrove's readers want one."""
        if isinstance(row, dict):
            self._look_at(row)
        return {"text": "-", "id": "-", "metadata": {}}

    def _look_at(self, row: Row) -> None:
        try:
            nested = nested_metadata(row) or {} if "metadata" in row else {}
        except InvalidConversation:
            nested = {}
        self.count += 1
        self.columns |= dict.fromkeys(name for name in (*row, *nested) if isinstance(name, str))
        for name, (parameter, _) in list(self.missing.items()):
            # Of `ignored_columns`, keys of messages too, which may be JSON texts.
            is_within = parameter == "ignored_columns" and json_text(name)[1:-1] in json_text(row)
            if name in row or name in nested or is_within:
                del self.missing[name]
