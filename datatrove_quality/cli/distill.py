"""Train a small classifier on a large one's scores: a proxy for a cascade.

    datatrove-quality distill data/ --model classifier/ --student Qwen/Qwen3-0.6B-Base --output student/

draws rows at random, scores them with the classifier, and trains the student on these scores as they are, by the
recipe of `datatrove-quality train`. The scores are kept in `student.work`: stopped and started again with the same
arguments, nothing is scored twice and training resumes. Then `datatrove-quality calibrate --proxy student/`: see
docs/cascade.md.

Needs the extra `train`. Runs in one process; on several GPUs, score rows with `filter` and run `train --labels
quality_score` under torchrun.
"""

import argparse
import os
import random
from dataclasses import replace
from pathlib import Path

from datatrove_quality.cli.checks import require_local_classifier, require_model_folder, require_writable
from datatrove_quality.cli.fields import add_fields, filled
from datatrove_quality.cli.option_types import positive, text_file
from datatrove_quality.cli.options import (
    CARD_MODEL,
    add_row_options,
    add_template_options,
    add_verbose_option,
    messages_key,
    row_adapter,
)
from datatrove_quality.cli.train import print_result
from datatrove_quality.config import DTYPES, ScorerConfig
from datatrove_quality.extras import require_extra
from datatrove_quality.training.config import FREEZE, ORDERS, TrainingConfig


RESUMES = True

RECIPE = (
    *("epochs", "batch_size", "learning_rate", "warmup_steps", "weight_decay", "adam_beta2", "max_tokens"),
    *("holdout", "evaluations", "order", "seed", "freeze", "dedup", "pad_token", "chat_template"),
    *("per_device_batch_size", "gradient_checkpointing"),
)
CLASSIFIER = ("revision", "dtype", "tokens_per_batch")


def run(options: argparse.Namespace) -> None:
    """Sample, score and train, as the command line asks.

    Args:
        options: the command line.
    """
    scorer, config = settings_of(options)
    require_extra("train", "datatrove-quality distill")
    from datatrove_quality.engine.scorer import find_scorer
    from datatrove_quality.model.found_model import pinned
    from datatrove_quality.proxies.sample import draw_sample
    from datatrove_quality.proxies.scores import labelled_by
    from datatrove_quality.runs.inputs import find_inputs
    from datatrove_quality.training.batches import num_steps
    from datatrove_quality.training.trainer import train_classifier

    sample = draw_sample(find_inputs(options.input), row_adapter(options), options.rows, f"distillation {config.seed}")
    drawn = len(sample.documents)
    print(f"{drawn:,} of {sample.rows:,} rows drawn.")
    num_steps(drawn - num_held_out(drawn, config), config)  # too few for the recipe is refused before they are scored
    scorer = pinned(scorer)
    rows = labelled_by(
        scorer,
        sample.documents,
        f"{options.output.rstrip('/')}.work",
        messages_key=messages_key(options),
        allow_no_answer=options.allow_no_answer,
        render_tools=options.render_tools,
    )
    random.Random(config.seed).shuffle(rows)
    held_out = num_held_out(len(rows), config)
    config = replace(config, scale=find_scorer(scorer).scale)
    record = train_classifier(config, rows[held_out:], options.output, rows[:held_out])
    print_result(record, options.output)
    print(f"Certify it: datatrove-quality calibrate INPUT --model {options.model} --proxy {options.output} "
          "--min-score X --disagreement 0.01 --output cascade.json")  # fmt: skip


def num_held_out(rows: int, config: TrainingConfig) -> int:
    """How many of the rows are held out.

    Raises:
        ValueError: none is, or none is left to train on.
    """
    held_out = int(rows * config.holdout if config.holdout < 1 else config.holdout)
    if not 0 < held_out < rows:
        raise ValueError(f"--holdout {config.holdout:g}: of {rows:,} rows none is left on one side.")
    return held_out


def settings_of(options: argparse.Namespace) -> tuple[ScorerConfig, TrainingConfig]:
    """The classifier and the recipe; refuses what the options alone show to be a mistake.

    Raises:
        ValueError: says what to change.
    """
    require_writable(options.output)
    require_local_classifier(options.model)
    require_model_folder(options.student, "--student")
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise ValueError(
            "datatrove-quality distill runs in one process: score rows with `filter`, and run `train --labels "
            "quality_score` under torchrun."
        )
    if Path(options.output).absolute() == Path(options.model).absolute():
        raise ValueError(f"--output {options.output} is the classifier: give a new folder.")
    classifier = ("model", *CLASSIFIER)
    scorer = ScorerConfig(device=options.device, **{name: getattr(options, name) for name in classifier})
    recipe = {name: getattr(options, name) for name in RECIPE}
    return scorer, filled(TrainingConfig, argparse.Namespace(**recipe, model=options.student, device=options.device))


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add = parser.add_argument
    add("input", metavar="INPUT", help="the corpus: folder, file or glob in quotes")
    add("--output", required=True, metavar="DIR", help="a new folder for the student")
    add("--rows", type=positive, default=20_000, metavar="N", help="to train on and hold out (default: 20000)")
    add_template_options(parser)
    add("--device", choices=("auto", "cpu"), default="auto", help="of both (default: auto)")
    model = parser.add_argument_group("classifier")
    model.add_argument("--model", default=CARD_MODEL, help=f"hub id or folder (default: {CARD_MODEL})")
    add_fields(model, ScorerConfig, CLASSIFIER, {"dtype": DTYPES})
    student = parser.add_argument_group("student (docs/training.md says where each default comes from)")
    student.add_argument("--student", required=True, metavar="MODEL", help="hub id or folder of the base model")
    add_fields(
        student, TrainingConfig, RECIPE, {"freeze": FREEZE, "order": ORDERS}, {"chat_template": (text_file, "FILE")}
    )
    add_row_options(parser.add_argument_group("rows"))
    add_verbose_option(parser)
