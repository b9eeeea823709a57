"""Training runs of a few steps on the CPU: annotated conversations, a base model, a config."""

from pathlib import Path
from typing import Any

import tiny_models
import torch

from datatrove_quality.training import TrainingConfig


WORDS = {1: "azul verde", 2: "talvez acho", 3: "capital Portugal", 4: "Lisboa Lisboa", 5: "plantas luz do sol"}
RECIPE = {"epochs": 8, "learning_rate": 3e-3}


def annotated(count: int, levels: tuple[int, ...] = (1, 2, 3, 4, 5)) -> list[tuple]:
    """Conversations of different lengths whose words tell their level, no two alike."""
    rows = []
    for number in range(count):
        level = levels[number % len(levels)]
        answer = " ".join([WORDS[level]] * (1 + number % 7)) + f" {number}"
        messages = [{"role": "user", "content": "Qual é a capital?"}, {"role": "assistant", "content": answer}]
        rows.append((messages, level))
    return rows


def config(model: Path | str, **values: Any) -> TrainingConfig:
    """A run of a few steps on the CPU."""
    small = {"batch_size": 16, "warmup_steps": 1, "learning_rate": 1e-3, "holdout": 0.2, "evaluations": 2}
    return TrainingConfig(model=str(model), device="cpu", **(small | values))


def causal_model(folder: Path, **tokenizer_values: Any) -> Path:
    """Save a causal language model with tied embeddings and no score head, as users have it."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    tokenizer = tiny_models.chatml_tokenizer()
    for name, value in tokenizer_values.items():
        setattr(tokenizer, name, value)
    torch.manual_seed(0)
    values = tiny_models.DECODER | {"max_position_embeddings": 96}
    Qwen3ForCausalLM(Qwen3Config(vocab_size=len(tokenizer), tie_word_embeddings=True, **values)).save_pretrained(
        folder
    )
    tokenizer.save_pretrained(folder)
    return folder
