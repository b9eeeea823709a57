"""`QualityFilter` in pipelines: the score of each document, the bounds, and where each document goes."""

import copy
from itertools import count, islice

import pytest
from datatrove.data import Document
from datatrove.pipeline.writers import JsonlWriter
from filters import SUFFIXES, TURNS, document, fake_filter, statistics
from samples import documents, read_rows

from datatrove_quality import QualityFilter, RowAdapter, ScorerConfig
from datatrove_quality import filter as filter_module
from datatrove_quality.engine import streaming


def test_metadata_is_the_cards_score_in_plain_types(config, card):
    """Every document gets four keys of plain Python types, with the card's own values, and keeps what it had."""
    made = documents(12, source="s")
    before = [copy.deepcopy(doc.metadata) for doc in made]
    out = list(QualityFilter(config).run(made))
    assert [doc.id for doc in out] == [f"doc-{index}" for index in range(12)]
    for doc, metadata in zip(out, before, strict=True):
        expected = card("qwen3")(metadata["messages"])
        values = [doc.metadata.pop(f"quality_{suffix}") for suffix in SUFFIXES]
        assert [type(value) for value in values] == [float, int, int, bool]
        assert values[0] == pytest.approx(expected.score, abs=1e-4)
        assert values[1:] == [expected.int_score, expected.tokens, expected.truncated]
        assert doc.metadata == metadata


@pytest.mark.parametrize(
    ("bounds", "kept", "reasons"),
    [
        ({"min_score": 2.5}, [2.5, 3.0, 4.5], {"below_min_score": 2}),
        ({"max_score": 2.5}, [1.0, 2.0, 2.5], {"above_max_score": 2}),
        ({"min_score": 2, "max_score": 3}, [2.0, 2.5, 3.0], {"below_min_score": 1, "above_max_score": 1}),
        ({"min_score": 3, "max_score": 3}, [3.0], {"below_min_score": 3, "above_max_score": 1}),
        ({}, [1.0, 2.0, 2.5, 3.0, 4.5], {}),
    ],
)
def test_bounds_are_inclusive(fake, bounds, kept, reasons):
    """A score on a bound is kept, and what is dropped says which bound it missed."""
    step = fake_filter(**bounds)
    out = list(step.run(fake([1.0, 2.0, 2.5, 3.0, 4.5])))
    assert [doc.metadata["quality_score"] for doc in out] == kept
    found = {name.removeprefix("dropped_"): total for name, total in statistics(step).items() if "dropped_" in name}
    assert found == reasons


def test_a_bound_of_zero_is_a_bound(fake):
    """`min_score=0` filters, it is not the same as None."""
    assert [doc.text for doc in fake_filter(min_score=0).run(fake([-1.0, 0.0, 1.0]))] == ["0.0", "1.0"]


def test_messages_key_none_scores_the_text(config, card):
    """Plain text is scored without a template, and metadata need not hold a conversation."""
    (out,) = QualityFilter(config, messages_key=None).run([Document(text="Lisboa é a capital.", id="a")])
    assert out.metadata["quality_score"] == pytest.approx(card("qwen3")("Lisboa é a capital.").score, abs=1e-4)


def test_another_messages_key(config):
    """The conversation may stand under another key."""
    (out,) = QualityFilter(config, messages_key="chat").run([Document(text="x", id="a", metadata={"chat": TURNS})])
    assert "quality_score" in out.metadata


def test_two_filters_in_one_pipeline(config, model_folder):
    """Two classifiers write under two prefixes, and neither touches the other's keys."""
    other = ScorerConfig(model=str(model_folder("llama")), dtype="float32", device="cpu")
    made = documents(5, source="s")
    expected = [list(QualityFilter(one).run(copy.deepcopy(made))) for one in (config, other)]
    steps = QualityFilter(config, prefix="instruct"), QualityFilter(other, prefix="edu")
    out = list(steps[1].run(steps[0].run(made)))
    for index, doc in enumerate(out):
        for prefix, alone in zip(("instruct", "edu"), expected, strict=True):
            for suffix in SUFFIXES:
                assert doc.metadata[f"{prefix}_{suffix}"] == alone[index].metadata[f"quality_{suffix}"]


def test_the_exclusion_writer_gets_reason_and_error(config, tmp_path):
    """What is dropped is written with why, and nothing is written twice."""
    made = [*documents(10, source="s"), document([])]
    writer = JsonlWriter(str(tmp_path / "excluded"), compression=None, adapter=RowAdapter())
    step = QualityFilter(config, min_score=2.5, exclusion_writer=writer)
    kept = [doc.id for doc in step.run(made)]
    rows = {row["id"]: row for row in read_rows(tmp_path / "excluded")}
    assert sorted([*kept, *rows]) == sorted(doc.id for doc in made)
    bad = rows.pop("bad-1")
    assert bad["filter_reason"] == "unscorable_no_messages"
    assert bad["quality_error"].startswith("no_messages: ")
    assert rows
    assert all(row["filter_reason"] == "below_min_score" and row["quality_score"] < 2.5 for row in rows.values())


def test_a_consumer_that_stops_early(config, tmp_path):
    """A `LimitSamples` behind the filter ends it cleanly: the exclusion file is closed and readable."""
    writer = JsonlWriter(str(tmp_path / "excluded"))
    step = QualityFilter(config, max_score=2.5, exclusion_writer=writer)
    stream = step.run(iter(documents(40, source="s")))
    assert len(list(islice(stream, 3))) == 3
    stream.close()
    assert len(read_rows(tmp_path / "excluded")) == statistics(step).get("dropped", 0)


@pytest.mark.parametrize("data", [[], None, iter(())], ids=["list", "none", "iterator"])
def test_empty_input(config, data, log, monkeypatch):
    """A task without documents gives none, loads no model and complains of nothing."""
    monkeypatch.setattr(filter_module, "find_scorer", None)
    step = QualityFilter(config, min_score=3)
    assert list(step.run(data)) == []
    assert not log
    assert statistics(step) == {}


def test_the_filter_holds_a_window(config, monkeypatch):
    """The filter reads no further ahead than a few of the scorer's windows, whatever the input's size."""
    monkeypatch.setattr(streaming, "WINDOW_ITEMS", 10)
    read = []

    def endless():
        for index in count():
            read.append(index)
            yield document(TURNS)

    stream = QualityFilter(config).run(endless())
    assert len(list(islice(stream, 15))) == 15
    stream.close()
    assert len(read) <= 10 * (2 + 2 * (streaming.WINDOWS_AHEAD + 1))


def test_an_earlier_filter_reason_does_not_stay_on_kept_documents(config):
    """A document that is kept now does not carry the reason for which an earlier run dropped it."""
    reasons = ("below_min_score", "unscorable_no_tokens", "too_long")
    documents = [document(TURNS, filter_reason=reason) for reason in reasons]
    kept = list(QualityFilter(config, min_score=-100).run(documents))
    assert [doc.metadata.get("filter_reason") for doc in kept] == [None, None, "too_long"]  # another step's stays
