"""Fine-tune a classifier by the model card's recipe: annotated conversations in, a folder that scores as it is out.

    rows -> token ids and levels -> stratified split -> transformers' Trainer -> best checkpoint -> model folder

Nothing in scoring differs from training: the tokens come from the scorer's own `Renderer`, made from the very config
and tokenizer that are saved; the model pools by the same pad token; a decoder's head runs in float32; and the figures
in the model card are `evaluate_scores` of the weights as they are saved.
"""

import math
import os
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from loguru import logger

from datatrove_quality.config import ScoreScale
from datatrove_quality.evaluation.labels import LabelledRow
from datatrove_quality.evaluation.metrics import Evaluation, evaluate_scores
from datatrove_quality.model.devices import any_device, native_dtype
from datatrove_quality.training.base_model import find_base, load_model
from datatrove_quality.training.batches import Collator, Order, batches_per_step, num_steps
from datatrove_quality.training.config import TrainingConfig
from datatrove_quality.training.data import (
    Example,
    check_levels,
    read_examples,
    row_counts,
    split_examples,
    warn_of_leaks,
)
from datatrove_quality.training.folder import CHECKPOINTS, asked, claim, last_checkpoint, save


if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, Trainer, TrainingArguments


def train_classifier(
    config: TrainingConfig,
    rows: Iterable[LabelledRow],
    output: str | Path,
    held_out_rows: Iterable[LabelledRow] | None = None,
    prepare: "Callable[[PreTrainedModel], None] | None" = None,
) -> dict[str, Any]:
    """Fine-tune a classifier; run again with the same config, rows and folder, it goes on where it was stopped.

    Under `torchrun` each process calls it alike; the first one writes.

    Args:
        config: what is trained, and how.
        rows: conversations or texts, each with its label ("4", 4 or 4.0).
        output: an empty or new folder; becomes a model that `ScorerConfig(model=output)` scores with, with a README.md
            as its model card and the run's record in training.json.
        held_out_rows: what to evaluate on, in the place of a part of `rows`; the config's `holdout` is then not used.
        prepare: called with the model before it is trained, to attach hooks. What a model gives as its own `loss`
            while it trains is added to the squared error.

    Returns:
        The record: `asked`, `rows` (counts), `log` (losses, rates and held-out figures by step) and `evaluation`.

    Raises:
        ValueError: the base model cannot be trained, the rows do not admit a stratified split, the schedule does not
            fit, or the folder holds something else; the message says what to do.
        ImportError: the extra `train` is not installed.
    """
    _require_extra()
    arguments = _training_arguments(config, Path(output) / CHECKPOINTS)
    if arguments.process_index > 0:
        logger.disable(__package__)
    base = find_base(config)
    examples = read_examples(rows, base.renderer, config)
    if held_out_rows is None:
        training, held_out = split_examples(examples.kept, config)
    else:
        others = read_examples(held_out_rows, base.renderer, config, purpose="evaluate on")
        training, held_out = examples.kept, others.kept
        examples += others
        check_levels(training)
    warn_of_leaks(training, held_out)
    # From the longest on, so that a batch too large for the device's memory shows at once.
    held_out = sorted(held_out, key=lambda example: -len(example.ids))
    steps = num_steps(len(training), config)
    with arguments.main_process_first(local=False):
        record = claim(Path(output), asked(config, arguments, base.renderer, training + held_out))
    if "evaluation" in record:
        logger.info(f"{output} holds this training, finished: nothing is left to do.")
        return record
    record["rows"] = row_counts(examples, training, held_out)
    model = load_model(config, base)
    if prepare is not None:
        prepare(model)
    trainer = _make_trainer(model, arguments, config, training, held_out, steps)
    trainer.train(resume_from_checkpoint=last_checkpoint(Path(output)))
    evaluation = _final_evaluation(trainer, held_out, config)
    record |= {"log": trainer.state.log_history, "evaluation": evaluation.to_dict()}
    if trainer.is_world_process_zero():
        save(Path(output), trainer, base.tokenizer, evaluation, record)
    trainer.accelerator.wait_for_everyone()
    return record


def _training_arguments(config: TrainingConfig, folder: Path) -> "TrainingArguments":
    """All of transformers' arguments that do not depend on the number of rows."""
    import torch
    from transformers import TrainingArguments

    device = any_device(_requested_device(config))
    is_native = device.type == "cuda" and native_dtype(device, torch.bfloat16)
    arguments = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=1,  # `Order` holds all epochs
        learning_rate=config.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=config.warmup_steps,
        weight_decay=config.weight_decay,
        adam_beta2=config.adam_beta2,
        optim="adamw_torch_fused" if device.type == "cuda" else "adamw_torch",
        bf16=is_native if config.dtype == "auto" else config.dtype == "bfloat16",
        eval_strategy="steps",
        save_strategy="steps",
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model="macro_f1",
        greater_is_better=True,
        seed=config.seed,
        use_cpu=device.type == "cpu",
        dataloader_pin_memory=device.type == "cuda",
        remove_unused_columns=False,
        **_checkpointing(config),
        label_names=["labels"],
        report_to="none",
        disable_tqdm=True,
    )
    rows, accumulation = batches_per_step(config, arguments.world_size)
    arguments.per_device_train_batch_size = arguments.per_device_eval_batch_size = rows
    arguments.gradient_accumulation_steps = accumulation
    arguments._n_gpu = min(arguments.n_gpu, 1)  # several devices train in several processes
    return arguments


def _checkpointing(config: TrainingConfig) -> dict[str, Any]:
    """The arguments for gradient checkpointing, by the name that this version of transformers has for them."""
    from transformers import TrainingArguments

    if not config.gradient_checkpointing:
        return {}
    name = "activation" if hasattr(TrainingArguments, "activation_checkpointing") else "gradient"
    # The reentrant kind needs an input with a gradient, which frozen embeddings do not give.
    return {f"{name}_checkpointing": True, f"{name}_checkpointing_kwargs": {"use_reentrant": False}}


def _requested_device(config: TrainingConfig) -> str:
    """The device to look at: under torchrun, the GPU of this process."""
    import torch

    rank = os.environ.get("LOCAL_RANK")
    return f"cuda:{rank}" if config.device == "auto" and rank and torch.cuda.is_available() else config.device


def _make_trainer(
    model: "PreTrainedModel",
    arguments: "TrainingArguments",
    config: TrainingConfig,
    training: list[Example],
    held_out: list[Example],
    steps: int,
) -> "Trainer":
    """transformers' Trainer with our order of rows, our loss and our log."""
    from torch.utils.data import DataLoader
    from transformers import PrinterCallback, Trainer

    from datatrove_quality.model.architectures import is_packable

    class QualityTrainer(Trainer):
        def get_train_dataloader(self) -> DataLoader:
            lengths = [len(example.ids) for example in training]
            order = Order(lengths, config.epochs, config.order, config.batch_size, config.seed)
            loader: Any = DataLoader(
                training,  # type: ignore[arg-type]  # a list is a dataset
                batch_size=self.args.per_device_train_batch_size,
                sampler=order,
                collate_fn=self.data_collator,
                pin_memory=self.args.dataloader_pin_memory,
            )
            return self.accelerator.prepare(loader)

        def log(self, logs: dict[str, float], *rest: Any) -> None:
            super().log(logs, *rest)
            _report(logs, self.state.global_step, steps)

    arguments.eval_steps = arguments.save_steps = math.ceil(steps / config.evaluations)
    arguments.logging_steps = math.ceil(steps / 100)
    trainer = QualityTrainer(
        model=model,
        args=arguments,
        data_collator=Collator(
            model.config.get_text_config().pad_token_id, config.scale.offset, masks=not is_packable(model)
        ),
        train_dataset=training,  # type: ignore[arg-type]
        eval_dataset=held_out,  # type: ignore[arg-type]
        compute_loss_func=_squared_error,
        compute_metrics=_metrics(config.scale),
    )
    trainer.remove_callback(PrinterCallback)
    if trainer.accelerator.ddp_handler is not None:
        # Else each of several devices holds all gradients twice.
        trainer.accelerator.ddp_handler.gradient_as_bucket_view = True
    return trainer


def _squared_error(outputs: Any, labels: "torch.Tensor", num_items_in_batch: Any = None) -> "torch.Tensor":
    """The mean over all rows of a step, however they are shared and accumulated, and the model's own loss, if any."""
    errors = (outputs["logits"][:, 0].float() - labels) ** 2
    own = outputs.get("loss", 0.0) * len(labels)
    return (errors.sum() + own) / (len(labels) if num_items_in_batch is None else num_items_in_batch)


def _metrics(scale: ScoreScale) -> Callable[[Any], dict[str, float]]:
    """What the Trainer computes of its predictions, and selects the model by."""

    def compute(prediction: Any) -> dict[str, float]:
        labels = np.rint(prediction.label_ids + scale.offset).astype(int)
        evaluation = evaluate_scores(labels, _scores(prediction.predictions, scale), scale)
        return {"macro_f1": evaluation.macro_f1, "accuracy": evaluation.accuracy, "mae": evaluation.mae}

    return compute


def _scores(logits: np.ndarray, scale: ScoreScale) -> np.ndarray:
    scores = logits.reshape(-1).astype(np.float64) + scale.offset
    if not np.isfinite(scores).all():
        raise ValueError(
            "The model's output is no longer finite: set a lower learning_rate (--learning-rate), or dtype='float32'."
        )
    return scores


def _final_evaluation(trainer: "Trainer", held_out: list[Example], config: TrainingConfig) -> Evaluation:
    """The figures of the best checkpoint on the held-out rows, with its weights rounded as they are saved."""
    model: Any = trainer.model
    if trainer.args.bf16:
        for parameter in model.parameters():
            parameter.data = parameter.data.bfloat16().float()
    logits: Any = trainer.predict(held_out).predictions  # type: ignore[arg-type]
    labels = np.array([example.label for example in held_out])
    tokens = np.array([len(example.ids) for example in held_out])
    return evaluate_scores(labels, _scores(logits, config.scale), config.scale, tokens)


def _report(logs: dict[str, float], step: int, steps: int) -> None:
    if "loss" in logs:
        logger.info(f"step {step} of {steps}: loss {logs['loss']:.4f}, learning rate {logs['learning_rate']:.2e}")
    elif "eval_macro_f1" in logs:
        logger.info(f"step {step} of {steps}: held out: macro F1 {logs['eval_macro_f1']:.4f}, "
                    f"loss {logs['eval_loss']:.4f}")  # fmt: skip


def _require_extra() -> None:
    """Find out before any work starts that what training needs beyond scoring is installed."""
    for module in ("accelerate", "sklearn", "matplotlib"):
        if find_spec(module) is None:
            raise ImportError(f"Training needs {module}: pip install 'datatrove-quality[train]'.")
