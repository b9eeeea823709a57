"""A training run from rows to a classifier's folder; stopped at any time, it can be resumed.

Nothing in scoring differs from training: the tokens come from the scorer's own `Renderer`, made from the config and
tokenizer that are saved; the model pools by the same pad token; a decoder's head runs in float32; and the metrics in
the model card are `evaluate_scores` of the weights as they are saved.
"""

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from loguru import logger

from datatrove_quality.evaluation import Evaluation, LabelledRow, evaluate_scores
from datatrove_quality.extras import require_extra
from datatrove_quality.training.base_model import find_base, load_model
from datatrove_quality.training.batches import num_steps
from datatrove_quality.training.config import TrainingConfig
from datatrove_quality.training.examples import Example, read_split, row_counts
from datatrove_quality.training.folder import (
    CHECKPOINTS,
    claim_folder,
    last_checkpoint,
    run_settings,
    save_classifier,
    with_recorded_date,
)
from datatrove_quality.training.hf_trainer import logits_to_scores, make_trainer, training_arguments


if TYPE_CHECKING:
    from transformers import PreTrainedModel, Trainer


def train_classifier(
    config: TrainingConfig,
    rows: Iterable[LabelledRow],
    output: str | Path,
    held_out_rows: Iterable[LabelledRow] | None = None,
    prepare: "Callable[[PreTrainedModel], None] | None" = None,
) -> dict[str, Any]:
    """Fine-tune a classifier; run again with the same config, rows and folder, it resumes where it was stopped.

    Under `torchrun` each process calls it alike; the first one writes.

    Args:
        config: what is trained, and how.
        rows: conversations or texts, each with its label ("4", 4, 4.0 or 4.33).
        output: an empty or new folder; becomes a model that `ScorerConfig(model=output)` scores with, with README.md
            as its model card and the run's record in training.json.
        held_out_rows: rows to evaluate on, in place of a part of `rows`; the config's `holdout` is then not used.
        prepare: called with the model before it is trained, to attach hooks. What a model gives as its own `loss`
            while it trains is added to the squared error.

    Returns:
        The record: "settings", "rows" (counts), "log" (losses, rates and held-out metrics by step) and
        "evaluation".

    Raises:
        ValueError: the base model cannot be trained, the rows do not admit a stratified split, the schedule does not
            fit, or the folder holds something else; the message says what to do.
        ImportError: the extra `train` is not installed.
    """
    require_extra("train", "Training")
    output = Path(output)
    arguments = training_arguments(config, output / CHECKPOINTS)
    if arguments.process_index > 0:
        logger.disable(__package__)
    config = with_recorded_date(config, output)
    base = find_base(config)
    examples, training, held_out = read_split(rows, held_out_rows, base.renderer, config)
    steps = num_steps(len(training), config)
    with arguments.main_process_first(local=False):
        record = claim_folder(output, run_settings(config, arguments, base.renderer, training + held_out))
    if "evaluation" in record:
        logger.bind(shown=True).info(f"{output} holds this training, finished: nothing is left to do.")
        return record
    model = load_model(config, base)
    if prepare is not None:
        prepare(model)
    trainer = make_trainer(model, arguments, config, training, held_out, steps)
    trainer.train(resume_from_checkpoint=last_checkpoint(output))
    evaluation = _final_evaluation(trainer, held_out, config)
    record |= {
        "rows": row_counts(examples, training, held_out),
        "log": _finite(trainer.state.log_history),
        "evaluation": evaluation.to_dict(),
    }
    if trainer.is_world_process_zero():
        save_classifier(output, trainer, base.tokenizer, evaluation, record)
    trainer.accelerator.wait_for_everyone()
    return record


def _final_evaluation(trainer: "Trainer", held_out: list[Example], config: TrainingConfig) -> Evaluation:
    """The metrics of the best checkpoint on the held-out rows, with its weights rounded as they are saved."""
    model: Any = trainer.model
    if trainer.args.bf16:
        for parameter in model.parameters():
            parameter.data = parameter.data.bfloat16().float()
    logits: Any = trainer.predict(held_out).predictions  # type: ignore[arg-type]
    labels = np.array([example.level for example in held_out])
    tokens = np.array([len(example.ids) for example in held_out])
    return evaluate_scores(labels, logits_to_scores(logits, config.scale), config.scale, tokens)


def _finite(log: list[dict[str, float]]) -> list[dict[str, float | None]]:
    """The log with None for what JSON cannot hold, such as the gradient norm of a step that overflowed."""
    return [{name: value if math.isfinite(value) else None for name, value in entry.items()} for entry in log]
