"""The step that drops conversations by the rules of rules.py."""

from collections.abc import Collection

from datatrove.data import Document
from datatrove.pipeline.filters.base_filter import BaseFilter
from datatrove.pipeline.writers.disk_base import DiskWriter

from datatrove_quality.config import Unscorable
from datatrove_quality.curation.rules import RULES
from datatrove_quality.rows.types import MESSAGES, conversation_error


class ConversationRules(BaseFilter):
    """Drops what is no conversation (reason `unscorable_<reason>`, as `QualityFilter` says), or breaks a rule.

    Args:
        exclusion_writer: gets the dropped documents.
        without: names of the rules that are not applied.
        prefix: of the column `{prefix}_error`, which tells what was found in the place of a conversation.

    Raises:
        ValueError: a rule has no such name.
    """

    name = "📜 Conversation rules"

    def __init__(
        self, exclusion_writer: DiskWriter | None = None, without: Collection[str] = (), prefix: str = "quality"
    ):
        super().__init__(exclusion_writer)  # type: ignore[arg-type]  # None is its default
        if unknown := set(without) - set(RULES):
            raise ValueError(f"without={sorted(unknown)}: there is no such rule; there are {', '.join(RULES)}.")
        self.rules = [name for name in RULES if name not in without]
        self.prefix = prefix

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        """Keep a conversation that breaks no rule."""
        messages = doc.metadata.get(MESSAGES)
        if messages is None:
            missing = Unscorable("missing_messages", "the document has no conversation")
            error = conversation_error(doc.metadata) or missing
            doc.metadata[f"{self.prefix}_error"] = error.to_text()
            return False, f"unscorable_{error.reason}"
        broken = next((name for name in self.rules if RULES[name](messages)), None)
        return True if broken is None else (False, broken)
