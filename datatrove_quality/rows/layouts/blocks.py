"""Contents that are lists of parts: texts, and the calls and results of tools as Anthropic and Gemini have them."""

import json
from typing import Any

from datatrove_quality.rows.layouts.column_names import MEDIA, SAYS
from datatrove_quality.rows.layouts.repeated import one_of
from datatrove_quality.rows.layouts.slots import joined
from datatrove_quality.rows.roles import TOOL
from datatrove_quality.rows.types import InvalidConversation, Message, described, keys_found, shown


TEXT_PARTS = (None, "text", "input_text", "output_text")
TEXT_KEYS = ("text", "value", "content")
BESIDE_TEXT = (
    SAYS
    | MEDIA
    | {
        *("inlineData", "inline_data", "fileData", "file_data", "executableCode", "codeExecutionResult"),
    }
)
"""Keys of what a part of another kind holds; in one with a text, it would be left out."""

INPUT_KEYS = ("input", "args", "arguments")
RESULT_KEYS = ("content", "response", "output", "result")


def is_text_part(part: Any) -> bool:
    """Whether a part has no other kind than text: what is wrong with it, `part_text` says."""
    return not isinstance(part, dict) or not _block_kind(part)


def part_text(part: Any) -> str:
    """The text of a part.

    Raises:
        InvalidConversation: it has none, or more than its text.
    """
    if isinstance(part, str):
        return part
    if not isinstance(part, dict):
        raise InvalidConversation("invalid_content", f"has a content part that is {described(part)}, not a text")
    kind = part.get("type")
    if kind == "refusal" and isinstance(part.get("refusal"), str):
        return part["refusal"]
    if not (kind is None or (isinstance(kind, str) and kind in TEXT_PARTS)):
        raise InvalidConversation("unsupported_content", f"has a content part whose type is {shown(kind)}, not text")
    if other := next((key for key in BESIDE_TEXT & part.keys() if part[key]), None):
        raise InvalidConversation("unsupported_content", f"has a content part with {other!r}, which is not its text")
    text = one_of(part, TEXT_KEYS)
    if isinstance(text, str):
        return text
    if kind is None and text is None:
        raise InvalidConversation("unsupported_content", f"has a content part that is no text; {keys_found(part)}")
    raise InvalidConversation("invalid_content", f"has a text part whose text is {described(text)}")


def _block_kind(part: Message) -> str:
    """What a part is, if it is a thought, a call or a call's result; "": anything else."""
    kind = part.get("type")
    if isinstance(kind, str) and kind in ("thinking", "tool_use", "tool_result"):
        return kind
    if part.get("thought") is True:
        return "thinking"
    for key, name in (("functionCall", "tool_use"), ("functionResponse", "tool_result")):
        if isinstance(part.get(key) or part.get(_snake_case(key)), dict):
            return name
    return ""


def _snake_case(key: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in key)


def turns_of_blocks(message: Message, parts: list[Any]) -> list[Message]:
    """The turns in a message whose content holds thoughts, calls or results of calls.

    Args:
        message: its role and other keys.
        parts: of its content.

    Returns:
        A turn for each result of a call, and one for the texts, thoughts and calls between two of them.

    Raises:
        InvalidConversation: a part is none of these, or there is none.
    """
    turns: list[Message] = []
    texts: list[str] = []
    thoughts: list[str] = []
    calls: list[Message] = []

    def end_turn() -> None:
        if not (texts or thoughts or calls):
            return
        made = {**message, "content": joined("", texts) if texts else ""}
        if thoughts:
            made["reasoning_content"] = joined("\n\n", thoughts)
        if calls:
            made["tool_calls"] = [*made.get("tool_calls", []), *calls]
        turns.append(made)
        for collected in (texts, thoughts, calls):
            collected.clear()

    for part in parts:
        kind = _block_kind(part) if isinstance(part, dict) else ""
        if kind == "thinking":
            thoughts.append(part_text({"text": one_of(part, ("thinking", *TEXT_KEYS))}))
        elif kind == "tool_use":
            calls.append(_call(part))
        elif kind == "tool_result":
            end_turn()
            turns.append(_result(part))
        else:
            texts.append(part_text(part))
    end_turn()
    if not turns:
        raise InvalidConversation("missing_content", "has a content without any part")
    return turns


def _made(part: Message, name: str) -> Message:
    """The object in a part of Gemini's, which has nothing beside it; of Anthropic's the part itself."""
    made: Message | None = one_of(part, (name, _snake_case(name)))
    if made is None:
        return part
    if not isinstance(made, dict):
        raise InvalidConversation("invalid_content", f"has a {name} that is {described(made)}, not an object")
    if text := next((other for other in TEXT_KEYS if part.get(other)), None):
        raise InvalidConversation("unused_column", f"has {text!r} beside {name!r} in one part")
    return made


def _call(part: Message) -> Message:
    made = _made(part, "functionCall")
    arguments = one_of(made, INPUT_KEYS)
    function = {"name": made.get("name"), "arguments": {} if arguments is None else arguments}
    call = {"type": "function", "function": function}
    return ({"id": part["id"]} if isinstance(part.get("id"), str) else {}) | call


def _result(part: Message) -> Message:
    made = _made(part, "functionResponse")
    content = one_of(made, RESULT_KEYS)
    if isinstance(content, list):
        content = joined("", list(map(part_text, content)) or [""])
    elif not isinstance(content, str):
        content = "" if content is None else json.dumps(content, ensure_ascii=False)
    turn: Message = {"role": TOOL, "content": content}
    if isinstance(part.get("tool_use_id"), str):
        turn["tool_call_id"] = part["tool_use_id"]
    if isinstance(made.get("name"), str):
        turn["name"] = made["name"]
    return turn
