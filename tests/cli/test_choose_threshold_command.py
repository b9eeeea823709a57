"""`datatrove-quality choose-threshold`: a threshold by precision or by the share kept."""

import pytest
from commands import run_command, start_command
from labelled_samples import scored_rows
from samples import write_rows

from datatrove_quality.cli.main import make_parser


def choose(*arguments):
    run_command("choose-threshold", *arguments)


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


def test_a_threshold_beyond_the_scale_is_one_that_the_command_takes(tmp_path, capsys):
    """Scores are not clipped, so a threshold may lie outside the scale: the printed command says that it is meant."""
    source = write_rows(tmp_path / "a.jsonl", [{"quality_score": score} for score in (0.2, 0.4, 0.6, 0.8)])
    choose(source, "--keep-share", 0.5)
    assert capsys.readouterr().out.rstrip().endswith("--min-score 0.6 --allow-outside-scale")


def test_a_perfect_sample_proves_no_perfection(tmp_path, capsys):
    """Where the bootstrap sees no counterexample, the bound that the number of labels allows: 0.025 ** (1 / 6)."""
    rows = [{"quality": label, "quality_score": float(label)} for label in (1, 5, 5, 5, 5, 5, 5)]
    choose(write_rows(tmp_path / "a.jsonl", rows), "--labels", "quality", "--level", 4, "--min-precision", 1)
    printed = capsys.readouterr().out
    for name in ("precision", "recall"):
        assert f"{f'{name}, label >= 4':<24}{'100.0%':>10}   95% interval 54.1% to 100.0%" in printed


def test_a_missing_column_is_named(tmp_path):
    """A wrong column name is an error that says what there is, not a threshold for nothing."""
    source = write_rows(tmp_path / "a.jsonl", scored_rows(5))
    with pytest.raises(ValueError, match=r"None of 5 rows has a x_score: give --prefix.*quality_score"):
        choose(source, "--keep-share", 0.5, "--prefix", "x")
    with pytest.raises(ValueError, match=r"--labels level: none of 5 rows has a label \(missing_label 5\)"):
        choose(source, "--labels", "level", "--level", 4, "--min-precision", 0.9)
    write_rows(source, [])
    with pytest.raises(ValueError, match=r"a\.jsonl: the input has no rows"):
        choose(source, "--keep-share", 0.5)


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
