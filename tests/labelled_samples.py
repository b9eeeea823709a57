"""Rows with labels and scores, for the tests of what judges scores."""

import numpy as np


def scored_rows(count: int = 200) -> list[dict]:
    """Rows with a label from 1 to 5, and a score near it."""
    rng = np.random.default_rng(0)
    labels = rng.integers(1, 6, count).tolist()
    scores = (np.array(labels) + rng.normal(0, 0.5, count)).tolist()
    return [
        {"quality": label, "quality_score": score, "quality_tokens": 10 + label}
        for label, score in zip(labels, scores, strict=True)
    ]
