"""The curation pipeline: what each step drops, that nothing else is touched, and that interruptions leave no trace."""

import datetime
import decimal
import json
import random
import re
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from commands import run_command
from fault_scripts import start_fault_script


pytest.importorskip("spacy", reason="the extra curate is not installed: pip install 'datatrove-quality[curate]'")

import plant_garbage
from samples import dialogue, read_rows, words, write_rows


ROOT = Path(__file__).resolve().parents[2]


LANGUAGE = "eng"
DEMO = ROOT / "examples/conversations.jsonl"
DEMO_PAIR = {"demo-0560": "demo-0387"}  # two of the demo's own conversations that differ in few words


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
    run_command("curate", *arguments, "--no-progress")


def rows_by_outcome(output):
    """The rows in each folder of a run: "kept", and what was excluded by its reason."""
    folders = {"kept": output / "kept"} | {folder.name: folder for folder in (output / "excluded").glob("*")}
    return {name: read_rows(folder) for name, folder in folders.items()}


def interchangeable():
    """The ids of rows of which any may be the one that is kept, each with the id of one of them."""
    planted = plant_garbage.planted_rows(DEMO.read_text(encoding="utf-8").splitlines())
    copies = {row["id"]: row["copy_of"] for row in planted if row["planted"].endswith("_duplicate")} | DEMO_PAIR
    return {**copies, **{original: original for original in copies.values()}}


def outcome(output):
    """Where each row went, and why. Of rows that are equal or nearly so, any may be the one that is kept: one name."""
    names = interchangeable()
    outcomes: dict[str, list] = {name: [] for name in names.values()}
    single = Counter()
    for name, rows in rows_by_outcome(output).items():
        for row in rows:
            found = re.sub(r".*\.jsonl/\d+", "a line that is no row", row.get("id", "no id"))
            if found in names:
                outcomes[names[found]].append("scored" if name in ("kept", "score") else name)
            else:
                single[found, name, row.get("filter_reason")] += 1
    return single, {name: sorted(found) for name, found in outcomes.items()}


def scores(output):
    outcomes = rows_by_outcome(output)
    return {row["id"]: row["quality_score"] for row in outcomes["kept"] + outcomes["score"]}


# --- the whole pipeline ----------------------------------------------------------------------------------------------


def test_everything_planted_is_found_and_every_row_is_written_once(curated, planted):
    """The counts are those planted, beside the demo's own garbage; rows in = rows out, none twice."""
    plant_garbage.check(curated)
    outcomes = rows_by_outcome(curated)
    rows = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in planted.iterdir())
    assert sum(map(len, outcomes.values())) == rows == 741
    ids = [row["id"] for found in outcomes.values() for row in found if "id" in row]
    assert max(Counter(ids).values()) == 1
    unplanted = {name: [row for row in rows if "planted" not in row] for name, rows in outcomes.items()}
    # The demo's own gibberish and loops, its broken rows (one of which has only a question), and a pair nearly equal.
    assert Counter(row["filter_reason"].partition("_")[0] for row in unplanted["rules"]) == {
        "unscorable": 7,
        "answer": 1,
        "no": 1,
    }
    assert all(row["label"] == 1 for row in unplanted["repetition"]) and len(unplanted["repetition"]) == 5
    assert len(outcomes["near_duplicate"]) == 15 + 1
    assert not unplanted["length"] + unplanted["symbols"]


def test_rows_that_were_not_planted_come_back_as_they_were(curated, planted):
    """Each row of the source, whatever its outcome, has its own columns and values, and score columns beside them."""
    source = {}
    for path in planted.iterdir():
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line) if line.endswith("}") else {}
            source[row.get("id")] = row
    added = {"filter_reason", *(f"quality_{name}" for name in ("score", "int_score", "tokens", "truncated", "error"))}
    for name, rows in rows_by_outcome(curated).items():
        for row in rows:
            if "id" in row and row["id"] in source:
                assert {key: value for key, value in row.items() if key not in added} == source[row["id"]], name
            assert ("filter_reason" in row) == (name != "kept")
            assert ("quality_score" in row) == (name in ("kept", "score"))


def test_the_table_adds_up(curated, capsys):
    """Documents in = all that was dropped, by step and by reason, + kept; and these are the rows in the folders."""
    lines = [line.split() for line in (curated / "logs/counts/table.txt").read_text().splitlines() if line]
    steps = {" ".join(line[1:-2]).replace(" ", "_"): int(line[-2]) for line in lines if line[0] == "dropped:"}
    outcomes = {name: len(rows) for name, rows in rows_by_outcome(curated).items()}
    assert lines[0][:2] == ["documents", "in"] and int(lines[0][2]) == 741
    assert sum(steps.values()) + int(lines[-1][1]) == 741
    assert {name: count for name, count in steps.items() if count} == {
        k: v for k, v in outcomes.items() if k != "kept"
    }
    assert outcomes["kept"] == int(lines[-1][1])
    reasons = Counter(row.get("filter_reason") for rows in rows_by_outcome(curated).values() for row in rows)
    del reasons[None]
    assert {line[0]: int(line[1]) for line in lines if len(line) == 3 and line[0] in reasons} == reasons


def test_any_number_of_tasks_and_any_order_give_the_same_rows(curated, planted, model, tmp_path):
    """Of equal and nearly equal conversations one is kept, no matter which; all other rows have the same name."""
    lines = [line for path in sorted(planted.iterdir()) for line in path.read_bytes().splitlines(keepends=True)]
    random.Random(1).shuffle(lines)
    for number in range(6):
        write_rows(tmp_path / f"in/{number}.jsonl", lines[number::6])
    output = tmp_path / "out"
    curate(tmp_path / "in", "--output", output, "--model", model, "--min-score", 1, "--tasks", 4)
    assert outcome(output) == outcome(curated)
    copies = interchangeable()
    expected, found = (
        {name: score for name, score in scores(run).items() if name not in copies} for run in (curated, output)
    )
    assert len(expected) > 500 and found == pytest.approx(expected, abs=1e-4)


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
    outcomes = rows_by_outcome(tmp_path / "out")
    assert {name: len(found) for name, found in outcomes.items()} == {"kept": 6, "exact_duplicate": 1, "rules": 1}
    assert outcomes["exact_duplicate"][0]["filter_reason"] == "exact_duplicate"
    assert outcomes["rules"][0]["filter_reason"] == "unscorable_no_messages"
    assert outcomes["rules"][0]["quality_error"].startswith("no_messages: ")
    came_back = sorted((row for found in outcomes.values() for row in found), key=lambda row: row["id"])
    columns = [name for name in source.column_names if name != "filter_reason"]
    assert [{name: row[name] for name in columns} for row in came_back] == source.select(columns).to_pylist()
    schema = pq.read_schema(tmp_path / "out/kept/000_00000.parquet")
    assert [schema.field(name) for name in columns] == [source.schema.field(name) for name in columns]


def test_jsonl_rows_keep_what_is_missing_missing(tmp_path, model):
    """A key that is null, one that is missing, and one that only one message has stay three things."""
    items = [
        {"id": "a", "messages": [*dialogue(words(1), words(2))], "note": None},
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
        {"id": "d", "messages": [{"role": "user", "content": words(9), "name": None}, *dialogue("", words(10))[1:]]},
    ]
    write_rows(tmp_path / "in/a.jsonl", items)
    curate(tmp_path / "in", "--output", tmp_path / "out", "--model", model)
    outcomes = rows_by_outcome(tmp_path / "out")
    assert set(outcomes) == {"kept"}
    assert [{key: row[key] for key in row if not key.startswith("quality_")} for row in outcomes["kept"]] == items


def test_conversations_that_differ_in_more_than_text_are_no_exact_duplicates(tmp_path, model):
    """A shared system prompt makes no near duplicates, other numbers neither; another system prompt does not help."""
    prompt = words(0, 400)
    sums = [
        dialogue(f"Quanto é {a} vezes {b}, se puder me dizer?", f"Claro: {a} vezes {b} é igual a {a * b}.")
        for a in range(3, 9)
        for b in range(11, 15)
    ]
    items = [{"id": f"prompt-{i}", "messages": dialogue(words(i), words(-i), system=prompt)} for i in range(1, 6)]
    items += [{"id": f"sum-{index}", "messages": messages} for index, messages in enumerate(sums)]
    items += [{"id": "again", "messages": dialogue(words(1), words(-1), system="Be brief.")}]
    called = items[0]["messages"][2] | {"tool_calls": [{"id": "1"}]}
    items += [{"id": "tool", "messages": [*items[0]["messages"][:2], called]}]
    write_rows(tmp_path / "in/a.jsonl", items)
    curate(tmp_path / "in", "--output", tmp_path / "out", "--model", model)
    outcomes = rows_by_outcome(tmp_path / "out")
    assert [row["id"] for row in outcomes.get("near_duplicate", [])] == ["again", "tool"]
    assert len(outcomes["kept"]) == len(items) - 2 and "exact_duplicate" not in outcomes


# --- interruptions, copies, reruns -----------------------------------------------------------------------------------


def test_killed_again_and_again_it_ends_with_the_same_rows():
    """Real kills of two copies of each task, before and after files get their places and tasks are marked as done."""
    result = start_fault_script("kill_curation", "--kills", 4, "--copies", 2, "--rows", 120)
    assert result.returncode == 0, result.stderr[-3_000:]
    assert "as without, and the same table" in result.stdout


def test_a_finished_run_is_not_done_again_and_shows_its_table(curated, planted, model, capsys):
    """The same command changes no file of the output, and prints the table again."""
    before = {path: path.stat().st_mtime_ns for path in curated.rglob("*.jsonl")}
    curate(planted, "--output", curated, "--model", model, "--min-score", 1, "--tasks", 1)
    assert {path: path.stat().st_mtime_ns for path in curated.rglob("*.jsonl")} == before
    assert re.search(r"documents in +741 ", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        (["--min-score", 2], "min_score: was 1.0, is now 2.0"),
        (["--tasks", 3], "tasks"),
        (["--without-rules", "answer_loops"], r"1-clean: ConversationRules\.rules"),
        (["--min-words", 5], r"min_doc_words: was 1, is now 5"),
    ],
)
def test_other_settings_in_the_same_folder_are_refused(curated, planted, model, changed, named):
    """A task that is done would not be done again: its rows would stand beside those of other settings."""
    before = sorted(curated.rglob("*"))
    with pytest.raises(ValueError, match=named):
        curate(planted, "--output", curated, "--model", model, "--min-score", 1, "--tasks", 1, *changed)
    assert sorted(curated.rglob("*")) == before


def test_another_runs_folder_and_a_folder_of_other_files_are_refused(tmp_path, model, planted):
    """No file of another program is overwritten."""
    (tmp_path / "out/kept").mkdir(parents=True)
    (tmp_path / "out/kept/precious.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds files that no run recorded"):
        curate(planted, "--output", tmp_path / "out", "--model", model)
    assert (tmp_path / "out/kept/precious.txt").read_text() == "mine"


def test_a_model_that_is_not_cached_is_refused_before_anything_is_written(tmp_path, planted):
    with pytest.raises(ValueError, match="no-one/no-model"):
        curate(planted, "--output", tmp_path / "out", "--model", "no-one/no-model")
    assert not (tmp_path / "out").exists()


def test_languages_without_their_model_are_refused_with_the_command_to_fetch_it(tmp_path, planted, model, monkeypatch):
    """No download is tried: jobs on offline nodes would wait for it, or die of it."""
    with monkeypatch.context() as patched, pytest.raises(ValueError, match="pip install none-such"):
        patched.setattr("datatrove_quality.curation.answer_filters.LANGUAGE_PACKAGES", {"none_such": "none-such"})
        curate(planted, "--output", tmp_path / "out", "--model", model, "--keep-languages", "pt")
    monkeypatch.setattr("datatrove_quality.curation.answer_filters.LANGUAGE_PACKAGES", {})
    monkeypatch.setattr(
        "datatrove_quality.curation.answer_filters.language_model_path", lambda: str(tmp_path / "lid.bin")
    )
    with pytest.raises(ValueError, match=r"lid\.bin(.|\n)*FT176LID\(\)\.model"):
        curate(planted, "--output", tmp_path / "out", "--model", model, "--keep-languages", "pt")
    assert not (tmp_path / "out").exists()


def test_words_that_cannot_be_told_apart_are_refused(tmp_path, planted, model):
    with pytest.raises(ValueError, match=r"language='xyz' \(--language\): no word tokenizer"):
        curate(planted, "--output", tmp_path / "out", "--model", model, "--language", "xyz")


@pytest.mark.parametrize("threshold", ["65", "-0.1", "nan"])
def test_a_threshold_that_is_no_probability_is_refused(tmp_path, threshold, capsys):
    """With 65 for 0.65 every row would be dropped, hours later."""
    with pytest.raises(SystemExit):
        curate(tmp_path, "--output", tmp_path / "out", "--keep-languages", "pt", f"--language-threshold={threshold}")
    assert f"--language-threshold: '{threshold}': give a number" in capsys.readouterr().err


def test_rows_that_are_all_garbage_end_in_an_error_and_the_table(tmp_path, model, capsys):
    """An emptied corpus does not look like a finished job."""
    write_rows(tmp_path / "in/a.jsonl", [{"messages": dialogue("Oi", "")} for _ in range(3)] + [b"no row\n"])
    with pytest.raises(SystemExit, match="no document was left to score"):
        curate(tmp_path / "in", "--output", tmp_path / "out", "--model", model)
    printed = capsys.readouterr().out
    assert re.search(r"empty_answer +3 ", printed) and re.search(r"unscorable_invalid_json +1 ", printed)
    assert {name: len(rows) for name, rows in rows_by_outcome(tmp_path / "out").items()} == {"rules": 4, "kept": 0}


def test_files_without_a_row_and_tasks_without_a_file(tmp_path, model):
    """A task with nothing to do writes empty files between the stages, and disturbs no other."""
    write_rows(tmp_path / "in/a.jsonl", [])
    write_rows(tmp_path / "in/b.jsonl", [{"id": "b", "messages": dialogue(words(1), words(2))}])
    curate(tmp_path / "in", "--output", tmp_path / "out", "--model", model, "--tasks", 4)
    assert [row["id"] for row in rows_by_outcome(tmp_path / "out")["kept"]] == ["b"]
    write_rows(tmp_path / "empty/a.jsonl", [])
    with pytest.raises(SystemExit, match="no document"):
        curate(tmp_path / "empty", "--output", tmp_path / "none", "--model", model)
