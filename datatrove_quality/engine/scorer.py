"""Texts in, scores out; and the cache that loads a model once per process."""

import math
import os
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, cast

from loguru import logger

from datatrove_quality.config import Score, ScorerConfig, Unscorable
from datatrove_quality.engine.batching import packed_batches, padded_batches
from datatrove_quality.engine.replicas import Forward, Plan, Replica, copy_to
from datatrove_quality.engine.store import Logit, Probes, ScoreStore
from datatrove_quality.engine.streaming import Input, LogitStream
from datatrove_quality.model.budget import tokens_per_batch
from datatrove_quality.model.devices import any_device, choose_devices
from datatrove_quality.model.files import computing_dtype, find_model
from datatrove_quality.model.fingerprint import Fingerprint, fingerprint, library_versions
from datatrove_quality.model.loading import load_weights
from datatrove_quality.rows.score_columns import RecordedScore
from datatrove_quality.rows.types import Conversation


if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


COPIED_WRONG = (
    "that device computes wrongly, or differs from the first. Leave it out of CUDA_VISIBLE_DEVICES, or set "
    "device='cuda:0'."
)
COMPILED_WRONG = "the compiled model computes something else."

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
        ValueError: the model cannot be found, loaded, or scored with truly; the message says what to do.
    """
    scorer = find_scorer(config)
    scorer.load()
    return scorer


def find_scorer(config: ScorerConfig) -> "Scorer":
    """As `load_scorer`, but its weights are loaded when there is a first text to compute."""
    if not isinstance(config, ScorerConfig):
        raise ValueError(f"config={config!r}: give a ScorerConfig(model=...).")
    with _lock:
        if config not in _found:
            _found[config] = Scorer(config)
        return _found[config]


class Scorer:
    """A classifier on one device or several. Use `load_scorer`, which loads each config once per process.

    Args:
        config: which classifier, and how.

    Raises:
        ValueError: as `load_scorer`.
    """

    def __init__(self, config: ScorerConfig):
        self.config = config
        self.device = any_device(config.device)
        self._files = find_model(config)
        self.scale = self._files.scale
        self.renderer = self._files.renderer
        self._replicas: list[Replica] = []
        self._probes: Probes = []

    def __reduce__(self) -> tuple[Any, ...]:
        """Copied or pickled, as DataTrove does with the steps of a pipeline, it is the process's one of its config."""
        return find_scorer, (self.config,)

    @property
    def replicas(self) -> list[Replica]:
        """The model on each device."""
        self.load()
        return self._replicas

    @property
    def model(self) -> "PreTrainedModel":
        """The model with its weights, on the first device."""
        return self.replicas[0].model

    def load(self) -> None:
        """Load the weights, unless they are; compare our forward pass with the model's own.

        Raises:
            ValueError: as `load_scorer`.
        """
        with _lock:
            if not self._replicas:
                self._load()

    @cached_property
    def fingerprint(self) -> Fingerprint:
        """What decides the logits."""
        dtype = computing_dtype(self.config, self._files, self.device)
        return fingerprint(self.config, self._files, dtype or str(self.model.dtype).removeprefix("torch."))

    def describe(self) -> dict[str, Any]:
        """What is written beside scores: the fingerprint, and the model's name and scale, which decide no logit."""
        is_local = "commit" not in self.fingerprint.parts
        model = os.path.basename(os.path.abspath(self.config.model)) if is_local else self.config.model
        return self.fingerprint.describe() | {"model": model, "scale": asdict(self.scale)}

    def _require_same_files(self, model: "PreTrainedModel") -> None:
        """Weights are read later than they are found: they must be those whose scores the store gave."""
        if "fingerprint" not in self.__dict__:
            return
        dtype = str(model.dtype).removeprefix("torch.")
        if differences := fingerprint(self.config, self._files, dtype).differences(self.fingerprint.parts):
            raise ValueError(
                f"model={self.config.model!r} has changed since this process found it: {'; '.join(differences)}. "
                "Start a new process."
            )

    def _load(self) -> None:
        from datatrove_quality.model import self_check
        from datatrove_quality.model.attention import PACKED, kernel_name
        from datatrove_quality.model.forward import packed_logits, padded_logits, pool_in_last_layer
        from datatrove_quality.model.norms import use_fast_norms

        started = time.perf_counter()
        devices = choose_devices(self.config.device)
        model = load_weights(self.config, self._files, devices[0])
        self._require_same_files(model)
        packed = self._files.packable
        forward = packed_logits if packed else padded_logits
        own_attention = model.config._attn_implementation
        if packed:
            model.set_attn_implementation(PACKED)
        inputs = self_check.probes(model, self.renderer)
        own_logits = partial(self_check.own_logits, model, inputs, own_attention)
        # In half precision a norm that rounds otherwise moves a logit further than the check lets two forward passes
        # with the same norms differ.
        before = own_logits() if self.config.self_check and model.dtype.itemsize > 2 else None
        use_fast_norms(model)
        models = [model, *(copy_to(model, device) for device in devices[1:])]
        if packed and self_check.can_pool_in_last_layer(model, forward, inputs):
            for copied in models[1:]:
                pool_in_last_layer(copied)
        self._probes = self_check.probe_logits(model, forward, inputs)
        if self.config.self_check:
            self_check.require_own_logits(model, self._probes, before or own_logits())
            for copied in models[1:]:
                self_check.require_same_logits(copied, forward, inputs, self._probes, COPIED_WRONG)
        if self.config.compile:
            for one in models:
                self._compile(one, forward, inputs)
        plan: Plan = packed_batches if packed else padded_batches
        self._replicas = [
            Replica(one, forward, plan, self.config.tokens_per_batch or tokens_per_batch(one)) for one in models
        ]
        logger.info(
            f"Loaded {self.config.model} ({type(model).__name__}, {model.num_parameters():,} parameters, "
            f"{model.dtype}) on {', '.join(map(_device_name, devices))} in {time.perf_counter() - started:.1f} s; "
            f"attention: {kernel_name(model) if packed else own_attention}; max_tokens={self.renderer.max_tokens}, "
            f"tokens_per_batch={', '.join(str(replica.tokens_per_batch) for replica in self._replicas)}; "
            f"{', '.join(f'{name} {number}' for name, number in library_versions().items())}; "
            f"fingerprint {self.fingerprint.digest}"
        )

    def _compile(self, model: "PreTrainedModel", forward: Forward, inputs: list[Any]) -> None:
        from datatrove_quality.model.forward import compile_layers
        from datatrove_quality.model.self_check import require_same_logits

        try:
            compile_layers(model)
            # The compiler has code of its own for a batch of one.
            for some in (inputs, inputs[:1]):
                require_same_logits(model, forward, some, self._probes, COMPILED_WRONG)
        except Exception as error:  # no compiler, one that fails, or code that is wrong
            raise ValueError(f"compile=True does not work here: {error!s:.500}\nSet compile=False.") from error

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
            inputs: conversations, texts, or what is known already: a score, or why there is none.
            store: gives what is known already, and keeps what is new.

        Yields:
            For each input, in order, its score or why there is none.
        """
        logits = LogitStream(self.renderer, lambda: self.replicas, store, self._settle, self._files.packable)
        with closing(logits.of(inputs)) as stream:
            for logit in stream:
                yield self._score(logit) if isinstance(logit, Logit) else logit

    def _settle(self, store: ScoreStore) -> None:
        from datatrove_quality.model.self_check import agree

        self.load()
        store.settle(self._probes, partial(agree, dtype=self.model.dtype))

    def _score(self, logit: Logit) -> Score | Unscorable:
        if not math.isfinite(logit.value):
            return Unscorable(
                "non_finite_score", f"the model's output for the text's {logit.tokens} tokens is {logit.value}"
            )
        kind = StoredScore if logit.stored else Score
        return kind(self.scale.score(logit.value), self.scale.int_score(logit.value), logit.tokens, logit.truncated)


def _device_name(device: "torch.device") -> str:
    import torch

    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)
