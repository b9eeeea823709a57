"""The scripts that judge scores: evaluate_classifier.py and choose_threshold.py, as a user runs them."""

import json
from pathlib import Path

import numpy as np
import pytest
from commands import run_command, start_command
from samples import write_rows

from datatrove_quality import evaluate_scores
from datatrove_quality.cli.main import make_parser


ROOT = Path(__file__).resolve().parents[2]


def scored_rows(count=200):
    rng = np.random.default_rng(0)
    labels = rng.integers(1, 6, count).tolist()
    scores = (np.array(labels) + rng.normal(0, 0.5, count)).tolist()
    return [
        {"quality": label, "quality_score": score, "quality_tokens": 10 + label}
        for label, score in zip(labels, scores, strict=True)
    ]


def conversations(count=20):
    return [
        {
            "id": str(number),
            "quality": 1 + number % 5,
            "messages": [
                {"role": "user", "content": f"Pergunta {number}?"},
                {"role": "assistant", "content": f"Resposta {number * 7}."},
            ],
        }
        for number in range(count)
    ]


def evaluate(*arguments):
    run_command("evaluate", *arguments)


def choose(*arguments):
    run_command("choose-threshold", *arguments)


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet"])
def test_scores_that_are_columns_are_evaluated(tmp_path, name, capsys):
    """The figures are those of evaluate_scores, in JSON, Markdown, on the screen, and drawn."""
    rows = scored_rows()
    source = write_rows(tmp_path / name, rows)
    options = ("--labels", "quality", "--scores", "quality_score", "--tokens", "quality_tokens")
    evaluate(source, *options, "--output", tmp_path / "out")
    expected = evaluate_scores(*([row[key] for row in rows] for key in ("quality", "quality_score")),
                               tokens=[row["quality_tokens"] for row in rows])  # fmt: skip
    written = json.loads((tmp_path / "out/evaluation.json").read_text())
    assert written["evaluation"] == expected.to_dict()
    assert written["left_out"] == {}
    assert (tmp_path / "out/evaluation.md").read_text().startswith(expected.to_markdown())
    assert expected.to_markdown() in capsys.readouterr().out
    for figure in ("confusion.png", "thresholds.png"):
        assert (tmp_path / "out" / figure).read_bytes().startswith(b"\x89PNG")


def test_rows_that_do_not_count_are_counted(tmp_path, capsys):
    """A row without a usable label or score is left out for a reason that is reported; none vanishes."""
    bad = [{"quality": value, "quality_score": 3.0} for value in (None, 4.5, "four", 9, True)]
    bad += [{"quality": 3, "quality_score": value} for value in (None, "3", True)]
    good = [{"quality": " 4 ", "quality_score": 4}, {"metadata": {"quality": 4.0, "quality_score": 4.2}}]
    source = write_rows(tmp_path / "a.jsonl", bad + good)
    with source.open("ab") as file:
        file.write(b"{broken\n")
    evaluate(source, "--labels", "quality", "--scores", "quality_score", "--output", tmp_path / "out")
    written = json.loads((tmp_path / "out/evaluation.json").read_text())
    assert written["evaluation"]["documents"] == 2
    assert written["left_out"] == {
        "missing_label": 2, "invalid_label": 3, "label_out_of_range": 1, "missing_score": 1, "invalid_score": 2
    }  # fmt: skip
    assert "9 rows left out: invalid_label 3" in capsys.readouterr().out


def test_a_model_is_evaluated_as_it_scores(tmp_path, model_folder):
    """What --model gives is what filter_conversations scores and --scores then evaluates, errors included."""
    model = model_folder("qwen3")
    rows = [*conversations(), {"quality": 2, "messages": []}, {"quality": "?", "messages": []}]
    source = write_rows(tmp_path / "in/a.jsonl", rows)
    evaluate(source, "--labels", "quality", "--model", model, "--dtype", "float32", "--output", tmp_path / "one")
    run_command("filter", source, "--output", tmp_path / "scored", "--model", model)
    options = ("--labels", "quality", "--scores", "quality_score", "--tokens", "quality_tokens")
    evaluate(tmp_path / "scored/kept", *options, "--output", tmp_path / "two")
    one, two = (json.loads((tmp_path / name / "evaluation.json").read_text()) for name in ("one", "two"))
    assert one["left_out"] == {"invalid_label": 1, "no_messages": 1}
    assert two["left_out"] == {"invalid_label": 1, "missing_score": 1}
    assert one["evaluation"]["confusion"] == two["evaluation"]["confusion"]
    assert one["evaluation"]["mae"] == pytest.approx(two["evaluation"]["mae"], abs=1e-4)


def test_a_missing_column_is_named(tmp_path, model_folder):
    """A wrong column name is an error that says what there is, not an empty evaluation."""
    source = write_rows(tmp_path / "a.jsonl", scored_rows(5))
    with pytest.raises(
        ValueError, match=r"label in level and a score in s: missing_label 5; .* columns file_path, quality,"
    ):
        evaluate(source, "--labels", "level", "--scores", "s", "--output", tmp_path / "out")
    with pytest.raises(ValueError, match=r"--tokens t: 5 of 5 rows have no count there.* columns file_path, quality,"):
        options = ("--labels", "quality", "--scores", "quality_score", "--tokens", "t")
        evaluate(source, *options, "--output", tmp_path / "out")
    with pytest.raises(ValueError, match=r"--labels level: none of .* rows has this column; there are .*quality"):
        evaluate(source, "--labels", "level", "--model", model_folder("qwen3"), "--output", tmp_path / "out")
    with pytest.raises(ValueError, match=r"None of 5 rows has a x_score: give --prefix.*quality_score"):
        choose(source, "--keep-share", 0.5, "--prefix", "x")
    with pytest.raises(ValueError, match=r"--labels level: none of 5 rows has a label \(missing_label 5\)"):
        choose(source, "--labels", "level", "--level", 4, "--min-precision", 0.9)
    write_rows(source, [])
    with pytest.raises(ValueError, match=r"a\.jsonl: there is no row"):
        choose(source, "--keep-share", 0.5)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet"])
def test_a_threshold_for_a_precision(tmp_path, name, capsys):
    """The printed threshold keeps what is printed, and the printed command takes it."""
    rows = scored_rows()
    source = write_rows(tmp_path / name, rows)
    choose(source, "--labels", "quality", "--level", 4, "--min-precision", 0.9)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "200 rows, 200 with a score"
    figures = {line[:24].strip(): line[24:34].strip() for line in lines if "95% interval" in line}
    kept = [row for row in rows if row["quality_score"] >= float(figures["threshold"])]
    assert figures["documents kept"] == f"{len(kept) / 200:.1%}"
    precision = sum(row["quality"] >= 4 for row in kept) / len(kept)
    assert figures["precision, label >= 4"] == f"{precision:.1%}" and precision >= 0.9
    command = lines[-1].split("datatrove-quality ")[1].split()
    assert make_parser(["filter"]).parse_args(command).min_score == float(figures["threshold"])


def test_both_halves_of_a_run_are_read(tmp_path, capsys):
    """A run's folder is its kept and excluded rows together, unscorable ones too; a half alone is warned of."""
    rows = scored_rows()
    kept = [row for row in rows if row["quality_score"] >= 3]
    excluded = [row for row in rows if row["quality_score"] < 3] + [{"quality": 5, "quality_error": "no_messages: …"}]
    write_rows(tmp_path / "run/kept/0.jsonl", kept)
    write_rows(tmp_path / "run/excluded/0.jsonl", excluded)
    (tmp_path / "run/logs").mkdir()
    choose(tmp_path / "run", "--keep-share", 0.9)
    both = capsys.readouterr()
    assert "201 rows, 200 with a score" in both.out
    assert "not kept: missing_score 1" in both.out
    assert "documents kept               90.0%" in both.out  # 181 of 201
    assert "biased" not in both.err
    choose(tmp_path / "run/kept", "--keep-share", 0.9)
    assert "biased" in capsys.readouterr().err


def test_a_share_of_tokens(tmp_path, capsys):
    """--by tokens counts tokens, and needs them."""
    rows = [{"x_score": float(score), "x_tokens": 100 if score == 5 else 10} for score in range(1, 6)]
    source = write_rows(tmp_path / "a.jsonl", rows)
    choose(source, "--keep-share", 0.7, "--by", "tokens", "--prefix", "x")
    assert capsys.readouterr().out.rstrip().endswith("--min-score 5.0 --prefix x")
    write_rows(source, [{"x_score": 1.0}])
    with pytest.raises(ValueError, match="--by tokens: rows with a score lack x_tokens"):
        choose(source, "--keep-share", 0.7, "--by", "tokens", "--prefix", "x")


def test_a_perfect_sample_proves_no_perfection(tmp_path, capsys):
    """Where the bootstrap sees no counterexample, the bound that the number of labels allows is printed."""
    rows = [{"quality": label, "quality_score": float(label)} for label in (1, 5, 5, 5, 5, 5, 5)]
    choose(write_rows(tmp_path / "a.jsonl", rows), "--labels", "quality", "--level", 4, "--min-precision", 1)
    assert "None of the 6 labelled rows kept has a lower label: so many cannot exclude a precision of 50.0%" in (
        capsys.readouterr().out
    )


@pytest.mark.parametrize("option", [["--compile"], ["--text"], ["--schema", "alpaca"], ["--messages-key", "chat"]])
def test_scores_that_are_there_are_not_computed(tmp_path, option):
    """An option of the model or its rows, where no model runs, is a mistake and not silence."""
    options = ("--labels", "quality", "--scores", "quality_score", "--output", tmp_path / "out")
    with pytest.raises(ValueError, match=f"omit {option[0]}"):
        evaluate(write_rows(tmp_path / "a.jsonl", scored_rows()), *options, *option)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give --labels, --level and --min-precision together, or --keep-share"),
        (("--level", "4", "--min-precision", "0.9"), "give --labels, --level and --min-precision together"),
        (("--keep-share", "0.5", "--labels", "quality"), "--keep-share needs no labels: omit --labels"),
        (
            ("--labels", "quality", "--level", "1", "--min-precision", "0.9"),
            "--level 1: give a level above 1, up to 5",
        ),
    ],
)
def test_options_that_contradict_each_other(tmp_path, arguments, message):
    """A goal that is incomplete or given twice is an error that says what to give or omit."""
    with pytest.raises(ValueError, match=message):
        choose(tmp_path, *arguments)


def test_from_the_command_line_an_error_is_one_line(tmp_path):
    """A user's mistake ends in a sentence, not in a traceback."""
    source = write_rows(tmp_path / "a.jsonl", scored_rows(50))
    command = ("choose-threshold", source, "--keep-share", 0.5)
    done = start_command(*command, "--prefix", "x")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: None of 50 rows has a x_score: give --prefix;")
    done = start_command(*command, "--keep-share", 50)
    assert done.returncode == 2 and "argument --keep-share: '50': give a number above 0, up to 1" in done.stderr
    assert "Traceback" not in done.stderr
