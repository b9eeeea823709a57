"""Which tokens of sequences that begin alike are computed once."""

import random
from itertools import accumulate, chain

import pytest

from datatrove_quality.model.prefixes import MIN_SHARED, alphabetical, common_length, prefix_tree


def tokens(seed, count):
    return random.Random(seed).choices(range(5, 500), k=count)


PREFIX, TURN = tokens(1, 100), tokens(2, 80)


@pytest.mark.parametrize("length", [0, 1, MIN_SHARED - 1, MIN_SHARED, 100, 1_000])
@pytest.mark.parametrize("tails", [([], []), ([1], []), ([1, 9], [2, 9])])
def test_common_length(length, tails):
    """Exact, in either order; below the least length 0."""
    shared = tokens(3, length)
    one, other = (shared + tail for tail in tails)
    assert common_length(one, other) == common_length(other, one) == (length if length >= MIN_SHARED else 0)


def seen_by(tree, sequences, place, held):
    """The tokens that a sequence's last segment sees, its own among them."""
    one = tree.segments[place]
    before = held[: one.start] if one.parent is None else seen_by(tree, sequences, one.parent, held)
    return before + sequences[one.sequence][one.start : one.end]


def require_whole(tree, sequences, held=()):
    """Each sequence is what its chain of segments gives; what continues a segment follows it without a gap."""
    for sequence, ids in enumerate(sequences):
        assert seen_by(tree, sequences, tree.last[sequence], list(held)) == ids
    open_segments = []
    for place, one in enumerate(tree.segments):
        assert one.start < one.end
        if one.parent is None:
            open_segments = []
        else:
            assert tree.segments[one.parent].end == one.start
            assert one.parent in open_segments
            open_segments = open_segments[: open_segments.index(one.parent) + 1]
        open_segments.append(place)


@pytest.mark.parametrize(
    ("sequences", "computed"),
    [
        ([[*PREFIX, 1], [*PREFIX, 2], [*PREFIX, 3]], 103),
        ([[*PREFIX, *TURN, 1], [*PREFIX, 2], [*PREFIX, *TURN, 3, 4]], 100 + 80 + 1 + 2 + 1),
        ([PREFIX, PREFIX, PREFIX], 100),
        ([[*PREFIX, 1], PREFIX], 101),
        ([[7, *PREFIX], PREFIX], 201),
        ([PREFIX[: MIN_SHARED - 1], PREFIX[: MIN_SHARED - 1]], 2 * (MIN_SHARED - 1)),
        # Little more in common than others: another level would save less than it costs.
        ([[*PREFIX, 1, 2, 3], [*PREFIX, 1, 2, 4], [*PREFIX, 2]], 107),
        ([[1], [1], [2]], 3),
    ],
)
def test_what_is_shared_is_computed_once(sequences, computed):
    """Several answers, turns of one conversation, equal texts, a text that another begins with."""
    tree = prefix_tree(sequences)
    require_whole(tree, sequences)
    assert tree.num_tokens == computed


def test_held_tokens_are_not_computed():
    """Neither wholly nor in part, but each sequence's last token is."""
    held = PREFIX + TURN
    sequences = [[*PREFIX, *TURN, 1], [*PREFIX, 2, 3], PREFIX, PREFIX + TURN, [9, 9]]
    tree = prefix_tree(sequences, held)
    require_whole(tree, sequences, held)
    assert tree.num_tokens == 1 + 2 + 1 + 1 + 2


@pytest.mark.parametrize("seed", range(30))
def test_any_tree(seed):
    """Random trees, with held tokens or without: whole, and never more tokens than there are."""
    rng = random.Random(seed)
    parts = [tokens(100 * seed + number, rng.choice([5, MIN_SHARED, 70])) for number in range(6)]
    sequences = [list(chain.from_iterable(rng.choices(parts, k=rng.randint(1, 5)))) for _ in range(rng.randint(1, 30))]
    for held in (None, rng.choice(sequences), list(chain.from_iterable(rng.choices(parts, k=4)))):
        tree = prefix_tree(sequences, held)
        require_whole(tree, sequences, held or ())
        assert tree.num_tokens <= sum(map(len, sequences))


def test_many_levels_need_no_recursion():
    """A conversation that is stored at each of many turns."""
    whole = tokens(4, 2_000 * MIN_SHARED)
    sequences = [whole[:end] for end in accumulate([MIN_SHARED] * 2_000)]
    tree = prefix_tree(sequences)
    assert tree.num_tokens == len(whole)
    assert alphabetical(sequences)[1][1:] == [len(ids) for ids in sequences[:-1]]
