"""Batches in which sequences that begin alike are together, so that what they have in common is computed once."""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from datatrove_quality.model.prefixes import MIN_SAVING, alphabetical, common_length, prefix_tree


# Where attention takes a copy of the keys for each sequence that sees them, this bounds its memory.
MAX_KEYS_PER_TOKEN = 8


class PlannedBatch(NamedTuple):
    """A micro-batch to be.

    Args:
        indices: of the sequences.
        tokens: how many are computed, where sequences share some. None: those of all sequences.
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
        # What comes next may well begin as the last ones of this window do.
        kept_at = [common for _, common in order[1:]] + [order[-1][1]]
        held, start = self._previous, 0
        while start < len(order):
            stop = self._stop(sequences, order, start, held)
            indices = [index for index, _ in order[start:stop]]
            while (tokens := _computed(sequences, indices, held)) > self._tokens_per_batch and len(indices) > 1:
                indices = indices[: max(1, min(len(indices) - 1, len(indices) * self._tokens_per_batch // tokens))]
            start += len(indices)
            kept = min(kept_at[start - 1], self._max_kept)
            yield PlannedBatch(indices, tokens, kept)
            held = sequences[indices[-1]][:kept]

    def _stop(self, sequences: Sequence[list[int]], order: list[tuple[int, int]], start: int, held: list[int]) -> int:
        """Where a batch ends if all that neighbours have in common is computed once, which is the most that may be."""
        tokens = keys = 0
        for stop in range(start, len(order)):
            index, common = order[stop]
            length = len(sequences[index])
            tokens += length - (common if stop > start else common_length(held, sequences[index]))
            keys += length
            most_keys = MAX_KEYS_PER_TOKEN * self._tokens_per_batch
            if stop > start and (tokens > self._tokens_per_batch or keys > most_keys):
                return stop
        return len(order)


def _computed(sequences: Sequence[list[int]], indices: list[int], held: list[int]) -> int:
    """How many tokens a batch computes: a few that sequences have in common are not worth a segment of their own."""
    chosen = [sequences[index] for index in indices]
    total = sum(map(len, chosen))
    tokens = prefix_tree(chosen, held).num_tokens
    return tokens if total - tokens >= MIN_SAVING * total else total


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
