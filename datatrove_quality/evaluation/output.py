"""The files of an evaluation: evaluation.json and evaluation.md; its figures are drawn in `plots`."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from datatrove_quality.atomic_write import write_atomic, write_json
from datatrove_quality.evaluation.columns import listed
from datatrove_quality.evaluation.labelled_scores import LabelledScores
from datatrove_quality.evaluation.metrics import Evaluation


def write_evaluation(evaluation: Evaluation, rows: LabelledScores, settings: dict[str, Any], output: Path) -> str:
    """Write evaluation.json and evaluation.md.

    Args:
        evaluation: the figures.
        rows: what they were computed from.
        settings: how labels and scores were found, for the record; JSON values by name.
        output: the folder; made where it is missing.

    Returns:
        The text of evaluation.md.

    Raises:
        OSError: a file cannot be written.
    """
    left_out = f"{rows.left_out.total():,} rows left out" + (f": {listed(rows.left_out)}" * bool(rows.left_out))
    text = f"{evaluation.to_markdown()}\n{left_out}\n"
    record = {
        "settings": settings,
        "scale": asdict(rows.scale),
        "left_out": dict(rows.left_out),
        "evaluation": evaluation.to_dict(),
    }
    output.mkdir(parents=True, exist_ok=True)
    write_json(output / "evaluation.json", record)
    write_atomic(output / "evaluation.md", text)
    return text
