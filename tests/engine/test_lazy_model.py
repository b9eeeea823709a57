"""A model that is loaded when a first text needs it: once, in its own thread, with its errors in the caller's."""

import gc
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

from datatrove_quality.config import ScorerConfig
from datatrove_quality.engine import scorer as scorer_module
from datatrove_quality.engine.lazy_model import LazyModel, LoadedModel, StoppedWaiting
from datatrove_quality.engine.scorer import Scorer


LOADED = LoadedModel([], [], "sdpa", "sdpa")


def test_many_callers_load_once():
    """A caller that comes while it loads gets the model that is being loaded."""
    loads = []

    def load():
        time.sleep(0.05)
        loads.append(threading.current_thread().name)
        return LOADED

    model = LazyModel(load)
    assert not loads
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: model.get(), range(8)))
    assert all(one is LOADED for one in found)
    assert loads == ["loading"]


def test_a_failed_load_is_raised_to_every_caller_and_tried_again():
    """The error arrives with its own traceback; the next call starts again and nothing of the failed load is held."""

    class Weights:
        """Stands for gigabytes."""

    made = []

    def load():
        weights = Weights()
        made.append(weakref.ref(weights))
        if len(made) < 3:
            raise ValueError(f"load {len(made)} failed")
        return LOADED

    model = LazyModel(load)
    for number in (1, 2):
        with pytest.raises(ValueError, match=f"load {number} failed") as caught:
            model.get()
        assert any(entry.name == "load" for entry in caught.traceback)
        del caught
    assert model.get() is LOADED
    gc.collect()
    assert [one() for one in made] == [None] * 3


def test_a_caller_may_stop_waiting():
    """A closed stream does not wait for a load, which goes on for the others."""
    go, stop = threading.Event(), threading.Event()
    model = LazyModel(lambda: LOADED if go.wait(60) else None)
    with ThreadPoolExecutor(2) as pool:
        stopped, waiting = pool.submit(model.get, stop), pool.submit(model.get)
        stop.set()
        with pytest.raises(StoppedWaiting):
            stopped.result(60)
        assert not waiting.done()
        go.set()
        assert waiting.result(60) is LOADED


def test_two_models_are_not_loaded_at_once():
    """transformers changes settings of the process while it loads."""
    running, most = [], []

    def load():
        running.append(1)
        most.append(len(running))
        time.sleep(0.02)
        running.pop()
        return LOADED

    models = [LazyModel(load) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(LazyModel.get, models))
    assert most == [1] * 4


def test_nothing_is_loaded_before_a_text_needs_it(model_folder, monkeypatch):
    """Inputs that cannot be scored, and an empty stream, read no weights; an error of the load reaches the caller."""
    loads = []

    def failing(*arguments):
        loads.append(arguments)
        raise ValueError("no weights today")

    monkeypatch.setattr(scorer_module, "load_weights", failing)
    one = Scorer(ScorerConfig(model=str(model_folder("qwen3")), dtype="float32", device="cpu"))
    assert [error.reason for error in one.stream([[], "", None])] == ["no_messages", "empty_text", "null_column"]
    assert not loads
    results = one.stream([[], "um texto"])
    with pytest.raises(ValueError, match="no weights today") as caught:
        list(results)
    assert any(entry.name == "failing" for entry in caught.traceback)
    assert len(loads) == 1
