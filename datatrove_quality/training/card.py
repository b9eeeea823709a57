"""The model card and the learning curves of a trained classifier."""

from pathlib import Path
from typing import Any

from datatrove_quality.evaluation import Evaluation
from datatrove_quality.evaluation.markdown import markdown_table


def write_curves(log: list[dict[str, float | None]], path: Path) -> None:
    """Draw loss, and macro F1 on the held-out rows, over the steps.

    Args:
        log: the record's: losses, rates and held-out metrics by step; None where one was not finite.
        path: of the image; its ending is its format.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.5), layout="constrained")
    loss, f1 = figure.subplots(1, 2)
    for axes, name, label in (
        (loss, "loss", "training"),
        (loss, "eval_loss", "held out"),
        (f1, "eval_macro_f1", "held out"),
    ):
        points = [(entry["step"], entry[name]) for entry in log if entry.get(name) is not None]
        steps, values = ([point[side] for point in points] for side in (0, 1))
        axes.plot(steps, values, marker="." if "eval" in name else None, label=label)
    loss.set(xlabel="step", ylabel="squared error", ylim=(0, None))
    f1.set(xlabel="step", ylabel="macro F1", ylim=(0, 1))
    loss.legend()
    figure.savefig(path, dpi=100)


CARD = """\
---
library_name: transformers
pipeline_tag: text-classification
---

# Quality classifier

A sequence classifier with one regression output, fine-tuned from `{model}` by datatrove-quality.
`score = logit + {scale[offset]}` on a scale from {scale[low]} to {scale[high]} (`score_scale` in `config.json`).

```python
from datatrove_quality import ScorerConfig, load_scorer

load_scorer(ScorerConfig(model="this folder or its hub id")).score([[
    {{"role": "user", "content": "Qual é a capital de Portugal?"}},
    {{"role": "assistant", "content": "A capital de Portugal é Lisboa."}},
]])
```

## Training

{recipe}

{rows}

![Loss and macro F1 over the steps](curves.png)

## Evaluation

On the {held_out:,} held-out rows: the checkpoint with the highest macro F1.

{evaluation}
"""


def model_card(record: dict[str, Any], evaluation: Evaluation) -> str:
    """The README of a trained classifier: recipe, counts of the data, evaluation.

    Args:
        record: of the run, as `train_classifier` gives it.
        evaluation: on the held-out rows.

    Returns:
        Markdown.
    """
    settings, rows = record["settings"], record["rows"]
    elsewhere = ("model", "scale", "chat_template", "rows")
    recipe = [(name, value) for name, value in settings.items() if name not in elsewhere]
    names = ("training", "held_out", "fractional_labels", "repeated", "truncated", "tokens")
    counts = [
        *((f"rows of level {level}", count) for level, count in rows["levels"].items()),
        *((name, rows[name]) for name in names),
        *((f"refused: {reason}", count) for reason, count in rows["refused"].items()),
    ]
    return CARD.format(
        model=settings["model"],
        scale=settings["scale"],
        recipe=_table("recipe", recipe),
        rows=_table("data", counts),
        held_out=rows["held_out"],
        evaluation=evaluation.to_markdown(),
    )


def _table(title: str, pairs: list[tuple[str, Any]]) -> str:
    return markdown_table([title, ""], [(name.replace("_", " "), value) for name, value in pairs])
