"""The step that drops conversations by the rules of rules.py."""

from collections.abc import Collection, Iterator, Sequence

from datatrove.data import Document, DocumentsPipeline
from datatrove.pipeline.filters.base_filter import BaseFilter
from datatrove.pipeline.writers.disk_base import DiskWriter

from datatrove_quality.config import Unscorable
from datatrove_quality.curation.rules import RULES
from datatrove_quality.rows.source_guard import SourceGuard, checked_columns
from datatrove_quality.rows.types import MESSAGES, conversation_error


class ConversationRules(BaseFilter):
    """Drops what is no conversation (reason `unscorable_<reason>`, as `QualityFilter` says), or breaks a rule.

    Args:
        exclusion_writer: gets the dropped documents.
        without: names of the rules that are not applied.
        prefix: of the column `{prefix}_error`, which tells what was found in the place of a conversation.
        group_by: metadata columns that name the source of a document. A source of which none of the first 1,000 is
            kept is an error.

    Raises:
        ValueError: a rule has no such name.
    """

    name = "📜 Conversation rules"

    def __init__(
        self,
        exclusion_writer: DiskWriter | None = None,
        without: Collection[str] = (),
        prefix: str = "quality",
        group_by: str | Sequence[str] = (),
    ):
        super().__init__(exclusion_writer)  # type: ignore[arg-type]  # None is its default
        if unknown := set(without) - set(RULES):
            raise ValueError(f"without={sorted(unknown)}: there is no such rule; there are {', '.join(RULES)}.")
        self.rules = [name for name in RULES if name not in without]
        self.prefix = prefix
        self.group_by = checked_columns(group_by)
        self._guard = SourceGuard(())

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> Iterator[Document]:  # type: ignore[override]
        """Drop documents of a stream.

        Raises:
            ValueError: none of the first 1,000 documents of a source is kept.
        """
        self._guard = SourceGuard(self.group_by)
        yield from super().run(data, rank, world_size)
        self._guard.close()

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        """Keep a conversation that breaks no rule."""
        messages = doc.metadata.get(MESSAGES)
        if messages is None:
            missing = Unscorable("missing_messages", "the document has no conversation")
            error = conversation_error(doc.metadata) or missing
            doc.metadata[f"{self.prefix}_error"] = error.to_text()
            self._guard.note(doc.metadata, error.reason)
            return False, f"unscorable_{error.reason}"
        broken = next((name for name in self.rules if RULES[name](messages)), None)
        self._guard.note(doc.metadata, broken)
        return True if broken is None else (False, broken)
