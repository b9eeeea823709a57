"""`QualityFilter` in real pipelines: every document goes out of one door, with its score or the reason why not."""

import copy
import dataclasses
import json
import os
import pickle
import re
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from itertools import chain, count, islice
from types import SimpleNamespace

import dill
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datatrove.data import Document
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.readers import ParquetReader
from datatrove.pipeline.writers import JsonlWriter, ParquetWriter
from samples import documents, read_rows, write_rows
from tiny_models import conversations

from datatrove_quality import (
    ConversationAdapter,
    ConversationJsonlReader,
    ConversationParquetReader,
    QualityFilter,
    RowAdapter,
    Score,
    ScorerConfig,
    ScoreScale,
    score_schema,
)
from datatrove_quality import filter as filter_module
from datatrove_quality.config import Unscorable
from datatrove_quality.engine import scorer as scorer_module
from datatrove_quality.engine import streaming
from datatrove_quality.engine.scorer import find_scorer
from datatrove_quality.rows import normal_form, to_document
from datatrove_quality.rows.score_columns import recorded_score
from datatrove_quality.rows.types import REASONS


TURNS = [{"role": "user", "content": "Qual é a capital?"}, {"role": "assistant", "content": "Lisboa."}]
SUFFIXES = ("score", "int_score", "tokens", "truncated")


def document(messages, **metadata):
    return Document(
        text="texto", id="bad-1", metadata={"messages": messages, "file_path": "in/part-7.jsonl"} | metadata
    )


def statistics(step):
    return {name: metric.total for name, metric in step.stats.stats.items()}


@pytest.fixture
def config(model_folder):
    """A random classifier on the CPU."""
    return ScorerConfig(model=str(model_folder("qwen3")), dtype="float32", device="cpu", tokens_per_batch=1_000)


class FakeScorer:
    """Gives the scores that stand in the texts, one by one, without a model."""

    scale = ScoreScale()
    outputs = SimpleNamespace(columns={})
    renderer = SimpleNamespace(control_token_in=lambda item: None, render_checked=lambda item: (item, False))

    def __init__(self, seconds=0.0):
        self.seconds = seconds

    def stream_pairs(self, pairs, store=None):
        for companion, item in pairs:
            time.sleep(self.seconds)
            if isinstance(item, str):
                yield companion, Score(float(item), round(float(item)), 3, False)
            else:
                yield companion, item


@pytest.fixture
def fake(monkeypatch):
    """Score plain texts by the number that they hold: `fake([1.0, 2.5])` gives documents."""
    monkeypatch.setattr(filter_module, "find_scorer", lambda config: FakeScorer())
    return lambda numbers: [Document(text=str(number), id=str(number)) for number in numbers]


def fake_filter(**options):
    return QualityFilter("no/model", messages_key=None, **options)


# --- scores and bounds -----------------------------------------------------------------------------------------------


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


# --- what is parsed --------------------------------------------------------------------------------------------------


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


# --- unscorable documents --------------------------------------------------------------------------------------------


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
    assert any(line.startswith("ERROR") and "None of the task's 3 documents" in line for line in log)


# --- statistics ------------------------------------------------------------------------------------------------------


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


# --- doors -----------------------------------------------------------------------------------------------------------


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


# --- arguments -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"scorer": 3}, "scorer=3.*ScorerConfig"),
        ({"scorer": 3}, "scorer=3"),
        ({"scorer": ""}, "model=''"),
        ({"min_score": "3"}, "min_score='3'"),
        ({"min_score": True}, "min_score=True"),
        ({"max_score": float("nan")}, "max_score=nan"),
        ({"max_score": [3]}, r"max_score=\[3\]"),
        ({"min_score": 4, "max_score": 3}, "min_score=4 is above max_score=3"),
        ({"prefix": ""}, "prefix=''"),
        ({"prefix": None}, "prefix=None"),
        ({"messages_key": ""}, "messages_key=''.*None"),
        ({"messages_key": 3}, "messages_key=3"),
        ({"unscorable": "ignore"}, "unscorable='ignore'.*'drop'"),
        ({"unscorable": True}, "unscorable=True"),
        ({"unscorable": ""}, "unscorable=''"),
        ({"unscorable": False}, "unscorable=False"),
        ({"exclusion_writer": "dir"}, "exclusion_writer='dir'"),
        ({"documents_per_task": 1_000}, "documents_per_task=1000.*a list"),
    ],
)
def test_bad_arguments(options, match):
    """Every bad argument is refused at construction with its name, its value and the fix."""
    with pytest.raises(ValueError, match=match):
        QualityFilter(**({"scorer": "org/name"} | options))


def test_a_parquet_exclusion_writer_needs_a_schema(tmp_path):
    """Without a schema the first dropped document would decide which columns survive."""
    with pytest.raises(ValueError, match=r"exclusion_writer.*schema=score_schema"):
        QualityFilter("org/name", exclusion_writer=ParquetWriter(str(tmp_path)))
    schema = score_schema(pa.schema([("id", pa.string())]))
    QualityFilter("org/name", exclusion_writer=ParquetWriter(str(tmp_path), schema=schema))


def test_a_bound_outside_the_scale_is_said(log, fake):
    """A threshold that hardly any score reaches is a warning, at load where the scale is the model's."""
    QualityFilter(ScorerConfig(model="org/name", scale=ScoreScale()), min_score=7)
    assert sum(line.startswith("WARNING") and "min_score=7" in line and "1 to 5" in line for line in log) == 1
    log.clear()
    list(fake_filter(max_score=0.5).run(fake([3.0])))
    assert sum(line.startswith("WARNING") and "max_score=0.5" in line for line in log) == 1
    log.clear()
    QualityFilter(ScorerConfig(model="org/name", scale=ScoreScale()), min_score=1, max_score=5)
    list(fake_filter(min_score=3).run(fake([3.0])))
    assert not log


@pytest.mark.parametrize(
    "through",
    [copy.deepcopy, lambda step: dill.loads(dill.dumps(step)), lambda step: pickle.loads(pickle.dumps(step))],
    ids=["copy", "dill", "pickle"],
)
def test_a_step_travels(config, tmp_path, through):
    """Executors copy and pickle steps: the copy scores the same, and the model is not loaded again."""
    step = QualityFilter(config, min_score=2, exclusion_writer=JsonlWriter(str(tmp_path / "x")))
    expected = [doc.metadata["quality_score"] for doc in step.run(documents(12, source="s"))]
    loaded = set(scorer_module._found.values())
    assert [doc.metadata["quality_score"] for doc in through(step).run(documents(12, source="s"))] == expected
    assert set(scorer_module._found.values()) == loaded


# --- one model for all tasks -----------------------------------------------------------------------------------------


def test_a_step_is_pinned_to_a_commit_when_it_is_copied(config, tmp_path, monkeypatch):
    """`main` moves while workers start: all of them load the commit of the first pickle, which loads nothing."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    root = tmp_path / "models--org--classifier"
    (root / "refs").mkdir(parents=True)
    for commit in ("a" * 40, "b" * 40):
        (root / "snapshots" / commit).mkdir(parents=True)
        (root / "snapshots" / commit / "config.json").write_text("{}")
    (root / "refs" / "main").write_text("a" * 40)
    step = QualityFilter("org/classifier")
    assert step.scorer.revision is None
    first = pickle.loads(pickle.dumps(step))
    (root / "refs" / "main").write_text("b" * 40)
    others = [dill.loads(dill.dumps(step)), copy.deepcopy(step), step, pickle.loads(pickle.dumps(first))]
    assert {one.scorer.revision for one in [first, *others]} == {"a" * 40}
    with pytest.raises(ValueError, match="org/missing"):
        pickle.dumps(QualityFilter("org/missing"))
    local = pickle.loads(pickle.dumps(QualityFilter(config))).scorer
    assert replace(local, template_date=None) == config  # the date on which it was pickled is added


def test_a_task_with_another_model_than_its_runs_refuses(config, model_folder):
    """The run's record names the model: what lies there since is not scored with."""
    expected = find_scorer(config).describe()
    step = QualityFilter(config)
    step.expected_scorer = expected
    assert len(list(pickle.loads(pickle.dumps(step)).run(documents(12, source="s")))) == 12
    step.expected_scorer = expected | {"fingerprint": "0" * 16, "parts": expected["parts"] | {"weights": "others"}}
    with pytest.raises(ValueError, match="no longer the one that this run started with: weights was others, is now"):
        list(pickle.loads(pickle.dumps(step)).run(documents(12, source="s")))


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


# --- executors -------------------------------------------------------------------------------------------------------


def pipeline(source, output, config, **options):
    """What a user writes: reader, filter with exclusion writer, writer."""
    writers = [
        JsonlWriter(str(output / door), compression=None, adapter=RowAdapter()) for door in ("kept", "excluded")
    ]
    return [
        ConversationJsonlReader(str(source), adapter=ConversationAdapter()),
        QualityFilter(config, exclusion_writer=writers[1], **options),
        writers[0],
    ]


def loads(logs):
    """How often each task's log says that a model was loaded."""
    return [path.read_text().count(" - Loaded ") for path in sorted((logs / "logs").glob("*.log"))]


def test_one_worker_and_two_give_the_same_rows(model_folder, tmp_path, monkeypatch):
    """Five tasks on one worker and on two give the same rows, and the model is loaded at most once per process."""
    secret = "hf_a_secret_that_nobody_may_read"
    monkeypatch.setenv("HF_TOKEN", secret)
    for index in range(5):
        rows = [
            {"id": f"{index}-{number}", "messages": messages}
            for number, messages in enumerate(conversations(6, seed=index, longest=15))
        ]
        write_rows(tmp_path / "in" / f"{index}.jsonl", [*rows, {"id": f"{index}-bad", "messages": []}])
    found = {}
    for workers in (1, 2):
        # A config of this test's own, so that no other test has loaded it.
        config = ScorerConfig(model=str(model_folder("qwen3")), dtype="float32", device="cpu", tokens_per_batch=765)
        output = tmp_path / str(workers)
        steps = pipeline(tmp_path / "in", output, config, min_score=2.5)
        LocalPipelineExecutor(steps, tasks=5, workers=workers, logging_dir=str(output / "logs")).run()
        found[workers] = [{row.pop("id"): row for row in read_rows(output / door)} for door in ("kept", "excluded")]
        assert len(loads(output / "logs")) == 5
        assert 1 <= sum(loads(output / "logs")) <= workers
        settings = (output / "logs" / "executor.json").read_text()
        assert json.loads(settings)["pipeline"][1]["min_score"] == 2.5
        assert secret not in settings
        assert secret.encode() not in dill.dumps(steps)
        stats = json.loads((output / "logs" / "stats.json").read_text())[1]["stats"]
        assert stats["total"] == 35
        assert stats["unscorable"] == 5
    for one, two in zip(found[1], found[2], strict=True):
        assert one.keys() == two.keys()
        for key, row in one.items():
            other = two[key]
            assert row.pop("quality_score", 0) == pytest.approx(other.pop("quality_score", 0), abs=5e-5)
            assert row == other
    assert sum(map(len, found[1])) == 35
    assert all(found[1])


BAD_ROWS = {
    "empty list": b'{"id": "empty list", "messages": []}',
    "missing column": b'{"id": "missing column", "text": "a"}',
    "null": b'{"id": "null", "messages": null}',
    "no role": b'{"id": "no role", "messages": [{"content": "a"}]}',
    "no content": b'{"id": "no content", "messages": [{"role": "user"}]}',
    "number": b'{"id": "number", "messages": [{"role": "user", "content": 3}]}',
    "dict": b'{"id": "dict", "messages": [{"role": "user", "content": {"a": 1}}]}',
    "unknown role": b'{"id": "unknown role", "messages": [{"role": "critic", "content": "a"}]}',
    "blank": b'{"id": "blank", "messages": [{"role": "user", "content": " \\n"}]}',
    "surrogate": b'{"id": "surrogate", "messages": [{"role": "user", "content": "a\\ud800"}]}',
    "json string": b'{"id": "json string", "messages": "[{\\"role\\": "}',
    "nested lists": b'{"id": "nested lists", "messages": [[{"role": "user", "content": "a"}]]}',
    "no json": b"{id: nothing",
    "no object": b'["a", "b"]',
    "no utf-8": b'{"id": "no utf-8", "messages": [{"role": "user", "content": "\xff\xfe"}]}',
    "deep": b'{"id": "deep", "messages": [{"role": "user", "content": "a", "x": ' + b"[" * 500 + b"]" * 500 + b"}]}",
}
FINE_ROWS = {
    "rank": b'{"id": "rank", "messages": [{"role": "assistant", "content": "a"}], "rank": "../x", "../x": 1}',
    "good": b'{"id": "good", "messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": ""}]}',
}
THIRTY_DIGITS = (
    b'{"id": "digits", "messages": [{"role": "assistant", "content": "a"}], "n": 123456789012345678901234567890}'
)


@pytest.fixture
def bad_file(tmp_path):
    """A file with every kind of bad row, good ones between them."""
    path = tmp_path / "in" / "rows.jsonl"
    path.parent.mkdir()
    lines = [*BAD_ROWS.values(), *FINE_ROWS.values(), THIRTY_DIGITS]
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


def test_no_bad_row_stops_a_run_or_is_lost(config, bad_file, tmp_path):
    """Each bad row ends in `excluded` with a reason and a sentence, each good one in `kept`, and none is missing."""
    steps = pipeline(bad_file.parent, tmp_path, config, min_score=-1_000)
    LocalPipelineExecutor(steps, tasks=1, workers=1, logging_dir=str(tmp_path / "logs")).run()
    kept, excluded = read_rows(tmp_path / "kept"), read_rows(tmp_path / "excluded")
    assert len(kept) + len(excluded) == len(BAD_ROWS) + len(FINE_ROWS) + 1
    kept_ids = {row["id"] for row in kept}
    # Whether a number of 30 digits can be written is the format's matter; that its row is not lost is ours.
    assert kept_ids - {"digits"} == set(FINE_ROWS)
    assert len(excluded) >= len(BAD_ROWS)
    for row in excluded:
        assert row["filter_reason"].startswith("unscorable_")
        reason, _, message = row["quality_error"].partition(": ")
        assert row["filter_reason"] == f"unscorable_{reason}"
        assert len(message.split()) > 2
        assert "quality_score" not in row
    (fine,) = [row for row in kept if row["id"] == "rank"]
    assert (fine["rank"], fine["../x"]) == ("../x", 1)
    assert {path.name for path in tmp_path.iterdir()} == {"in", "kept", "excluded", "logs"}


def test_bad_rows_pass_without_a_score(config, bad_file, tmp_path):
    """With `unscorable="keep"` every row goes on, the bad ones with an error in place of a score."""
    steps = pipeline(bad_file.parent, tmp_path, config, unscorable="keep")
    LocalPipelineExecutor(steps, tasks=1, workers=1, logging_dir=str(tmp_path / "logs")).run()
    kept = read_rows(tmp_path / "kept")
    assert len(kept) == len(BAD_ROWS) + len(FINE_ROWS) + 1
    assert all(("quality_score" in row) != ("quality_error" in row) for row in kept)
    assert not read_rows(tmp_path / "excluded")


@pytest.mark.parametrize("name", ["empty list", "no json", "unknown role", "no utf-8"])
def test_a_bad_row_stops_the_run_where_wanted(config, tmp_path, name):
    """With `unscorable="raise"` the error names the document and its file, and the task is not marked complete."""
    path = tmp_path / "in" / "part-3.jsonl"
    path.parent.mkdir()
    path.write_bytes(FINE_ROWS["good"] + b"\n" + BAD_ROWS[name] + b"\n")
    steps = pipeline(path.parent, tmp_path, config, unscorable="raise")
    with pytest.raises(ValueError, match=r"Document '.+' \(.*part-3\.jsonl\) cannot be scored"):
        LocalPipelineExecutor(steps, tasks=1, workers=1, logging_dir=str(tmp_path / "logs")).run()
    assert not (tmp_path / "logs" / "completions" / "00000").exists()


def test_parquet_scores_as_jsonl_does(config, tmp_path):
    """The same rows from Parquet, where Arrow fills in nulls, get the same scores and come back with their columns."""
    rows = [{"id": str(number), "messages": messages, "n": number} for number, messages in enumerate(conversations(8))]
    rows[3]["messages"][0]["name"] = "Ana"
    rows.append({"id": "bad", "messages": [], "n": 99})
    write_rows(tmp_path / "jsonl" / "rows.jsonl", rows)
    (tmp_path / "parquet").mkdir()
    table = pa.Table.from_pylist(rows)
    pq.write_table(table, tmp_path / "parquet" / "rows.parquet")
    schema = score_schema(table.schema)
    writers = [
        ParquetWriter(str(tmp_path / door), adapter=RowAdapter(), schema=schema) for door in ("kept", "excluded")
    ]
    steps = [
        ParquetReader(str(tmp_path / "parquet"), adapter=ConversationAdapter()),
        QualityFilter(config, min_score=-1.1, exclusion_writer=writers[1]),
        writers[0],
    ]
    LocalPipelineExecutor(steps, tasks=1, workers=1, logging_dir=str(tmp_path / "logs")).run()
    written = [pq.read_table(tmp_path / door) for door in ("kept", "excluded")]
    found = {row["id"]: row for table in written for row in table.to_pylist()}
    reader = ConversationJsonlReader(str(tmp_path / "jsonl"), adapter=ConversationAdapter())
    scored = {doc.id: doc.metadata.get("quality_score") for doc in QualityFilter(config).run(reader.run())}
    assert found.keys() == scored.keys()
    for source in table.to_pylist():
        row = found[source["id"]]
        assert {name: row[name] for name in source} == source
        assert row["quality_score"] == pytest.approx(scored[source["id"]], abs=1e-4)
    assert found["bad"]["filter_reason"] == "unscorable_no_messages"
    assert found["bad"]["quality_error"]


def test_a_wrong_model_stops_the_task_with_advice(tmp_path):
    """A wrong path is an error that says so when the first document arrives, and nothing is marked complete."""
    write_rows(tmp_path / "in" / "a.jsonl", [{"id": "a", "messages": TURNS}])
    steps = pipeline(tmp_path / "in", tmp_path, ScorerConfig(model="/nowhere/model", device="cpu"))
    with pytest.raises(ValueError, match="There is no folder /nowhere/model"):
        LocalPipelineExecutor(steps, tasks=1, workers=1, logging_dir=str(tmp_path / "logs")).run()
    assert not os.path.exists(tmp_path / "logs" / "completions" / "00000")


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


@pytest.mark.parametrize("value", ["My own words: nothing to do with it", 3, ["x"]])
def test_a_column_named_conversation_error_is_not_ours(config, value):
    """Only an error that one of our readers wrote keeps a document from being scored."""
    [kept] = QualityFilter(config).run([document(TURNS, conversation_error=value)])
    assert "quality_score" in kept.metadata


def test_an_earlier_filter_reason_does_not_stay_on_kept_documents(config):
    """A document that is kept now does not carry the reason for which an earlier run dropped it."""
    [kept] = QualityFilter(config, min_score=-100).run([document(TURNS, filter_reason="below_min_score")])
    assert "filter_reason" not in kept.metadata


def test_a_prefix_that_hides_errors_is_refused(config):
    """With the prefix "conversation" the error column would be the one that readers use."""
    with pytest.raises(ValueError, match="prefix='conversation' cannot name score columns"):
        QualityFilter(config, prefix="conversation")


def test_advice_fits_the_reason(config):
    """A template that refuses everything is not blamed on the schema."""
    refusing = dataclasses.replace(config, chat_template="{{ raise_exception('no') }}")
    with pytest.raises(ValueError, match=r"because of template_error\. Look at the error .* chat_template"):
        list(QualityFilter(refusing).run(document(TURNS) for _ in range(1_000)))


# --- scores that are already there -----------------------------------------------------------------------------------


def scored_document(score, **metadata):
    return Document(text="texto", id="a", metadata={"quality_score": score, "messages": TURNS} | metadata)


def test_scores_in_the_metadata_are_filtered_without_torch():
    """A new threshold over a scored corpus needs no model, no GPU and no torch."""
    code = (
        "import sys; from datatrove.data import Document; from datatrove_quality import QualityFilter\n"
        "made = [Document(text='x', id=str(n), metadata={'quality_score': n / 2}) for n in range(10)]\n"
        "print([doc.id for doc in QualityFilter(None, min_score=2, max_score=3.5).run(made)])\n"
        "print([name for name in ('torch', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["['4', '5', '6', '7']", "[]"]


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ({}, "missing_score"),
        ({"quality_score": None, "quality_error": None}, "missing_score"),
        ({"quality_score": float("nan")}, "invalid_score"),
        ({"quality_score": float("-inf")}, "invalid_score"),
        ({"quality_score": "4.5"}, "invalid_score"),
        ({"quality_score": True}, "invalid_score"),
        ({"quality_score": 10**400}, "invalid_score"),
        ({"quality_score": 10**5000}, "invalid_score"),
        ({"quality_score": [4.5]}, "invalid_score"),
        ({"quality_error": "template_error: roles must alternate"}, "template_error"),
        ({"quality_error": "somebody's own remark"}, "missing_score"),
        ({"conversation_error": "invalid_json: line 3"}, "invalid_json"),
        ({"quality_error": "damaged_file: rows 1 to 9", "conversation_error": "null_column: ..."}, "damaged_file"),
    ],
)
def test_what_is_no_recorded_score(metadata, reason):
    """Nothing but a finite number is a score; why an earlier run found none is remembered."""
    doc = Document(text="x", id="a", metadata=dict(metadata))
    step = QualityFilter(None, min_score=-1e300)
    assert list(step.run([doc])) == []
    assert statistics(step)[f"dropped_unscorable_{reason}"] == 1
    assert doc.metadata["quality_error"].startswith(f"{reason}: ")
    assert "quality_score" not in doc.metadata
    assert len(list(QualityFilter(None, min_score=-1e300, unscorable="keep").run([doc]))) == 1


@pytest.mark.parametrize("reason", REASONS)
def test_every_reason_of_a_reader_is_remembered(reason):
    """Whatever a reader found wrong is read again as the reason that it is, be there digits in it."""
    found = recorded_score({"quality_error": f"{reason}: what was found"}, "quality")
    assert isinstance(found, Unscorable) and found.reason == reason


def test_recorded_scores_stay_as_they_are():
    """Beside a number that becomes a float nothing is added, and what the earlier decision left is taken away."""
    doc = scored_document(4, quality_error=None, filter_reason="below_min_score", other=1)
    (kept,) = QualityFilter(None, min_score=4).run([doc])
    assert kept.metadata == {"quality_score": 4.0, "messages": TURNS, "other": 1}
    assert type(kept.metadata["quality_score"]) is float


def test_statistics_of_recorded_scores():
    """Reused scores are counted as scores are, with the tokens and roundings that stand beside them."""
    beside = {"quality_int_score": 4, "quality_tokens": 7, "quality_truncated": True}
    step = QualityFilter(None, min_score=4)
    list(step.run([scored_document(4.5, **beside), scored_document(3.5), scored_document(float("nan"))]))
    found = statistics(step)
    names = ("scored", "reused", "unscorable", "tokens", "truncated", "int_score_4", "forwarded", "dropped")
    assert [found[name] for name in names] == [2, 2, 1, 7, 1, 1, 1, 2]
    assert step.stats["score"].mean == 4.0


def test_reuse_scores_computes_only_what_is_missing(config, monkeypatch):
    """A document with a score is not scored again, one without is, and all stay in their order."""
    expected = [doc.metadata for doc in QualityFilter(config).run(documents(12, source="s"))]
    seen = []
    submit = streaming.LogitStream._submit
    monkeypatch.setattr(
        streaming.LogitStream, "_submit", lambda self, texts: seen.extend(texts) or submit(self, texts)
    )
    made = documents(12, source="s")
    for index in (0, 1, 4, 11):
        made[index].metadata |= {"quality_score": 100.0 + index, "quality_error": None}
    made[5].metadata["quality_score"] = float("nan")
    made[6].metadata["quality_error"] = "non_finite_score: of an earlier run"
    step = QualityFilter(config, reuse_scores=True)
    out = list(step.run(made))
    assert [doc.id for doc in out] == [f"doc-{index}" for index in range(12)]
    scores = [doc.metadata["quality_score"] for doc in out]
    for index in range(12):
        reused = index in (0, 1, 4, 11)
        assert scores[index] == (
            100.0 + index if reused else pytest.approx(expected[index]["quality_score"], abs=5e-5)
        )
    assert len(seen) == 8
    assert statistics(step)["reused"] == 4 and statistics(step)["scored"] == 12


def test_reuse_scores_loads_nothing_where_all_have_one(monkeypatch):
    """A corpus that is scored throughout is filtered without the model, though one is given."""
    monkeypatch.setattr(filter_module, "find_scorer", lambda config: pytest.fail("the model was looked for"))
    step = QualityFilter("no/model", min_score=4, reuse_scores=True, special_tokens="reject")
    assert len(list(step.run([scored_document(4.5), scored_document(3.0)]))) == 1


def test_a_corpus_without_score_columns_stops_with_advice():
    """A misspelt prefix must not empty a corpus."""
    step = QualityFilter(None, min_score=4, prefix="qualty")
    with pytest.raises(ValueError, match=r"first 1000 documents.*missing_score.*Set prefix="):
        list(step.run(scored_document(4.5) for _ in range(2_000)))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"reuse_scores": True}, "reuse_scores=True does nothing with scorer=None"),
        ({"checkpoints_dir": "x"}, r"checkpoints_dir=.*does nothing"),
        ({"special_tokens": "reject"}, "special_tokens='reject' does nothing"),
        ({"scorer": "org/name", "reuse_scores": "yes"}, "reuse_scores='yes': give True or False"),
        ({"progress": 1}, "progress=1: give True or False or None"),
    ],
)
def test_arguments_that_do_not_go_together(options, match):
    """What would have no effect, or another than meant, is refused."""
    with pytest.raises(ValueError, match=match):
        QualityFilter(**({"scorer": None} | options))


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_a_new_threshold_decides_as_a_fresh_run(config, tmp_path, form):
    """Through files, and with bad rows, rethresholding gives row by row what scoring with that threshold gives."""
    rows = [{"id": doc.id, "messages": doc.metadata["messages"], "source": "s"} for doc in documents(40, source="s")]
    rows.insert(7, {"id": "bad", "messages": [], "source": "t"})
    rows.insert(20, {"id": "null", "messages": None, "source": "t"})

    def run(name, source, scorer, **options):
        list(two_doors(tmp_path / name, form, source, scorer, **options))
        return {door: door_rows(tmp_path / name / door) for door in ("kept", "excluded")}

    write_rows(tmp_path / "in" / f"a.{form}", rows)
    first = run("first", tmp_path / "in", config, min_score=2)
    scores = sorted(row["quality_score"] for row in first["kept"] + first["excluded"] if "quality_score" in row)
    low, high = scores[10], scores[30]
    fresh = run("fresh", tmp_path / "in", config, min_score=low, max_score=high)
    again = run("again", tmp_path / "first", None, min_score=low, max_score=high)
    assert len(fresh["kept"]) == 21 and len(fresh["excluded"]) == 21
    assert {row["filter_reason"] for row in fresh["excluded"]} == {
        "below_min_score", "above_max_score", "unscorable_no_messages", "unscorable_null_column",
    }  # fmt: skip
    for door in ("kept", "excluded"):
        assert again[door] == fresh[door]


def two_doors(output, form, source, scorer, **options):
    """The kept documents of a run over files, which writes both doors."""
    schema = score_schema(pq.read_schema(next(source.rglob("*.parquet")))) if form == "parquet" else None
    writers = [
        ParquetWriter(str(output / door), adapter=RowAdapter(), schema=schema)
        if schema
        else JsonlWriter(str(output / door), compression=None, adapter=RowAdapter())
        for door in ("kept", "excluded")
    ]
    reader = (ConversationParquetReader if schema else ConversationJsonlReader)(
        str(source), adapter=ConversationAdapter()
    )
    step = QualityFilter(scorer, exclusion_writer=writers[1], **options)
    yield from writers[0].run(step.run(reader.run()))


def door_rows(folder):
    """The rows in an output folder by their ids, without what is null, as a column is in Parquet."""
    rows = read_rows(folder)
    return sorted(({k: v for k, v in row.items() if v is not None} for row in rows), key=lambda row: row["id"])
