"""A conversation in, token ids out: chat template, tokenization, truncation, as the model card's example does them."""

import codecs
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from datatrove_quality.config import Unscorable
from datatrove_quality.model.direct_rendering import Render, direct_rendering, is_plain
from datatrove_quality.model.template_checks import TemplateChecks, require_all_rendered, writes_date
from datatrove_quality.model.template_limits import at_date, limit_template
from datatrove_quality.rows.json_values import texts_in
from datatrove_quality.rows.normal_form import parsed
from datatrove_quality.rows.roles import ASSISTANT, SYSTEM, TOOL, USER
from datatrove_quality.rows.types import Conversation, ConversationWithArguments


if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer
    from transformers import BatchEncoding, PreTrainedTokenizerBase


# A text with more than this for each token that is kept is cut before it is tokenized: megabytes take seconds.
CHARACTERS_PER_TOKEN = 16
# Two words that are plain letters at their ends.
BOUNDARY = re.compile(r"[^\W\d_][ \n,.;:!?，。、；：！？][^\W\d_]|[^\W\d_][,.;:!?] [^\W\d_]")


@dataclass(frozen=True, slots=True)
class TokenizedText:
    """A text as the model reads it.

    Args:
        ids: token ids, special tokens included; never empty.
        truncated: whether the text had more tokens than `max_tokens`.
    """

    ids: list[int]
    truncated: bool


class Renderer:
    """Renders conversations with the tokenizer's chat template and tokenizes them.

    Truncation is state on a Hugging Face tokenizer, so a renderer takes the tokenizer for itself, and one thread at a
    time tokenizes.

    Args:
        tokenizer: the model's.
        max_tokens: longer texts are cut, on the right unless the tokenizer's `truncation_side` is "left"; special
            tokens stay.
        chat_template: the text of a Jinja template; None: the tokenizer's own.
        add_special_tokens: whether the tokenizer adds its special tokens around the text.
        known_tokens: how many tokens the model has embeddings for, where the tokenizer has more. None: it has not.
        date: what the template takes for now, in ISO format. None: the day on which the renderer is made.

    Raises:
        ValueError: `max_tokens` leaves no room for text beside the special tokens.
    """

    def __init__(
        self,
        tokenizer: "PreTrainedTokenizerBase",
        max_tokens: int,
        chat_template: str | None = None,
        add_special_tokens: bool = True,
        known_tokens: int | None = None,
        date: str | None = None,
    ):
        special_tokens = tokenizer.num_special_tokens_to_add() if add_special_tokens else 0
        if max_tokens <= special_tokens:
            raise ValueError(
                f"max_tokens={max_tokens}: the tokenizer adds {special_tokens} special tokens to each text, "
                f"so set at least {special_tokens + 1}."
            )
        self.date = date or datetime.now().date().isoformat()
        self.tokenizer = tokenizer
        self._tokenizing = threading.Lock()
        self.max_tokens = max_tokens
        self.chat_template = chat_template
        self.add_special_tokens = add_special_tokens
        self.known_tokens = known_tokens

    def require_template(self) -> None:
        """Find out before any work starts whether conversations can be rendered.

        Raises:
            ValueError: there is no chat template, it is no Jinja template, it leaves messages out, or does not end.
        """
        from jinja2 import TemplateSyntaxError

        try:
            texts = require_all_rendered(self._apply_template)
        except Unscorable as error:
            if isinstance(error.__cause__, TemplateSyntaxError):
                raise ValueError(f"chat_template: it is no Jinja template: {error.__cause__}") from error
            return  # it may want other roles: documents will show
        self.require_known_tokens(texts)

    def require_known_tokens(self, texts: list[str]) -> None:
        """Find out before any work starts whether tokens that occur in every text are known to the model.

        Args:
            texts: rendered texts without special tokens of their own.

        Raises:
            ValueError: the template or the tokenizer adds a token for which the model has no embedding.
        """
        for result in self.tokenize(texts):
            if isinstance(result, Unscorable) and result.reason == "unknown_token":
                raise ValueError(
                    f"{result}: tokenizer and model do not belong together, or the embeddings were not resized."
                )

    def encode(self, inputs: Sequence[Conversation | str | Unscorable]) -> list[TokenizedText | Unscorable]:
        """Tokenize conversations and plain texts.

        Args:
            inputs: conversations (lists of messages) in any form, texts, or what is known to be unscorable already.

        Returns:
            For each input, in order, its tokens or why it has no tokens.

        Raises:
            ValueError: a conversation is given and there is no chat template.
        """
        texts = [self.render(parsed(item)) for item in inputs]
        tokenized = iter(self.tokenize([text for text in texts if isinstance(text, str)]))
        return [next(tokenized) if isinstance(text, str) else text for text in texts]

    def control_token_in(self, item: Conversation | str) -> str | None:
        """A token that only templates and tokenizers should write, such as "<|im_end|>", spelled out in an input.

        Args:
            item: a conversation in normal form, see `rows.normal_form`, or a text. Of a conversation, all values are
                searched.

        Returns:
            The first token found; None: no such token. What a template puts together by deleting parts of a message is
            not found.
        """
        if isinstance(item, str):
            texts = [item]
        else:
            # Joined, since a template may put nothing between two messages.
            texts = ["".join([message["content"] for message in item])]
            unusual = [message for message in item if len(message) > 2 or message["role"] not in self._usual_roles]
            others = [value for message in unusual for key, value in message.items() if key != "content"]
            if others or arguments_of(item):
                texts += texts_in([*others, arguments_of(item)], keys=True)
        try:
            return next((found[0] for found in map(self._spelled_out, texts) if found), None)
        except UnicodeEncodeError:
            return None  # a lone surrogate, which is unscorable for itself

    def _spelled_out(self, text: str) -> list[str]:
        # Nearly all texts hold not even the beginning of a control token.
        if self._beginnings and not self._may_spell_out(text):
            return []
        return self._control_tokens.encode(text).tokens

    def _may_spell_out(self, text: str) -> bool:
        # A character is found thirty times as fast as two, and most texts lack even that.
        return any(beginning[0] in text and beginning in text for beginning in self._beginnings)

    @cached_property
    def _usual_roles(self) -> frozenset[str]:
        """Roles that nearly all messages have, and that hold no control token."""
        return frozenset(role for role in (USER, ASSISTANT, SYSTEM, TOOL) if not self._spelled_out(role))

    @cached_property
    def _beginnings(self) -> set[str]:
        """What control tokens begin with; empty where a normalizer may turn other characters into them."""
        tokens = self._control_tokens.get_added_tokens_decoder().values()
        return set() if any(token.normalized for token in tokens) else {token.content[:2] for token in tokens}

    @cached_property
    def _control_tokens(self) -> "Tokenizer":
        """A tokenizer that knows the control tokens and no other: it finds them as the real one does, and as fast."""
        from tokenizers import AddedToken, Tokenizer, models

        special = [token for token in self.tokenizer.added_tokens_decoder.values() if token.special]
        known = {token.content for token in special}
        special += [AddedToken(name, special=True) for name in self.tokenizer.all_special_tokens if name not in known]
        finder = Tokenizer(models.BPE())
        if self.tokenizer.is_fast and self.tokenizer.backend_tokenizer.normalizer is not None:
            finder.normalizer = self.tokenizer.backend_tokenizer.normalizer
        finder.add_special_tokens([token for token in special if token.content])
        return finder

    def render(self, item: Conversation | str | Unscorable) -> str | Unscorable:
        """The text of an input, or why it has no text.

        Args:
            item: a conversation in normal form, see `rows.normal_form`; a text; or why there is neither.
        """
        return self.render_checked(item)[0]

    def render_checked(self, item: Conversation | str | Unscorable) -> tuple[str | Unscorable, bool]:
        """As `render`; and whether the template leaves out a part of a message that it renders."""
        if isinstance(item, str | Unscorable):
            return self._text_or_reason(item), False
        try:
            text, left_out = self.template.rendered(item, arguments_of(item))
        except Unscorable as error:
            return error, False
        return self._text_or_reason(text), left_out

    @cached_property
    def template(self) -> TemplateChecks:
        """What the chat template is known to do."""
        return TemplateChecks(self._apply_template)

    @cached_property
    def writes_date(self) -> bool:
        """Whether the chat template writes the date into texts."""
        has_template = self.chat_template is not None or bool(self.tokenizer.chat_template)
        return has_template and writes_date(self._apply_now)

    @cached_property
    def _now(self) -> datetime:
        return datetime.fromisoformat(self.date)

    def _text_or_reason(self, text: str | Unscorable) -> str | Unscorable:
        if isinstance(text, Unscorable):
            return text
        try:
            codecs.utf_16_le_encode(text)  # a tenth of the time of UTF-8
        except UnicodeEncodeError:
            return Unscorable("lone_surrogate", "the text holds half of a surrogate pair, which no tokenizer takes")
        return (
            text
            if text and not text.isspace()
            else Unscorable("empty_text", "the text has no character but white space")
        )

    def _apply_template(self, conversation: Conversation, arguments: dict[str, Any]) -> str:
        with at_date(self._now):
            return self._apply_now(conversation, arguments)

    def _apply_now(self, conversation: Conversation, arguments: dict[str, Any]) -> str:
        if self.chat_template is None and not self.tokenizer.chat_template:
            raise ValueError(
                f"The tokenizer of {self.tokenizer.name_or_path!r} has no chat template to render conversations with. "
                "Set chat_template=... to the template that the classifier was trained with; "
                "to score plain text, set messages_key=None (in a filter) or pass strings (to a scorer)."
            )
        try:
            if not arguments and self._render_plain is not None and is_plain(conversation):
                return self._render_plain(conversation)
            limited = limit_template(self.tokenizer.get_chat_template(self.chat_template, arguments.get("tools")))
            template = self.chat_template if limited is None else limited.name
            return str(
                self.tokenizer.apply_chat_template(conversation, chat_template=template, tokenize=False, **arguments)
            )
        except (MemoryError, OSError):  # which may pass: no verdict on the conversation
            raise
        except Exception as error:  # templates raise what they like: TemplateError, TypeError, UndefinedError, ...
            raise Unscorable(
                "template_error", f"the chat template refused the conversation: {error!s:.500}"
            ) from error

    @cached_property
    def _render_plain(self) -> Render | None:
        return direct_rendering(self.tokenizer, self.chat_template)

    def tokenize(self, texts: list[str]) -> list[TokenizedText | Unscorable]:
        """The tokens of rendered texts, cut at `max_tokens`, or why they have no tokens."""
        if not texts:
            return []
        with self._tokenizing:
            ids, encodings = self._encode([self._decisive_part(text) for text in texts])
            return [
                self._tokenized(ids[index], encodings[index] if encodings else None, texts[index])
                for index in range(len(texts))
            ]

    def model_inputs(self, text: str, max_tokens: int) -> "BatchEncoding":
        """The model's own arguments for one text, as the tokenizer alone prepares them, cut at so many tokens."""
        with self._tokenizing:
            return self.tokenizer(text, return_tensors="pt", **self._tokenizer_arguments | {"max_length": max_tokens})

    def _encode(self, texts: list[str]) -> "tuple[list[list[int]], list[Encoding] | None]":
        """The token ids of texts, and what the Rust library says of them; None: the tokenizer is pure Python."""
        if not self._is_rust_alone:
            encoded = self._call_tokenizer(texts)
            return encoded["input_ids"], encoded.encodings
        self._call_tokenizer([""])  # makes the settings that hold for all calls
        # Without offsets, which are not needed, it takes a sixth less.
        encodings = self.tokenizer.backend_tokenizer.encode_batch_fast(
            texts, add_special_tokens=self.add_special_tokens
        )
        return [encoding.ids for encoding in encodings], encodings

    @cached_property
    def _is_rust_alone(self) -> bool:
        """Whether the tokenizer hands texts to the Rust library as they are."""
        from transformers import TokenizersBackend

        kind = type(self.tokenizer)
        return isinstance(self.tokenizer, TokenizersBackend) and all(
            getattr(kind, name) is getattr(TokenizersBackend, name) for name in ("__call__", "_encode_plus")
        )

    def _decisive_part(self, text: str) -> str:
        """Of a text far too long, the part that determines the tokens kept; the whole text where that is not sure.

        A tokenizer divides a text into words before it looks into them, and where a word ends depends on the text
        around it: digits may be grouped from the right, tokens may swallow white space. None looks across two letters
        with a space or mark between them. Therefore the part must have such a boundary between the kept tokens and all
        that the cut may have torn.
        """
        keeps_end = self.tokenizer.truncation_side == "left"
        length = CHARACTERS_PER_TOKEN * self.max_tokens
        while length < len(text):
            part = text[-length:] if keeps_end else text[:length]
            encodings = self._call_tokenizer([part]).encodings
            if encodings is None:
                return text
            is_sure, is_one_word = (self._is_sure_end if keeps_end else self._is_sure_beginning)(part, encodings[0])
            if is_sure:
                return part
            if is_one_word:
                return text
            length *= 8
        return text

    def _is_sure_beginning(self, part: str, kept: "Encoding") -> tuple[bool, bool]:
        """Whether what follows a part cannot affect the tokens kept; whether those may be of one word."""
        last = max((word for word in kept.word_ids if word is not None), default=0)
        words = (word for left_out in kept.overflowing for word in left_out.word_ids if word is not None)
        end = max((stop for _, stop in kept.offsets), default=0)
        has_boundary = BOUNDARY.search(part, end, len(part) - self._longest_token) is not None
        return max(words, default=0) > last + 2 and has_boundary, last == 0

    def _is_sure_end(self, part: str, kept: "Encoding") -> tuple[bool, bool]:
        """As `_is_sure_beginning`, of what precedes a part whose end is kept."""
        own = [word for word in kept.word_ids if word is not None]
        first = min(own, default=0)
        words = (word for left_out in kept.overflowing for word in left_out.word_ids if word is not None)
        start = min((start for start, stop in kept.offsets if stop > start), default=0)
        has_boundary = BOUNDARY.search(part, self._longest_token, start) is not None
        return min(words, default=first) < first - 2 and has_boundary, first == max(own, default=0)

    @cached_property
    def _longest_token(self) -> int:
        """Characters of the longest token that is found before a text is divided into words."""
        return max((len(token.content) for token in self.tokenizer.added_tokens_decoder.values()), default=0)

    def _call_tokenizer(self, texts: list[str]) -> Any:
        return self.tokenizer(
            texts, return_attention_mask=False, return_token_type_ids=False, **self._tokenizer_arguments
        )

    def _tokenized(self, ids: list[int], encoding: "Encoding | None", text: str) -> TokenizedText | Unscorable:
        if not ids:
            return Unscorable("no_tokens", "the tokenizer makes no token of the text")
        if self.known_tokens is not None and max(ids) >= self.known_tokens:
            token = self.tokenizer.convert_ids_to_tokens(max(ids))
            return Unscorable("unknown_token", f"the text has the token {token!r}, which the model does not know")
        return TokenizedText(ids, len(ids) >= self.max_tokens and self._overflows(encoding, text))

    @property
    def _tokenizer_arguments(self) -> dict[str, Any]:
        return {"add_special_tokens": self.add_special_tokens, "truncation": True, "max_length": self.max_tokens}

    def _overflows(self, encoding: "Encoding | None", text: str) -> bool:
        if encoding is not None:
            return bool(encoding.overflowing)
        # A tokenizer in pure Python keeps no record of what it cut: count again without the cut.
        return len(self.tokenizer(text, add_special_tokens=self.add_special_tokens)["input_ids"]) > self.max_tokens


def arguments_of(conversation: Conversation) -> dict[str, Any]:
    """What a conversation's row gives to the chat template beside the messages."""
    return conversation.template_arguments if isinstance(conversation, ConversationWithArguments) else {}
