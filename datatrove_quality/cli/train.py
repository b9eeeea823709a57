"""Fine-tune a quality classifier on annotated conversations, by the model card's recipe.

    datatrove-quality train annotated/ --labels quality --model Qwen/Qwen3-4B --output classifier/

reads JSONL or Parquet, holds out a part, trains, and writes a complete classifier, which `datatrove-quality filter
--model classifier/` scores with. `classifier/README.md` is its model card, with the metrics on the held-out rows.
Stopped and started again with the same arguments, training resumes from the last checkpoint. On several GPUs:

    torchrun --nproc-per-node 4 -m datatrove_quality train ...

Needs the extra `train`.
"""

import argparse
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datatrove_quality.cli.checks import require_model_folder, require_writable
from datatrove_quality.cli.fields import add_fields, filled
from datatrove_quality.cli.option_types import text_file
from datatrove_quality.cli.options import add_row_options, row_adapter
from datatrove_quality.config import ScorerConfig
from datatrove_quality.extras import require_extra
from datatrove_quality.training.config import DTYPES, FREEZE, ORDERS, TrainingConfig


if TYPE_CHECKING:
    from datatrove_quality.evaluation.labels import LabelledRow

RESUMES = True

# All fields of `TrainingConfig`, by the group in which help shows them.
GROUPS = {
    "base model": (*("model", "revision", "chat_template", "template_date", "add_bos_token", "pad_token", "freeze"),),
    "recipe (docs/training.md says where each default comes from)": (
        *("epochs", "batch_size", "learning_rate", "warmup_steps", "weight_decay", "adam_beta2", "max_tokens"),
        *("scale", "holdout", "evaluations", "order", "seed", "dedup"),
    ),
    "device": ("per_device_batch_size", "gradient_checkpointing", "dtype", "device"),
}
CHOICES = {"freeze": FREEZE, "order": ORDERS, "dtype": DTYPES, "device": ("auto", "cpu")}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add = parser.add_argument
    add("input", metavar="INPUT", help="folder, file or glob in quotes, of annotated .jsonl[.gz|.zst] or .parquet")
    add("--labels", required=True, metavar="COLUMN", help="the column that holds the labels")
    add("--output", required=True, metavar="DIR", help="a new folder for the classifier")
    add("--held-out", metavar="INPUT", help="rows to evaluate on, instead of a part of INPUT")
    for title, names in GROUPS.items():
        group = parser.add_argument_group(title)
        add_fields(
            group,
            TrainingConfig,
            names,
            CHOICES,
            {"chat_template": (text_file, "FILE"), "template_date": (str, "DATE")},
        )
    add_row_options(parser.add_argument_group("rows"), ids=False)


def run(options: argparse.Namespace) -> None:
    """Train.

    Args:
        options: the command line.

    Raises:
        ValueError: options contradict each other, the rows have no labels, or as `train_classifier`.
        ImportError: the extra is not installed.
    """
    if options.held_out is not None and options.holdout != TrainingConfig.holdout:
        raise ValueError("--held-out gives the rows to evaluate on: omit --holdout.")
    config = filled(TrainingConfig, options)
    require_writable(options.output)
    require_model_folder(options.model)
    require_no_held_out(options.input)
    require_extra("train", "datatrove-quality train")
    from datatrove_quality.evaluation.labelled_rows import labelled_rows, require_labels
    from datatrove_quality.model.found_model import pinned
    from datatrove_quality.runs.inputs import find_inputs
    from datatrove_quality.training.batches import batches_per_step, require_enough_rows
    from datatrove_quality.training.folder import require_claimable

    batches_per_step(config, 1)  # a batch that does not divide for one device does for no number of them
    is_first = int(os.environ.get("RANK", 0)) == 0
    if is_first:  # which makes the folder while the others may not have come here
        require_claimable(Path(options.output), config)

    adapter = row_adapter(options)
    inputs = find_inputs(options.input)
    held_out = find_inputs(options.held_out) if options.held_out else None
    require_labels(inputs, adapter, options.labels)

    def rows() -> "tuple[Iterator[LabelledRow], Iterator[LabelledRow] | None]":
        evaluated = labelled_rows(held_out, adapter, options.labels) if held_out else None
        return labelled_rows(inputs, adapter, options.labels), evaluated

    require_enough_rows(*rows(), config)
    pinned(ScorerConfig(model=config.model, revision=config.revision))  # a name that is not found costs no import
    from datatrove_quality.training.trainer import train_classifier

    training, evaluated = rows()
    record = train_classifier(config, training, options.output, evaluated)
    if is_first:
        print_result(record, options.output)


def require_no_held_out(source: str) -> None:
    """Refuse the whole output of an annotation in which rows were held out, to be tested with.

    Raises:
        ValueError: says what to give instead.
    """
    folder = Path(source)
    if all((folder / name).exists() for name in ("rows", "held-out", "logs/run.json")):
        raise ValueError(
            f"input {source} has held-out rows in it, on which the classifier is to be tested: give {folder / 'rows'}."
        )


def print_result(record: dict[str, Any], output: str) -> None:
    """Show the metrics, where the classifier is, and how to score with it."""
    rows, evaluation = record["rows"], record["evaluation"]
    print(f"Trained on {rows['training']:,} rows; on {rows['held_out']:,} held out:")
    print(f"  macro F1             {evaluation['macro_f1']:>7.1%}")
    print(f"  accuracy             {evaluation['accuracy']:>7.1%}")
    print(f"  mean absolute error  {evaluation['mae']:>7.4f}")
    print(f"Written to {output}: the classifier; README.md (its model card), curves.png, training.json (all figures)")
    print(f"Score with it: datatrove-quality filter INPUT --model {output} --output DIR")
