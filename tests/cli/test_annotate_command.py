import json
import time

import pyarrow.parquet as pq
import pytest
from commands import run_command
from judges import CountingJudge, serving
from samples import read_rows, rows, turns, write_rows
from toy_judge import Reply, completion

from datatrove_quality.annotation.columns import COLUMNS


KEY = "sk-secret-0123456789"


def annotate(source, output, address, *arguments):
    judge = ("--rubric", "instruct-quality-pt", "--endpoint", address, "--model", "toy-judge")
    run_command("annotate", source, "--output", output, *judge, *arguments)


@pytest.fixture(scope="module")
def judge():
    return CountingJudge()


@pytest.fixture(scope="module")
def address(judge):
    with serving(judge) as found:
        yield found


@pytest.mark.parametrize("ending", [".jsonl.gz", ".parquet"])
def test_rows_are_the_input_with_new_columns(tmp_path, address, ending, capsys):
    """Format, file names, columns and order are the source's; what is no conversation has its reason."""
    given = [*rows(20, "a"), {"id": "broken", "messages": []}]
    write_rows(tmp_path / f"in/a{ending}", given)
    write_rows(tmp_path / f"in/b{ending}", rows(5, "b"))
    annotate(tmp_path / "in", tmp_path / "out", address, "--price-per-million", "1000,0")
    assert [path.name.endswith(ending) for path in (tmp_path / "out/rows").iterdir()] == [True, True]
    found = read_rows(tmp_path / "out/rows")
    assert [row["id"] for row in found] == [row["id"] for row in [*given, *rows(5, "b")]]
    for row, before in zip(found, [*given, *rows(5, "b")], strict=True):
        assert {name: row[name] for name in before} == before
        assert COLUMNS.keys() <= row.keys()
        assert (row["judge_score"] is None) == (row["judge_error"] is not None) == (row["id"] == "broken")
    if ending == ".parquet":
        schema = pq.read_schema(next((tmp_path / "out/rows").iterdir()))
        assert [str(schema.field(name).type) for name in ("judge_score", "judge_level")] == ["double", "int64"]
    printed = capsys.readouterr()
    assert f"{'with a label':<34}{25:>12,}{25 / 26:>9.1%}" in printed.out
    assert f"{'  no_messages':<34}{1:>12,}" in printed.out
    assert f"{'cost of these requests':<34}{2.5:>12.2f}" in printed.out
    known = "about 25 requests with" if ending == ".parquet" else "the number of rows is not known"
    assert known in printed.err and ("cost between" in printed.err) == (ending == ".parquet")


def test_the_record_has_the_judge_and_not_the_endpoint(tmp_path, judge, address, monkeypatch):
    """Another endpoint, key or concurrency continues a run; another judge is refused. No file has the key."""
    write_rows(tmp_path / "in/a.jsonl", rows(3))
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    annotate(tmp_path / "in", tmp_path / "out", address)
    asked = len(judge.requests)
    annotate(tmp_path / "in", tmp_path / "out", address.replace("127.0.0.1", "localhost"), "--concurrency", 3)
    assert len(judge.requests) == asked
    with pytest.raises(ValueError, match=r"judge\.samples: was 1, is now 2"):
        annotate(tmp_path / "in", tmp_path / "out", address, "--samples", 2)
    record = (tmp_path / "out/logs/run.json").read_text()
    assert "127.0.0.1" not in record and '"toy-judge"' in record
    for path in (tmp_path / "out").rglob("*"):
        assert path.is_dir() or KEY.encode() not in path.read_bytes(), path


def test_mistakes_are_found_before_a_row_is_sent(tmp_path, address):
    """An endpoint that is down, a wrong model, options that are missing: one line each, in seconds, and no output."""
    write_rows(tmp_path / "in/a.jsonl", rows(3))
    started = time.monotonic()
    with pytest.raises(ValueError, match=r"127\.0\.0\.1:9/v1 cannot be reached.*Start the server"):
        annotate(tmp_path / "in", tmp_path / "out", "http://127.0.0.1:9/v1")
    assert time.monotonic() - started < 30  # of which the endpoint may take 5
    with pytest.raises(ValueError, match="serves toy-judge"):
        annotate(tmp_path / "in", tmp_path / "out", address, "--model", "other")
    with pytest.raises(ValueError, match="--endpoint is empty: give a value"):
        annotate(tmp_path / "in", tmp_path / "out", "")
    with pytest.raises(ValueError, match=r"rubric='x': there is no rubric of that name.*toxicity-pt"):
        annotate(tmp_path / "in", tmp_path / "out", address, "--rubric", "x")
    assert not (tmp_path / "out").exists()


def test_a_run_that_fails_in_its_midst(tmp_path):
    """One line, exit code 1, and no file of rows that could be taken for whole."""

    class Useless(CountingJudge):
        async def answer(self, request):
            return completion("?")

    write_rows(tmp_path / "in/a.jsonl", rows(30))
    with serving(Useless()) as address, pytest.raises(SystemExit, match="10 of 10 rows"):
        annotate(tmp_path / "in", tmp_path / "out", address, "--retries", 0)
    assert read_rows(tmp_path / "out/rows") == []
    with serving(Useless()) as address, pytest.raises(SystemExit, match="No row has a label"):
        annotate(tmp_path / "in", tmp_path / "out", address, "--retries", 0, "--max-failures", 1)
    assert {row["judge_error"].partition(":")[0] for row in read_rows(tmp_path / "out/rows")} == {"unparsable_answer"}


def test_show_prints_prompts_and_asks_nobody(tmp_path, capsys):
    """The exact text that would be sent; without endpoint or model."""
    write_rows(tmp_path / "in/a.jsonl", [{"id": "x", "messages": turns("Oi?", "Olá.")}, {"id": "y", "messages": []}])
    run_command("annotate", tmp_path / "in", "--output", tmp_path / "o", "--rubric", "toxicity-en", "--show", 2)
    shown = capsys.readouterr().out
    assert "===== x" in shown and "] user:\nOi?" in shown and "MORE toxic" in shown
    assert "not sent: " in shown
    assert not (tmp_path / "o").exists()


def test_personal_data_does_not_leave_the_machine(tmp_path, judge, address):
    """It is masked in what is sent, and in what is written."""
    private = turns("Escreva a ana.souza@exemplo.com.br", "Feito.")
    call = {"function": {"name": "send", "arguments": '{"to": "ana.souza@exemplo.com.br", "phone": 11987654321}'}}
    private[0]["name"], private[1]["tool_calls"] = "ana.souza@exemplo.com.br", [call]
    write_rows(tmp_path / "in/a.jsonl", [{"id": "x", "messages": private}])
    annotate(tmp_path / "in", tmp_path / "out", address, "--mask-pii")
    sent = judge.requests[-1]["messages"][0]["content"]
    assert "ana.souza" not in sent and "98765" not in sent and "] user:\nEscreva a " in sent
    [row] = read_rows(tmp_path / "out/rows")
    assert row["messages"][0]["content"] in sent
    assert json.loads(row["messages"][1]["tool_calls"][0]["function"]["arguments"]) == {
        "to": "email@example.com", "phone": 0,
    }  # fmt: skip


def test_plain_text(tmp_path, judge, address):
    """Rows of text are judged as texts."""
    write_rows(tmp_path / "in/a.jsonl", [{"id": "x", "text": "Um texto."}])
    annotate(tmp_path / "in", tmp_path / "out", address, "--text", "--rubric", "educational-value-pt")
    assert "\nUm texto.\n" in judge.requests[-1]["messages"][0]["content"]
    assert json.loads((tmp_path / "out/rows/00000.jsonl").read_text())["judge_level"] == 1


def test_401_names_the_variable(tmp_path):
    """The key is missing: which variable it is read from."""

    class Closed(CountingJudge):
        def models(self):
            return Reply({"error": {"message": "no key"}}, 401)

    write_rows(tmp_path / "in/a.jsonl", rows(1))
    with serving(Closed()) as address, pytest.raises(ValueError, match="MY_KEY is not set"):
        annotate(tmp_path / "in", tmp_path / "out", address, "--api-key-env", "MY_KEY")


@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
def test_a_sample_with_held_out_rows(tmp_path, judge, address, ending, capsys):
    """Sampled rows carry their weight; held-out rows are annotated and written apart, and no training reads them."""
    nothing = [{"id": f"no{number}", "messages": []} for number in range(9)]
    write_rows(tmp_path / f"in/a{ending}", [row | {"source": "s"} for row in [*rows(60, "a"), *nothing]])
    arguments = ("--sample", 20, "--by", "source,length", "--hold-out", 5)
    annotate(tmp_path / "in", tmp_path / "out", address, *arguments)
    learned, held_out = read_rows(tmp_path / "out/rows"), read_rows(tmp_path / "out/held-out")
    assert (len(learned), len(held_out)) == (15, 5)
    assert not {row["id"] for row in learned} & {row["id"] for row in held_out}
    assert sum(row["sample_weight"] for row in [*learned, *held_out]) == pytest.approx(60)
    assert all(row["judge_level"] for row in [*learned, *held_out])
    assert not {name for row in [*learned, *held_out] for name in row if name.startswith("datatrove_quality")}
    shown = capsys.readouterr()
    assert "about 20 requests" in shown.err and f"held out    {tmp_path}/out/held-out" in shown.out
    asked = len(judge.requests)
    annotate(tmp_path / "in", tmp_path / "out", address, *arguments)
    assert len(judge.requests) == asked
    with pytest.raises(ValueError, match=r"config\.seed: was 0, is now 1"):
        annotate(tmp_path / "in", tmp_path / "out", address, *arguments, "--seed", 1)
    with pytest.raises(ValueError, match=r"has held-out rows in it.* give .*out/rows"):
        run_command("train", tmp_path / "out", "--labels", "judge_level", "--model", "m", "--output", tmp_path / "c")
    with pytest.raises(ValueError, match="omit it beside --sample"):
        annotate(tmp_path / "in", tmp_path / "out", address, *arguments, "--limit", 3)


def test_a_canary_tells_that_the_judge_has_moved(tmp_path, capsys):
    """The same rows are judged at each start; the history beside them has each time."""

    class Moving(CountingJudge):
        level = 3

        async def answer(self, request):
            return completion(json.dumps({"reason": "", "score": self.level}))

    judge = Moving()
    write_rows(tmp_path / "in/a.jsonl", rows(2))
    write_rows(tmp_path / "canary.jsonl", rows(8, "known"))
    canary = ("--canary", tmp_path / "canary.jsonl")
    with serving(judge) as address:
        annotate(tmp_path / "in", tmp_path / "out", address, *canary)
        assert "Canary: judged for the first time" in capsys.readouterr().err
        judge.level = 4
        annotate(tmp_path / "in", tmp_path / "out", address, *canary)
        moved = "0.0% of 8 rows have the same level, scores moved by +1.000 on average (1.000 in size)"
        assert moved in capsys.readouterr().err
        annotate(tmp_path / "in", tmp_path / "other", address, *canary)
        assert "100.0% of 8 rows have the same level, scores moved by +0.000" in capsys.readouterr().err
        assert len((tmp_path / "canary.history.jsonl").read_text().splitlines()) == 3
        write_rows(tmp_path / "canary.jsonl", rows(7, "others"))
        annotate(tmp_path / "in", tmp_path / "other", address, *canary)
        assert "for the first time" in capsys.readouterr().err
        (tmp_path / "canary.history.jsonl").write_text("[]")
        with pytest.raises(ValueError, match="no history of a canary"):
            annotate(tmp_path / "in", tmp_path / "other", address, *canary)
    assert {row["judge_level"] for row in read_rows(tmp_path / "out/rows")} == {3}
