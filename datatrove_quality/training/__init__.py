"""Fine-tune a classifier by the model card's recipe: annotated conversations in, a folder that scores as it is out.

rows -> token ids and levels -> stratified split -> transformers' Trainer -> best checkpoint -> model folder

    data          config         data             trainer, batches         folder, card
"""

from typing import TYPE_CHECKING, Any

from datatrove_quality.training.config import TrainingConfig


if TYPE_CHECKING:
    from datatrove_quality.training.trainer import train_classifier

__all__ = ["TrainingConfig", "train_classifier"]


def __getattr__(name: str) -> Any:
    """`train_classifier`, imported at its first use: the command's help needs the config alone."""
    if name != "train_classifier":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from datatrove_quality.training.trainer import train_classifier

    return train_classifier
