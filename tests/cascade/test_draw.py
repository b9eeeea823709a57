"""Which documents are audited."""

import numpy as np
import pytest

from datatrove_quality.cascade.draw import Draw


def test_the_draw_is_uniform_repeatable_and_independent_of_another():
    one, again, other, task = Draw("a"), Draw("a"), Draw("b"), Draw("a", rank=1)
    drawn = np.array([[draw() for _ in range(20_000)] for draw in (one, again, other, task)])
    assert (drawn[0] == drawn[1]).all()
    for numbers in drawn:
        assert np.histogram(numbers, bins=10, range=(0, 1))[0] == pytest.approx(2_000, abs=180)
    assert np.abs(np.corrcoef(drawn[[0, 2, 3]])[np.triu_indices(3, 1)]).max() < 0.03
