"""A threshold is the one that trying every score finds, and its interval holds the truth and itself."""

import numpy as np
import pytest
from populations import population

from datatrove_quality.evaluation.thresholds import estimated, threshold_for_precision, threshold_for_share


BY = ("documents", "tokens")


@pytest.mark.parametrize("seed", range(20))
def test_the_threshold_is_the_lowest_that_reaches_the_precision(seed):
    """Found by trying every score; the printed number keeps the same documents, and ties stay together."""
    labels, scores, tokens = population(300, seed)
    scores = scores.round(1) if seed % 2 else scores
    found = threshold_for_precision(labels, scores, 4, 0.9, tokens=tokens)
    good = labels >= 4
    lowest = min(score for score in scores if good[scores >= score].mean() >= 0.9)
    kept = scores >= found.threshold.value
    assert np.array_equal(kept, scores >= lowest)
    assert found.precision.value == pytest.approx(good[kept].mean())
    assert found.recall.value == pytest.approx(kept[good].mean())
    assert found.kept.value == pytest.approx(kept.mean())
    assert found.tokens_kept.value == pytest.approx(tokens[kept].sum() / tokens.sum())
    assert found.labelled_kept == kept.sum()


@pytest.mark.parametrize("by", BY)
def test_the_share_that_is_kept_is_the_least_that_was_asked_for(by):
    """One score higher, and less than the share would be kept."""
    _, scores, tokens = population(500, 0)
    found = threshold_for_share(scores, 0.6, tokens, by=by)
    weights = tokens if by == "tokens" else np.ones(500)
    kept = scores >= found.threshold.value
    without_last = scores > scores[kept].min()
    assert weights[kept].sum() / weights.sum() >= 0.6 > weights[without_last].sum() / weights.sum()
    assert len(str(found.threshold.value)) <= 8
    assert found.precision is None and found.recall is None


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    """Some 95 % of the intervals contain the figure of the population that they come from."""
    labels, scores, tokens = population(200_000, 0)
    truth = threshold_for_precision(labels, scores, 4, 0.9, tokens=tokens)
    share = threshold_for_share(scores, 0.3, tokens, by="tokens").threshold.value
    rng = np.random.default_rng(1)
    hits = np.zeros(3)
    for seed in range(80):
        some = rng.choice(len(scores), 250, replace=False)
        found = threshold_for_precision(labels[some], scores[some], 4, 0.9, tokens=tokens[some], seed=seed)
        by_tokens = threshold_for_share(scores[some], 0.3, tokens[some], by="tokens", seed=seed)
        kept = scores >= found.threshold.value
        hits += [
            found.threshold.low <= truth.threshold.value <= found.threshold.high,
            found.kept.low <= kept.mean() <= found.kept.high,
            by_tokens.threshold.low <= share <= by_tokens.threshold.high,
        ]
    assert (hits >= 69).all(), hits


def test_the_same_seed_gives_the_same_intervals():
    """What is printed today is printed tomorrow."""
    labels, scores, _ = population(500, 0)
    assert threshold_for_precision(labels, scores, 4, 0.9) == threshold_for_precision(labels, scores, 4, 0.9)


def test_documents_without_a_score_or_a_label():
    """Without a score a document is never kept, but counts; without a label it counts for the share kept only."""
    labels = [5, 5, 1, np.nan, 5, np.nan]
    scores = [5.0, 4.0, 1.0, 4.5, -np.inf, -np.inf]
    found = threshold_for_precision(labels, scores, 4, 1.0)
    assert found.threshold.value == 4
    assert found.kept.value == 0.5 and found.labelled_kept == 2
    assert found.recall.value == pytest.approx(2 / 3)
    with pytest.raises(ValueError, match=r"only 66\.6% of the documents have a score"):
        threshold_for_share(scores, 0.7)


def test_what_cannot_be_reached_says_what_can():
    """An unreachable precision or recall names the best there is, and what it keeps."""
    labels, scores = [5, 1, 5, 1], [4.0, 5.0, 3.0, 2.0]
    with pytest.raises(ValueError, match=r"No threshold reaches min_precision=0.9 .*best precision is 66.6%.*>= 3.0"):
        threshold_for_precision(labels, scores, 4, 0.9)
    with pytest.raises(ValueError, match=r"with min_recall=0.9 .* at that recall is 66.6%"):
        threshold_for_precision(labels, scores, 4, 0.9, min_recall=0.9)


def test_a_precision_that_few_samples_reach_says_so():
    """Where resamples find no threshold, their share is told and the interval is open upwards."""
    labels, scores = [5, 1, 5, 1, 5], [5.0, 4.0, 3.0, 2.0, 1.0]
    found = threshold_for_precision(labels, scores, 4, 1.0)
    assert 0 < found.unreached < 1
    assert found.threshold.high is None and found.threshold.low is not None


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"min_precision": 98}, "min_precision=98: give a share"),
        ({"min_recall": -1}, "min_recall=-1: give a share"),
        ({"level": 9}, "labels: none is 9 or above"),
        ({"scores": [1.0, np.nan]}, "scores: 1 of 2 are not scores"),
        ({"scores": [-np.inf, -np.inf]}, "no document has a score"),
        ({"labels": [5]}, "scores has 2"),
    ],
)
def test_mistakes_are_named(values, message):
    """A wrong argument is an error that names it."""
    given = {"labels": [5, 1], "scores": [4.0, 2.0], "level": 4, "min_precision": 0.9} | values
    with pytest.raises(ValueError, match=message):
        threshold_for_precision(**given)


def ends(estimate):
    return estimate.low, estimate.value, estimate.high


@pytest.mark.parametrize("seed", range(30))
def test_no_figure_lies_outside_its_own_interval(seed):
    """Also where the threshold is shortened, all resamples agree, few documents are there, or scores are tied."""
    rng = np.random.default_rng(seed)
    size = int(rng.integers(3, 60))
    labels, scores, tokens = population(size, seed)
    labels[:2] = 1, 5
    scores = scores.round(1) if seed % 3 == 0 else scores
    choices = [threshold_for_share(scores, share, tokens, by=by) for share in (0.1, 0.5, 1.0) for by in BY]
    choices.append(threshold_for_precision(labels, scores, 4, float((labels >= 4).mean()), tokens=tokens))
    for choice in choices:
        for name in ("threshold", "kept", "tokens_kept", "precision", "recall"):
            estimate = getattr(choice, name)
            if estimate is not None:
                assert estimate.low is None or estimate.low <= estimate.value
                assert estimate.high is None or estimate.value <= estimate.high


def test_a_shortened_threshold_is_in_an_interval_of_one_score():
    """Every resample chooses 3.504, which 3.5 stands for: the interval is from 3.5 to 3.504."""
    scores = [3.504] * 50 + [1.0] * 50
    labels = [5] * 50 + [1] * 50
    found = threshold_for_precision(labels, scores, 4, 0.9).threshold
    assert ends(found) == (3.5, 3.5, 3.504)


def test_an_interval_holds_its_figure_even_where_all_resamples_lie_on_one_side():
    """The end that would be beyond the figure is the figure; an end that is unknown stays so."""
    assert ends(estimated(4.0, np.full(9, 3.0))) == (3.0, 4.0, 4.0)
    assert ends(estimated(2.0, np.full(9, 3.0))) == (2.0, 2.0, 3.0)
    assert ends(estimated(4.0, np.full(9, np.inf))) == (None, 4.0, None)


def test_rows_without_a_score_say_nothing_of_the_tokens_of_those_that_have_one():
    """All 20 scored documents are kept: of their tokens 83% at least, whatever the number of others."""
    for others in (0, 180):
        scores = np.r_[np.full(others, -np.inf), np.linspace(1, 3, 20)]
        found = threshold_for_share(scores, 20 / (20 + others), (scores > 0) * 100)
        assert ends(found.tokens_kept) == pytest.approx((0.025 ** (1 / 20), 1, 1))


def test_a_sample_of_rare_scores_with_weights_chooses_as_the_whole_would():
    """Drawn five times as often where scores are low: the shares are those of the whole, and intervals hold them."""
    rng = np.random.default_rng(8)
    whole = rng.normal(3.5, 1, 60_000).round(2)
    labels = np.clip(np.rint(whole + rng.normal(0, 0.5, len(whole))), 1, 5)
    chance = np.where(whole < 3, 0.1, 0.02)
    drawn = rng.random(len(whole)) < chance
    weights = 1 / chance[drawn]
    kept = threshold_for_share(whole[drawn], 0.5, weights=weights)
    assert (
        kept.threshold.low <= np.quantile(whole, 0.5) <= kept.threshold.high and abs(kept.threshold.value - 3.5) < 0.1
    )
    assert threshold_for_share(whole[drawn], 0.5).threshold.value < 3.2  # unweighted: biased
    whole_weights = weights.astype(int)
    choice = threshold_for_precision(labels[drawn], whole[drawn], 4, 0.9, weights=whole_weights)
    rows = np.repeat(np.flatnonzero(drawn), whole_weights)
    repeated = threshold_for_precision(labels[rows], whole[rows], 4, 0.9)
    for name in ("threshold", "kept", "precision", "recall"):
        one, same = getattr(choice, name), getattr(repeated, name)
        assert one.value == pytest.approx(same.value)
        # Fewer rows than they stand for say less.
        assert one.high - one.low > 2 * (same.high - same.low)
    assert choice.labelled_kept == (whole[drawn] >= choice.threshold.value).sum()
