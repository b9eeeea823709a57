"""Batches in which sequences that begin alike are together, so that what they have in common is computed once."""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from datatrove_quality.model.prefixes import MIN_SAVING, alphabetical, common_length


# Where attention takes a copy of the keys for each sequence that sees them, this bounds its memory.
MAX_KEYS_PER_TOKEN = 8


class PlannedBatch(NamedTuple):
    """A micro-batch to be.

    Args:
        indices: of the sequences.
        tokens: how many are computed, where sequences share some: an estimate. None: those of all sequences.
        kept: with how many tokens the last sequence and the next batch begin alike.
    """

    indices: list[int]
    tokens: int | None = None
    kept: int = 0


class PrefixGroups:
    """Plans the batches of a stream, window by window; where sequences have little in common, in their own order.

    Args:
        plain: the plan of batches without sharing: lengths in, lists of indices out.
        tokens_per_batch: the most tokens that a batch computes; a longer sequence is a batch of its own.
        max_kept: how many tokens' keys and values a device may hold from one batch for the next.
    """

    def __init__(self, plain: Callable[[Sequence[int]], list[list[int]]], tokens_per_batch: int, max_kept: int):
        self._plain = plain
        self._tokens_per_batch = tokens_per_batch
        self._max_kept = max_kept
        self._previous: list[int] = []

    def batches(self, sequences: Sequence[list[int]]) -> list[PlannedBatch]:
        """The batches of the next window.

        Args:
            sequences: token ids, none empty.

        Returns:
            Batches; each index is in exactly one.
        """
        order, common = alphabetical(sequences)
        like_previous = [common_length(self._previous, ids) for ids in sequences]
        if sum(common) + max(like_previous) < MIN_SAVING * sum(map(len, sequences)):
            self._previous = []
            return [PlannedBatch(indices) for indices in self._plain([len(ids) for ids in sequences])]
        batches = list(self._filled(sequences, _in_order_of_groups(order, common, like_previous)))
        self._previous = sequences[batches[-1].indices[-1]][: batches[-1].kept]
        return batches

    def _filled(self, sequences: Sequence[list[int]], order: list[tuple[int, int]]) -> Iterator[PlannedBatch]:
        """Batches of sequences, each with its index and with how many tokens it begins like the one before it."""
        indices: list[int] = []
        tokens = keys = 0
        for index, common in order:
            length = len(sequences[index])
            new = length - (common if indices else common_length(self._previous, sequences[index]))
            most_keys = MAX_KEYS_PER_TOKEN * self._tokens_per_batch
            if indices and (tokens + new > self._tokens_per_batch or keys + length > most_keys):
                kept = min(common, self._max_kept)
                yield PlannedBatch(indices, tokens, kept)
                indices, tokens, keys, new = [], 0, 0, length - kept
            indices.append(index)
            tokens += new
            keys += length
        # What comes next may well begin as the last ones of this window do.
        yield PlannedBatch(indices, tokens, min(order[-1][1], self._max_kept))


def _in_order_of_groups(order: list[int], common: list[int], like_previous: list[int]) -> list[tuple[int, int]]:
    """Sequences that begin alike as neighbours, groups in input order, but first what begins as the window before.

    A group's place is that of its last sequence, since the next window may go on with the last group.
    """
    members = list(zip(order, common, strict=True))
    starts = [place for place, shared in enumerate(common) if not shared]
    groups = [members[first:end] for first, end in pairwise([*starts, None])]

    def place(group: list[tuple[int, int]]) -> tuple[bool, int]:
        indices = [index for index, _ in group]
        return not any(like_previous[index] for index in indices), max(indices)

    return [member for group in sorted(groups, key=place) for member in group]
