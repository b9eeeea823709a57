"""Fixtures of the tests of `QualityFilter`."""

import pytest
from datatrove.data import Document
from filters import FakeScorer

from datatrove_quality import filter as filter_module


@pytest.fixture
def fake(monkeypatch):
    """Score plain texts by the number that they hold: `fake([1.0, 2.5])` gives documents."""
    monkeypatch.setattr(filter_module, "find_scorer", lambda config: FakeScorer())
    return lambda numbers: [Document(text=str(number), id=str(number)) for number in numbers]
