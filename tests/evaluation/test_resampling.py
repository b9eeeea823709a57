"""Resampling by bins gives what resampling documents one by one gives."""

import numpy as np
import pytest
from populations import population

from datatrove_quality.evaluation import threshold_for_precision, threshold_for_share
from datatrove_quality.evaluation.resampling import Sample, interval, resampled


def test_resampling_by_bins_is_resampling_documents():
    """The intervals are those of the plain bootstrap, which draws documents one by one."""
    labels, scores, tokens = population(3_000, 2)
    found = threshold_for_precision(labels, scores, 4, 0.9, tokens=tokens)
    rng = np.random.default_rng(3)
    figures = []
    for _ in range(1_000):
        drawn = rng.integers(0, 3_000, 3_000)
        kept = scores[drawn] >= found.threshold.value
        figures.append(
            (kept.mean(), (labels[drawn] >= 4)[kept].mean(), tokens[drawn][kept].sum() / tokens[drawn].sum())
        )
    plain = np.quantile(figures, [0.025, 0.975], axis=0).T
    ours = [(it.low, it.high) for it in (found.kept, found.precision, found.tokens_kept)]
    assert np.allclose(ours, plain, atol=0.003)


def quantiles(values):
    return np.quantile(values, [0.025, 0.975])


def drawn_one_by_one(scores, tokens, threshold, rng):
    """The share of tokens kept in each of 2,000 samples drawn document by document."""
    shares = []
    for _ in range(2_000):
        drawn = rng.integers(0, len(scores), len(scores))
        shares.append(tokens[drawn][scores[drawn] >= threshold].sum() / tokens[drawn].sum())
    return np.array(shares)


def test_tokens_that_vary_within_a_score_widen_the_interval():
    """The share of tokens kept varies with which documents are drawn, not only with how many: as in a plain bootstrap.

    Two scores with 1,000 documents each, whose tokens differ a hundredfold: without their spread the interval would be
    less than half as wide.
    """
    rng = np.random.default_rng(5)
    scores = np.repeat([2.0, 4.0], 1_000)
    tokens = np.where(rng.random(2_000) < 0.9, 10, 1_000)
    found = threshold_for_share(scores, 0.2, tokens).tokens_kept
    plain = quantiles(drawn_one_by_one(scores, tokens, 4.0, rng))
    assert plain[1] - plain[0] > 0.1
    assert (found.low, found.high) == pytest.approx(tuple(plain), abs=0.008)


def test_the_spread_of_a_bins_tokens_is_that_of_its_documents():
    """Mean and standard deviation of the resampled shares are those of drawing documents one by one."""
    rng = np.random.default_rng(6)
    scores = np.repeat([1.0, 3.0, 5.0], [200, 300, 500])
    tokens = np.round(rng.lognormal(4, 1, 1_000))
    ours = resampled(Sample.of(scores, tokens), seed=7).tokens_kept
    for place, threshold in enumerate((5.0, 3.0)):
        plain = drawn_one_by_one(scores, tokens, threshold, rng)
        assert ours[:, place].mean() == pytest.approx(plain.mean(), abs=0.003)
        assert ours[:, place].std() == pytest.approx(plain.std(), rel=0.08)


def test_equal_tokens_have_no_spread():
    """Where all documents are as long, the share of tokens kept is the share of documents kept, in each resample."""
    labels, scores, _ = population(500, 0)
    ours = resampled(Sample.of(scores, np.full(500, 7), labels, 4), seed=0)
    assert np.allclose(ours.tokens_kept, ours.kept)


def test_bins_hold_what_the_sample_holds():
    """Merging loses no document, label or token, and one bin ends at the chosen score."""
    labels, scores, tokens = population(5_000, 1)
    scores[::7] = -np.inf
    sample = Sample.of(scores, tokens, labels, 4)
    for chosen in (0, 1_234, len(sample.scores) - 1):
        bins = sample.merged(chosen)
        assert sample.scores[chosen] in bins.scores and 1_000 <= len(bins.scores) <= 1_002
        for name in ("counts", "tokens", "squares"):
            ours, whole = getattr(bins, name), getattr(sample, name)
            assert np.allclose(ours.sum(axis=0), whole.sum(axis=0))
            assert np.allclose(ours[-1], whole[-1])  # those without a score stay apart
            kept = bins.scores.tolist().index(sample.scores[chosen]) + 1
            assert np.allclose(ours[:kept].sum(axis=0), whole[: chosen + 1].sum(axis=0))
    assert sample.squares.sum() == (tokens.astype(float) ** 2).sum()


def test_the_interval_is_the_middle_95_percent():
    """Of 1,000 values the 25 at each end are outside; an infinite end is None, and NaN does not count."""
    values = np.arange(1_000.0)
    assert interval(np.random.default_rng(0).permutation(values)) == (25, 974)
    assert interval(np.r_[values, np.full(500, np.nan)]) == (25, 974)
    assert interval(np.where(values > 970, np.inf, values)) == (25, None)
    assert interval(np.full(3, np.nan)) == (None, None)
