"""Labels with scores of a known kind, and scales of all kinds, for tests of figures."""

import numpy as np

from datatrove_quality import ScoreScale


# The card's, one from 0, and offsets that are not whole numbers.
SCALES = [ScoreScale(), ScoreScale(0, 0, 5), ScoreScale(0.3, -1, 2), ScoreScale(-1.7, 3, 9)]


def population(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels and scores that agree with noise, and tokens; from so large a population the truth is known."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(5, n, p=[0.1, 0.1, 0.2, 0.3, 0.3]) + 1
    return labels, labels + rng.normal(0, 0.6, n), rng.integers(1, 400, n)
