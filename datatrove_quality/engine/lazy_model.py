"""A classifier that is loaded when a first text needs it, once, in a thread of its own."""

import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from datatrove_quality.engine.replicas import Replica
from datatrove_quality.engine.store import ScoreStore
from datatrove_quality.model.fingerprint import ProbeLogits


if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from datatrove_quality.engine.shared_trunk import HandedOver


# How soon a stream that is closed stops waiting for a model.
SECONDS_BETWEEN_LOOKS = 0.1
# transformers and the division of GPUs load one model at a time.
_loading = threading.Lock()


class StoppedWaiting(Exception):
    """The stream that waited for a model was closed."""


@dataclass(frozen=True)
class LoadedModel:
    """A classifier with its weights, checked.

    Args:
        replicas: the model on each device.
        probes: the self-check's probes: the number of tokens and the logits of each.
        attention: what attention runs on, for the log.
        own_attention: the implementation with which the model's own forward pass is right.
        columns: which of the logits that the replicas compute are this classifier's.
        beside: those of others on the same trunk, and who takes them.
    """

    replicas: list[Replica]
    probes: ProbeLogits
    attention: str
    own_attention: str
    columns: slice = field(default_factory=lambda: slice(None))
    beside: "tuple[tuple[slice, HandedOver], ...]" = ()

    @property
    def model(self) -> "PreTrainedModel":
        """The model on the first device."""
        return self.replicas[0].model

    def settle(self, store: ScoreStore) -> None:
        """Tell a store what this model gives on the probes, by which it judges logits of other library versions."""
        from datatrove_quality.model.self_check import agree

        store.settle(self.probes, partial(agree, dtype=self.model.dtype))


class LazyModel:
    """Loads a classifier on the first `get`, and gives the same one to all later calls.

    It loads in a thread of its own, so that a stream may be abandoned meanwhile: nothing of the stream is held, and
    the model is there for the next stream. A load that failed is tried again by the next `get`.

    Args:
        load: loads the classifier.
    """

    def __init__(self, load: Callable[[], LoadedModel]):
        self._load = load
        self._starting = threading.Lock()
        self._future: Future[LoadedModel] | None = None

    def get(self, stop: threading.Event | None = None) -> LoadedModel:
        """Wait for the loaded classifier.

        Args:
            stop: ends the wait when it is set. None: wait to the end.

        Raises:
            StoppedWaiting: `stop` was set.
            ValueError: what `load` raised.
        """
        future = self._started()
        while stop is not None and not future.done():
            if stop.is_set():
                raise StoppedWaiting
            wait([future], SECONDS_BETWEEN_LOOKS)
        try:
            return future.result()
        finally:
            del future  # an error's traceback has this frame

    def _started(self) -> "Future[LoadedModel]":
        with self._starting:
            future = self._future
            if future is None:
                future = self._future = Future()
                arguments = (self._run, future)
                context = contextvars.copy_context()
                threading.Thread(target=context.run, args=arguments, name="loading", daemon=True).start()
            return future

    def _run(self, future: "Future[LoadedModel]") -> None:
        try:
            with _loading:
                future.set_result(self._load())
        except BaseException as error:
            self._future = None  # the next call tries again, and the error's traceback is not kept
            future.set_exception(error)
