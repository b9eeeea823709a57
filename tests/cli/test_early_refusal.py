"""Mistakes that local files show end a command before torch or transformers is imported."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from datatrove_quality.cli.demo import demo_folder


MODEL = str(demo_folder() / "demo-classifier")
ROWS = [{"id": "1", "messages": [{"role": "user", "content": "Oi"}, {"role": "assistant", "content": "Olá"}]}]
CALIBRATE = ["calibrate", "rows.jsonl", "--model", MODEL, "--disagreement", "0.1", "--output", "c", "--min-score"]
DISTILL = ["distill", "levels.jsonl", "--text", "--model", MODEL, "--student", "org/name", "--output", "out"]
TOO_LONG = ("--model", MODEL, "--max-tokens", "1025")
CODE = """
import sys
sys.modules.update(dict.fromkeys({hidden!r}))  # cannot be imported
from datatrove_quality.cli.main import main
code = main(sys.argv[1:])
print(code, *[name for name in ("torch", "transformers") if sys.modules.get(name)])
"""


def refused(folder: Path, *arguments: str, hidden: tuple[str, ...] = ()) -> str:
    """What a command line is refused with; it must not have imported a model's libraries, nor written anything."""
    before = sorted(folder.rglob("*"))
    code = CODE.format(hidden=hidden)
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=folder)
    assert done.stdout.splitlines()[-1] == "2", done.stderr
    assert sorted(folder.rglob("*")) == before
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    return line


@pytest.fixture
def folder(tmp_path):
    """A folder with rows, scored rows, a table and a file."""
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    scored = {"quality_score": 3.0, "text": "Oi"}
    (tmp_path / "scored.jsonl").write_text(json.dumps(scored) + "\n")
    (tmp_path / "mixed.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS) + "no JSON\n")
    (tmp_path / "table.csv").write_text("q,a\nOi,Olá\n")
    (tmp_path / "file").write_text("")
    (tmp_path / "run").mkdir()
    for name, kind in (("bare", "SequenceClassification"), ("causal", "CausalLM")):  # without weights
        (tmp_path / name).mkdir()
        config = {"model_type": "qwen3", "architectures": [f"Qwen3For{kind}"]}
        (tmp_path / name / "config.json").write_text(json.dumps(config))
    levels = [{"text": "Oi", "level": 1 + number % 5, "one": 3, "bad": "bom"} for number in range(60)]
    (tmp_path / "levels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in levels))
    return tmp_path


@pytest.mark.parametrize("command", ["filter", "curate"])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rows.jsonl", "--min-score", "4", "--max-score", "3"], "--min-score 4 is above --max-score 3"),
        (
            ["rows.jsonl", "--min-score", "45"],
            "--min-score 45 is outside the scale of the scores, 1 to 5: did you mean",
        ),
        (["rows.jsonl", "--scale", "0,0,9", "--min-score", "9.5"], "outside the scale of the scores, 0 to 9:"),
        (["rows.jsonl", "--model", "./no/such/model"], "--model ./no/such/model: there is no folder"),
        (["rows.jsonl", "--model", "models/my/classifier"], "--model models/my/classifier: there is no folder"),
        (["rows.jsonl", "--output", "file"], "--output file cannot be written: it is a file, not a folder"),
        (["rows.jsonl", "--output", "file/out"], "--output file/out cannot be written"),
        (["table.csv"], "table.csv is a table of texts: name its columns"),
        (["nowhere", "--min-score", "3"], "nowhere: there is no such file or folder"),
        (["rows.jsonl", "--messages-key", "chat"], "chat"),
        (
            ["mixed.jsonl", "--messages-key", "chat"],
            f"--messages-key chat: none of the first {len(ROWS)} rows has such a column; there are ",
        ),
        (["rows.jsonl", "--system-key", "sistem"], "--system-key sistem: none of the first"),
        (["rows.jsonl", "--output", ""], "--output is empty: give a value"),
        (["", "--output", "o"], "a path is empty: give a value"),
        (["scored.jsonl"], "None of the first 1 rows can be scored. missing_column"),
        (["rows.jsonl", "--device", "gpu"], "--device gpu: give"),
        (["rows.jsonl", "--max-tokens", "1025"], "--max-tokens 1025: the model has positions for 1024 tokens"),
        (["rows.jsonl", "--model", "causal"], "--model causal is a Qwen3ForCausalLM: give a sequence classifier"),
        (["rows.jsonl", "--model", "bare"], "--model bare cannot be loaded. It has no safetensors weights"),
        (["rows.jsonl", "--model", "run"], "--model run: the folder holds no config.json"),
    ],
)
def test_scoring_is_refused_early(folder, command, arguments, message):
    """A threshold, a column, an output or a model that is wrong costs a moment, in every command that scores."""
    if command == "curate":
        pytest.importorskip("spacy", reason="the extra curate is not installed")
    given = ["--model", MODEL] if "--model" not in arguments else []
    given += ["--output", "out"] if "--output" not in arguments else []
    assert message in refused(folder, command, *arguments, *given)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["filter", "rows.jsonl", "--output", "out", "--scores-from-columns"], "no score in a column 'quality_score'"),
        (["inspect", "rows.jsonl", "--system-key", "sistem"], "--system-key sistem: none of the first 1 rows"),
        (
            [
                "evaluate",
                "levels.jsonl",
                "--system-key",
                "sistem",
                "--labels",
                "level",
                "--model",
                MODEL,
                "--output",
                "o",
            ],
            "--system-key sistem: none of the first 60 rows",
        ),
        (["report", "rows.jsonl", "--output", "out"], "quality_score"),
        (["report", "rows.jsonl", "--output", "file"], "--output file cannot be written"),
        (["choose-threshold", "rows.jsonl", "--keep-share", "0.5"], "None of 1 rows has a quality_score"),
        (["choose-threshold", "rows.jsonl"], "give --labels, --level and --min-precision together"),
        (["evaluate", "rows.jsonl", "--labels", "level", "--model", MODEL, "--output", "out"], "--labels level: none"),
        (
            ["evaluate", "rows.jsonl", "--labels", "level", "--model", "./m", "--output", "out"],
            "--model ./m: there is",
        ),
        (["evaluate", "rows.jsonl", "--labels", "l", "--scores", "s", "--output", "file"], "--output file cannot be"),
        (
            ["evaluate", "levels.jsonl", "--text", "--labels", "one", "--model", "org/name", "--output", "out"],
            "--model org/name",
        ),
        (["inspect", "rows.jsonl", "--model", "org/name"], "--model org/name cannot be loaded"),
        (["inspect", "rows.jsonl", "--model", MODEL, "--max-tokens", "1025"], "positions for 1024 tokens"),
        (
            [*("evaluate", "levels.jsonl", "--text", "--labels", "level"), *TOO_LONG, "--output", "o"],
            "positions for 1024 tokens",
        ),
        ([*CALIBRATE, "3", "--proxy-dtype", "bfloat16", *TOO_LONG], "positions for 1024 tokens"),
        ([*DISTILL, "--batch-size", "1", "--warmup-steps", "200"], "--warmup-steps 200: 2 epochs of 54 rows"),
        ([*DISTILL, "--holdout", "60"], "--holdout 60: of 60 rows none is left on one side"),
        ([*CALIBRATE, "3", "--proxy", "org/name"], "--model org/name cannot be loaded"),
        ([*CALIBRATE, "3", "--proxy", "./p"], "--proxy ./p: there is no folder"),
        ([*CALIBRATE, "45", "--proxy", "org/name"], "--min-score 45 is outside the scale of the scores, 1 to 5"),
        (["train", "rows.jsonl", "--labels", "level", "--model", MODEL, "--output", "out"], "--labels level: none"),
        (["train", "rows.jsonl", "--labels", "level", "--model", "./m", "--output", "out"], "--model ./m: there"),
        (["train", "rows.jsonl", "--labels", "l", "--model", MODEL, "--output", "o", "--epochs", "0"], "--epochs 0:"),
    ],
)
def test_other_commands_refuse_early(folder, arguments, message):
    """So do those that read scores and labels."""
    assert message in refused(folder, *arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--warmup-steps 100: 2 epochs of 54 rows, 64 a step, are only 2 steps; set fewer"),
        (["--labels", "one"], "labels: all 60 rows are of level 3: nothing can be learned."),
        (["--labels", "bad"], "No row can be used to train on: invalid_label: 60."),
        (["--held-out", "rows.jsonl"], "No row can be used to evaluate on: missing_column: 1."),
        (["--per-device-batch-size", "3"], "--per-device-batch-size 3 does not divide the 64 rows"),
        (["--holdout", "0.99"], "--holdout 0.99: none of 60 rows is left to train on."),
        (
            ["--model", "org/name", "--warmup-steps", "1"],
            "--model org/name cannot be loaded. The hub cannot be reached",
        ),
        (["--output", "bare"], "--output bare holds what no training wrote: give another folder."),
    ],
)
def test_training_is_refused_early(folder, arguments, message):
    """Rows are counted, and the folder is looked at, before a base model is loaded."""
    defaults = {"--labels": "level", "--output": "out", "--model": MODEL}
    given = [word for pair in defaults.items() if pair[0] not in arguments for word in pair]
    assert message in refused(folder, "train", "levels.jsonl", "--text", *given, *arguments)


@pytest.mark.parametrize(
    ("extra", "hidden", "arguments"),
    [
        ("curate", "spacy", ["curate", "rows.jsonl", "--model", MODEL, "--output", "out"]),
        ("train", "sklearn", ["train", "rows.jsonl", "--model", MODEL, "--output", "out", "--labels", "id"]),
        ("ray", "ray", ["filter", "rows.jsonl", "--model", MODEL, "--output", "out", "--executor", "ray"]),
        ("completion", "shtab", ["completion", "bash"]),
    ],
)
def test_an_extra_that_is_missing_is_named_first(folder, extra, hidden, arguments):
    """The error says which extra the command needs, and how it is installed."""
    line = refused(folder, *arguments, hidden=(hidden,))
    assert f"needs datatrove-quality[{extra}]: pip install 'datatrove-quality[{extra}]'" in line and hidden in line


def test_figures_are_left_out_without_their_extra(folder):
    """An evaluation is written without matplotlib; a line says what draws its figures."""
    rows = [{"level": level, "score": level + 0.1} for level in (1, 2, 3, 4, 5)]
    (folder / "judged.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    arguments = ["evaluate", "judged.jsonl", "--labels", "level", "--scores", "score", "--output", "out"]
    code = CODE.format(hidden=("matplotlib",))
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=folder)
    assert "pip install 'datatrove-quality[plots]'" in done.stderr and done.stdout.splitlines()[-1] == "0"
    assert {path.name for path in (folder / "out").iterdir()} == {"evaluation.json", "evaluation.md"}


def test_the_scale_of_scores_that_rows_have(folder):
    """A run's record tells the scale: a threshold outside of it is refused without the model."""
    (folder / "run/logs").mkdir()
    (folder / "run/kept").mkdir()
    (folder / "scored.jsonl").rename(folder / "run/kept/00000.jsonl")
    scorer = {"fingerprint": "f", "parts": {}, "scale": {"offset": 0.0, "low": 0, "high": 3}}
    record = {"prefix": "quality", "scorer": scorer, "folders": ["kept"]}
    (folder / "run/logs/run.json").write_text(json.dumps(record))
    arguments = ["filter", "run/kept", "--output", "out", "--scores-from-columns", "--min-score", "25", "--text"]
    assert "--min-score 25 is outside the scale of the scores, 0 to 3: did you mean 2.5?" in refused(
        folder, *arguments
    )


@pytest.mark.parametrize(("command", "threshold"), [("filter", ["--min-score", "3"]), ("curate", [])])
def test_a_model_that_an_offline_node_lacks_is_refused_early(folder, command, threshold):
    """The hub's cache is a local file: nothing is imported to find out that a model is not in it."""
    if command == "curate":
        pytest.importorskip("spacy", reason="the extra curate is not installed")
    line = refused(folder, command, "rows.jsonl", "--model", "org/name", *threshold, "--output", "out")
    assert "--model org/name cannot be loaded. The hub cannot be reached from here." in line
