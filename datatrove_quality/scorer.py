"""Texts in, scores out, on one device; and the cache that loads a model once per process."""

import math
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, cast

from loguru import logger

from datatrove_quality.batching import packed_batches, padded_batches, windows
from datatrove_quality.config import Score, ScorerConfig, Unscorable
from datatrove_quality.conversation import Conversation
from datatrove_quality.devices import any_device, choose_devices, default_tokens_per_batch
from datatrove_quality.fingerprint import Fingerprint, fingerprint, library_versions
from datatrove_quality.loading import computing_dtype, find_model, load_weights
from datatrove_quality.recorded import RecordedScore
from datatrove_quality.rendering import TokenizedText
from datatrove_quality.store import Logit, Probes, ScoreStore


if TYPE_CHECKING:
    from transformers import PreTrainedModel


Input = Conversation | str | RecordedScore | Unscorable

# A window is what the scorer holds at once: enough to sort encoders' batches well, little enough to forget about.
WINDOW_ITEMS = 1_024
WINDOW_CHARACTERS = 16_000_000

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
    with _lock:
        if config not in _found:
            _found[config] = Scorer(config)
        return _found[config]


class Scorer:
    """A classifier on one device. Use `load_scorer`, which loads each config once per process.

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
        self.tokens_per_batch = config.tokens_per_batch or default_tokens_per_batch(self.device)
        self._model: PreTrainedModel | None = None
        self._probes: Probes = []

    @property
    def model(self) -> "PreTrainedModel":
        """The model with its weights."""
        return self.load()

    def load(self) -> "PreTrainedModel":
        """Load the weights, unless they are; compare our forward pass with the model's own.

        Raises:
            ValueError: as `load_scorer`.
        """
        with _lock:
            return self._load() if self._model is None else self._model

    @cached_property
    def fingerprint(self) -> Fingerprint:
        """What decides the logits."""
        dtype = computing_dtype(self.config, self._files, self.device)
        return fingerprint(self.config, self._files, dtype or str(self.model.dtype).removeprefix("torch."))

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

    def _load(self) -> "PreTrainedModel":
        from datatrove_quality import self_check
        from datatrove_quality.packed import PACKED, is_packable, kernel_name, packed_logits, padded_logits

        started = time.perf_counter()
        self.device = choose_devices(self.config.device)[0]
        model = load_weights(self.config, self._files, self.device)
        self._require_same_files(model)
        packed = is_packable(model)
        self._logits = packed_logits if packed else padded_logits
        self._plan = packed_batches if packed else padded_batches
        own_attention = model.config._attn_implementation
        if packed:
            model.set_attn_implementation(PACKED)
        inputs = self_check.probes(model, self.renderer)
        self._probes = self_check.probe_logits(model, self._logits, inputs)
        if self.config.self_check:
            self_check.require_own_logits(model, self._probes, inputs, own_attention)
        self._model = model  # the fingerprint may ask for its dtype
        logger.info(
            f"Loaded {self.config.model} ({type(model).__name__}, {model.num_parameters():,} parameters, "
            f"{model.dtype}) on {self._device_name()} in {time.perf_counter() - started:.1f} s; "
            f"attention: {kernel_name(model) if packed else own_attention}; "
            f"max_tokens={self.renderer.max_tokens}, tokens_per_batch={self.tokens_per_batch}; "
            f"{', '.join(f'{name} {number}' for name, number in library_versions().items())}; "
            f"fingerprint {self.fingerprint.digest}"
        )
        return model

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

        Args:
            inputs: conversations, texts, or what is known already: a score, or why there is none.
            store: gives what is known already, and keeps what is new.

        Yields:
            For each input, in order, its score or why there is none.
        """
        for window in windows(inputs, _characters, WINDOW_ITEMS, WINDOW_CHARACTERS):
            rendered = [item if isinstance(item, RecordedScore) else self.renderer.render(item) for item in window]
            texts = [text for text in rendered if isinstance(text, str)]
            logits = iter(self._compute(texts) if store is None else self._recall(texts, store))
            yield from [self._score(next(logits)) if isinstance(text, str) else text for text in rendered]

    def _recall(self, texts: list[str], store: ScoreStore) -> list[Logit | Unscorable]:
        """The logits of rendered texts: those that the store knows, and the others computed, each text once."""
        known: dict[str, Logit | Unscorable] = dict(store.lookup(texts))
        if len(known) < len(texts) and store.undecided:
            self._settle(store)
            known = dict(store.lookup(texts))
        new = [text for text in dict.fromkeys(texts) if text not in known]
        computed = dict(zip(new, self._compute(new, store), strict=True))
        store.save()
        # Of a text that comes again, only the first is computed.
        repeated = [text for text, times in Counter(texts).items() if times > 1 and text in computed]
        known |= {text: _as_stored(computed[text]) for text in repeated}
        return [computed.pop(text) if text in computed else known[text] for text in texts]

    def _settle(self, store: ScoreStore) -> None:
        from datatrove_quality.self_check import agree

        model = self.load()
        store.settle(self._probes, partial(agree, dtype=model.dtype))

    def _compute(self, texts: list[str], store: ScoreStore | None = None) -> list[Logit | Unscorable]:
        results: list[Any] = self.renderer.tokenize(texts)
        places = [place for place, result in enumerate(results) if isinstance(result, TokenizedText)]
        if not places:
            return results
        model = self.load()
        if store is not None:
            self._settle(store)
        for batch in self._plan([len(results[place].ids) for place in places], self.tokens_per_batch):
            tokenized = [results[places[index]] for index in batch]
            values = self._logits(model, [text.ids for text in tokenized]).tolist()
            for index, text, value in zip(batch, tokenized, values, strict=True):
                results[places[index]] = Logit(value, len(text.ids), text.truncated)
                if store is not None:
                    store.add(texts[places[index]], results[places[index]])
        return results

    def _score(self, logit: Logit | Unscorable) -> Score | Unscorable:
        if isinstance(logit, Unscorable):
            return logit
        if not math.isfinite(logit.value):
            return Unscorable(
                "non_finite_score", f"the model's output for the text's {logit.tokens} tokens is {logit.value}"
            )
        kind = StoredScore if logit.stored else Score
        return kind(self.scale.score(logit.value), self.scale.int_score(logit.value), logit.tokens, logit.truncated)

    def _device_name(self) -> str:
        import torch

        return (
            f"{self.device} ({torch.cuda.get_device_name(self.device)})"
            if self.device.type == "cuda"
            else str(self.device)
        )


def _as_stored(logit: Logit | Unscorable) -> Logit | Unscorable:
    return logit._replace(stored=True) if isinstance(logit, Logit) else logit


def _characters(item: Input) -> int:
    if isinstance(item, str):
        return len(item)
    if not isinstance(item, list):
        return 0
    contents = (message.get("content") for message in item if isinstance(message, dict))
    return sum(len(content) for content in contents if isinstance(content, str))
