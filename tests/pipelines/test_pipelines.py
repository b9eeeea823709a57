"""The ready-to-run pipelines, as a user starts them, on small data."""

import ast
import json
import runpy
import sys
from pathlib import Path

import pytest
from judges import CountingJudge, serving
from samples import read_rows, turns, write_rows
from tiny_models import ENCODER, encoder_tokenizer, save_model


ROOT = Path(__file__).resolve().parents[2]
PIPELINES = sorted((ROOT / "pipelines").glob("*.py"))
DEMO = ROOT / "examples"
ROWS = 60


@pytest.fixture
def conversations(tmp_path):
    """Some of the demo conversations, the broken ones among them, in two files."""
    lines = (DEMO / "conversations.jsonl").read_bytes().splitlines(keepends=True)[-ROWS:]
    for number in range(2):
        write_rows(tmp_path / f"in/{number}.jsonl", lines[number::2])
    return tmp_path / "in"


def start(monkeypatch, name, *arguments):
    monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
    runpy.run_path(str(ROOT / f"pipelines/{name}.py"), run_name="__main__")


def written(output):
    """The number of rows in each folder of an output."""
    folders = [output / "kept", *(folder for folder in (output / "excluded").glob("**") if folder.is_dir())]
    return {
        str(folder.relative_to(output)): len(read_rows(folder)) for folder in folders if list(folder.glob("*.jsonl"))
    }


@pytest.mark.parametrize("path", PIPELINES, ids=lambda path: path.stem)
def test_a_pipeline_is_short_and_built_on_public_names_only(path):
    """What a user copies must go on working: no private name, no module of the package."""
    source = path.read_text(encoding="utf-8")
    assert 40 <= len(source.splitlines()) <= 80
    assert "    pipeline = [" in source and 'if __name__ == "__main__":' in source
    imported = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Import | ast.ImportFrom)]
    modules = {node.module if isinstance(node, ast.ImportFrom) else node.names[0].name for node in imported}
    ours = {module for module in modules if module.startswith("datatrove_quality")}
    assert ours == {"datatrove_quality"}
    assert {module.partition(".")[0] for module in modules} <= {"argparse", "datatrove", "datatrove_quality"}


def test_annotate_conversations(tmp_path, conversations, monkeypatch):
    """Each row is written once, with a level or a reason."""
    with serving(CountingJudge()) as address:
        arguments = (conversations, tmp_path / "out", "--endpoint", address, "--model", "toy-judge")
        start(monkeypatch, "annotate_conversations", *arguments)
    found = read_rows(tmp_path / "out/rows")
    assert len(found) == ROWS
    assert all((row["judge_level"] is None) == (row["judge_error"] is not None) for row in found)


def test_filter_conversations(tmp_path, conversations, monkeypatch, capsys):
    """Every row is written once, and the table and the places are printed; a changed threshold is refused."""
    arguments = (conversations, tmp_path / "out", "--model", DEMO / "demo-classifier")
    start(monkeypatch, "filter_conversations", *arguments, "--min-score", 3.5)
    found = written(tmp_path / "out")
    assert found["kept"] > 10 and found["excluded"] > 10 and sum(found.values()) == ROWS
    assert all(row["quality_score"] >= 3.5 for row in read_rows(tmp_path / "out/kept"))
    assert f"documents in{ROWS:>34}" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"QualityFilter\.min_score: was 3\.5, is now 4\.5"):
        start(monkeypatch, "filter_conversations", *arguments, "--min-score", 4.5)
    start(monkeypatch, "filter_conversations", *arguments, "--min-score", 4.5, "--overwrite")
    again = [row for name in ("kept", "excluded") for row in read_rows(tmp_path / "out" / name)]
    scored = sum("quality_score" in row for row in again)
    assert scored >= ROWS - 8 and f"known from checkpoints or repeats{scored:>13}" in capsys.readouterr().out


def test_curate_conversations(tmp_path, conversations, monkeypatch, capsys):
    """Every row is written once; of a conversation that is there twice one is kept, unless a rule drops both.

    Questions that differ in their numbers alone are other questions.
    """
    pytest.importorskip("spacy", reason="the extra curate is not installed: pip install 'datatrove-quality[curate]'")
    lines = [line for path in sorted(conversations.iterdir()) for line in path.read_bytes().splitlines(keepends=True)]
    question, answer = (
        "Diga, por favor: quanto é {} vezes {}, e por que é assim?",
        "O produto de {} por {} é {}, claro.",
    )
    sums = [
        {"id": f"sum {n}", "messages": turns(question.format(n, n + 5), answer.format(n, n + 5, n * (n + 5)))}
        for n in range(3, 8)
    ]
    write_rows(conversations / "2.jsonl", lines[:5] + sums)
    arguments = (conversations, tmp_path / "out", "--model", DEMO / "demo-classifier", "--min-score", 3.5)
    start(monkeypatch, "curate_conversations", *arguments)
    found = written(tmp_path / "out")
    assert sum(found.values()) == ROWS + 10
    assert found["kept"] > 10 and found["excluded/score"] > 5 and found["excluded/rules"] >= 2
    ids = {name: [row.get("id") for row in read_rows(tmp_path / "out" / name)] for name in found}
    copied = {json.loads(line)["id"] for line in lines[:5]} - {
        *ids["excluded/rules"],
        *ids.get("excluded/repetition", ()),
    }
    assert len(copied) >= 3 and copied <= {*ids["excluded/duplicates"]}
    assert all((ids["kept"] + ids["excluded/score"]).count(name) == 1 for name in copied)
    assert not any(str(name).startswith("sum") for name in ids["excluded/duplicates"])
    assert {row["filter_reason"] for row in read_rows(tmp_path / "out/excluded/duplicates")} == {"near_duplicate"}
    assert f"documents in{ROWS + 10:>44}" in capsys.readouterr().out


def test_annotate_pretraining_text(tmp_path, monkeypatch):
    """Every row comes back in its order with its score, or with the reason why it has none."""
    encoder = save_model(tmp_path / "encoder", "bert", encoder_tokenizer(), **ENCODER)
    items = [{"url": f"https://example.org/{n}", "text": f"Um texto, o {n}.", "n": n} for n in range(20)]
    write_rows(tmp_path / "in/a.jsonl", [*items, {"url": "", "text": " ", "n": 20}])
    start(monkeypatch, "annotate_pretraining_text", tmp_path / "in", tmp_path / "out", "--model", encoder)
    found = read_rows(tmp_path / "out/kept")
    assert [row["n"] for row in found] == list(range(21))
    assert all(isinstance(row["edu_score"], float) and 0 <= row["edu_int_score"] <= 5 for row in found[:20])
    assert found[20]["edu_error"].startswith("empty_text: ")


def test_corpus_on_slurm_runs_on_one_machine_too(tmp_path, conversations, monkeypatch):
    """As a user tries it before it is queued; tests/slurm runs it on SLURM."""
    long = turns("Oi?", "Olá. " * 30_000 + "Fim.")
    write_rows(conversations / "2.jsonl", [{"id": "long", "messages": long}])
    arguments = (conversations, tmp_path / "out", "--model", DEMO / "demo-classifier", "--min-score", 3.5)
    start(monkeypatch, "corpus_on_slurm", *arguments, "--executor", "local")
    found = written(tmp_path / "out")
    assert sum(found.values()) == ROWS + 1 and found["excluded/length"] == 1
    assert found["kept"] > 10 and found["excluded/score"] > 5 and found["excluded/rules"] >= 2
    [dropped] = read_rows(tmp_path / "out/excluded/length")
    assert (dropped["id"], dropped["filter_reason"]) == ("long", "too_long")
    assert list((tmp_path / "out/logs/statistics/source").iterdir())
