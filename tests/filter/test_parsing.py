"""What `QualityFilter` parses, and how often."""

import json
from collections import Counter

import pytest
from datatrove.data import Document
from filters import TURNS, document, statistics
from samples import write_rows
from tiny_models import conversations

from datatrove_quality import ConversationAdapter, ConversationJsonlReader, QualityFilter
from datatrove_quality.rows import normal_form, to_document


@pytest.fixture
def parses(monkeypatch):
    """How often a conversation is parsed, by adapters and by all others."""
    counts = Counter()

    def counted(place, parse):
        def parsing(*arguments):
            counts[place] += 1
            return parse(*arguments)

        return parsing

    monkeypatch.setattr(to_document, "read", counted("adapter", to_document.read))
    monkeypatch.setattr(normal_form, "parse_conversation", counted("others", normal_form.parse_conversation))
    return counts


def test_a_conversation_is_parsed_once(config, tmp_path, parses):
    """From the row to the score, with a search for control tokens, the adapter alone parses."""
    rows = [{"id": str(index), "messages": turns} for index, turns in enumerate(conversations(100, longest=10))]
    write_rows(tmp_path / "rows.jsonl", rows)
    reader = ConversationJsonlReader(str(tmp_path), adapter=ConversationAdapter())
    out = list(QualityFilter(config, special_tokens="reject").run(reader.run()))
    assert len(out) == 100 and all("quality_score" in doc.metadata for doc in out)
    assert parses == {"adapter": 100}


def test_what_another_reader_left_is_parsed_once(config, parses):
    """JSON strings, null keys and lists of parts are parsed by the filter, each once; texts are not parsed at all."""
    forms = [
        json.dumps(TURNS),
        [message | {"name": None} for message in TURNS],
        [TURNS[0], {"role": "assistant", "content": [{"type": "text", "text": "Lisboa."}]}],
        TURNS,
    ]
    out = list(QualityFilter(config, special_tokens="reject").run([document(form) for form in forms]))
    assert len({round(doc.metadata["quality_score"], 3) for doc in out}) == 1
    assert parses == {"others": 3}
    assert len(list(QualityFilter(config, messages_key=None).run([document(TURNS)]))) == 1
    assert parses == {"others": 3}


def test_what_a_step_edited_is_scored_as_edited(config, card, tmp_path):
    """A step between reader and filter may change messages in place: its result is scored, or is unscorable."""
    write_rows(tmp_path / "rows.jsonl", [{"id": str(index), "messages": TURNS} for index in range(4)])
    made = list(ConversationJsonlReader(str(tmp_path), adapter=ConversationAdapter()).run())
    made[1].metadata["messages"][1]["content"] = "Não sei."
    made[2].metadata["messages"][1]["content"] = None
    made[3].metadata["messages"].append("garbage")
    same, edited, *broken = QualityFilter(config).run(made)
    assert same.metadata["quality_score"] == pytest.approx(card("qwen3")(TURNS).score, abs=1e-4)
    turns = [TURNS[0], {"role": "assistant", "content": "Não sei."}]
    assert edited.metadata["quality_score"] == pytest.approx(card("qwen3")(turns).score, abs=1e-4)
    assert [doc.metadata["quality_error"].split(":")[0] for doc in broken] == ["missing_content", "invalid_message"]


@pytest.mark.parametrize(
    ("value", "reason"),
    [("not json", "invalid_json"), ('{"a": 1}', "not_a_list"), (None, None), (7, None), ({}, None)],
)
def test_a_string_in_the_metadata_is_never_scored_as_text(config, value, reason):
    """What another reader left under `messages` is a conversation, in JSON perhaps, or unscorable; never text."""
    [kept] = QualityFilter(config).run([document(value)])
    assert "quality_score" not in kept.metadata
    assert reason is None or kept.metadata["quality_error"].startswith(f"{reason}: ")
    listed, as_json = QualityFilter(config).run([document(TURNS), document(json.dumps(TURNS))])
    assert listed.metadata["quality_score"] == pytest.approx(as_json.metadata["quality_score"], abs=5e-5)


@pytest.mark.parametrize("text", [None, 7, TURNS])
def test_text_that_is_no_string_is_unscorable(config, text):
    """Scoring text scores strings only: a list there is no conversation, and None no crash."""
    step = QualityFilter(config, messages_key=None, min_score=-100)
    assert list(step.run([Document(text=text, id="x")])) == []
    assert statistics(step)["dropped_unscorable_invalid_text"] == 1
