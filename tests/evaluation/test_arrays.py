"""Rounding of many scores at once: as `ScoreScale` rounds each."""

import numpy as np
import pytest
from populations import SCALES

from datatrove_quality import ScoreScale
from datatrove_quality.evaluation.arrays import int_scores


@pytest.mark.parametrize("scale", [*SCALES, *(ScoreScale(offset, 0, 9) for offset in (0.6, 0.7, 1.3, -0.9))], ids=str)
def test_int_scores_are_the_scalers_own_at_every_edge(scale):
    """A logit on a rounding edge, or a float32 away from it, gets the int_score that the scorer gave it."""
    edges = np.arange(np.floor(scale.low - scale.offset) - 2, scale.high - scale.offset + 2, 0.5, dtype=np.float32)
    logits = np.concatenate([edges, np.nextafter(edges, np.float32(-99)), np.nextafter(edges, np.float32(99))])
    scores = np.array([scale.score(logit) for logit in logits.tolist()])
    assert int_scores(scores, scale).tolist() == [scale.int_score(logit) for logit in logits.tolist()]


@pytest.mark.parametrize("scale", [ScoreScale(), ScoreScale(0, 0, 5), ScoreScale(-2, -1, 4)], ids=str)
@pytest.mark.parametrize("step", [-1e-14, 1e-14])
def test_with_a_whole_offset_a_score_just_past_an_edge_is_not_rounded_onto_it(scale, step):
    """Only an offset that is not a whole number makes subtraction inexact; scores in float64 may lie this close."""
    edges = [edge for edge in (0.5, 1.5, 2.5, 3.5) if scale.low < edge + scale.offset < scale.high]
    scores = np.array(edges) + scale.offset + step
    expected = [int((np.floor if step < 0 else np.ceil)(edge) + scale.offset) for edge in edges]
    assert int_scores(scores, scale).tolist() == expected
    assert expected == [scale.int_score(score - scale.offset) for score in scores]
