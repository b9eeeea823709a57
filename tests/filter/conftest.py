"""Fixtures of the tests of `QualityFilter`."""

import pytest
from datatrove.data import Document
from filters import FakeScorer

from datatrove_quality import ScorerConfig
from datatrove_quality import filter as filter_module


@pytest.fixture
def config(model_folder):
    """A random classifier on the CPU."""
    return ScorerConfig(model=str(model_folder("qwen3")), dtype="float32", device="cpu", tokens_per_batch=1_000)


@pytest.fixture
def fake(monkeypatch):
    """Score plain texts by the number that they hold: `fake([1.0, 2.5])` gives documents."""
    monkeypatch.setattr(filter_module, "find_scorer", lambda config: FakeScorer())
    return lambda numbers: [Document(text=str(number), id=str(number)) for number in numbers]
