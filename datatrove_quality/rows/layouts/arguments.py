"""Arguments for the chat template that a row carries: `chat_template_kwargs`, and tool definitions."""

from collections.abc import Iterator
from typing import Any

from loguru import logger

from datatrove_quality.rows.layouts.column_names import (
    ANSWERS,
    ENVELOPES,
    LATER_ANSWERS,
    PAIRS,
    SAYS,
    TEMPLATE_ARGUMENTS,
    TOOLS,
)
from datatrove_quality.rows.layouts.messages import without_nulls
from datatrove_quality.rows.layouts.repeated import one_of
from datatrove_quality.rows.layouts.slots import decoded
from datatrove_quality.rows.types import SOURCE, InvalidConversation, Row, described, shown


KNOWN_ARGUMENTS = frozenset(
    {
        *("custom_instructions", "documents", "model_identity", "python_tools", "xml_tools", "builtin_tools"),
        *("enable_thinking", "thinking", "thinking_mode", "reasoning", "reasoning_effort", "thinking_budget"),
        *("preserve_thinking", "clear_thinking", "tools_in_user_message", "citation_mode", "safety_mode"),
        *("date_string", "today_date", "current_date", "add_vision_id", "tools"),
    }
)
"""Arguments that chat templates of known models take. `chat_template` and `tokenize` are never among them."""


OBJECTS = frozenset({*ENVELOPES, *(pair.question for pair in PAIRS)})
"""Columns that may hold an object with messages and more."""


def template_arguments_in(value: Any) -> dict[str, Any]:
    """The arguments in a column `chat_template_kwargs`, which may be a JSON string; those that are null are left out.

    Raises:
        InvalidConversation: it is no object, or has an argument that is not in `KNOWN_ARGUMENTS`.
    """
    if isinstance(value, str):
        value = decoded(value) if value.strip() else {}
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidConversation("invalid_content", f"column {TEMPLATE_ARGUMENTS!r} is {described(value)}")
    arguments = without_nulls(value)
    for name in arguments:
        if name not in KNOWN_ARGUMENTS:
            known = ", ".join(sorted(KNOWN_ARGUMENTS))
            what = f"{TEMPLATE_ARGUMENTS!r} has {shown(name)}, which is not one of {known}"
            raise InvalidConversation("unknown_template_argument", what)
    return arguments


def arguments_of_document(metadata: Row, render_tools: bool) -> dict[str, Any]:
    """What a document's row gives to the chat template beside the messages.

    Args:
        metadata: the document's.
        render_tools: whether tool definitions are among it.

    Raises:
        InvalidConversation: as `template_arguments_in`; or the tools are no list of objects.
    """
    own = metadata.get(SOURCE, {}).get("columns") if isinstance(metadata.get(SOURCE), dict) else None
    value = metadata.get(TEMPLATE_ARGUMENTS) if own is None or TEMPLATE_ARGUMENTS in own else None
    arguments = template_arguments_in(value)
    tools = {TEMPLATE_ARGUMENTS: arguments.pop("tools", None)}
    for prefix, holder in _holders(metadata, own):
        tools |= {f"{prefix}{column}": holder.get(column) for column in TOOLS}
    if not render_tools:
        if any(tools.values()):
            _say_once()
        return arguments
    if definitions := tool_definitions(one_of(tools, tuple(tools))):
        arguments["tools"] = definitions
    return arguments


def _holders(metadata: Row, own: list[str] | None) -> Iterator[tuple[str, Row]]:
    """What may hold tool definitions: the row, and the object in a column that the conversation was read from."""
    yield "", metadata
    objects = [column for column in own or () if column in OBJECTS and isinstance(metadata.get(column), dict)]
    is_request = objects and SAYS.isdisjoint(set(own or ()) - {*ANSWERS, *LATER_ANSWERS})
    for column in objects:
        if is_request or column not in ENVELOPES:
            yield f"{column}.", metadata[column]


_said: set[str] = set()


def _say_once() -> None:
    if not _said:
        _said.add("tools")
        logger.info(
            "Rows have tool definitions, which are not rendered, as the model card's authors do not: "
            "render_tools=True (--render-tools) passes them to the chat template."
        )


def tool_definitions(value: Any) -> list[Row]:
    """Tool definitions as a chat template takes them, from a list of objects, which may be JSON strings.

    Raises:
        InvalidConversation: there are others than objects.
    """
    if isinstance(value, str):
        value = decoded(value) if value.strip() else None
    if value is None:
        return []
    listed = value if isinstance(value, list) else [value]
    tools = [decoded(tool) if isinstance(tool, str) else tool for tool in listed]
    if not all(isinstance(tool, dict) for tool in tools):
        raise InvalidConversation("invalid_tools", "the tool definitions are no list of objects")
    tools = [without_nulls(tool) for tool in tools]
    return [tool if "function" in tool else {"type": "function", "function": tool} for tool in tools]
