"""A cascade on a real SLURM: the rows and the audit of a local run, with both models staged on the nodes."""

import math

import pytest
from slurm_runs import MIN_SCORE, MODEL, SMALL, filter_pipeline, filter_stats, require_same_rows, rows

from datatrove_quality import Cascade, ScorerConfig
from datatrove_quality.cascade.values import Bound, Certificate


pytestmark = pytest.mark.slurm


def audit_lines(table):
    names = ("decided by the proxy", "scored as well", "promise", "audit")
    return [line.split() for line in table.splitlines() if line.strip().startswith(names)]


def test_tasks_decide_and_audit_as_on_one_machine(lab, source, tmp_path, capsys):
    """The proxy drops all that it decides, which breaks the promise: all tasks together say so, and lose no row."""
    bound = Bound("disagreement", 0.01, 0, 300, 0.01)
    certificate = Certificate(MIN_SCORE, 0.95, (bound,), 300, prefix="quality")
    proxy = ScorerConfig(model=str(MODEL), dtype="bfloat16", device="cpu")
    Cascade(proxy, (4.0, math.inf), certificate, audit=0.5).save(tmp_path / "cascade.json")
    cascade = ["--cascade", tmp_path / "cascade.json"]
    filter_pipeline(source, tmp_path / "local", *cascade)
    table = capsys.readouterr().out
    assert "BROKEN" in table
    stage = ["--stage-model", tmp_path / "staged"]
    cluster = ["--executor", "slurm", "--gpus-per-task", 1, "--tasks-per-job", 3, "--wait", *stage, *SMALL]
    filter_pipeline(source, tmp_path / "out", *cascade, *cluster)
    assert len(audit_lines(table)) == 4 and audit_lines(capsys.readouterr().out) == audit_lines(table)
    require_same_rows(tmp_path / "out", tmp_path / "local")
    assert filter_stats(tmp_path / "out/logs") == filter_stats(tmp_path / "local/logs")
    decided = {row["quality_scored_by"] for file in rows(tmp_path / "out").values() for row in file}
    assert decided == {"proxy", "classifier", None}  # None: unscorable
    assert list((tmp_path / "staged").rglob("model.safetensors"))
