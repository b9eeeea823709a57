"""Groups of texts that are nearly the same, by MinHash: what is learned from one must not be tested on another.

Two texts are in a group if one of 14 bands of 8 hashes of their 5-grams is equal, as in DataTrove's deduplication, or
if a third text is in a group with both. Texts whose 5-grams are the same for 75% are found with a probability of 77%,
for 80% of 92%, for 90% of more than 99.9%.
"""

import re
import zlib

import numpy as np
from datatrove.data import Document

from datatrove_quality.rows.types import MESSAGES


BANDS, HASHES, WORDS = 14, 8, 5
_WORD = re.compile(r"\w+")
_FACTORS, _TERMS = np.random.default_rng(0).integers(1, 2**63, (2, BANDS * HASHES), dtype=np.uint64)
_FACTORS |= np.uint64(1)


def compared_text(document: Document) -> str:
    """What is compared of a document: without system prompts, which thousands of conversations share."""
    messages = document.metadata.get(MESSAGES)
    if not isinstance(messages, list):
        return document.text
    said = [message for message in messages if message.get("role") not in ("system", "developer")]
    return "\n\n".join(str(message.get("content") or "") for message in said)


class NearDuplicates:
    """Groups of texts, numbered in the order in which they are added. Memory: about 2.5 kB a text."""

    def __init__(self) -> None:
        self._parents: list[int] = []
        self._first: dict[bytes, int] = {}

    def add(self, text: str) -> None:
        """Add a text."""
        number = len(self._parents)
        self._parents.append(number)
        for band in _bands(text):
            first = self._first.setdefault(band, number)
            if first != number:
                self._parents[self._root(number)] = self._root(first)

    def groups(self) -> list[list[int]]:
        """The numbers of the texts of each group, in the order of their first ones."""
        found: dict[int, list[int]] = {}
        for number in range(len(self._parents)):
            found.setdefault(self._root(number), []).append(number)
        return list(found.values())

    def _root(self, number: int) -> int:
        while (parent := self._parents[number]) != number:
            self._parents[number] = self._parents[parent]
            number = parent
        return number


def _bands(text: str) -> list[bytes]:
    words = _WORD.findall(text.lower())
    grams = {" ".join(words[start : start + WORDS]) for start in range(max(1, len(words) - WORDS + 1))}
    hashes = np.fromiter((zlib.crc32(gram.encode("utf-8", "replace")) for gram in grams), np.uint64)
    # Multiply-shift hashing: the high bits of a product modulo 2^64.
    lowest = ((hashes[:, None] * _FACTORS + _TERMS) >> np.uint64(32)).min(axis=0).astype(np.uint32)
    return [bytes([band]) + lowest[band * HASHES : (band + 1) * HASHES].tobytes() for band in range(BANDS)]
