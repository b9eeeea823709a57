"""Scored rows for the tests of the report, and reports made of them by the command."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import run_command
from datatrove.data import Document
from datatrove.pipeline.stats import StatsMerger
from samples import write_rows

from datatrove_quality import QualityStats


def scored(count: int, seed: int = 0, shift: float = 0.0) -> list[dict[str, Any]]:
    """Rows of a finished run, some of them without a score."""
    random = np.random.default_rng(seed)
    rows = []
    for i in range(count):
        score = float(np.round(random.normal(3, 1), 3)) + shift
        row: dict[str, Any] = {
            "id": f"d-{i}",
            "messages": [
                {"role": "user", "content": f"Pergunta {i}"},
                {"role": "assistant", "content": "Resposta " * 9},
            ],
            "source": f"site-{int(random.integers(5))}",
            "quality_score": score,
            "quality_tokens": int(random.integers(1, 3_000)),
            "quality_error": None,
        }
        if i % 40 == 7:
            row |= {"quality_score": None, "quality_tokens": None, "quality_error": "template_error: refused"}
        rows.append(row)
    return rows


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write rows to a file, of Parquet in several row groups, or values to a file of a run, and give its path."""
    if path.suffix in (".json", ".txt"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(value) + "\n" for value in rows))
        return path
    return write_rows(path, rows, **({"row_group_size": 70} if path.suffix == ".parquet" else {}))


def count(folder: Path, rows: list[dict[str, Any]], tasks: int = 3, merge: bool = False) -> None:
    """Write what a `QualityStats` in a pipeline over these rows writes."""
    counted = QualityStats(str(folder), group_by=["source", "wide"])
    for rank in range(tasks):
        documents = [Document(text="x", id=row["id"], metadata=row | {"wide": row["id"]}) for row in rows[rank::tasks]]
        list(counted.run(documents, rank, tasks))
    if merge:
        list(StatsMerger(str(folder), f"{folder}-merged").run(None))


def make(tmp_path: Path, *arguments: object) -> tuple[dict[str, Any], str]:
    """Make a report by the command: the numbers in `report.json`, and the page."""
    output = tmp_path / "report"
    run_command("report", *arguments, "--output", output)
    return json.loads((output / "report.json").read_text()), (output / "report.html").read_text()


def refused(tmp_path: Path, *arguments: object) -> str:
    """The error with which the command refuses to make a report."""
    with pytest.raises(ValueError) as caught:
        make(tmp_path, *arguments)
    return str(caught.value)
