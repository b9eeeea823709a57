"""Agreement of raters: published figures, weights as repeated rows, intervals that hold the truth."""

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score, confusion_matrix

from datatrove_quality.evaluation.agreement import measure_agreement


LEVELS = range(1, 6)
_ = np.nan
# K. Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011), example C: 4 observers, 12 units.
PUBLISHED = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, _, _, _],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, _, 3],
        [_, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, _],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, _],
    ]
).T


def two_raters(count, seed=0):
    """A person, and a judge who is right or one off."""
    rng = np.random.default_rng(seed)
    human = rng.choice(LEVELS, count, p=[0.1, 0.1, 0.2, 0.3, 0.3])
    return np.column_stack([human, np.clip(human + rng.choice([-1, 0, 0, 0, 1], count), 1, 5)]).astype(float)


def test_alpha_is_the_published_one():
    """Krippendorff's own example for ordered categories, with missing ratings: 0.815."""
    found = measure_agreement(PUBLISHED, list("ABCD"), LEVELS)
    assert found.rows == 11 and found.alpha.value == pytest.approx(0.815, abs=5e-4)
    assert found.alpha.low < found.alpha.value < found.alpha.high


def test_a_pair_is_as_scikit_learn_has_it():
    """Kappa and confusion, plain and weighted; rows that one of the two did not rate are no part of it."""
    ratings = two_raters(300)
    weights = np.random.default_rng(1).choice([0.5, 2.0, 7.25], 300)
    ratings[:20, 1] = np.nan
    human, judge = ratings[20:].T
    for given in (None, weights):
        [pair] = measure_agreement(ratings, ["human", "judge"], LEVELS, given).pairs
        own = None if given is None else given[20:]
        kappa = cohen_kappa_score(human, judge, labels=list(LEVELS), weights="quadratic", sample_weight=own)
        assert pair.kappa.value == pytest.approx(kappa) and pair.rows == 280
        matrix = confusion_matrix(human, judge, labels=list(LEVELS), sample_weight=own)
        np.testing.assert_allclose(pair.confusion, matrix)
        assert pair.equal.value == pytest.approx(np.average(human == judge, weights=own))
        assert pair.difference.value == pytest.approx(np.average(judge - human, weights=own))


def test_a_weight_is_a_number_of_rows():
    """A row of weight 3 counts as three equal rows, in alpha too, up to the finite sample's correction."""
    ratings = np.column_stack([two_raters(200), two_raters(200, 1)[:, 0]])
    weights = np.random.default_rng(2).integers(1, 4, 200)
    weighted = measure_agreement(ratings, list("ABC"), LEVELS, weights)
    repeated = measure_agreement(np.repeat(ratings, weights, axis=0), list("ABC"), LEVELS)
    assert weighted.alpha.value == pytest.approx(repeated.alpha.value, abs=2e-3)
    np.testing.assert_allclose(weighted.pairs[1].confusion, repeated.pairs[1].confusion)


def test_the_interval_holds_the_truth_as_often_as_it_says():
    """Of samples of a large population, 95% and not all; a weighted sample of rare levels is not biased."""
    whole = two_raters(40_000)
    truth = measure_agreement(whole, ["human", "judge"], LEVELS).pairs[0].kappa.value
    rng = np.random.default_rng(3)
    chance = np.where(whole[:, 0] < 3, 0.02, 0.004)  # five times as many from rare levels
    held = off = 0
    for _trial in range(40):
        drawn = rng.random(len(whole)) < chance
        found = measure_agreement(whole[drawn], ["human", "judge"], LEVELS, 1 / chance[drawn]).pairs[0].kappa
        held += found.low <= truth <= found.high
        off += found.value - truth
    assert held >= 34 and abs(off / 40) < 0.02


def test_raters_of_one_level_have_no_kappa():
    """Nothing to tell apart: no figure, no division by zero."""
    found = measure_agreement([[4, 4]] * 5, ["human", "judge"], LEVELS)
    assert found.alpha is None and found.pairs[0].kappa is None and found.pairs[0].equal.value == 1


@pytest.mark.parametrize(
    ("ratings", "weights", "message"),
    [
        ([[1, 9]], None, "not from 1 to 5"),
        ([[1, np.nan]], None, "No row has a usable level in both human and judge"),
        ([[1, 2]], [0.0], "weights: 1 of 1 are not weights"),
        ([[1, 2, 3]], None, r"shape \(1, 3\)"),
    ],
)
def test_mistakes_are_named(ratings, weights, message):
    """A level off the scale, nothing in common, a weight of nothing."""
    with pytest.raises(ValueError, match=message):
        measure_agreement(ratings, ["human", "judge"], LEVELS, weights)
