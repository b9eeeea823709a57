"""`datatrove-quality distill`: a student that knows what the classifier says, and takes its scores as they are."""

import json

import numpy as np
import pytest
from samples import write_rows
from training_runs import RECIPE, annotated, config

from datatrove_quality import ScorerConfig, load_scorer
from datatrove_quality.cli import main as command
from datatrove_quality.training import train_classifier


@pytest.fixture(scope="module")
def teacher(base, tmp_path_factory):
    """Trained to tell the words of a level."""
    folder = tmp_path_factory.mktemp("trained") / "teacher"
    train_classifier(config(base, **RECIPE), annotated(120), folder)
    return folder


def test_the_student_learns_the_scores_as_they_are(base, teacher, tmp_path, capsys):
    rows = [{"id": str(at), "messages": messages} for at, (messages, _) in enumerate(annotated(200))]
    write_rows(tmp_path / "in/a.jsonl", rows)
    options = [
        *("distill", str(tmp_path / "in"), "--model", str(teacher), "--student", str(base)),
        *("--output", str(tmp_path / "student"), "--device", "cpu", "--rows", "150", "--epochs", "8"),
        *("--learning-rate", "3e-3", "--warmup-steps", "1", "--batch-size", "16", "--evaluations", "2"),
    ]
    assert command.main(options) == 0
    out = capsys.readouterr().out
    assert (
        "150 of 200 rows drawn" in out and f"calibrate INPUT --model {teacher} --proxy {tmp_path / 'student'}" in out
    )
    record = json.loads((tmp_path / "student/training.json").read_text())
    assert (record["rows"]["training"], record["rows"]["held_out"]) == (135, 15)
    assert record["rows"]["fractional_labels"] > 100
    made = [messages for messages, _ in annotated(60)]
    scored = [
        [one.score for one in load_scorer(ScorerConfig(model=str(folder), device="cpu")).score(made)]
        for folder in (teacher, tmp_path / "student")
    ]
    assert np.corrcoef(scored)[0, 1] > 0.8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--student", "./none"], "there is no folder"),
        (["--student", "org/s", "--epochs", "0"], "epochs"),
        (["--student", "org/s", "--output", "MODEL"], "is the classifier: give a new folder"),
    ],
)
def test_mistakes(teacher, tmp_path, capsys, options, message):
    given = [str(teacher) if option == "MODEL" else option for option in options]
    arguments = ["distill", str(tmp_path), "--model", str(teacher), "--output", str(tmp_path / "out"), *given]
    assert command.main(arguments) == command.MISTAKE
    assert message in capsys.readouterr().err


def test_several_processes_are_refused(teacher, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    arguments = ["distill", str(tmp_path), "--student", "org/s", "--output", str(tmp_path / "out")]
    assert command.main(arguments) == command.MISTAKE
    assert "under torchrun" in capsys.readouterr().err
