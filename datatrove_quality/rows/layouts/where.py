"""Where in a row the conversation is: the schema and the columns that a user names."""

from dataclasses import dataclass, fields
from typing import Any

from datatrove_quality.rows.layouts.column_names import SCHEMAS


@dataclass(frozen=True)
class Where:
    """The schema of rows, and the columns that a user names.

    Args:
        schema: how a row holds its conversation; "auto" goes by the columns.
        messages_key: the column of the list of messages.
        prompt_key: the column of the question.
        answer_key: the column of the answer.
        system_key: the column of the system prompt.
        history_key: the column of the turns before the question.
        ignored_columns: columns, and keys of messages, that hold no part of the conversation, whatever their names.

    Raises:
        ValueError: the schema is unknown, or a name is not usable or does not go with another.
    """

    schema: str = "auto"
    messages_key: str | None = None
    prompt_key: str | None = None
    answer_key: str | None = None
    system_key: str | None = None
    history_key: str | None = None
    ignored_columns: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.schema not in SCHEMAS:
            raise ValueError(f"schema={self.schema!r} is unknown: use one of {', '.join(map(repr, SCHEMAS))}")
        for name in ("messages_key", "prompt_key", "answer_key", "system_key", "history_key"):
            if getattr(self, name) is not None:
                require_column_name(name, getattr(self, name))
        if isinstance(self.ignored_columns, str) or not isinstance(self.ignored_columns, tuple | list):
            raise ValueError(f"ignored_columns={self.ignored_columns!r}: give a tuple of column names")
        for column in self.ignored_columns:
            require_column_name("ignored_columns", column)
        if self.messages_key is not None and self.schema not in ("auto", "messages", "sharegpt"):
            raise ValueError(
                f"messages_key={self.messages_key!r} does not go with schema={self.schema!r}, whose columns have "
                "fixed names: omit messages_key, or use schema='messages' or 'sharegpt'"
            )
        if self.prompt_key is not None and (self.messages_key is not None or self.schema != "auto"):
            other = "messages_key" if self.messages_key is not None else "schema"
            raise ValueError(
                f"prompt_key={self.prompt_key!r} does not go with {other}={getattr(self, other)!r}: omit one of them"
            )

    def settings(self) -> dict[str, Any]:
        """The fields that are not the defaults."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value != getattr(Where, name)}


def require_column_name(field_name: str, value: Any) -> None:
    """Refuse what is no column name."""
    if not isinstance(value, str) or not value:
        raise ValueError(f"{field_name}={value!r} is no column name: give a non-empty string")
