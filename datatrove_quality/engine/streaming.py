"""A stream of inputs in, one result per input out, in order, while the devices compute what comes next.

    reader's thread      inputs ── render ──> windows of texts
    tokenizer's thread   texts ── store: known? ── tokenize ── batch ──> queue of micro-batches
    a thread a device    queue ── forward pass ── store ──> the micro-batch's logits
    caller's thread      windows of inputs, in order ── wait for each input's logit ──> the caller
    a thread for the load, on the first text to compute

Each input travels with a companion, such as the document that it is of, and comes out with it. Reading and rendering
are Python, tokenizing is Rust: in two threads they do not wait for each other. Each is a window or two ahead, with
several devices as many times that, which bounds the memory of a run. An error in one thread ends the others and is
raised in the caller's, with its own traceback.
"""

import atexit
import threading
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from itertools import takewhile
from typing import TypeVar

from loguru import logger

from datatrove_quality.config import Unscorable
from datatrove_quality.engine.ahead import Ahead
from datatrove_quality.engine.batching import windows
from datatrove_quality.engine.lazy_model import LazyModel
from datatrove_quality.engine.replicas import Value, Workers
from datatrove_quality.engine.shared_trunk import HandedOver
from datatrove_quality.engine.store import Logit, ScoreStore
from datatrove_quality.model.rendering import Renderer, TokenizedText
from datatrove_quality.rows.normal_form import parsed
from datatrove_quality.rows.score_columns import RecordedScore
from datatrove_quality.rows.types import Conversation


T = TypeVar("T")

Input = Conversation | str | RecordedScore | Unscorable

# A window is tokenized at once, and several are held. More documents sort into batches with less padding.
WINDOW_ITEMS = 1_024
WINDOW_CHARACTERS = 8_000_000
# Of what travels with the texts, where it says its size.
WINDOW_BYTES = 16 * 2**20
# Where none is padded, this many batches suffice: the last one, which is not full, is then one of many.
PACKED_WINDOW_BATCHES = 8
CHARACTERS_PER_TOKEN = 4  # an estimate: a window is cut before it is tokenized
# The first window is small and the next ones grow: devices start at once, and keep their cores while others run ahead.
FIRST_WINDOW_ITEMS = 16
# While the model is not loaded, and the size of a batch therefore not known.
UNLOADED_WINDOW_ITEMS = 64
WINDOWS_AHEAD = 1
# How long the end of a stream waits for a thread that hangs, for example in a file system. It is then left behind.
SECONDS_TO_JOIN = 30.0


@dataclass(frozen=True, slots=True)
class Awaited:
    """A logit that is being computed.

    Args:
        batch: the logits of its micro-batch, to come.
        index: its place among them.
        repeated: whether it is the logit of an earlier, equal text, so that it costs nothing.
    """

    batch: "Future[list[Logit | Unscorable]]"
    index: int
    repeated: bool = False

    def result(self) -> Logit | Unscorable:
        """Wait for it."""
        logit = self.batch.result()[self.index]
        return logit._replace(stored=True) if self.repeated and isinstance(logit, Logit) else logit


class LogitStream:
    """The logits of one stream of inputs.

    Args:
        renderer: makes texts of inputs, and tokens of texts.
        model: loaded when there is a first text to compute.
        store: gives what is known already, and keeps what is new. None: each text is computed, repeated ones too.
        packs: whether sequences are batched without padding, and so in their own order.
        handed: gives the logits that came with the forward passes of others on the same trunk. None: none are shared.
        hands_over: whether it also gets this stream's, for another stream of the same classifier.

    Attributes:
        shared_tokens: how many tokens were not computed so far, since texts begin alike.
    """

    def __init__(
        self,
        renderer: Renderer,
        model: LazyModel,
        store: ScoreStore | None,
        packs: bool,
        handed: HandedOver | None = None,
        hands_over: bool = False,
    ):
        self._renderer = renderer
        self._model = model
        self._store = store
        self._packs = packs
        self._handed = handed or HandedOver()
        self._hands_over = hands_over
        self.shared_tokens = 0
        self._counting = threading.Lock()
        self._workers: Workers | None = None
        self._under_way: dict[str, Awaited] = {}
        self._ahead: Ahead | None = None
        self._reading: Ahead | None = None
        self._closed = threading.Event()

    def of(
        self, pairs: Iterable[tuple[T, Input]]
    ) -> Generator[tuple[T, Logit | RecordedScore | Unscorable], None, None]:
        """One result per input, in order, with the input's companion.

        Args:
            pairs: anything, which is handed through, and an input.

        Yields:
            The same thing, and the input's logit, its score of an earlier run, or why there is neither.
        """
        self._ahead = Ahead(self._submitted(pairs), self._windows_ahead, "tokenizing ahead")
        # A traceback that is held somewhere keeps this generator from being closed, and its threads from ending.
        atexit.register(self._close)
        self._ahead.start()
        try:
            for window in self._ahead:
                for companion, item in window:
                    yield companion, item.result() if isinstance(item, Awaited) else item
        finally:
            self._close()

    def _close(self) -> None:
        if self._closed.is_set():
            return
        self._closed.set()
        atexit.unregister(self._close)
        # A garbage collection may close an abandoned stream in one of its own threads, which cannot wait for itself.
        is_own = threading.current_thread() in self._threads()
        seconds = 0.0 if is_own else SECONDS_TO_JOIN
        ended = self._ahead is None or self._ahead.close(seconds)
        ended &= self._workers is None or self._workers.close(seconds)
        if not ended and not is_own:
            logger.warning("A thread that reads or scores hangs; it is left behind.")

    def _threads(self) -> list[threading.Thread]:
        ahead = [one.thread for one in (self._ahead, self._reading) if one is not None]
        return ahead + ([] if self._workers is None else self._workers.threads)

    def _windows_ahead(self) -> int:
        return WINDOWS_AHEAD * (1 if self._workers is None else self._workers.count)

    def _rendered(
        self, pairs: Iterable[tuple[T, Input]]
    ) -> Iterator[list[tuple[T, str | RecordedScore | Unscorable]]]:
        wanted = takewhile(lambda pair: not self._closed.is_set(), pairs)
        rendered = ((companion, self._text_of(item)) for companion, item in wanted)
        first = FIRST_WINDOW_ITEMS if self._packs else None
        return windows(rendered, self._part_of_window, WINDOW_ITEMS, 1, first)

    def _text_of(self, item: Input) -> str | RecordedScore | Unscorable:
        return item if isinstance(item, RecordedScore) else self._renderer.render(parsed(item))

    def _part_of_window(self, pair: tuple[T, str | RecordedScore | Unscorable]) -> float:
        """How much of a window an input takes, by its characters and, once the model is loaded, by its batches."""
        characters = len(pair[1]) if isinstance(pair[1], str) else 0
        part = max(characters / WINDOW_CHARACTERS, getattr(pair[0], "size", 0) / WINDOW_BYTES)
        if not self._packs:
            return part
        if self._workers is None:
            return max(part, 1 / UNLOADED_WINDOW_ITEMS)
        budget = self._workers.tokens_per_batch
        tokens = min(characters / CHARACTERS_PER_TOKEN, self._renderer.max_tokens, budget)
        return max(part, tokens / (PACKED_WINDOW_BATCHES * budget))

    def _submitted(
        self, pairs: Iterable[tuple[T, Input]]
    ) -> Iterator[list[tuple[T, Logit | Awaited | RecordedScore | Unscorable]]]:
        self._reading = Ahead(self._rendered(pairs), self._windows_ahead, "reading ahead")
        self._reading.start()
        try:
            for window in self._reading:
                texts = [text for _, text in window if isinstance(text, str)]
                logits = iter(self._submit(texts) if self._store is None else self._recall(texts, self._store))
                yield [(companion, next(logits) if isinstance(text, str) else text) for companion, text in window]
        finally:
            self._reading.close(SECONDS_TO_JOIN)

    def _recall(self, texts: list[str], store: ScoreStore) -> list[Logit | Awaited | Unscorable]:
        """The logits of texts: those that the store knows or that are under way, and the others', each text once."""
        self._under_way = {text: logit for text, logit in self._under_way.items() if not logit.batch.done()}
        known = store.lookup(texts)
        if len(known) < len(texts) and store.undecided:
            self._model.get(self._closed).settle(store)
            known = store.lookup(texts)
        new = [text for text in dict.fromkeys(texts) if text not in known and text not in self._under_way]
        first = dict(zip(new, self._submit(new), strict=True))
        again = {text: replace(one, repeated=True) if isinstance(one, Awaited) else one for text, one in first.items()}
        found: dict[str, Logit | Awaited | Unscorable] = {**self._under_way, **known, **again}
        self._under_way |= {text: logit for text, logit in again.items() if isinstance(logit, Awaited)}
        return [first.pop(text) if text in first else found[text] for text in texts]

    def _submit(self, texts: list[str]) -> list[Logit | Awaited | Unscorable]:
        """Have the logits of texts computed, unless they came with the forward passes of others."""
        handed = self._handed.take(texts)
        if handed and self._store is not None:
            self._model.get(self._closed).settle(self._store)
            for text, logit in handed.items():
                self._store.add(text, logit)
            self._store.save()
        computed = iter(self._compute([text for text in texts if text not in handed]))
        return [handed[text] if text in handed else next(computed) for text in texts]

    def _compute(self, texts: list[str]) -> list[Awaited | Unscorable]:
        """Tokenize texts and have them computed."""
        results = self._renderer.tokenize(texts)
        tokenized = [(place, result) for place, result in enumerate(results) if isinstance(result, TokenizedText)]
        awaited: dict[int, Awaited] = {}
        if tokenized:
            workers = self._started()
            for batch in workers.batches([text.ids for _, text in tokenized]):
                chosen = [tokenized[index] for index in batch.indices]
                finish = partial(self._finish, [text for _, text in chosen], [texts[place] for place, _ in chosen])
                logits = workers.submit(batch, [text.ids for _, text in chosen], finish)
                awaited |= {place: Awaited(logits, index) for index, (place, _) in enumerate(chosen)}
        return [
            awaited[place] if isinstance(result, TokenizedText) else result for place, result in enumerate(results)
        ]

    def _started(self) -> Workers:
        """The devices' threads, with the model that they need."""
        if self._workers is None:
            loaded = self._model.get(self._closed)
            if self._store is not None:
                loaded.settle(self._store)
            self._workers = Workers(loaded.replicas)
            if self._closed.is_set():  # closed since, by a caller that saw no workers to close
                self._workers.close(0)
        return self._workers

    def _finish(
        self, tokenized: list[TokenizedText], texts: list[str], values: list[Value], num_saved: int
    ) -> list[Logit | Unscorable]:
        """The logits of a micro-batch, kept in the store before the caller sees them, and handed to others."""
        with self._counting:
            self.shared_tokens += num_saved
        loaded = self._model.get()

        def part(columns: slice) -> list[Logit | Unscorable]:
            return [
                value if isinstance(value, Unscorable) else Logit(tuple(value[columns]), len(one.ids), one.truncated)
                for one, value in zip(tokenized, values, strict=True)
            ]

        logits = part(loaded.columns)
        own = ((loaded.columns, self._handed),) if self._hands_over else ()
        for columns, handed in (*loaded.beside, *own):
            for text, logit in zip(texts, part(columns), strict=True):
                if isinstance(logit, Logit):
                    handed.put(text, logit)
        if self._store is not None:
            for text, logit in zip(texts, logits, strict=True):
                if isinstance(logit, Logit):
                    self._store.add(text, logit)
            self._store.save()
        return logits
