"""Batches in which sequences that begin alike are together."""

import random
from itertools import pairwise

import pytest

from datatrove_quality.engine.batching import packed_batches
from datatrove_quality.engine.grouping import MAX_KEYS_PER_TOKEN, PlannedBatch, PrefixGroups
from datatrove_quality.model.prefixes import MIN_SAVING, MIN_SHARED, common_length, prefix_tree


BUDGET = 400


def ids(seed, count):
    return random.Random(seed).choices(range(5, 500), k=count)


def groups(max_kept=1_000, budget=BUDGET):
    return PrefixGroups(lambda lengths: packed_batches(lengths, budget), budget, max_kept)


PROMPTS = [ids(seed, 150) for seed in range(4)]


def answers(prompt, count, seed=100):
    return [PROMPTS[prompt] + ids(seed + prompt * 20 + number, 30) for number in range(count)]


def require_sound(planned, sequences, held, budget=BUDGET):
    """Each sequence is in one batch, which computes as many tokens as were planned; gives what is held last."""
    assert sorted(index for batch in planned for index in batch.indices) == list(range(len(sequences)))
    for batch in planned:
        chosen = [sequences[index] for index in batch.indices]
        if batch.tokens is None:
            held = []
            continue
        tokens, total = prefix_tree(chosen, held).num_tokens, sum(map(len, chosen))
        assert batch.tokens == (tokens if total - tokens >= MIN_SAVING * total else total)
        assert len(chosen) == 1 or batch.tokens <= budget
        assert len(chosen) == 1 or sum(map(len, chosen)) <= MAX_KEYS_PER_TOKEN * budget
        held = chosen[-1][: batch.kept]
    return held


def test_what_has_little_in_common_stays_in_its_order():
    """As without sharing: not even a few like ones among many change the plan."""
    sequences = [ids(seed, 90) for seed in range(200, 260)]
    sequences[7] = [*sequences[3][:40], 9]
    plain = [PlannedBatch(indices) for indices in packed_batches([len(one) for one in sequences], BUDGET)]
    assert groups().batches(sequences) == plain


def test_answers_to_one_prompt_are_together_wherever_they_stand():
    """Interleaved in the window, in few batches; groups whose last answer comes first are first."""
    sequences = [one for four in zip(*(answers(prompt, 5) for prompt in range(4)), strict=True) for one in four]
    planned = groups(max_kept=0).batches(sequences)
    require_sound(planned, sequences, [])
    assert [batch.tokens for batch in planned] == [150 + 5 * 30] * 4
    assert [sorted(batch.indices) for batch in planned] == [list(range(prompt, 20, 4)) for prompt in range(4)]


def test_what_is_held_fills_batches():
    """With keys and values that stay for the next batch, a group may be divided and costs no more."""
    sequences = [one for prompt in range(4) for one in answers(prompt, 5)]
    planned = groups(budget=500).batches(sequences)
    require_sound(planned, sequences, [], budget=500)
    assert [batch.tokens for batch in planned] == [480, 420, 300]
    assert [batch.kept for batch in planned] == [150, 0, 150]


def test_a_group_goes_on_in_the_next_window():
    """What begins as the last of the window before is first, and its beginning is known."""
    plan = groups()
    first = [ids(1, 60), *answers(0, 3)]
    held = require_sound(plan.batches(first), first, [])
    assert held == PROMPTS[0]
    second = [*answers(1, 2), *answers(0, 2, seed=500), ids(2, 60)]
    planned = plan.batches(second)
    assert sorted(planned[0].indices[:2]) == [2, 3] and planned[0].tokens <= BUDGET
    require_sound(planned, second, held)
    assert sum(batch.tokens for batch in planned) == 2 * 30 + 150 + 2 * 30 + 60


def test_one_text_that_goes_on_where_the_window_before_ended():
    """A single one is enough, as where each text of a corpus has a long system prompt."""
    plan = groups()
    plan.batches(answers(0, 2))
    assert plan.batches(answers(0, 1, seed=500)) == [PlannedBatch([0], 30, 0)]


def test_a_prompt_longer_than_a_batch_is_computed_once():
    """A batch of one, and then as many answers as fit beside what is held."""
    prompt = ids(9, 3 * BUDGET)
    sequences = [prompt + ids(seed, 100) for seed in range(8)]
    planned = groups(max_kept=2 * len(prompt), budget=BUDGET).batches(sequences)
    assert planned[0].tokens == len(prompt) + 100 and len(planned[0].indices) == 1
    assert {batch.kept for batch in planned} == {len(prompt)}
    assert sum(batch.tokens for batch in planned) == len(prompt) + 8 * 100
    require_sound(planned, sequences, [])


@pytest.mark.parametrize("max_kept", [0, 1_000])
@pytest.mark.parametrize(
    "ends",
    [
        [ids(2, 600)[:count] for count in range(1, 300)],  # a text at each of its tokens
        [[*ids(2, MIN_SHARED - 7), number] for number in range(300)],
        [[one, *ids(2, MIN_SHARED - 2), other] for one in range(15) for other in range(15)],
    ],
)
def test_what_is_too_short_to_be_shared_counts(ends, max_kept):
    """Each text computes the few tokens that it has in common with its neighbour; the budget holds for them too."""
    sequences = [ids(1, 40) + end for end in ends]
    planned = groups(max_kept).batches(sequences)
    require_sound(planned, sequences, [])
    assert sum(batch.tokens for batch in planned) < sum(map(len, sequences))


@pytest.mark.parametrize("max_kept", [0, 100, 10_000])
@pytest.mark.parametrize("seed", range(12))
def test_any_stream_of_windows(seed, max_kept):
    """Random trees over several windows: nothing is lost, no batch is too large."""
    rng = random.Random(seed)
    parts = [ids(1_000 * seed + number, rng.choice([20, 60, 130])) for number in range(5)]
    plan, held = groups(max_kept), []
    for _ in range(4):
        chosen = (rng.choices(parts, k=rng.randint(1, 4)) for _ in range(rng.randint(1, 25)))
        sequences = [[token for part in some for token in part] for some in chosen]
        planned = plan.batches(sequences)
        held = require_sound(planned, sequences, held)
        assert all(batch.kept <= max_kept for batch in planned)
        for before, after in pairwise(planned):
            assert common_length(sequences[before.indices[-1]], sequences[after.indices[0]]) >= before.kept
