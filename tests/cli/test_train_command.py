"""`datatrove-quality train`, as a user runs it."""

import json
import sys
from contextlib import redirect_stderr
from pathlib import Path

import pytest
from commands import run_command
from loguru import logger
from screens import Screen
from training_runs import annotated


@pytest.fixture
def annotated_file(tmp_path) -> Path:
    """A JSONL file as users have it, with an invalid JSON line, beside a file that is not named."""
    lines = [json.dumps({"messages": item, "stars": str(level)}) for item, level in annotated(60)]
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "rows.jsonl").write_text("\n".join([*lines, "{"]) + "\n")
    (tmp_path / "data" / "other.jsonl").write_text("{}\n" * 5)
    return tmp_path / "data" / "rows.jsonl"


@pytest.fixture
def screen():
    """A terminal to which the log goes."""
    screen = Screen()
    logger.remove()
    logger.add(screen)
    yield screen
    logger.remove()
    logger.add(sys.stderr)


def test_the_script_trains_on_a_file_and_says_where_everything_is(annotated_file, base, tmp_path, capsys, screen):
    """One command from annotated rows to a classifier; what is not asked for is `TrainingConfig`'s default."""
    options = ["--batch-size", "16", "--warmup-steps", "2", "--device", "cpu", "--holdout", "10"]
    arguments = [str(annotated_file), "--labels", "stars", "--model", str(base), "--output", str(tmp_path / "out")]
    with redirect_stderr(screen):
        run_command("train", *arguments, *options)
    printed, shown = capsys.readouterr().out, screen.getvalue()
    assert "training: 100%" in shown and "step 7 of 7: held out: macro F1" in shown and "learning rate" not in shown
    assert "50 rows; on 10 held out" in printed
    assert f"--model {tmp_path / 'out'}" in printed
    record = json.loads((tmp_path / "out" / "training.json").read_text())
    assert record["rows"]["refused"] == {"invalid_json": 1}
    assert record["settings"]["learning_rate"] == 5e-5


def test_a_missing_label_column_is_an_error_that_names_those_there_are(annotated_file, base, tmp_path):
    """Found before the base model is looked at."""
    arguments = [str(annotated_file), "--labels", "quality", "--model", str(base), "--output", str(tmp_path / "out")]
    with pytest.raises(ValueError, match=r"--labels quality: none of the first 61 rows .*; there are messages, stars"):
        run_command("train", *arguments)


def test_options_without_effect_are_a_mistake(annotated_file, base, tmp_path):
    """Of two ways to say what a row holds, or what is held out, one would be ignored."""
    arguments = [str(annotated_file), "--labels", "stars", "--model", str(base), "--output", str(tmp_path / "out")]
    with pytest.raises(ValueError, match="--text is for plain text: omit --schema"):
        run_command("train", *arguments, "--text", "--schema", "alpaca")
    with pytest.raises(ValueError, match="omit --holdout"):
        run_command("train", *arguments, "--held-out", annotated_file, "--holdout", 0.2)
    assert not (tmp_path / "out").exists()
