"""Micro-batches and windows: nothing is lost or doubled, and both stay within their bounds."""

from itertools import count, islice, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datatrove_quality.engine.batching import packed_batches, padded_batches, windows


LENGTHS = st.lists(st.integers(1, 60), max_size=50)
BUDGETS = st.integers(1, 150)


@given(LENGTHS, BUDGETS)
def test_packed_batches_keep_order_and_budget(lengths, budget):
    """Each sequence stands in one batch, in its own order, and only a single one may exceed the budget."""
    batches = packed_batches(lengths, budget)
    assert [index for batch in batches for index in batch] == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or sum(lengths[index] for index in batch) <= budget


@given(LENGTHS, BUDGETS)
def test_packed_batches_are_full(lengths, budget):
    """A batch is closed only when the next sequence would not fit, so that no pass is wasted."""
    batches = packed_batches(lengths, budget)
    for batch, following in pairwise(batches):
        assert sum(lengths[index] for index in batch) + lengths[following[0]] > budget


@given(LENGTHS, BUDGETS)
def test_padded_batches_count_their_padding(lengths, budget):
    """Each sequence stands in one batch, longest first, and padding counts in the budget."""
    batches = padded_batches(lengths, budget)
    order = [index for batch in batches for index in batch]
    assert sorted(order) == list(range(len(lengths)))
    assert [lengths[index] for index in order] == sorted(lengths, reverse=True)
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[index] for index in batch) <= budget


@given(st.lists(st.integers(1, 6_000), min_size=1, max_size=200))
def test_a_large_padded_batch_is_closed_rather_than_padded(lengths):
    """With a GPU's budget a large batch is padded by a tenth at most, and no batch is closed too early."""
    batches = [[lengths[index] for index in batch] for batch in padded_batches(lengths, 32_768)]
    for batch, following in zip(batches, [*batches[1:], None], strict=True):
        padded = len(batch) * batch[0]
        assert padded <= 4_096 or padded <= 1.1 * sum(batch)
        if following is not None:
            larger = padded + batch[0]
            assert larger > 4_096 and (larger > 32_768 or larger > 1.1 * (sum(batch) + following[0]))


@given(st.lists(st.integers(0, 30)), st.integers(1, 8), st.integers(1, 60))
def test_windows_are_bounded_and_join_to_the_stream(items, max_items, max_size):
    """Windows joined are the stream; each is bounded in number, and without its last item in size."""
    cut = list(windows(items, lambda item: item, max_items, max_size))
    assert [item for window in cut for item in window] == items
    for window in cut:
        assert 0 < len(window) <= max_items
        assert sum(window[:-1]) < max_size
    for window in cut[:-1]:
        assert len(window) == max_items or sum(window) >= max_size


@given(st.lists(st.integers(0, 30)), st.integers(1, 8), st.integers(1, 60), st.integers(1, 10))
def test_windows_may_begin_small(items, max_items, max_size, first_items):
    """The first is as small as asked, each next one admits twice as many, and none admits more than the most."""
    cut = list(windows(items, lambda item: item, max_items, max_size, first_items))
    assert [item for window in cut for item in window] == items
    for number, window in enumerate(cut):
        most = min(first_items * 2**number, max_items)
        assert 0 < len(window) <= most
        assert window is cut[-1] or len(window) == most or sum(window) >= max_size
        assert sum(window[:-1]) < max_size


@pytest.mark.parametrize("plan", [packed_batches, padded_batches])
def test_no_lengths_no_batches(plan):
    """Nothing in, nothing out: no empty batch reaches a model."""
    assert plan([], 10) == []


def test_windows_read_an_endless_stream_as_it_is_used():
    """A window is handed out as soon as it is full, so that memory is bounded whatever the input's size."""
    read = []

    def numbers():
        for number in count():
            read.append(number)
            yield number

    assert list(islice(windows(numbers(), lambda _: 1, 4, 100), 2)) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert len(read) == 8
