"""transformers' `Trainer`, set up for a regression on levels: our order of rows, loss, metrics and log."""

import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from loguru import logger
from tqdm import tqdm

from datatrove_quality.config import ScoreScale
from datatrove_quality.evaluation import evaluate_scores
from datatrove_quality.evaluation.arrays import Floats
from datatrove_quality.evaluation.markdown import percent
from datatrove_quality.model.devices import any_device, is_native_dtype
from datatrove_quality.training.batches import Collator, Order, batches_per_step
from datatrove_quality.training.config import TrainingConfig
from datatrove_quality.training.examples import Example


if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainerState, TrainingArguments


LOG_LINES = 100


def training_arguments(config: TrainingConfig, folder: Path) -> "TrainingArguments":
    """All of transformers' arguments that do not depend on the number of rows.

    Args:
        config: what is trained, and how.
        folder: for checkpoints.

    Raises:
        ValueError: the batch cannot be divided among the devices.
    """
    import torch
    from transformers import TrainingArguments

    device = any_device(_requested_device(config))
    is_native = device.type == "cuda" and is_native_dtype(device, torch.bfloat16)
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


def make_trainer(
    model: "PreTrainedModel",
    arguments: "TrainingArguments",
    config: TrainingConfig,
    training: list[Example],
    held_out: list[Example],
    steps: int,
) -> "Trainer":
    """A `Trainer` that is ready to train.

    Args:
        model: the classifier.
        arguments: those of `training_arguments`; how often to evaluate, save and log is set here.
        config: what is trained, and how.
        training: examples to train on.
        held_out: examples to evaluate on.
        steps: optimizer steps of the whole training.
    """
    from transformers import PrinterCallback

    from datatrove_quality.model.architectures import is_packable

    arguments.eval_steps = arguments.save_steps = math.ceil(steps / config.evaluations)
    arguments.logging_steps = math.ceil(steps / LOG_LINES)
    pad_token_id = model.config.get_text_config().pad_token_id
    trainer = _trainer_class(config, training)(
        model=model,
        args=arguments,
        data_collator=Collator(pad_token_id, config.scale.offset, masks=not is_packable(model)),
        train_dataset=training,  # type: ignore[arg-type]
        eval_dataset=held_out,  # type: ignore[arg-type]
        compute_loss_func=_squared_error,
        compute_metrics=_metrics(config.scale),
    )
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(_progress_callback(steps))
    if trainer.accelerator.ddp_handler is not None:
        # Else each of several devices holds all gradients twice.
        trainer.accelerator.ddp_handler.gradient_as_bucket_view = True
    return trainer


def _trainer_class(config: TrainingConfig, training: list[Example]) -> "type[Trainer]":
    """A `Trainer` that takes rows in our `Order`; made in a function, as transformers loads late."""
    from torch.utils.data import DataLoader
    from transformers import Trainer

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

    return QualityTrainer


def _progress_callback(steps: int) -> "TrainerCallback":
    """What shows how far a training of so many steps is: a bar on a terminal, lines in the log."""
    from transformers import TrainerCallback

    class ProgressCallback(TrainerCallback):
        def on_train_begin(self, args: Any, state: "TrainerState", control: Any, **rest: Any) -> None:
            is_shown = state.is_world_process_zero and sys.stderr.isatty()
            self.bar = tqdm(total=steps, unit="step", desc="training", disable=not is_shown, dynamic_ncols=True)

        def on_step_end(self, args: Any, state: "TrainerState", control: Any, **rest: Any) -> None:
            self.bar.update(state.global_step - self.bar.n)  # the first one is any, of a training that resumes

        def on_log(self, args: Any, state: "TrainerState", control: Any, **rest: Any) -> None:
            self.bar.clear()
            log_step(rest["logs"], state.global_step, steps)

        def on_train_end(self, args: Any, state: "TrainerState", control: Any, **rest: Any) -> None:
            self.bar.close()

    return ProgressCallback()


def log_step(logs: dict[str, float], step: int, steps: int) -> None:
    """Log a loss, or what an evaluation found, which a terminal shows too.

    Args:
        logs: what the Trainer logs.
        step: the steps that are done.
        steps: those of the whole training.
    """
    if "loss" in logs:
        logger.info(f"step {step} of {steps}: loss {logs['loss']:.4f}, learning rate {logs['learning_rate']:.2e}")
    elif "eval_macro_f1" in logs:
        f1, loss = percent(logs["eval_macro_f1"]), logs["eval_loss"]
        logger.bind(shown=True).info(f"step {step} of {steps}: held out: macro F1 {f1}, loss {loss:.4f}")


def _squared_error(outputs: Any, labels: "torch.Tensor", num_items_in_batch: Any = None) -> "torch.Tensor":
    """The mean over all rows of a step, however they are divided, and the model's own loss, if any."""
    errors = (outputs["logits"][:, 0].float() - labels) ** 2
    own = outputs.get("loss", 0.0) * len(labels)
    return (errors.sum() + own) / (len(labels) if num_items_in_batch is None else num_items_in_batch)


def _metrics(scale: ScoreScale) -> Callable[[Any], dict[str, float]]:
    """What the Trainer computes of its predictions, and selects the model by."""

    def compute(prediction: Any) -> dict[str, float]:
        # Float32 can round a label up to the edge, from which it would be rounded to a level that the scale lacks.
        labels = np.rint(prediction.label_ids + scale.offset).clip(scale.low, scale.high).astype(int)
        evaluation = evaluate_scores(labels, logits_to_scores(prediction.predictions, scale), scale)
        return {"macro_f1": evaluation.macro_f1, "accuracy": evaluation.accuracy, "mae": evaluation.mae}

    return compute


def logits_to_scores(logits: np.ndarray, scale: ScoreScale) -> Floats:
    """The scores of a model's logits; any shape (n, ...) with one logit a row gives (n,).

    Raises:
        ValueError: a logit is not finite.
    """
    scores = logits.reshape(-1).astype(np.float64) + scale.offset
    if not np.isfinite(scores).all():
        raise ValueError(
            "The model's output is no longer finite: set a lower learning_rate (--learning-rate), or dtype='float32'."
        )
    return scores
