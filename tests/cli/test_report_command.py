from commands import run_command, start_command
from scored_rows_samples import scored, write


def test_the_command_says_where_the_report_is_and_what_to_know(tmp_path, capsys):
    """The last line names the page; notes from strangers' data cannot control the terminal."""
    source = write(tmp_path / "a.jsonl", [*scored(40), {"id": "x", "\x1b[2J_score": 3.0}])
    run_command("report", source, "--output", tmp_path / "report", "--threshold", 3)
    shown = capsys.readouterr().out
    assert shown.startswith("41 documents: 39 with a score, ")
    assert f"Written to {tmp_path}/report/report.html, the numbers to report.json beside it." in shown
    assert "note: Some rows have no 'quality_score'" in shown and "\x1b" not in shown


def test_mistakes_end_with_one_line_and_code_2(tmp_path):
    """The command says what is wrong in a line, without a traceback."""
    done = start_command("report", tmp_path / "nowhere", "--output", tmp_path / "report")
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
