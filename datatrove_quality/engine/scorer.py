"""Inputs in, scores out; and the cache that keeps one scorer per config and process."""

import math
import os
import threading
import time
from collections import Counter
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar, cast

from loguru import logger

from datatrove_quality.config import Score, ScorerConfig, Unscorable
from datatrove_quality.engine.lazy_model import LazyModel, LoadedModel
from datatrove_quality.engine.model_setup import set_up
from datatrove_quality.engine.replicas import Replica
from datatrove_quality.engine.shared_trunk import Sharing, needed_configs, share_trunk
from datatrove_quality.engine.store import Logit, ScoreStore
from datatrove_quality.engine.streaming import Input, LogitStream
from datatrove_quality.model.cores import Threads
from datatrove_quality.model.devices import any_device, choose_devices
from datatrove_quality.model.fingerprint import Fingerprint, fingerprint, library_versions
from datatrove_quality.model.found_model import computed_in, computing_dtype, find_model
from datatrove_quality.model.loading import load_weights
from datatrove_quality.rows.score_columns import RecordedScore
from datatrove_quality.rows.types import Conversation


if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


T = TypeVar("T")

_found: dict[ScorerConfig, "Scorer"] = {}
_lock = threading.RLock()


@dataclass(frozen=True)
class StoredScore(Score):
    """A score that took no forward pass: it was in the score store."""


def load_scorer(config: ScorerConfig) -> "Scorer":
    """The scorer of a config, loaded once per process, whatever DataTrove copies or pickles.

    Args:
        config: which classifier, and how.

    Returns:
        A scorer that is ready to score.

    Raises:
        ValueError: the model cannot be found or loaded, or its scores would be wrong; the message says what to do.
    """
    scorer = find_scorer(config)
    scorer.load()
    return scorer


def find_scorer(config: ScorerConfig) -> "Scorer":
    """As `load_scorer`, but its weights are loaded when there is a first text to compute.

    Raises:
        ValueError: as `load_scorer`, of what shows before the weights are loaded.
    """
    if not isinstance(config, ScorerConfig):
        raise ValueError(f"config={config!r}: give a ScorerConfig(model=...).")
    with _lock:
        if config not in _found:
            made = Scorer(config)
            # A date that is written into no text makes no other scorer.
            _found[config] = _found.setdefault(made.config, made)
        return _found[config]


class Scorer:
    """A classifier on one device or several. Use `load_scorer`, which loads each config once per process.

    Args:
        config: which classifier, and how.

    Raises:
        ValueError: as `load_scorer`.
    """

    def __init__(self, config: ScorerConfig):
        self._files = find_model(config)  # first: what its files show needs no import of torch
        self.device = any_device(config.device)
        self.scale = self._files.scale
        self.outputs = self._files.outputs
        self.renderer = self._files.renderer
        writes_date = self.renderer.writes_date
        self.config = replace(config, template_date=self.renderer.date if writes_date else None)
        if writes_date and config.template_date is None:
            logger.warning(
                f"{config.model}: its chat template writes the date into texts, which changes scores from day to day. "
                f"All texts get {self.renderer.date}; template_date (--template-date) sets another."
            )
        self._fingerprint: Fingerprint | None = None
        self._sharing = Sharing(self.config, self._files, self._require_same_files)
        self._model = LazyModel(lambda: self._load())

    def __reduce__(self) -> tuple[Any, ...]:
        """Copied or pickled, as DataTrove does with the steps of a pipeline, it is the process's one of its config."""
        return find_scorer, (self.config,)

    @property
    def replicas(self) -> list[Replica]:
        """The model on each device; loads the weights."""
        return self._model.get().replicas

    @property
    def model(self) -> "PreTrainedModel":
        """The model with its weights, on the first device; loads the weights."""
        return self._model.get().model

    def load(self) -> None:
        """Load the weights, unless they are; compare our forward pass with the model's own.

        Raises:
            ValueError: as `load_scorer`.
        """
        self._model.get()

    @property
    def fingerprint(self) -> Fingerprint:
        """Everything that affects the logits; loads the weights where only they tell the dtype."""
        if self._fingerprint is None:
            dtype = computing_dtype(self.config, self._files, self.device)
            if dtype is None:
                self.load()
            else:
                self._fingerprint = fingerprint(self.config, self._files, dtype)
        return cast(Fingerprint, self._fingerprint)

    def describe(self) -> dict[str, Any]:
        """What is written beside scores: the fingerprint, and of what affects no logit the name, scale and outputs."""
        is_local = "commit" not in self.fingerprint.parts
        model = os.path.basename(os.path.abspath(self.config.model)) if is_local else self.config.model
        return self.fingerprint.describe() | {"model": model, "scale": asdict(self.scale)} | self.outputs.describe()

    def _load(self) -> LoadedModel:
        """The classifier with its weights, which may have come with another's; and others' heads on its trunk."""
        if self._sharing.loaded is not None:
            return self._sharing.loaded
        started = time.perf_counter()
        with Threads():
            devices = choose_devices(self.config.device)
            model = load_weights(self.config, self._files, devices[0])
            self._require_same_files(model)
            parameters = model.num_parameters()  # now: weights in 8 bits are no parameters
            self._sharing.loaded = set_up(self.config, self._files, model, devices)
            logger.info(self._description(self._sharing.loaded, parameters, time.perf_counter() - started))
            share_trunk(self._sharing, (other._sharing for other in _needed_beside(self)))
        return self._sharing.loaded

    def _require_same_files(self, model: "PreTrainedModel") -> None:
        """Weights are read later than the model is found: they must be those whose scores the store gave meanwhile."""
        now = fingerprint(self.config, self._files, computed_in(self.config, model))
        if self._fingerprint is None:
            self._fingerprint = now
        elif differences := now.differences(self._fingerprint.parts):
            raise ValueError(
                f"model={self.config.model!r} has changed since this process found it: {'; '.join(differences)}. "
                "Start a new process."
            )

    def _description(self, loaded: LoadedModel, parameters: int, seconds: float) -> str:
        """What was loaded, for the log."""
        model = loaded.model
        places = ", ".join(_device_name(replica.model.device) for replica in loaded.replicas)
        budgets = ", ".join(str(replica.tokens_per_batch) for replica in loaded.replicas)
        versions = ", ".join(f"{name} {number}" for name, number in library_versions().items())
        return (
            f"Loaded {self.config.model} ({type(model).__name__}, {parameters:,} parameters, "
            f"{computed_in(self.config, model)}) on {places} in {seconds:.1f} s; attention: {loaded.attention}; "
            f"max_tokens={self.renderer.max_tokens}, tokens_per_batch={budgets}; {versions}; "
            f"fingerprint {self.fingerprint.digest}"
        )

    def score(self, inputs: Iterable[Conversation | str]) -> list[Score]:
        """Score conversations (lists of messages) or plain texts.

        Args:
            inputs: what to score, in any order and of any lengths.

        Returns:
            One score per input, in their order.

        Raises:
            Unscorable: an input cannot be scored; the message names its index.
        """
        inputs = inputs if isinstance(inputs, str | dict) else list(inputs)
        if isinstance(inputs, str | dict) or any(isinstance(item, dict) for item in inputs):
            raise ValueError("inputs: give a list of conversations or texts; a single one goes into a list of one.")
        scores: list[Score] = []
        for result in self.stream(inputs):
            if isinstance(result, Unscorable):
                raise Unscorable(result.reason, f"inputs[{len(scores)}]: {result}")
            scores.append(cast(Score, result))
        return scores

    def stream(
        self, inputs: Iterable[Input], store: ScoreStore | None = None
    ) -> Iterator[Score | RecordedScore | Unscorable]:
        """Score a stream of any length, holding a bounded part of it.

        What comes next is read, rendered and tokenized by threads of their own while the devices compute.

        Args:
            inputs: conversations, texts, or what is known already: a score, or an `Unscorable`.
            store: gives what is known already, and keeps what is new.

        Yields:
            One result per input, in order: its score, or why it has no score.
        """
        with closing(self.stream_pairs(((None, item) for item in inputs), store)) as stream:
            for _, result in stream:
                yield result

    def stream_pairs(
        self,
        pairs: Iterable[tuple[T, Input]],
        store: ScoreStore | None = None,
        counts: Counter[str] | None = None,
        alone: bool = False,
    ) -> Generator[tuple[T, Score | RecordedScore | Unscorable], None, None]:
        """As `stream`, where each input travels with the thing that it is of, such as its document.

        Args:
            pairs: anything, which is handed through as it is, and an input.
            store: as for `stream`.
            counts: gets `shared_tokens` at the end: how many tokens were not computed, since texts begin alike.
            alone: compute each text that the store lacks, also where its logit came with another's forward passes.

        Yields:
            For each pair, in order, the same thing and the input's result.
        """
        handed = None if alone else self._sharing.handed
        logits = LogitStream(self.renderer, self._model, store, self._files.packable, handed, self._is_needed_again())
        try:
            with closing(logits.of(pairs)) as stream:
                for companion, logit in stream:
                    yield companion, self._score(logit) if isinstance(logit, Logit) else logit
        finally:
            if counts is not None and logits.shared_tokens:
                counts["shared_tokens"] += logits.shared_tokens

    def _is_needed_again(self) -> bool:
        """Whether several steps need this scorer now."""
        with _lock:
            return sum(_found.get(config) is self for config in needed_configs()) > 1

    def _score(self, logit: Logit) -> Score | Unscorable:
        if not all(map(math.isfinite, logit.values)):
            found = ", ".join(map(str, logit.values))
            return Unscorable(
                "non_finite_score", f"the model's output for the text's {logit.tokens} tokens is {found}"
            )
        kind = StoredScore if logit.stored else Score
        value, outputs = self.outputs.read(logit.values, self.scale.offset)
        return kind(self.scale.score(value), self.scale.int_score(value), logit.tokens, logit.truncated, outputs)


def _needed_beside(scorer: Scorer) -> list[Scorer]:
    """The other scorers that steps need now."""
    found: list[Scorer] = []
    for config in needed_configs():
        with suppress(ValueError):  # there is no such model: its own step says so
            other = find_scorer(config)
            found += [] if other is scorer or other in found else [other]
    return found


def _device_name(device: "torch.device") -> str:
    import torch

    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)
