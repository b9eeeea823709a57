"""Exact binomial bounds, compared with scipy's."""

import pytest
from scipy import stats

from datatrove_quality.cascade.bounds import (
    chance_of_at_most,
    chance_of_passing,
    errors_allowed,
    rows_needed,
    upper_bound,
)


@pytest.mark.parametrize(("errors", "rows"), [(0, 1), (0, 299), (3, 1_000), (500, 1_000), (999, 1_000), (40, 60_000)])
def test_the_upper_bound_is_that_of_clopper_and_pearson(errors, rows):
    for alpha in (0.05, 0.0125):
        expected = stats.beta.ppf(1 - alpha, errors + 1, rows - errors)
        assert upper_bound(errors, rows, alpha) == pytest.approx(expected, rel=1e-9)
        assert chance_of_at_most(errors, rows, expected) == pytest.approx(alpha, rel=1e-8)


def test_ends_of_bounds():
    """Of no row nothing is known, and where all are errors the share may be all."""
    assert upper_bound(0, 0, 0.05) == upper_bound(7, 7, 0.05) == 1
    assert chance_of_at_most(-1, 5, 0.1) == 0 and chance_of_at_most(5, 5, 0.1) == 1
    assert chance_of_at_most(0, 5, 0) == 1 and chance_of_at_most(4, 5, 1) == 0


@pytest.mark.parametrize(("limit", "alpha", "rows"), [(0.001, 0.05, 2_995), (0.01, 0.05, 299), (0.01, 0.025, 368)])
def test_rows_that_a_promise_needs(limit, alpha, rows):
    """One row fewer shows nothing, and with so many one error is too much."""
    assert rows_needed(limit, alpha) == rows
    assert errors_allowed(rows, limit, alpha) == 0
    assert errors_allowed(rows - 1, limit, alpha) == -1


@pytest.mark.parametrize("rows", [5, 800, 30_000])
def test_allowed_errors_are_those_whose_bound_is_within_the_promise(rows):
    allowed = errors_allowed(rows, 0.01, 0.05)
    assert allowed < 0 or upper_bound(allowed, rows, 0.05) <= 0.01
    assert upper_bound(allowed + 1, rows, 0.05) > 0.01


def test_the_chance_of_passing_is_the_beta_binomials():
    assert chance_of_passing(7, 1_000, 12) == pytest.approx(stats.betabinom.cdf(12, 1_000, 8, 993))
    assert chance_of_passing(7, 1_000, 12, edges=2) == pytest.approx(stats.betabinom.cdf(12, 1_000, 9, 992))
    assert chance_of_passing(0, 299, -1) == 0
    assert chance_of_passing(299, 299, 5) == 0
