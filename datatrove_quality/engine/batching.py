"""Lengths in, micro-batches under a token budget out. Pure Python: nothing here knows what a token is."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar


T = TypeVar("T")

# A padded batch of so many tokens keeps a device busy: beyond it, less padding is worth more than fewer batches.
ENOUGH_TOKENS = 4_096
MAX_PADDING = 0.1


def windows(
    items: Iterable[T],
    size_of: Callable[[T], float],
    max_items: int,
    max_size: float,
    first_items: int | None = None,
) -> Iterator[list[T]]:
    """Cut a stream into lists that are bounded in number and in size, so that a run's memory is bounded too.

    Args:
        items: a stream of any length.
        size_of: the size of an item, in any unit.
        max_items: the most items in a window.
        max_size: a window is closed as soon as its items reach this size together. One item may exceed it.
        first_items: the most items in the first window; in each next one twice as many, up to `max_items`. None: that.

    Yields:
        Non-empty lists, which joined are the stream.
    """
    window: list[T] = []
    size = 0.0
    most = max_items if first_items is None else min(first_items, max_items)
    for item in items:
        window.append(item)
        size += size_of(item)
        if len(window) >= most or size >= max_size:
            yield window
            window, size, most = [], 0.0, min(2 * most, max_items)
    if window:
        yield window


def packed_batches(lengths: Sequence[int], tokens_per_batch: int) -> list[list[int]]:
    """Batches for sequences laid end to end: in their own order, the sum of lengths under the budget.

    Args:
        lengths: tokens of each sequence.
        tokens_per_batch: the most tokens of a batch; a longer sequence is a batch of its own.

    Returns:
        Lists of indices into `lengths`; each index is in exactly one.
    """
    return _greedy(range(len(lengths)), lengths, lambda count, total, longest: total <= tokens_per_batch)


def padded_batches(lengths: Sequence[int], tokens_per_batch: int) -> list[list[int]]:
    """Batches for sequences padded to their longest: sorted by length, longest first, padding counted in the budget.

    Longest first, so that a batch too large for the device's memory shows at once and not at the end. A batch that is
    large enough is closed before its padding becomes more than a tenth of its tokens.

    Args:
        lengths: tokens of each sequence.
        tokens_per_batch: the most tokens of a batch, padding included; a longer sequence is a batch of its own.

    Returns:
        Lists of indices into `lengths`; each index is in exactly one.
    """
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])

    def fits(count: int, total: int, longest: int) -> bool:
        padded = count * longest
        return padded <= tokens_per_batch and (padded <= ENOUGH_TOKENS or padded <= (1 + MAX_PADDING) * total)

    return _greedy(order, lengths, fits)


def _greedy(order: Iterable[int], lengths: Sequence[int], fits: Callable[[int, int, int], bool]) -> list[list[int]]:
    batches: list[list[int]] = []
    total = longest = 0
    for index in order:
        total, longest = total + lengths[index], max(longest, lengths[index])
        if batches and fits(len(batches[-1]) + 1, total, longest):
            batches[-1].append(index)
        else:
            batches.append([index])
            total = longest = lengths[index]
    return batches
