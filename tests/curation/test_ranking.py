"""Where a budget ends in the order of all rows: as if they were sorted, with ties, in any order of rows."""

import math
import random

import pytest

from datatrove_quality.curation import ranking
from datatrove_quality.curation.ranking import BudgetEnd, Ranked, key_of, score_of_key


def test_keys_are_in_the_order_of_scores():
    scores = [-math.inf, -1e300, -4.5, -1e-320, 0.0, 1e-320, 1.0, math.nextafter(1, 2), 5.0, math.inf]
    keys = [key_of(score, "a") for score in scores]
    assert keys == sorted(keys) and len(set(keys)) == len(keys)
    assert [score_of_key(key) for key in keys] == scores
    assert key_of(-0.0, "a") == key_of(0.0, "a")
    assert key_of(4.0, "b") != key_of(4.0, "a") and key_of(math.nextafter(4, 5), "b") > key_of(4.0, "a")


def found(rows, budget):
    """The end of a budget, found by passes over the rows in another order each."""
    end, rng = BudgetEnd(), random.Random(0)
    passes = 0
    while not end.is_found:
        passes += 1
        for row in rng.sample(rows, len(rows)):
            end.add(row)
        if passes == 1:
            end.end_first_pass()
            end.budget = budget
        end.end_pass()
    return end, passes


def sorted_rows(rows, budget):
    """What is selected if all rows are sorted; rows of the same key are selected together."""
    selected = []
    for key in sorted({row.key for row in rows}, reverse=True):
        same = [row for row in rows if row.key == key]
        if sum(row.weight for row in selected + same) > budget:
            break
        selected += same
    return selected


@pytest.mark.parametrize("few", [1, 20, 10**6])
@pytest.mark.parametrize("kind", ["distinct", "ties", "one id"])
def test_as_if_all_rows_were_sorted(monkeypatch, few, kind):
    """Whether the last rows are counted or sorted, with few or many parts."""
    monkeypatch.setattr(ranking, "FEW_ROWS", few)
    monkeypatch.setattr(ranking, "PARTS", 16)
    rng = random.Random(few)
    scores = [rng.choice([3.0, 4.0, 5.0]) if kind == "ties" else rng.gauss(3, 1) for _ in range(300)]
    rows = [Ranked(key_of(score, str(at)), rng.randint(0, 900)) for at, score in enumerate(scores)]
    if kind == "one id":
        rows = [row._replace(key=rows[at // 10 * 10].key) for at, row in enumerate(rows)]
    total = sum(row.weight for row in rows)
    for budget in (0, 1, total // 7, total // 2, total - 1, total, total + 5):
        end, _ = found(rows, budget)
        selected = [row for row in rows if row.key >= end.cutoff]
        assert sorted(selected) == sorted(sorted_rows(rows, budget))
        assert (end.selected_rows, end.selected_weight) == (len(selected), sum(row.weight for row in selected))
        assert (end.rows, end.weight) == (300, total) and end.selected_weight <= budget


def test_few_passes_are_enough():
    """One that counts, and one that sorts the rows in which the budget ends."""
    rows = [Ranked(key_of(random.Random(at).gauss(3, 1), str(at)), 1) for at in range(3_000)]
    assert found(rows, 1_000)[1] == 2
