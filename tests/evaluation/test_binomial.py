"""Exact intervals of shares: as scipy has them, and of samples that show no difference."""

import numpy as np
import pytest
from scipy.stats import beta

from datatrove_quality.evaluation.agreement import measure_agreement
from datatrove_quality.evaluation.binomial import share_interval


@pytest.mark.parametrize(
    ("seen", "rows"), [(0, 1), (1, 1), (0, 20), (20, 20), (1, 20), (3, 50), (80, 100), (99, 5_000)]
)
def test_intervals_are_clopper_and_pearsons(seen, rows):
    """From scipy's beta distribution, an independent way to the same bounds."""
    low = beta.ppf(0.025, seen, rows - seen + 1) if seen else 0.0
    high = beta.ppf(0.975, seen + 1, rows - seen) if seen < rows else 1.0
    assert share_interval(seen / rows, rows) == pytest.approx((low, high), abs=1e-9)


def test_rows_need_not_be_whole_and_many_are_the_bootstraps():
    """Weighted rows are worth fewer, rounded so that the interval is not too narrow; of none nothing is known."""
    low, high = share_interval(0.1, 30.7)
    assert low <= beta.ppf(0.025, 3, 28) + 1e-9 and high >= beta.ppf(0.975, 4, 27) - 1e-9
    assert share_interval(0.5, 0.3) == (0, 1)
    assert share_interval(0.25, 4_000) == (0.25, 0.25)


@pytest.mark.parametrize("weight", [1.0, 7.0])
def test_raters_that_agree_in_a_small_sample_may_differ_in_the_whole(weight):
    """20 equal ratings exclude 17% of others, not 16%: each figure's interval has a width that follows from that."""
    levels = np.repeat([1, 3, 4, 5], 5)
    found = measure_agreement(np.column_stack([levels, levels]), ["a", "b"], range(1, 6), [weight] * 20)
    [pair] = found.pairs
    other = 1 - 0.025 ** (1 / 20)
    assert (pair.equal.low, pair.equal.high) == pytest.approx((1 - other, 1))
    assert (pair.difference.low, pair.difference.high) == pytest.approx((-0.75 * other, 0.75 * other), abs=other / 4)
    assert 0.9 < pair.kappa.low < 0.97 and pair.kappa.high == 1
    assert 0.85 < found.alpha.low < 0.97 and found.alpha.high == 1


@pytest.mark.parametrize("equal", [0, 1, 5, 10, 19])
def test_the_interval_of_equal_levels_is_clopper_and_pearsons_at_both_ends(equal):
    """Of 20 rows none may be equal, and 17% of all yet."""
    table = np.column_stack([np.full(20, 3), np.where(np.arange(20) < equal, 3, 4)])
    [pair] = measure_agreement(table, ["a", "b"], range(1, 6)).pairs
    low = beta.ppf(0.025, equal, 21 - equal) if equal else 0.0
    assert pair.equal.low <= low + 1e-9
    assert pair.equal.high >= beta.ppf(0.975, equal + 1, 20 - equal) - 1e-9


def test_the_interval_of_few_rows_holds_the_truth():
    """Raters who agree in 95% of rows, 30 rows of them: a plain bootstrap's interval held kappa in 60% of samples."""
    rng = np.random.default_rng(0)
    whole = rng.choice(range(1, 6), 40_000, p=[0.02, 0.03, 0.08, 0.25, 0.62])
    other = np.where(rng.random(40_000) < 0.05, np.where(whole == 1, 2, whole - 1), whole)
    table = np.column_stack([whole, other])
    [truth] = measure_agreement(table, ["a", "b"], range(1, 6)).pairs
    held = np.zeros(3)
    for _trial in range(40):
        drawn = rng.integers(0, 40_000, 30)
        [pair] = measure_agreement(table[drawn], ["a", "b"], range(1, 6)).pairs
        for place, name in enumerate(("kappa", "equal", "difference")):
            figure, known = getattr(pair, name), getattr(truth, name)
            held[place] += figure is None or figure.low <= known.value <= figure.high
    assert held.min() >= 36
