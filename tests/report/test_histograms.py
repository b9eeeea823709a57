import numpy as np

from datatrove_quality.report.histograms import score_bins


def test_bins_agree_with_the_comparison_that_a_filter_makes():
    """A score on an edge such as 1.15, no float of which is exact, falls on the side where `>=` puts it."""
    edges = np.array([k / 100 for k in range(-500, 600)])
    scores = np.concatenate([edges, np.nextafter(edges, -np.inf), np.nextafter(edges, np.inf)])
    bins = score_bins(scores)
    assert (scores >= bins / 100).all() and (scores < (bins + 1) / 100).all()
    assert score_bins(np.array([1e300, -1e300])).tolist() == [100_000, -100_000]
