"""What is a duplicate among conversations, in the terms of DataTrove's deduplication."""

import json
from collections.abc import Iterable, Iterator
from typing import Any, cast

from datatrove.data import Document, DocumentsPipeline
from datatrove.pipeline.dedup import ExactDedupConfig, ExactDedupFilter, MinhashConfig
from datatrove.utils.hashing import HashConfig
from datatrove.utils.text import TextNormConfig

from datatrove_quality.rows.types import MESSAGES


EXACT_DUPLICATE = "exact_duplicate"
NEAR_DUPLICATE = "near_duplicate"

# 64 bits of SHA-1. DataTrove's default, xxHash, gets texts from DataTrove, and takes only bytes from its version 4 on.
HASH = HashConfig(hash_fc="sha1")

# `ExactDedupFilter` writes it over whatever a column of the source holds.
DUPLICATE_COUNT = "duplicate_count"
_NONE = object()


def conversation_key(doc: Document) -> str:  # DataTrove reads the annotation
    """All of a conversation: equal ones have the same roles, contents, tool calls and other keys of messages."""
    return json.dumps(doc.metadata[MESSAGES], sort_keys=True, default=str)


def exact_config() -> ExactDedupConfig:
    """Conversations are exact duplicates if all of their messages are equal, whatever the other columns say."""
    return ExactDedupConfig(content_getter=conversation_key, hash_config=HASH)


def minhash_config() -> MinhashConfig:
    """DataTrove's MinHash (14 buckets of 8 hashes of 5-grams, 64 bits), but numbers are not all the same.

    DataTrove writes 0 for every number before it compares: "What is 12 times 7?" would be "What is 3 times 9?".
    """
    return MinhashConfig(norm_config=TextNormConfig(norm_numbers=False), hash_config=HASH)


def without_system(data: Iterable[Document], rank: int = 0, world_size: int = 1) -> Iterator[Document]:
    """Documents whose text is what user, assistant and tools say, and which tools are called, for MinHash to compare.

    A long system prompt, which thousands of conversations share, would make any two of them nearly equal.
    """
    for doc in data:
        messages = [message for message in doc.metadata[MESSAGES] if message["role"] not in ("system", "developer")]
        parts = (_said(message) for message in messages)
        yield Document(text="\n\n".join(part for part in parts if part), id=doc.id)


def _said(message: dict[str, Any]) -> str:
    calls = [message[key] for key in ("tool_calls", "function_call") if message.get(key)]
    return "\n".join([message["content"], *(json.dumps(call, sort_keys=True, default=str) for call in calls)]).strip()


class DropExactDuplicates(ExactDedupFilter):
    """DataTrove's `ExactDedupFilter`, without the column `duplicate_count` that it adds or overwrites."""

    def run(self, data: Any, rank: int = 0, world_size: int = 1) -> Iterator[Document]:  # type: ignore[override]
        """Drop all but one of the documents that are equal."""
        before: Any = _NONE

        def remembered() -> Iterator[Document]:
            nonlocal before
            for doc in data:
                before = doc.metadata.get(DUPLICATE_COUNT, _NONE)
                yield doc

        for doc in super().run(cast(DocumentsPipeline, remembered()), rank, world_size):
            if before is _NONE:
                del doc.metadata[DUPLICATE_COUNT]
            else:
                doc.metadata[DUPLICATE_COUNT] = before
            yield doc
