"""`datatrove-quality demo`: the main job on the data of the package, in an empty folder."""

import json
import shutil
from pathlib import Path

import pytest
from commands import run_command, start_command

import datatrove_quality
from datatrove_quality.cli import demo


def test_the_demo_runs_anywhere(tmp_path, monkeypatch, capsys):
    """Typed in an empty folder, it writes its rows there, and shows the table and rows of both outputs."""
    done = start_command("demo", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    kept, excluded = (
        [json.loads(line) for line in (tmp_path / f"demo-output/{name}/00000.jsonl").read_text().splitlines()]
        for name in ("kept", "excluded")
    )
    assert len(kept) + len(excluded) == 648
    assert min(row["quality_score"] for row in kept) >= 3.5
    assert f"documents in{648:>34,}" in done.stdout
    shown = [line.split() for line in done.stdout.splitlines() if " → " in line]
    assert [name for name, *_ in shown] == ["kept"] * 3 + ["excluded"] * 3
    assert all((float(score) >= 3.5) == (name == "kept") for name, score, *_ in shown)
    monkeypatch.chdir(tmp_path)
    run_command("demo")
    assert [line.split() for line in capsys.readouterr().out.splitlines() if " → " in line] == shown


def test_other_rows_in_the_folder_are_not_deleted(tmp_path):
    """A folder that holds another run is refused, as any run refuses it."""
    precious = tmp_path / "out/kept/precious.txt"
    precious.parent.mkdir(parents=True)
    precious.write_text("mine")
    with pytest.raises(ValueError, match="no run"):
        run_command("demo", "--output", tmp_path / "out")
    assert precious.read_text() == "mine"


def test_the_demo_is_found_in_a_wheel_and_in_a_checkout(tmp_path, monkeypatch):
    """In the installed package the demo lies beside its modules, in a checkout in examples/."""
    assert demo.demo_folder() == Path(datatrove_quality.__file__).parents[1] / "examples"
    package = tmp_path / "site-packages/datatrove_quality"
    shutil.copytree(demo.demo_folder() / "demo-classifier", package / "demo/demo-classifier")
    monkeypatch.setattr(datatrove_quality, "__file__", str(package / "__init__.py"))
    assert demo.demo_folder() == package / "demo"
