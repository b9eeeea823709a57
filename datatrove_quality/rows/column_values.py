"""Values of the columns by which rows are counted, audited or selected, as text."""

from typing import Any


# In place of a value that is missing, and of all values that are not told apart.
NO_VALUE = "(none)"
OTHER_VALUES = "(others)"
MAX_VALUE_CHARS = 200


def value_text(value: Any) -> str:
    """A column's value as text; `NO_VALUE` for None."""
    return NO_VALUE if value is None else str(value)
