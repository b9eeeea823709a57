"""What a `QualityFilter` reads in a document: what of it is scored, or what is known of it already."""

from dataclasses import dataclass
from typing import NamedTuple

from datatrove.data import Document

from datatrove_quality.config import Unscorable
from datatrove_quality.engine.streaming import Input
from datatrove_quality.rows.answers import other_answers
from datatrove_quality.rows.json_values import size_of
from datatrove_quality.rows.roles import USER, is_answer, known_role
from datatrove_quality.rows.score_columns import RecordedScore, recorded_score, score_column
from datatrove_quality.rows.scored_conversation import changed_text_error, scored_conversation, text_edit
from datatrove_quality.rows.types import MESSAGES, Message, conversation_error


class Entry(NamedTuple):
    """A document on its way through the scorer, and the statistics in which it counts beside its score.

    `item` is its input. `further` inputs come after it, of the same document: its other answers.
    """

    document: Document
    notes: tuple[str, ...] = ()
    item: Input | None = None
    further: int = 0

    @property
    def size(self) -> int:
        """Roughly the bytes of the document: a window of short conversations may have large columns."""
        return size_of(self.document.metadata) + len(self.document.text)


Pair = tuple[Entry, Input]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How documents are read.

    Args:
        is_scored: whether documents are scored; else they have the scores that were recorded, or none.
        score_of: of an output of a classifier with several: the recorded score that counts. None: the one that was
            the score.
        prefix: of `QualityFilter`, as the others.
        messages_key: likewise.
        reuse_scores: likewise.
        allow_no_answer: likewise.
        accept_changed_text: likewise.
        render_tools: likewise.
    """

    is_scored: bool
    score_of: str | None
    prefix: str
    messages_key: str | None
    reuse_scores: bool
    allow_no_answer: bool
    accept_changed_text: bool
    render_tools: bool

    def read(self, document: Document) -> Pair:
        """A document and what of it is scored.

        Raises:
            ValueError: its text was edited and its conversation was not.
        """
        item = self._input(document)
        if isinstance(item, str | RecordedScore | Unscorable):
            return Entry(document), item
        notes = _notes_on_end(item[-1])
        if self.messages_key == MESSAGES and (edit := text_edit(document, item)):
            if edit == "text" and not self.accept_changed_text:
                raise changed_text_error(document)
            notes = (*notes, "changed_text" if edit == "text" else "changed_white_space")
        return Entry(document, notes, item), item

    def read_answers(self, document: Document) -> list[Pair]:
        """As `read`, once for each of the document's answers.

        Raises:
            ValueError: as `read`; or its conversation was edited and its other answers were not.
        """
        entry, item = self.read(document)
        if isinstance(item, str | RecordedScore | Unscorable):
            return [(entry, item)]
        others = other_answers(document, item)
        return [(entry._replace(further=len(others)), item), *((Entry(document), other) for other in others)]

    def _input(self, document: Document) -> Input:
        """What of a document is scored, or what is known: its score, or why it has none."""
        if self.reuse_scores or not self.is_scored:
            recorded = recorded_score(document.metadata, self.prefix, self.score_of)
            if isinstance(recorded, RecordedScore) or (recorded is not None and not self.is_scored):
                return recorded
        if (error := conversation_error(document.metadata)) is not None:
            return error
        if not self.is_scored:
            column = score_column(document.metadata, self.prefix, self.score_of)
            return Unscorable("missing_score", f"the document has no metadata {column!r}")
        if self.messages_key is None:
            text: object = document.text
            if isinstance(text, str):
                return text
            return Unscorable("invalid_text", f"the document's text is of type {type(text).__name__}")
        try:
            return scored_conversation(document, self.messages_key, self.render_tools, self.allow_no_answer)
        except Unscorable as invalid:
            return invalid


def _notes_on_end(message: Message) -> tuple[str, ...]:
    """What is counted of a conversation's last message: that it is the user's, or that it says nothing."""
    if known_role(message["role"]) == USER:
        return ("ends_with_user",)
    content, is_alone = message["content"], message.keys() <= {"role", "content"}  # neither calls nor thoughts
    return ("empty_answer",) if is_alone and is_answer(message["role"]) and not content.strip() else ()
