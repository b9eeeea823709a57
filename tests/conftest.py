"""What the tests share: no network, few threads, and small random models that are made once per session."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from loguru import logger


if TYPE_CHECKING:
    from tiny_models import Card

    from datatrove_quality import ScorerConfig

# Before anything imports huggingface_hub: a test that needs the network fails at once, in subprocesses too.
os.environ["HF_HUB_OFFLINE"] = "1"
# Matrices this small are computed faster by one thread than divided among two.
os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Keep torch to one thread even where it was imported before this file."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A function that gives the folder of a family's random model, made at its first use: `model_folder("qwen3")`."""
    root = tmp_path_factory.mktemp("models")
    made: dict[tuple, Path] = {}

    def folder(family: str, **options: object) -> Path:
        key = (family, repr(sorted(options.items())))
        if key not in made:
            from tiny_models import save_family

            made[key] = save_family(root / f"{family}-{len(made)}", family, **options)
        return made[key]

    return folder


@pytest.fixture(scope="session")
def model(model_folder: Callable[..., Path]) -> str:
    """The folder of a random decoder."""
    return str(model_folder("qwen3"))


@pytest.fixture
def config(model: str) -> "ScorerConfig":
    """A random decoder on the CPU."""
    from datatrove_quality import ScorerConfig

    return ScorerConfig(model=model, dtype="float32", device="cpu", tokens_per_batch=1_000)


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model as users have it: a causal language model with tied embeddings and no score head."""
    from training_runs import causal_model

    return causal_model(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="session")
def card(model_folder: Callable[..., Path]) -> Callable[..., "Card"]:
    """A function that gives the model card's own scoring of a family's model: `card("qwen3")(conversation)`."""
    made: dict[tuple, Card] = {}

    def of(family: str, **options: object) -> "Card":
        from tiny_models import Card

        key = (family, repr(sorted(options.items())))
        if key not in made:
            made[key] = Card(model_folder(family, **options))
        return made[key]

    return of


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The messages that are logged during a test, each as "LEVEL message"; DataTrove's executors do not end it."""
    messages: list[str] = []
    remove = logger.remove

    def listen() -> int:
        return logger.add(lambda message: messages.append(str(message)), level="INFO", format="{level} {message}")

    def remove_others(sink: int | None = None) -> None:
        nonlocal ours
        remove(sink)
        if sink is None:  # all, as each of an executor's tasks does before it and after it
            ours = listen()

    ours = listen()
    monkeypatch.setattr(logger, "remove", remove_others)
    yield messages
    remove(ours)
