"""One source of several that is read wrongly is named, and stops a run."""

import pytest
from datatrove.data import Document
from samples import turns

from datatrove_quality import QualityFilter
from datatrove_quality.curation.rule_filter import ConversationRules
from datatrove_quality.rows import source_guard
from datatrove_quality.rows.source_guard import SourceGuard


@pytest.fixture(autouse=True)
def few(monkeypatch):
    """What holds for a thousand rows holds for ten, and for three of a hundred values."""
    monkeypatch.setattr(source_guard, "ROWS_BEFORE_GIVING_UP", 10)
    monkeypatch.setattr(source_guard, "FEW_ROWS", 3)


def noted(guard, source, *reasons):
    for reason in reasons:
        guard.note({"source": source}, reason)


def test_a_source_that_is_read_wrongly_is_named():
    """At its tenth row, whatever came of the others; the commonest reason is told."""
    guard = SourceGuard(["source"])
    noted(guard, "good", *9 * ["no_answer"], None, *30 * ["no_answer"])
    noted(guard, None, *30 * ["no_answer"])
    noted(guard, "bad", *3 * ["no_answer"], *6 * ["unused_column"])
    with pytest.raises(ValueError, match=r"first 10 rows with source='bad' .* 7 of them because of unused_column"):
        noted(guard, "bad", "unused_column")


def test_a_small_source_is_named_at_the_end(log):
    """It cannot stop a run that has ended; a few bad rows are no source that was read wrongly."""
    guard = SourceGuard(["source"])
    noted(guard, "small", *5 * ["no_answer"])
    noted(guard, "tiny", *2 * ["no_answer"])
    noted(guard, "good", *5 * ["no_answer"], None)
    guard.close()
    assert [message.partition(":")[0] for message in log] == [
        "ERROR None of the task's 5 rows with source='small' can be scored, 5 of them because of no_answer"
    ]


def test_a_column_that_no_row_has_is_named_at_the_end(log):
    """A name that is misspelled would guard nothing."""
    guard = SourceGuard(["sorce", "source"])
    noted(guard, "good", *5 * [None])
    guard.close()
    assert [line.strip() for line in log] == ["WARNING group_by='sorce': no row of a task has this column."]


def test_a_column_of_ids_names_no_sources(monkeypatch, log):
    """Memory stays bounded, and it is said."""
    monkeypatch.setattr(source_guard, "MAX_SOURCES", 100)
    guard = SourceGuard(["id", "source"])
    for number in range(150):
        guard.note({"id": number, "source": "good"}, None)
    assert len(guard._sources) == 1
    assert sum("group_by='id' has more than 100 values" in message for message in log) == 1


def documents(rows):
    for source, is_good in rows:
        metadata = {"source": source} | ({"messages": turns("?", "!")} if is_good else {})
        yield Document("?", "id", metadata=metadata)


def test_the_steps_have_the_guard():
    """The rules, which drop what is no conversation, and the filter by scores; a second run starts from zero."""
    rows = [(f"s{number % 20}", number % 20 != 13) for number in range(400)]
    rules = ConversationRules(group_by=["source"])
    scores = QualityFilter(None, group_by="source", progress=False, min_score=1.0)
    for _ in range(2):
        with pytest.raises(ValueError, match="rows with source='s13' can be scored, 10 of them because of missing_m"):
            list(rules.run(documents(rows)))
    made = list(documents(rows))
    for document, (_, is_good) in zip(made, rows, strict=True):
        document.metadata |= {"quality_score": 3.0} if is_good else {}
    with pytest.raises(ValueError, match="rows with source='s13' can be scored, 10 of them because of missing_score"):
        list(scores.run(made))
    assert len(list(ConversationRules().run(documents(rows)))) == 380


@pytest.mark.parametrize("columns", [[""], [3], [["source"]]])
def test_what_is_no_column(columns):
    with pytest.raises(ValueError, match="group_by="):
        QualityFilter("m", group_by=columns)
