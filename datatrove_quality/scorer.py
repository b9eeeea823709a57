"""Token ids in, scores out, on one device; and the cache that loads a model once per process."""

import math
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any

from loguru import logger

from datatrove_quality.batching import packed_batches, padded_batches, windows
from datatrove_quality.config import Score, ScorerConfig, Unscorable
from datatrove_quality.conversation import Conversation
from datatrove_quality.devices import choose_device, default_tokens_per_batch
from datatrove_quality.loading import find_model, load_weights
from datatrove_quality.rendering import TokenizedText


Input = Conversation | str | Unscorable

# A window is what the scorer holds at once: enough to sort encoders' batches well, little enough to forget about.
WINDOW_ITEMS = 1_024
WINDOW_CHARACTERS = 16_000_000

_loaded: dict[ScorerConfig, "Scorer"] = {}
_loading = threading.Lock()


def load_scorer(config: ScorerConfig) -> "Scorer":
    """The scorer of a config, loaded once per process, whatever DataTrove copies or pickles.

    Args:
        config: which classifier, and how.

    Returns:
        A scorer that is ready to score.

    Raises:
        ValueError: the model cannot be found, loaded, or scored with truly; the message says what to do.
    """
    with _loading:
        if config not in _loaded:
            _loaded[config] = Scorer(config)
        return _loaded[config]


class Scorer:
    """A classifier on one device. Use `load_scorer`, which loads each config once per process.

    Args:
        config: which classifier, and how.

    Raises:
        ValueError: as `load_scorer`.
    """

    def __init__(self, config: ScorerConfig):
        from datatrove_quality.packed import PACKED, is_packable, kernel_name, packed_logits, padded_logits

        started = time.perf_counter()
        device = choose_device(config.device)
        found = find_model(config)
        self.config = config
        self.scale = found.scale
        self.renderer = found.renderer
        self.tokens_per_batch = config.tokens_per_batch or default_tokens_per_batch(device)
        self.model = load_weights(config, found, device)
        packed = is_packable(self.model)
        self._logits = packed_logits if packed else padded_logits
        self._plan = packed_batches if packed else padded_batches
        own_attention = self.model.config._attn_implementation
        if packed:
            self.model.set_attn_implementation(PACKED)
        if config.self_check:
            from datatrove_quality.self_check import require_own_logits

            require_own_logits(self.model, self._logits, self.renderer, own_attention)
        logger.info(
            f"Loaded {config.model} ({type(self.model).__name__}, {self.model.num_parameters():,} parameters, "
            f"{self.model.dtype}) on {device} in {time.perf_counter() - started:.1f} s; "
            f"attention: {kernel_name(self.model) if packed else own_attention}; "
            f"max_tokens={self.renderer.max_tokens}, tokens_per_batch={self.tokens_per_batch}"
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
            scores.append(result)
        return scores

    def stream(self, inputs: Iterable[Input]) -> Iterator[Score | Unscorable]:
        """Score a stream of any length, holding a bounded part of it.

        Args:
            inputs: conversations, texts, or what is known to be unscorable already.

        Yields:
            For each input, in order, its score or why there is none.
        """
        for window in windows(inputs, _characters, WINDOW_ITEMS, WINDOW_CHARACTERS):
            yield from self._score_window(window)

    def _score_window(self, window: list[Input]) -> list[Score | Unscorable]:
        results: list[Any] = self.renderer.encode(window)
        places = [place for place, result in enumerate(results) if isinstance(result, TokenizedText)]
        for batch in self._plan([len(results[place].ids) for place in places], self.tokens_per_batch):
            texts = [results[places[index]] for index in batch]
            logits = self._logits(self.model, [text.ids for text in texts]).tolist()
            for index, text, logit in zip(batch, texts, logits, strict=True):
                results[places[index]] = self._score(text, logit)
        return results

    def _score(self, text: TokenizedText, logit: float) -> Score | Unscorable:
        if not math.isfinite(logit):
            return Unscorable(
                "non_finite_score", f"the model's output for the text's {len(text.ids)} tokens is {logit}"
            )
        return Score(self.scale.score(logit), self.scale.int_score(logit), len(text.ids), text.truncated)


def _characters(item: Input) -> int:
    if isinstance(item, str):
        return len(item)
    if not isinstance(item, list):
        return 0
    contents = (message.get("content") for message in item if isinstance(message, dict))
    return sum(len(content) for content in contents if isinstance(content, str))
