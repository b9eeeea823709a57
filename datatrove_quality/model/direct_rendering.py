"""Plain conversations rendered by the compiled template itself.

`apply_chat_template` copies a conversation twice before the template sees it, to make plain data of whatever a message
may hold. Of messages that are a role and a content these copies change nothing, and they take twice as long as the
template (transformers 5.24, 350 tokens).
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from datatrove_quality.model.template_limits import limit_template
from datatrove_quality.rows.types import Conversation


if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Render = Callable[[Conversation], str]

_PROBES: tuple[Conversation, ...] = (
    [{"role": "user", "content": " Olá!\n"}, {"role": "assistant", "content": "Oi, <b>tudo</b> bem? 😀"}],
    [
        {"role": "system", "content": "Responda em português."},
        {"role": "user", "content": "Quanto é 2 + 2?"},
        {"role": "assistant", "content": "4"},
        {"role": "user", "content": "E 3 + 3?"},
        {"role": "assistant", "content": "6"},
    ],
)


def is_plain(conversation: Conversation) -> bool:
    """Whether each message of a conversation in normal form is a role and a content, and nothing else."""
    return all(len(message) == 2 for message in conversation)


def direct_rendering(tokenizer: "PreTrainedTokenizerBase", chat_template: str | None) -> Render | None:
    """What renders a plain conversation as `apply_chat_template` does.

    Args:
        tokenizer: with its special tokens, which templates may name.
        chat_template: in the place of the tokenizer's own. None: that.

    Returns:
        None where there is no such way: the tokenizer has a method of its own, or the texts differ.
    """
    from transformers import PreTrainedTokenizerBase

    if type(tokenizer).apply_chat_template is not PreTrainedTokenizerBase.apply_chat_template:
        return None
    limited = limit_template(tokenizer.get_chat_template(chat_template))
    if limited is None:
        return None
    given: dict[str, Any] = {"tools": None, "documents": None, "add_generation_prompt": False}
    given |= tokenizer.special_tokens_map

    def render(conversation: Conversation) -> str:
        return limited.template.render(given, messages=conversation)

    def usual(conversation: Conversation) -> str:
        return str(tokenizer.apply_chat_template(conversation, chat_template=limited.name, tokenize=False))

    pairs = [(_text(render, probe), _text(usual, probe)) for probe in _PROBES]
    is_same = all(text == expected for text, expected in pairs) and any(text is not None for text, _ in pairs)
    return render if is_same else None


def _text(render: Render, conversation: Conversation) -> str | None:
    try:
        return render(conversation)
    except Exception:  # templates raise what they like, and some refuse a system prompt
        return None
