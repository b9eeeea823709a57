import numpy as np

from datatrove_quality.report.histograms import Bars, bars_for, histogram, score_bins, thresholds


def test_bins_agree_with_the_comparison_that_a_filter_makes():
    """A score on an edge such as 1.15, no float of which is exact, falls on the side where `>=` puts it."""
    edges = np.array([k / 100 for k in range(-500, 600)])
    scores = np.concatenate([edges, np.nextafter(edges, -np.inf), np.nextafter(edges, np.inf)])
    bins = score_bins(scores)
    assert (scores >= bins / 100).all() and (scores < (bins + 1) / 100).all()
    assert score_bins(np.array([1e300, -1e300])).tolist() == [100_000, -100_000]


def test_one_odd_score_in_a_thousand_does_not_make_the_bars_wide():
    """It is counted in the nearest bar, and as outside; two of them get bars of their own."""
    bins, sums = np.array([-50_000, 300, 310]), np.array([[1.0, 5], [500, 50], [499, 40]])
    bars = bars_for(bins, sums[:, 0])
    assert (bars.first, bars.width) == (300, 5)
    counted = histogram(bins, sums, bars)
    assert counted.documents == [501, 0, 499] and counted.tokens == [55, 0, 40] and counted.outside == 1
    sums[0, 0] = 2
    assert histogram(bins, sums, bars_for(bins, sums[:, 0])).outside == 0


def test_a_threshold_keeps_what_lies_at_or_above_it():
    """Documents and tokens from each edge on; shares are of all documents, and of the tokens of scored ones."""
    table = thresholds(np.array([300, 310]), np.array([[6.0, 60], [2, 40]]), documents=10, bars=Bars(300, 10, 2))
    found = [(row.threshold, row.documents, row.documents_share, row.tokens, row.tokens_share) for row in table]
    assert found == [(3.0, 8, 0.8, 100, 1.0), (3.1, 2, 0.2, 40, 0.4), (3.2, 0, 0.0, 0, 0.0)]
