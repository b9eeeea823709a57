"""The curation pipeline: what each step drops, that nothing else is touched, and that interruptions leave no trace."""

import datetime
import decimal
import importlib.util
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datatrove.data import Document
from datatrove.io import get_datafolder
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.dedup import MinhashDedupSignature
from datatrove.pipeline.filters import GopherQualityFilter
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import DECODER, chatml_tokenizer, save_model


pytest.importorskip("spacy", reason="the extra curate is not installed: pip install 'datatrove-quality[curate]'")
ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "pipelines"), str(ROOT / "examples")]

import conversation_rules  # noqa: E402
import curate_conversations  # noqa: E402
import plant_garbage  # noqa: E402
from answer_filters import AnswerFilter, length_filter, repetition_filter, symbol_filter  # noqa: E402
from deduplication import conversation_key, minhash_config, without_system  # noqa: E402
from documents import LoadDocuments, SaveDocuments  # noqa: E402
from outputs import WholeOutput, whole_files  # noqa: E402
from step_counts import CountFromZero, SaveCounts, StepCount, table  # noqa: E402


LANGUAGE = "eng"
DEMO = ROOT / "examples/conversations.jsonl"
DEMO_PAIR = {"demo-0560": "demo-0387"}  # two of the demo's own conversations that differ in few words


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(save_model(tmp_path_factory.mktemp("curation-model"), "qwen3", chatml_tokenizer(), **DECODER))


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """The demo conversations with planted rows, in four files."""
    folder = tmp_path_factory.mktemp("planted") / "in"
    plant_garbage.write(folder)
    return folder


@pytest.fixture(scope="module")
def curated(tmp_path_factory, model, planted):
    """An undisturbed run, to compare with: one task, scores at the middle of what the random model gives."""
    output = tmp_path_factory.mktemp("curated") / "out"
    curate(planted, "--output", output, "--model", model, "--min-score", 1, "--tasks", 1)
    return output


def curate(*arguments):
    curate_conversations.main([str(argument) for argument in (*arguments, "--no-progress")])


def turns(*contents, system=None):
    roles = ("user", "assistant")
    found = [{"role": roles[index % 2], "content": content} for index, content in enumerate(contents)]
    return [{"role": "system", "content": system}, *found] if system else found


def words(seed, count=40):
    """A text that resembles no other."""
    choose = random.Random(seed)
    letters = "abcdefghilmnoprstuv"
    return " ".join("".join(choose.choices(letters, k=choose.randint(3, 8))) for _ in range(count)) + "."


def write_jsonl(path, items):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(item if isinstance(item, bytes) else orjson.dumps(item) + b"\n" for item in items))


def read_rows(output):
    """The rows of each door, by the door's name."""
    doors = {"kept": output / "kept"} | {folder.name: folder for folder in (output / "excluded").glob("*")}
    found = {}
    for door, folder in doors.items():
        found[door] = []
        for path in sorted(folder.glob("*")):
            is_parquet = path.suffix == ".parquet"
            lines = [] if is_parquet else path.read_text(encoding="utf-8").splitlines()
            found[door] += pq.read_table(path).to_pylist() if is_parquet else map(json.loads, lines)
    return found


def outcome(output):
    """Where each row went, and why. Of rows that are equal or nearly so, any may be the one that is kept: one name."""
    planted = plant_garbage.planted_rows(DEMO.read_text(encoding="utf-8").splitlines())
    copies = {row["id"]: row["copy_of"] for row in planted if row["planted"].endswith("_duplicate")} | DEMO_PAIR
    names = {**copies, **{original: original for original in copies.values()}}
    doors: dict[str, list] = {name: [] for name in names.values()}
    single = Counter()
    for door, rows in read_rows(output).items():
        for row in rows:
            found = row.get("id", "")
            if found in names:
                doors[names[found]].append("scored" if door in ("kept", "score") else door)
            else:
                single[found if "id" in row else "no id", door, row.get("filter_reason")] += 1
    return single, {name: sorted(found) for name, found in doors.items()}


def scores(output):
    doors = read_rows(output)
    return {row["id"]: row["quality_score"] for row in doors["kept"] + doors["score"]}


# --- the whole pipeline ----------------------------------------------------------------------------------------------


def test_everything_planted_is_found_and_every_row_leaves_by_one_door(curated, planted):
    """The counts are those planted, beside the demo's own garbage; rows in = rows out, none twice."""
    plant_garbage.check(curated)
    doors = read_rows(curated)
    rows = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in planted.iterdir())
    assert sum(map(len, doors.values())) == rows == 741
    ids = [row["id"] for found in doors.values() for row in found if "id" in row]
    assert max(Counter(ids).values()) == 1
    unplanted = {door: [row for row in rows if "planted" not in row] for door, rows in doors.items()}
    # The demo's own gibberish and loops, its broken rows (one of which has only a question), and a pair nearly equal.
    assert Counter(row["filter_reason"].partition("_")[0] for row in unplanted["rules"]) == {
        "unscorable": 7,
        "answer": 1,
        "no": 1,
    }
    assert all(row["label"] == 1 for row in unplanted["repetition"]) and len(unplanted["repetition"]) == 5
    assert len(doors["near_duplicate"]) == 15 + 1
    assert not unplanted["length"] + unplanted["symbols"]


def test_rows_that_were_not_planted_come_back_as_they_were(curated, planted):
    """Each row of the source, whatever its door, has its own columns and values, and only score columns beside them."""
    source = {}
    for path in planted.iterdir():
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line) if line.endswith("}") else {}
            source[row.get("id")] = row
    added = {"filter_reason", *(f"quality_{name}" for name in ("score", "int_score", "tokens", "truncated", "error"))}
    for door, rows in read_rows(curated).items():
        for row in rows:
            if "id" in row and row["id"] in source:
                assert {key: value for key, value in row.items() if key not in added} == source[row["id"]], door
            assert ("filter_reason" in row) == (door != "kept")
            assert ("quality_score" in row) == (door in ("kept", "score"))


def test_the_table_adds_up(curated, capsys):
    """Documents in = all that was dropped, by step and by reason, + kept; and these are the rows in the folders."""
    lines = [line.split() for line in (curated / "logs/counts/table.txt").read_text().splitlines() if line]
    steps = {" ".join(line[1:-2]).replace(" ", "_"): int(line[-2]) for line in lines if line[0] == "dropped:"}
    doors = {door: len(rows) for door, rows in read_rows(curated).items()}
    assert lines[0][:2] == ["documents", "in"] and int(lines[0][2]) == 741
    assert sum(steps.values()) + int(lines[-1][1]) == 741
    assert {name: count for name, count in steps.items() if count} == {k: v for k, v in doors.items() if k != "kept"}
    assert doors["kept"] == int(lines[-1][1])
    reasons = Counter(row.get("filter_reason") for rows in read_rows(curated).values() for row in rows)
    del reasons[None]
    assert {line[0]: int(line[1]) for line in lines if len(line) == 3 and line[0] in reasons} == reasons


def test_any_number_of_tasks_and_any_order_give_the_same_rows(curated, planted, model, tmp_path):
    """Of equal and nearly equal conversations one is kept, no matter which; all other rows have the same door."""
    lines = [line for path in sorted(planted.iterdir()) for line in path.read_bytes().splitlines(keepends=True)]
    random.Random(1).shuffle(lines)
    for number in range(6):
        write_jsonl(tmp_path / f"in/{number}.jsonl", lines[number::6])
    output = tmp_path / "out"
    curate(tmp_path / "in", "--output", output, "--model", model, "--min-score", 1, "--tasks", 4)
    assert outcome(output) == outcome(curated)
    expected = scores(curated)
    assert all(score == pytest.approx(expected.get(name, score), abs=1e-4) for name, score in scores(output).items())


def test_parquet_rows_come_back_with_their_types_and_nulls(tmp_path, model):
    """Types that JSON has not, nulls, tool calls, and columns that DataTrove's steps use for themselves."""
    call = {"function": {"name": "clima", "arguments": '{"cidade": "Recife"}'}}
    rows = [
        {
            "id": index,
            "messages": [
                {"role": "user", "content": words(index), "tool_calls": None},
                {"role": "assistant", "content": words(-index), "tool_calls": [call] if index % 2 else None},
            ],
            "when": datetime.datetime(2026, 1, 1 + index, tzinfo=datetime.UTC),
            "price": decimal.Decimal("1.50"),
            "raw": b"\x00\xff",
            "tags": ["a", None],
            "duplicate_count": "mine",
            "language": None if index else "pt",
            "filter_reason": "of an earlier run",
        }
        for index in range(6)
    ]
    rows += [rows[0] | {"id": 6}, rows[1] | {"id": 7, "messages": []}]
    source = pa.Table.from_pylist(rows)
    (tmp_path / "in").mkdir()
    pq.write_table(source, tmp_path / "in/a.parquet")
    curate(tmp_path / "in", "--output", tmp_path / "out", "--model", model)
    doors = read_rows(tmp_path / "out")
    assert {door: len(found) for door, found in doors.items()} == {"kept": 6, "exact_duplicate": 1, "rules": 1}
    assert doors["exact_duplicate"][0]["filter_reason"] == "exact_duplicate"
    assert doors["rules"][0]["filter_reason"] == "unscorable_no_messages"
    assert doors["rules"][0]["quality_error"].startswith("no_messages: ")
    came_back = sorted((row for found in doors.values() for row in found), key=lambda row: row["id"])
    columns = [name for name in source.column_names if name != "filter_reason"]
    assert [{name: row[name] for name in columns} for row in came_back] == source.select(columns).to_pylist()
    schema = pq.read_schema(tmp_path / "out/kept/000_00000.parquet")
    assert [schema.field(name) for name in columns] == [source.schema.field(name) for name in columns]


def test_jsonl_rows_keep_what_is_missing_missing(tmp_path, model):
    """A key that is null, one that is missing, and one in only one message are three things, also behind the stages."""
    items = [
        {"id": "a", "messages": [*turns(words(1), words(2))], "note": None},
        {"id": "b", "conversations": [{"from": "human", "value": words(3)}, {"from": "gpt", "value": words(4)}]},
        {
            "instruction": words(5),
            "output": words(6),
            "input": None,
            "rank": 3,
            "text": "mine",
            "duplicate_count": 1.5,
        },
        {"id": "c", "prompt": words(7), "response": words(8), "deep": {"x": [None, {"y": None}]}},
        {"id": "d", "messages": [{"role": "user", "content": words(9), "name": None}, *turns("", words(10))[1:]]},
    ]
    write_jsonl(tmp_path / "in/a.jsonl", items)
    curate(tmp_path / "in", "--output", tmp_path / "out", "--model", model)
    doors = read_rows(tmp_path / "out")
    assert set(doors) == {"kept"}
    assert [{key: row[key] for key in row if not key.startswith("quality_")} for row in doors["kept"]] == items


def test_conversations_that_differ_in_more_than_text_are_no_exact_duplicates(tmp_path, model):
    """A shared system prompt makes no near duplicates, other numbers neither; another system prompt does not help."""
    prompt = words(0, 400)
    sums = [
        turns(f"Quanto é {a} vezes {b}, se puder me dizer?", f"Claro: {a} vezes {b} é igual a {a * b}.")
        for a in range(3, 9)
        for b in range(11, 15)
    ]
    items = [{"id": f"prompt-{i}", "messages": turns(words(i), words(-i), system=prompt)} for i in range(1, 6)]
    items += [{"id": f"sum-{index}", "messages": messages} for index, messages in enumerate(sums)]
    items += [{"id": "again", "messages": turns(words(1), words(-1), system="Be brief.")}]
    items += [{"id": "tool", "messages": [*items[0]["messages"][:2], {**items[0]["messages"][2], "tool_calls": [1]}]}]
    write_jsonl(tmp_path / "in/a.jsonl", items)
    curate(tmp_path / "in", "--output", tmp_path / "out", "--model", model)
    doors = read_rows(tmp_path / "out")
    assert [row["id"] for row in doors.get("near_duplicate", [])] == ["again", "tool"]
    assert len(doors["kept"]) == len(items) - 2 and "exact_duplicate" not in doors


# --- interruptions ---------------------------------------------------------------------------------------------------


class Death(BaseException):
    """What a step raises in the place of a kill: nothing catches it, nothing is cleaned up on the way."""


def test_killed_within_each_stage_and_started_again_it_ends_with_the_same_rows(
    curated, planted, model, tmp_path, monkeypatch
):
    """Each stage is cut off in its second task, once each; what was done before is not done again."""
    output = tmp_path / "out"
    command = [planted, "--output", output, "--model", model, "--min-score", 1, "--tasks", 2]
    arguments = [str(argument) for argument in (*command, "--no-progress")]
    stages = ["1-clean", "3-drop-exact", "6-score", "4-find-near", "5-cluster-near", "7-table", None]
    real = curate_conversations.make_executor
    for doomed in ["1-clean", "2-find-exact", "3-drop-exact", "4-find-near", "5-cluster-near", "6-score", "7-table"]:

        def with_death(options, pipeline, *, name, doomed=doomed, **others):
            if name == f"curate-{doomed}":
                pipeline = [*pipeline[:-1], die, pipeline[-1]]
            return real(options, pipeline, name=name, **others)

        monkeypatch.setattr(curate_conversations, "make_executor", with_death)
        with pytest.raises(Death):
            curate_conversations.main(arguments)
        done = sorted(path.parent.parent.name for path in (output / "logs/stages").glob("*/completions"))
        assert doomed not in done or len(list((output / f"logs/stages/{doomed}/completions").iterdir())) == 1
    monkeypatch.setattr(curate_conversations, "make_executor", real)
    curate_conversations.main(arguments)
    assert outcome(output) == outcome(curated)
    assert stages
