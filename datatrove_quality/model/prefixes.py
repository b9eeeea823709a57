"""Token sequences that begin alike: which tokens of a batch are computed once. Pure Python.

In alphabetical order, sequences that begin alike are neighbours: comparing neighbours finds all that they share.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise


# Fewer tokens in common than these cost more calls of attention than they save.
MIN_SHARED = 32
# Of a batch's or a window's tokens; less is not worth another order.
MIN_SAVING = 0.05


@dataclass(frozen=True, slots=True)
class Segment:
    """Tokens that are computed once, for one sequence or for several that agree up to their end.

    Args:
        sequence: the index of a sequence that has them.
        start: the place of the first in the sequence.
        end: the place after the last; `start` < `end`.
        parent: the index of the segment with the tokens before; None: none, or the first `start` tokens are held.
    """

    sequence: int
    start: int
    end: int
    parent: int | None


@dataclass(frozen=True, slots=True)
class PrefixTree:
    """The segments of a batch.

    Args:
        segments: each before those that continue it, and these without a gap.
        last: for each sequence the segment whose end is its end.
    """

    segments: list[Segment]
    last: list[int]

    @property
    def num_tokens(self) -> int:
        """The tokens that are computed."""
        return sum(segment.end - segment.start for segment in self.segments)


def common_length(one: Sequence[int], other: Sequence[int]) -> int:
    """With how many tokens both begin; 0 where they are fewer than `MIN_SHARED`."""
    low, high = 0, min(len(one), len(other))
    if high < MIN_SHARED or one[:MIN_SHARED] != other[:MIN_SHARED]:
        return 0
    while low < high:  # the first `low` are the same
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def alphabetical(sequences: Sequence[list[int]]) -> tuple[list[int], list[int]]:
    """The order of sequences by their tokens.

    Returns:
        Indices of the sequences, and for each with how many tokens it begins like the one before it.
    """
    order = sorted(range(len(sequences)), key=sequences.__getitem__)
    common = [common_length(sequences[one], sequences[other]) for one, other in pairwise(order)]
    return order, [0, *common]


def prefix_tree(sequences: Sequence[list[int]], held: list[int] | None = None) -> PrefixTree:
    """Divide the tokens of a batch into segments, so that what sequences begin with alike is in it once.

    Args:
        sequences: token ids, none empty.
        held: tokens whose keys and values are known. A segment that follows some of the first of them has no parent.
    """
    if not held:
        return _Growing(sequences).tree()
    grown = _Growing([*sequences, held]).tree()
    known = set()
    place: int | None = grown.last[-1]
    while place is not None:
        known.add(place)
        place = grown.segments[place].parent
    return _without(grown, known, sequences)


class _Growing:
    """A tree that grows from the root, run by run: neighbours that agree in more than their parent's tokens."""

    def __init__(self, sequences: Sequence[list[int]]):
        self._lengths = [len(ids) for ids in sequences]
        self._order, self._common = alphabetical(sequences)
        self._segments: list[Segment] = []
        self._last = [-1] * len(sequences)
        # Runs that wait, the next one at the end: from which to which place of the order, and what they continue.
        self._waiting: list[tuple[int, int, int, int | None]] = []

    def tree(self) -> PrefixTree:
        self._divide(0, len(self._order), 0, None)
        while self._waiting:
            first, stop, depth, parent = self._waiting.pop()
            sequence = self._order[first]
            if stop - first > 1:
                shared = min(self._common[first + 1 : stop])
                self._divide(first, stop, shared, self._add(sequence, depth, shared, parent))
            elif self._lengths[sequence] > depth or parent is None:
                self._last[sequence] = self._add(sequence, depth, self._lengths[sequence], parent)
            else:  # it ends where its parent ends
                self._last[sequence] = parent
        return PrefixTree(self._segments, self._last)

    def _divide(self, first: int, stop: int, depth: int, parent: int | None) -> None:
        """Divide neighbours that agree in `depth` tokens into runs that agree in more."""
        starts = [first, *(at for at in range(first + 1, stop) if self._common[at] - depth < MIN_SHARED)]
        self._waiting += reversed([(start, end, depth, parent) for start, end in pairwise([*starts, stop])])

    def _add(self, sequence: int, start: int, end: int, parent: int | None) -> int:
        self._segments.append(Segment(sequence, start, end, parent))
        return len(self._segments) - 1


def _without(tree: PrefixTree, known: set[int], sequences: Sequence[list[int]]) -> PrefixTree:
    """A tree without the segments whose keys and values are held; the last token of each sequence is computed."""
    segments: list[Segment] = []
    place: dict[int, int] = {}
    for index, one in enumerate(tree.segments):
        if index not in known:
            place[index] = len(segments)
            parent = None if one.parent is None else place.get(one.parent)
            segments.append(Segment(one.sequence, one.start, one.end, parent))
    last = []
    for sequence, ids in enumerate(sequences):
        if tree.last[sequence] in known:
            segments.append(Segment(sequence, len(ids) - 1, len(ids), None))
            last.append(len(segments) - 1)
        else:
            last.append(place[tree.last[sequence]])
    return PrefixTree(segments, last)
