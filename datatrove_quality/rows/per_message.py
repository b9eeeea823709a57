"""DataTrove's formatters on each message of a conversation, instead of on the document's text."""

from collections.abc import Iterator
from typing import Any

from datatrove.data import DocumentsPipeline
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.formatters.base import BaseFormatter
from datatrove.utils.typeshelper import StatHints

from datatrove_quality.rows.edits import checksum, text_of
from datatrove_quality.rows.layouts.messages import REASONING_KEYS
from datatrove_quality.rows.normal_form import conversation_of
from datatrove_quality.rows.types import MESSAGES, SOURCE, InvalidConversation, described


class PerMessage(PipelineStep):
    """Runs a DataTrove formatter on each message: `PerMessage(PIIFormatter())`.

    The formatter alone would edit `doc.text`, and the conversation would be scored and written as it was. In this step
    it edits the content of each message, and what an assistant's message has thought (`reasoning_content`); arguments
    of tool calls stay as they are. A formatter with a method `format_value` for values of any type, as `MaskPII` has,
    gets all values of the message. `doc.text` becomes the edited contents, and `RowAdapter` writes them back into the
    source's columns. A document without a conversation passes as it is: its row is kept as it was.

    Filters are not taken: their rules about length and words would drop every "Oi".

    Args:
        formatter: any of DataTrove's formatters.

    Raises:
        ValueError: it is no formatter.
    """

    type = "✂️ - FORMAT"
    name = "💬 Per message"

    def __init__(self, formatter: BaseFormatter):
        super().__init__()
        if not isinstance(formatter, BaseFormatter):
            raise ValueError(
                f"formatter is {described(formatter)}: give a DataTrove formatter, such as PIIFormatter()."
            )
        self.formatter = formatter

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> Iterator[Any]:  # type: ignore[override]
        """Format the messages of each document.

        Args:
            data: the documents.
            rank: which task this is.
            world_size: how many tasks there are.

        Yields:
            The documents, in their order.
        """
        for doc in data or ():
            self.stat_update(StatHints.total)
            with self.track_time():
                if doc.metadata.get(MESSAGES) is not None:
                    self._format(doc)
            yield doc

    def _format(self, doc: Any) -> None:
        try:
            before = conversation_of(doc.metadata[MESSAGES])
        except InvalidConversation:
            return
        after = [self._formatted(message) for message in before]
        if after == before:
            return
        self.stat_update("edited")
        doc.metadata[MESSAGES] = after
        text = text_of(after)
        source = doc.metadata.get(SOURCE)
        if isinstance(source, dict) and source.get("text") == checksum(doc.text):
            # The text that is expected from now on. That the row is an earlier one, its edited messages show.
            doc.metadata[SOURCE] = source | {"expected": checksum(text)}
        doc.text = text

    def _formatted(self, message: dict[str, Any]) -> dict[str, Any]:
        format_value = getattr(self.formatter, "format_value", None)
        if format_value is not None:
            return {key: format_value(value) for key, value in message.items()}
        keys = ["content", *(key for key in REASONING_KEYS if isinstance(message.get(key), str))]
        return message | {key: self.formatter.format(message[key]) for key in keys if message[key]}
