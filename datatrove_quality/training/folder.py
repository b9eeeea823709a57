"""The folder of a training run: its record, its checkpoints, the finished classifier."""

import hashlib
import json
import shutil
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loguru import logger

from datatrove_quality.atomic_write import write_atomic, write_json
from datatrove_quality.evaluation import Evaluation
from datatrove_quality.model.rendering import Renderer
from datatrove_quality.training.card import model_card, write_curves
from datatrove_quality.training.config import TrainingConfig
from datatrove_quality.training.examples import Example


if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, Trainer, TrainingArguments


RECORD = "training.json"
CHECKPOINTS = "checkpoints"
# Fields of the config that the devices or the base model settle.
SETTLED_LATER = ("per_device_batch_size", "device", "dtype", "max_tokens", "template_date")


def run_settings(
    config: TrainingConfig, arguments: "TrainingArguments", renderer: Renderer, examples: list[Example]
) -> dict[str, Any]:
    """What a resumed run must share with the run that began in its folder: everything that decides the result."""
    digest = hashlib.sha256()
    for example in examples:
        digest.update(b"%.17g %d " % (example.label, len(example.ids)) + example.ids.tobytes())
    return asdict(config) | {
        "per_device_batch_size": arguments.per_device_train_batch_size,
        "accumulated": arguments.gradient_accumulation_steps,
        "devices": arguments.world_size,
        "device": arguments.device.type,
        "dtype": "bfloat16" if arguments.bf16 else "float32",
        "max_tokens": renderer.max_tokens,
        "template_date": renderer.date if renderer.writes_date else None,
        "rows": digest.hexdigest(),
    }


def with_recorded_date(config: TrainingConfig, output: Path) -> TrainingConfig:
    """The config with the date that the chat template wrote when this folder's training began, unless it has one."""
    path = output / RECORD
    if config.template_date is not None or not path.is_file():
        return config
    recorded = json.loads(path.read_text(encoding="utf-8"))
    return replace(config, template_date=recorded.get("settings", {}).get("template_date"))


def claim_folder(output: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Make a folder this run's own.

    Args:
        output: a new or empty folder, or one where a run with the same settings began.
        settings: the run's; JSON values.

    Returns:
        The record in the folder: of a finished run it has an "evaluation".

    Raises:
        ValueError: the folder holds something else, or a run with different settings; names them.
    """
    record = _require_settings(output, settings)
    if record is None:
        record = {"settings": settings}
        output.mkdir(parents=True, exist_ok=True)
        write_json(output / RECORD, record)
    return record


def require_claimable(output: Path, config: TrainingConfig) -> None:
    """Refuse a folder that cannot become this training's, as far as the config tells, before a model is loaded.

    Raises:
        ValueError: as `claim_folder`.
    """
    _require_settings(output, {name: value for name, value in asdict(config).items() if name not in SETTLED_LATER})


def _require_settings(output: Path, settings: dict[str, Any]) -> dict[str, Any] | None:
    """The record of the training that began in a folder with these settings; None: it is new or empty."""
    path = output / RECORD
    if not path.is_file():
        if output.exists() and (not output.is_dir() or any(output.iterdir())):
            raise ValueError(f"output={output} (--output) holds what no training wrote: give another folder.")
        return None
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    was = record["settings"]
    if changed := [name for name in settings if was.get(name) != settings[name]]:
        lines = [f"  {name}: was {was.get(name)!r:.80}, is now {settings[name]!r:.80}" for name in changed]
        raise ValueError(
            f"output={output} (--output) holds a training that was started with different settings; give another "
            "folder, or delete this one:\n" + "\n".join(lines)
        )
    return record


def last_checkpoint(output: Path) -> str | None:
    """The last complete checkpoint: its state file is the last to be written."""
    found = []
    for state in (output / CHECKPOINTS).glob("checkpoint-*/trainer_state.json"):
        with suppress(ValueError):
            found.append((json.loads(state.read_text(encoding="utf-8"))["global_step"], state.parent))
    if not found:
        return None
    step, folder = max(found)
    logger.bind(shown=True).info(f"Resuming from step {step}, {folder}.")
    return str(folder)


def save_classifier(
    output: Path,
    trainer: "Trainer",
    tokenizer: "PreTrainedTokenizerBase",
    evaluation: Evaluation,
    record: dict[str, Any],
) -> None:
    """Write the classifier, its model card and its record; the record last, since it says that all is there."""
    import torch

    model: Any = trainer.model
    (model.to(torch.bfloat16) if trainer.args.bf16 else model).save_pretrained(output)
    tokenizer.save_pretrained(output)
    write_curves(record["log"], output / "curves.png")
    write_atomic(output / "README.md", model_card(record, evaluation))
    write_json(output / RECORD, record)
    shutil.rmtree(output / CHECKPOINTS, ignore_errors=True)
