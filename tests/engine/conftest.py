"""Scorers on several devices, and threads that must end."""

import gc
import threading

import pytest
import torch
from scorers import config_of

from datatrove_quality.engine import store as store_module
from datatrove_quality.engine.scorer import Scorer


@pytest.fixture(scope="module")
def folder(model_folder):
    """The folder of a small decoder."""
    return model_folder("qwen3")


@pytest.fixture
def on_devices(monkeypatch):
    """A scorer on several devices, all of them the CPU: `on_devices(folder, 2)`."""

    def scorer(folder, count, **options):
        monkeypatch.setattr(
            "datatrove_quality.engine.scorer.choose_devices", lambda asked: [torch.device("cpu")] * count
        )
        one = Scorer(config_of(folder, **options))
        one.load()
        return one

    return scorer


@pytest.fixture
def other_versions(monkeypatch):
    """Pretend that the libraries were others: `other_versions("9.9")`."""
    real = store_module.library_versions()
    return lambda number: monkeypatch.setattr(store_module, "library_versions", lambda: real | {"torch": number})


@pytest.fixture(autouse=True)
def no_thread_stays():
    """Whatever a test does to a stream, its threads end."""
    yield
    ours = ("reading ahead", "tokenizing ahead", "scoring on", "loading")
    left = [thread for thread in threading.enumerate() if thread.name.startswith(ours)]
    if left:
        gc.collect()  # a dropped stream may be part of a cycle; half a second, so only where it can matter
    for thread in left:
        thread.join(10)
        assert not thread.is_alive(), thread.name
