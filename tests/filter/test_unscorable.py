"""Documents that `QualityFilter` cannot score: kept, dropped or raised, each with its reason."""

import dataclasses
import re
from itertools import chain, count

import pytest
from datatrove.data import Document
from filters import SUFFIXES, TURNS, document, statistics
from samples import documents

from datatrove_quality import QualityFilter


def test_unscorable_by_default_follows_the_purpose(config):
    """Annotating keeps what cannot be scored, with an error in place of a score; filtering drops it."""
    (kept,) = QualityFilter(config).run([document([])])
    assert kept.metadata["quality_error"].startswith("no_messages: ")
    assert not any(f"quality_{suffix}" in kept.metadata for suffix in SUFFIXES)
    assert list(QualityFilter(config, min_score=-100).run([document([])])) == []
    assert list(QualityFilter(config, unscorable="drop").run([document([])])) == []
    assert len(list(QualityFilter(config, min_score=-100, unscorable="keep").run([document([])]))) == 1


def test_unscorable_raise_names_id_and_file(config):
    """Who wants to know at once is told which document, in which file, and why."""
    step = QualityFilter(config, unscorable="raise")
    with pytest.raises(ValueError, match=r"'bad-1' \(in/part-7\.jsonl\).*no_messages"):
        list(step.run([*documents(3, source="s"), document([])]))


def test_a_document_without_the_key(config):
    """A document without a conversation says which key was missing and which are there."""
    (kept,) = QualityFilter(config, messages_key="chat").run([document(TURNS)])
    assert re.match(r"missing_messages: .*'chat'.*'file_path', 'messages'", kept.metadata["quality_error"])


def test_the_adapters_error_becomes_the_filters(config):
    """What the reader could not understand keeps its reason on its way to the exclusion writer."""
    bad = document(None, conversation_error="invalid_json: column 'messages': line 1 is no JSON")
    step = QualityFilter(config, unscorable="drop")
    assert list(step.run([bad])) == []
    assert bad.metadata["quality_error"] == "invalid_json: column 'messages': line 1 is no JSON"
    assert statistics(step)["dropped_unscorable_invalid_json"] == 1


def test_scores_of_an_earlier_run_are_replaced(config):
    """A document that was scored before and no longer can be carries no stale score, and the other way round."""
    stale = {f"quality_{suffix}": 1 for suffix in SUFFIXES}
    (kept,) = QualityFilter(config).run([document([], **stale)])
    assert [key for key in kept.metadata if key.startswith("quality_")] == ["quality_error"]
    (scored,) = QualityFilter(config).run([document(TURNS, quality_error="old: error")])
    assert "quality_error" not in scored.metadata


def test_a_corpus_in_which_nothing_can_be_scored(config):
    """A thousand unscorable documents in a row are a corpus read wrongly: the run stops and says what to set."""
    read = []

    def plain_text():
        for index in count():
            read.append(index)
            yield Document(text="texto", id=str(index))

    with pytest.raises(ValueError, match=r"first 1000 documents.*missing_messages.*messages_key=None"):
        list(QualityFilter(config, min_score=3).run(plain_text()))
    assert len(read) < 1_000 + 1_100


def test_giving_up_holds_when_annotating_too(config):
    """A corpus that passes without a single score looks finished and is not."""
    step = QualityFilter(config)
    with pytest.raises(ValueError, match="first 1000 documents"):
        list(step.run(Document(text="x", id="a") for _ in range(1_000)))


def test_a_damaged_part_is_no_corpus_read_wrongly(config):
    """A row group that cannot be read has many rows, whatever the settings are."""
    damaged = (
        Document(text="x", id=str(index), metadata={"conversation_error": "damaged_file: rows 0 to 1099"})
        for index in range(1_100)
    )
    step = QualityFilter(config)
    assert len(list(step.run(chain(damaged, [document(TURNS)])))) == 1_101
    assert statistics(step)["unscorable_damaged_file"] == 1_100


def test_999_bad_documents_and_a_good_one(config):
    """One document that can be scored shows that the corpus is read rightly."""
    bad = [Document(text="x", id=str(index)) for index in range(999)]
    step = QualityFilter(config, min_score=-100)
    out = list(step.run([*bad, document(TURNS), *(Document(text="x", id="z") for _ in range(1_500))]))
    assert [doc.id for doc in out] == ["bad-1"]
    assert statistics(step)["dropped"] == 2_499


def test_a_small_file_of_bad_rows_does_not_raise(config, log):
    """Three bad rows are three bad rows; the log says that none could be scored."""
    step = QualityFilter(config, min_score=3)
    assert list(step.run([document([]) for _ in range(3)])) == []
    [line] = [line for line in log if line.startswith("ERROR")]
    assert "None of the task's 3 documents could be scored, the last of them in in/part-7.jsonl: 3 times" in line
    assert line.endswith("the run goes on.\n")


def test_the_file_and_the_columns_to_name_are_told(config):
    """Of a folder with one file that is read wrongly, the reader has to be told which it is."""
    errors = {"conversation_error": "missing_column: looked for 'messages'", "file_path": "data/b.jsonl"}
    documents = (Document(text="x", id="a", metadata=dict(errors)) for _ in range(1_000))
    message = r"first 1000 documents .* the last of them in data/b\.jsonl: 1000 times .*prompt_key= and answer_key="
    with pytest.raises(ValueError, match=message):
        list(QualityFilter(config).run(documents))


@pytest.mark.parametrize("value", ["My own words: nothing to do with it", 3, ["x"]])
def test_a_column_named_conversation_error_is_not_ours(config, value):
    """Only an error that one of our readers wrote keeps a document from being scored."""
    [kept] = QualityFilter(config).run([document(TURNS, conversation_error=value)])
    assert "quality_score" in kept.metadata


def test_advice_fits_the_reason(config):
    """A template that refuses everything is not blamed on the schema."""
    refusing = dataclasses.replace(config, chat_template="{{ raise_exception('no') }}")
    with pytest.raises(ValueError, match=r"because of template_error\. Look at the error .* chat_template"):
        list(QualityFilter(refusing).run(document(TURNS) for _ in range(1_000)))
