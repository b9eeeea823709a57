"""Fine-tune a quality classifier on annotated conversations, by the model card's recipe.

    python pipelines/train_classifier.py annotated/ --labels quality --model Qwen/Qwen3-4B --output classifier/

reads JSONL or Parquet, holds out a part, trains, and writes a complete classifier: `--model classifier/` scores with
it. `classifier/README.md` is its model card, with the figures on the held-out rows. Stopped and started again with
the same arguments, it goes on from the last checkpoint. On several GPUs: torchrun --nproc-per-node N pipelines/...
"""

import argparse
import os
from dataclasses import fields
from typing import Any

from datatrove_quality.cli.option_types import number, positive, scale, text_file
from datatrove_quality.cli.options import add_row_options, new_parser, run_script
from datatrove_quality.evaluation.labelled_rows import labelled_rows, require_labels
from datatrove_quality.runs.inputs import find_inputs
from datatrove_quality.training.config import DTYPES, FREEZE, ORDERS, TrainingConfig
from datatrove_quality.training.trainer import train_classifier


FIELDS = [field.name for field in fields(TrainingConfig)]


def main(arguments: list[str] | None = None) -> None:
    """Train as the command line asks.

    Args:
        arguments: the command line without the program's name; None: the process's own.
    """
    options = parse(arguments)
    config = TrainingConfig(**{name: value for name, value in vars(options).items() if name in FIELDS})
    inputs = find_inputs(options.input)
    require_labels(inputs, options)
    held_out = find_inputs(options.held_out) if options.held_out else None
    held_out_rows = labelled_rows(held_out, options) if held_out else None
    record = train_classifier(config, labelled_rows(inputs, options), options.output, held_out_rows)
    if int(os.environ.get("RANK", 0)) == 0:
        print_result(record, options.output)


def print_result(record: dict[str, Any], output: str) -> None:
    """Where everything is, how good it is, and how to score with it."""
    rows, evaluation = record["rows"], record["evaluation"]
    print(f"Trained on {rows['training']:,} rows; on {rows['held_out']:,} held out:")
    for name in ("macro_f1", "accuracy", "mae"):
        print(f"  {name.replace('_', ' '):<10}{evaluation[name]:7.4f}")
    print(f"Written to {output}: the classifier; README.md (its model card), curves.png, training.json (all figures)")
    print(f"Score with it: python pipelines/filter_conversations.py INPUT --model {output} --output DIR")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line's options; the classifier's are the fields of `TrainingConfig`."""
    # What is not given is left to `TrainingConfig`.
    parser = new_parser(__doc__, argument_default=argparse.SUPPRESS)
    add = parser.add_argument
    add("input", metavar="INPUT", help="folder, file or glob in quotes, of annotated .jsonl[.gz|.zst] or .parquet")
    add("--labels", required=True, metavar="COLUMN", help="the column that holds the labels")
    add("--output", required=True, metavar="DIR", help="a new folder for the classifier")
    base = parser.add_argument_group("base model")
    base.add_argument("--model", required=True, help="hub id or folder of the model to start from")
    base.add_argument("--revision", help="branch, tag or commit on the hub")
    base.add_argument("--chat-template", type=text_file, metavar="FILE", help="default: the tokenizer's own")
    base.add_argument("--pad-token", metavar="TOKEN", help="default: the tokenizer's own")
    base.add_argument("--freeze", choices=FREEZE, help="what is not trained (default: embeddings)")
    recipe = parser.add_argument_group("recipe (docs/training.md says where each default comes from)")
    recipe.add_argument("--epochs", type=positive, metavar="N", help="default: 2")
    recipe.add_argument("--batch-size", type=positive, metavar="N", help="rows per step on all devices (default: 64)")
    recipe.add_argument("--learning-rate", type=number, metavar="X", help="default: 5e-5")
    recipe.add_argument("--warmup-steps", type=int, metavar="N", help="default: 100")
    recipe.add_argument("--weight-decay", type=number, metavar="X", help="default: 0.1")
    recipe.add_argument("--adam-beta2", type=number, metavar="X", help="default: 0.999")
    recipe.add_argument("--max-tokens", type=positive, metavar="N", help="cut longer texts (default: 6032)")
    recipe.add_argument("--scale", type=scale, metavar="OFFSET,LOW,HIGH", help="of the labels (default: 1,1,5)")
    recipe.add_argument("--holdout", type=number, metavar="X", help="share or number of rows held out (default: 0.1)")
    recipe.add_argument(
        "--held-out", default=None, metavar="INPUT", help="rows to evaluate on, in the place of a part of INPUT"
    )
    recipe.add_argument("--evaluations", type=positive, metavar="N", help="and checkpoints per run (default: 10)")
    recipe.add_argument(
        "--order", choices=ORDERS, help="of the rows (default: grouped by length, which saves padding)"
    )
    recipe.add_argument("--seed", type=int, metavar="N", help="default: 0")
    recipe.add_argument("--dedup", action="store_true", help="leave out rows that look like an earlier one")
    device = parser.add_argument_group("device")
    device.add_argument(
        "--per-device-batch-size", type=positive, metavar="N", help="less: less memory (default: up to 8)"
    )
    device.add_argument("--gradient-checkpointing", action="store_true", help="much less memory, a third more time")
    device.add_argument("--dtype", choices=DTYPES, help="default: bfloat16 on a GPU that has it, else float32")
    device.add_argument("--device", choices=("auto", "cpu"), help="default: auto")
    add_row_options(parser.add_argument_group("rows"), ids=False)
    options = parser.parse_args(arguments)
    if options.held_out is not None and "holdout" in options:
        parser.error("--held-out gives the rows to evaluate on: --holdout does not go with it.")
    return options


if __name__ == "__main__":
    run_script(main)
