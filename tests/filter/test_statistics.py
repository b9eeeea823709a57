"""What `QualityFilter` counts: documents, tokens, scores and time."""

import time

import pytest
from datatrove.data import Document
from filters import TURNS, FakeScorer, document, fake_filter, statistics
from samples import documents

from datatrove_quality import QualityFilter
from datatrove_quality import filter as filter_module


def test_statistics_add_up(config):
    """Every document is counted once on its way in and once on its way out, with tokens and scores."""
    made = [*documents(20, source="s"), document([]), document(None), document(TURNS)]
    step = QualityFilter(config, min_score=1, max_score=4)
    out = list(step.run(made))
    found = statistics(step)
    scored = [doc for doc in made if "quality_score" in doc.metadata]
    assert found["total"] == 23 == found["forwarded"] + found["dropped"]
    assert found["forwarded"] == len(out)
    assert found["scored"] == len(scored) == 21
    assert found["unscorable"] == 2 == found["unscorable_no_messages"] + found["unscorable_null_column"]
    assert found["tokens"] == sum(doc.metadata["quality_tokens"] for doc in scored)
    assert found.get("truncated", 0) == sum(doc.metadata["quality_truncated"] for doc in scored)
    scores = [doc.metadata["quality_score"] for doc in scored]
    assert step.stats["score"].mean == pytest.approx(sum(scores) / len(scores))
    for value in range(1, 6):
        assert found.get(f"int_score_{value}", 0) == sum(doc.metadata["quality_int_score"] == value for doc in scored)
    reasons = [total for name, total in found.items() if name.startswith("dropped_")]
    assert sum(reasons) == found["dropped"]


def test_one_step_that_runs_twice_counts_twice(config):
    """One step object that runs several ranks in a row starts each from zero."""
    step = QualityFilter(config)
    list(step.run(documents(7, source="s"), rank=0, world_size=2))
    list(step.run(documents(4, source="s"), rank=1, world_size=2))
    assert statistics(step)["total"] == statistics(step)["scored"] == 4


def test_time_is_scorings_and_not_upstreams(monkeypatch):
    """The step's time holds the scoring, and not what a slow reader took."""
    monkeypatch.setattr(filter_module, "find_scorer", lambda config: FakeScorer(seconds=0.002))

    def slow():
        for index in range(20):
            time.sleep(0.02)
            yield Document(text="3", id=str(index))

    step = fake_filter(min_score=3)
    started = time.perf_counter()
    assert len(list(step.run(slow()))) == 20
    total = time.perf_counter() - started
    own = step.stats.time_stats.total
    assert own > 0.002 * 20 * 0.9
    assert total > 3 * own


def test_time_is_not_downstreams(monkeypatch):
    """What a slow writer takes is the writer's."""
    monkeypatch.setattr(filter_module, "find_scorer", lambda config: FakeScorer())
    step = fake_filter()
    for _ in step.run([Document(text="3", id="a") for _ in range(20)]):
        time.sleep(0.01)
    assert step.stats.time_stats.total < 0.1


def test_the_same_filter_twice_in_a_pipeline_is_named(fake):
    """Not a lost document: each was counted twice. One after the other it may be used again."""
    step = fake_filter()
    with pytest.raises(ValueError, match="in the pipeline twice"):
        list(step.run(step.run(fake([1.0, 2.0]))))
    assert len(list(step.run(fake([1.0, 2.0])))) == 2


@pytest.mark.parametrize(
    ("number", "constant"), [(49, True), (50, True), (1_000, True), (1_500, True), (1_500, False)]
)
def test_constant_scores_are_said(fake, log, number, constant):
    """A model that does not look at the texts: one warning, within the first 1,000 documents of a task."""
    numbers = [2.5] * (number - 1) + [2.5 if constant else 2.75]
    list(fake_filter().run(fake(numbers if constant else reversed(numbers))))
    said = [line for line in log if "scores are 2.5" in line]
    assert len(said) == (number >= 50 and constant)
    assert all("WARNING" in line and f"first {min(number, 1_000):,} " in line for line in said)
