"""`calibrate_cascade`: the guarantee, on simulated corpora; the band; and why there may be no certificate."""

import math

import numpy as np
import pytest
from broken_certificates import SHAPES, cases, student, too_many, true_shares

from datatrove_quality.cascade import calibration
from datatrove_quality.cascade.bounds import upper_bound
from datatrove_quality.cascade.calibration import calibrate_cascade, promised_rows
from datatrove_quality.config import ScorerConfig


def sample(shape=student, rows=6_000, seed=0):
    corpus = shape(np.random.default_rng(seed))
    return corpus[0][:rows], corpus[1][:rows], corpus[2]


def test_at_most_one_calibration_in_twenty_ends_in_a_broken_certificate():
    """Of whatever corpus; `make faults` runs a thousand trials of each case."""
    trials = 20
    for name, counts in cases(trials):
        assert not too_many(counts["broken"], trials), name
    assert counts["none"] > 0 and counts["kept"] > 0


def test_the_trials_would_show_a_band_that_is_taken_for_what_it_gave_on_the_sample(monkeypatch):
    """The test above can fail: with shares of the sample in the place of bounds it does."""
    monkeypatch.setattr(calibration, "errors_allowed", lambda rows, limit, alpha: int(rows * limit))
    monkeypatch.setattr(calibration, "chance_of_passing", lambda *arguments: 1)
    monkeypatch.setattr(calibration, "_broken", lambda bounds, alpha: None)
    assert all(too_many(counts["broken"], 20) for _, counts in cases(20, [student]))


def test_a_certificate_says_what_was_shown():
    scores, proxies, min_score = sample()
    proxy = ScorerConfig(model="org/student")
    found = calibrate_cascade(scores, proxies, min_score, disagreement=0.01, costs=(10, 1), seed=3, proxy=proxy)
    assert found.reason is None and found.cascade.proxy == proxy and found.cascade.band == found.band
    certificate = found.cascade.certificate
    (bound,) = certificate.bounds
    assert (certificate.min_score, certificate.rows, certificate.seed, certificate.attempts) == (
        min_score,
        3_000,
        3,
        1,
    )
    assert (bound.kind, bound.promised, bound.rows) == ("disagreement", 0.01, 3_000)
    assert bound.upper == pytest.approx(upper_bound(bound.errors, 3_000, 0.05)) and bound.upper <= 0.01
    assert found.agreement == 1 - bound.errors / 3_000
    assert found.speed == pytest.approx(10 / (1 + 10 * (found.rescored + 0.005 * (1 - found.rescored))))


def test_the_speed_to_expect_is_that_with_the_audit():
    """Where the classifier scores all that the proxy decides, too, it alone is faster: the cascade does not pay."""
    scores, proxies, min_score = sample()
    for audit in (0, 0.2, 1):
        found = calibrate_cascade(scores, proxies, min_score, disagreement=0.01, costs=(10, 1), seed=3, audit=audit)
        by_classifier = found.rescored + audit * (1 - found.rescored)
        assert found.speed == pytest.approx(10 / (1 + 10 * by_classifier))
        assert found.cascade is None if audit == 1 else found.cascade.audit == audit
    assert "does not pay" in found.reason
    with pytest.raises(ValueError, match=r"audit=2: give a share"):
        calibrate_cascade(scores, proxies, min_score, disagreement=0.01, audit=2)


def test_the_certifying_half_is_a_half_of_its_own():
    """The figures are those of the rows that the seed's permutation puts second, counted here one by one."""
    scores, proxies, min_score = sample(rows=5_001)
    found = calibrate_cascade(scores, proxies, min_score, wrongly_dropped=0.02, wrongly_kept=0.03, seed=5)
    second = np.random.default_rng(5).permutation(5_001)[2_500:]
    low, high = found.band
    kept = dropped = wrongly_dropped = wrongly_kept = rescored = 0
    for score, proxy in zip(scores[second], proxies[second], strict=True):
        kept, dropped = kept + (score >= min_score), dropped + (score < min_score)
        wrongly_dropped += proxy < low and score >= min_score
        wrongly_kept += proxy > high and score < min_score
        rescored += low <= proxy <= high
    assert [(bound.errors, bound.rows) for bound in found.bounds] == [(wrongly_dropped, kept), (wrongly_kept, dropped)]
    assert [bound.upper for bound in found.bounds] == pytest.approx(
        [upper_bound(wrongly_dropped, kept, 0.025), upper_bound(wrongly_kept, dropped, 0.025)]
    )
    assert found.rescored == pytest.approx(rescored / 2_501)


def test_the_band_is_the_narrowest_that_admits_its_errors():
    """No pair of scores with as few changed decisions on the choosing half rescores fewer rows."""
    scores, proxies, min_score = sample(rows=600)
    part, _ = calibration._Sample.halves(scores, proxies, min_score, seed=0)
    chosen = np.random.default_rng(0).permutation(600)[:300]
    scores, proxies = scores[chosen], proxies[chosen]
    (low, high), share = part._narrowest(4, 4, 4)
    edges = [-math.inf, *sorted(proxies), math.inf]
    best = min(
        np.mean((proxies >= a) & (proxies <= b))
        for i, a in enumerate(edges)
        for b in edges[i:]
        if true_shares((scores, proxies, min_score), (a, b))["disagreement"] <= 4 / 300
    )
    assert share == pytest.approx(best) == pytest.approx(np.mean((proxies >= low) & (proxies <= high)))


def test_where_one_error_is_too_many_the_band_is_wider():
    """With as few rows as the promise needs, a band that is without errors on the one half has one on the other."""
    issued = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        scores = rng.normal(3.5, 0.9, 640)
        proxies = 2 * scores + rng.normal(0, 0.02, 640) - 5
        found = calibrate_cascade(scores, proxies, 4.0, disagreement=0.01, seed=seed)
        issued += found.cascade is not None
        low, high = found.band
        assert low < 3 - 0.05 < 3 + 0.05 < high and found.rescored < 0.15
    assert issued >= 19


def test_a_proxy_that_is_always_right_leaves_nothing_to_rescore():
    scores = np.linspace(1, 5, 4_000)
    found = calibrate_cascade(scores, -3 + scores / 10, 4.0, wrongly_dropped=0.01, wrongly_kept=0.01)
    low, high = found.cascade.band
    assert low == high == pytest.approx(-3 + 0.4, abs=1e-3)
    assert found.agreement == 1 and found.rescored < 0.001


def test_all_shapes_issue_certificates_with_enough_rows():
    for shape in SHAPES[:6]:
        assert calibrate_cascade(*sample(shape, 12_000), disagreement=0.01).cascade is not None, shape


def test_further_attempts_are_paid_for():
    """Each has half the chance of being wrong that the one before had."""
    scores, proxies, min_score = sample()
    bounds = [
        calibrate_cascade(scores, proxies, min_score, disagreement=0.01, attempts=n).bounds[0] for n in range(1, 4)
    ]
    expected = [upper_bound(bound.errors, 3_000, 0.05 / 2**n) for n, bound in enumerate(bounds)]
    assert [bound.upper for bound in bounds] == pytest.approx(expected)


def test_missing_scores():
    """Without the proxy's score the classifier decides; without the classifier's, the proxy decides wrongly."""
    scores, proxies, min_score = (np.copy(values) for values in sample())
    proxies[::10] = np.nan
    found = calibrate_cascade(scores, proxies, float(min_score), disagreement=0.01)
    assert found.cascade is not None and found.rescored > 0.1
    scores[::20] = np.nan
    proxies[::20] = np.resize([-9, 9], 300)
    found = calibrate_cascade(scores, proxies, float(min_score), disagreement=0.01)
    assert found.cascade is None and found.rescored > 0.99


def test_rows_without_a_score_are_no_part_of_what_the_classifier_keeps_or_drops():
    """They would make the share of wrong decisions look smaller than it is."""
    rng = np.random.default_rng(0)
    scores = rng.choice([1.0, 5.0], 6_000, p=[0.9, 0.1])
    proxies = np.where(scores == 5, 5.0, 1.0)
    wrong = np.flatnonzero(scores == 5)[::16]  # 6% of what is kept: twice the promise
    proxies[wrong] = 1.0
    unknown = rng.choice(np.flatnonzero(scores == 1), 3_000, replace=False)
    scores[unknown], proxies[unknown] = np.nan, 3.0
    found = calibrate_cascade(scores, proxies, 4, wrongly_dropped=0.03, wrongly_kept=0.2)
    kept, dropped = (bound.rows for bound in found.bounds)
    assert 200 < kept < 400 and 1_000 < dropped < 1_400
    assert all(bound.errors <= bound.rows for bound in found.bounds)


# --- why there is none -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "promise", "needed"),
    [
        (580, {"disagreement": 0.01}, "needs 299 certifying rows without one error, and there are 290"),
        (6_000, {"disagreement": 0.0005}, "needs 5,990 certifying rows"),
        (700, {"wrongly_dropped": 0.01, "wrongly_kept": 0.2}, "needs 368 certifying rows that the classifier keeps"),
    ],
)
def test_a_sample_too_small_says_how_many_rows_are_needed(rows, promise, needed):
    found = calibrate_cascade(*sample(rows=rows), **promise)
    assert (found.cascade, found.band) == (None, None)
    assert needed in found.reason


def test_rows_needed_are_said_before_anything_is_scored():
    assert "at least 2,995 rows, without one error" in promised_rows({"disagreement": 0.001}, 0.95)


@pytest.mark.parametrize(("score", "says"), [(2.0, "drops all"), (5.0, "keeps all")])
def test_all_rows_on_one_side(score, says):
    found = calibrate_cascade(np.full(900, score), np.arange(900.0), 4.0, disagreement=0.01)
    assert found.cascade is None and says in found.reason


def test_a_promise_that_would_let_all_of_a_side_be_wrong():
    """Where the classifier keeps 0.5%, dropping all changes fewer than 1% of the decisions."""
    scores = np.where(np.arange(4_000) % 200 == 0, 5.0, 2.0)
    found = calibrate_cascade(scores, np.zeros(4_000), 4.0, disagreement=0.01)
    assert found.cascade is None and "keeps 0." in found.reason and "wrongly_dropped" in found.reason


def test_a_band_that_covers_all_and_costs_that_do_not_pay():
    scores, proxies, min_score = sample()
    found = calibrate_cascade(scores, np.zeros(len(scores)), min_score, disagreement=0.01)
    assert found.cascade is None and "score all of the documents" in found.reason
    found = calibrate_cascade(scores, proxies, min_score, disagreement=0.01, costs=(1, 0.9))
    assert found.cascade is None and "does not pay" in found.reason and found.bounds[0].upper <= 0.01


def test_a_promise_that_is_not_shown():
    """The proxy is wrong about more rows than the choosing half has shown."""
    scores, proxies, min_score = sample(rows=1_200)
    second = np.random.default_rng(0).permutation(1_200)[600:]
    proxies = np.copy(proxies)
    proxies[second[:40]] = 9 * np.where(scores[second[:40]] >= min_score, -1, 1)
    found = calibrate_cascade(scores, proxies, min_score, disagreement=0.01)
    assert found.cascade is None and "is not shown" in found.reason and found.bounds[0].errors >= 40


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"disagreement": 0}, "disagreement=0"),
        ({"disagreement": 1.0}, "disagreement=1.0"),
        ({}, "Promise disagreement="),
        ({"wrongly_dropped": 0.01}, "together"),
        ({"disagreement": 0.01, "confidence": 1}, "confidence=1"),
        ({"disagreement": 0.01, "attempts": 0}, "attempts=0"),
        ({"disagreement": 0.01, "min_score": math.nan}, "min_score=nan"),
        ({"disagreement": 0.01, "proxy_scores": [1.0]}, "one of each per row"),
        ({"disagreement": 0.01, "proxy_scores": [math.inf, 1.0]}, "finite numbers"),
    ],
)
def test_invalid_values(values, match):
    with pytest.raises(ValueError, match=match):
        calibrate_cascade(**{"scores": [1.0, 5.0], "proxy_scores": [1.0, 5.0], "min_score": 4.0} | values)
