"""The best documents up to a budget, exactly: where in the order of all documents the budget ends.

Documents are ordered by score, those of one score by a hash of their id. The order is that of a key, a whole number of
128 bits, and does not depend on files or tasks. The key at which the budget ends is found by passes over all rows.
Each counts the rows of an interval of keys in a histogram; the bar in which the budget ends is the next interval,
until its rows are few enough to be sorted. Memory is bounded, whatever the number of rows.
"""

import hashlib
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple


HIGHEST = 2**128 - 1
# The parts of an interval that are counted apart.
PARTS = 2**16
# So many rows are sorted instead of counted.
FEW_ROWS = 500_000


class Ranked(NamedTuple):
    """A row in the order of all rows.

    Args:
        key: see `key_of`.
        weight: what it takes of a budget: 1, or its tokens.
    """

    key: int
    weight: int


def key_of(score: float, doc_id: str) -> int:
    """A number that is the higher, the higher the score, and of equal scores differs by the hash of the id."""
    (bits,) = struct.unpack(">Q", struct.pack(">d", score + 0.0))  # -0.0 is 0.0
    ordered = bits ^ (2**64 - 1 if bits >> 63 else 2**63)
    digest = hashlib.blake2b(doc_id.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return ordered << 64 | int.from_bytes(digest, "big")


def score_of_key(key: int) -> float:
    """The score in a key."""
    ordered = key >> 64
    bits = ordered ^ (2**63 if ordered >> 63 else 2**64 - 1)
    return struct.unpack(">d", struct.pack(">Q", bits))[0]


@dataclass
class _Part:
    """Rows whose keys lie in a part of an interval."""

    rows: int = 0
    weight: int = 0
    low: int = HIGHEST
    high: int = 0

    def add(self, row: Ranked) -> None:
        self.rows += 1
        self.weight += row.weight
        self.low, self.high = min(self.low, row.key), max(self.high, row.key)


@dataclass
class BudgetEnd:
    """Finds the lowest key that is within a budget; passes go on until `is_found`.

    Args:
        budget: the weight that may be selected. None: the first pass only counts, and `set_budget` comes before more.
    """

    budget: int | None = None
    cutoff: int = HIGHEST + 1
    rows: int = 0
    weight: int = 0
    selected_rows: int = 0
    selected_weight: int = 0
    is_found: bool = False
    _low: int = 0
    _high: int = HIGHEST
    _sorts: bool = False
    _parts: dict[int, _Part] = field(default_factory=dict)
    _few: list[Ranked] = field(default_factory=list)

    def add(self, row: Ranked) -> None:
        """Look at a row in a pass; what lies outside of the interval is decided."""
        if self.is_found or not self._low <= row.key <= self._high:
            return
        if self._sorts:
            self._few.append(row)
            return
        part = (row.key - self._low) * PARTS // (self._high - self._low + 1)
        if (found := self._parts.get(part)) is None:
            found = self._parts[part] = _Part()
        found.add(row)

    def end_first_pass(self) -> None:
        """All rows have been seen once: how many there are is known."""
        self.rows = sum(part.rows for part in self._parts.values())
        self.weight = sum(part.weight for part in self._parts.values())

    def end_pass(self) -> None:
        """All rows have been seen: narrow the interval, or find the key."""
        if self.is_found:
            return
        assert self.budget is not None
        if self._sorts:
            self._end_of_few(self.budget)
            return
        for number in sorted(self._parts, reverse=True):
            part = self._parts[number]
            if self.selected_weight + part.weight > self.budget:
                self._narrow(part)
                return
            self._select(part.rows, part.weight, part.low)
        self.is_found = True

    def _narrow(self, part: _Part) -> None:
        self._low, self._high, self._parts = part.low, part.high, {}
        self._sorts = part.rows <= FEW_ROWS
        self.is_found = part.low == part.high  # one id, many times: all or none

    def _end_of_few(self, budget: int) -> None:
        by_key: dict[int, _Part] = {}
        for row in self._few:
            by_key.setdefault(row.key, _Part()).add(row)
        for key in sorted(by_key, reverse=True):
            part = by_key[key]
            if self.selected_weight + part.weight > budget:
                break
            self._select(part.rows, part.weight, key)
        self._few = []
        self.is_found = True

    def _select(self, rows: int, weight: int, cutoff: int) -> None:
        self.selected_rows += rows
        self.selected_weight += weight
        self.cutoff = cutoff


def add_all(ends: dict[str, BudgetEnd], rows: Iterable[tuple[str, Ranked]]) -> None:
    """A pass: rows by the names of their groups."""
    for group, row in rows:
        ends.setdefault(group, BudgetEnd()).add(row)
