"""The model on each device: micro-batches in, logits out; a device gets its next batch before the last one is read."""

import ctypes
import queue
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from copy import deepcopy
from functools import cache
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

from loguru import logger

from datatrove_quality.config import Unscorable
from datatrove_quality.engine.grouping import PlannedBatch, PrefixGroups
from datatrove_quality.model.cores import Threads, undivided_threads
from datatrove_quality.model.devices import is_out_of_memory
from datatrove_quality.model.token_budget import max_held_tokens


if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedModel

    from datatrove_quality.model.shared_rows import SharedPrefixes


# Lengths and a token budget in, lists of indices out: `packed_batches` or `padded_batches`.
Plan = Callable[[Sequence[int], int], list[list[int]]]
# Token ids in, a row of logits per sequence out: `packed_logits`, which also takes a `SharedRow`, or `padded_logits`.
Forward = Callable[..., "Tensor"]
# The logits of a sequence, one an output, or why it has none.
Value = Sequence[float] | Unscorable

# After an out-of-memory error, so many batches that fit are the sign to try larger ones again.
BATCHES_BEFORE_REGROWING = 50
SWITCH_SECONDS = 0.0005
# Options of glibc's mallopt (M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD) and their bytes.
MALLOC_OPTIONS = {-1: 256 * 2**20, -2: 16 * 2**20, -3: 32 * 2**20}
END = None


class Batch(NamedTuple):
    """A micro-batch.

    Args:
        sequences: token ids.
        finish: makes the batch's result of its logits, and of how many tokens were not computed since sequences share
            them; called by the computing thread.
        result: what `finish` gave, or the error that stopped the batch.
        tokens: as in `PlannedBatch`, as `kept`.
    """

    sequences: Sequence[list[int]]
    finish: Callable[[list[Value], int], Any]
    result: "Future[Any]"
    tokens: int | None = None
    kept: int = 0


class _Pass(NamedTuple):
    """A forward pass that was given to the device.

    Args:
        indices: which of the batch's sequences it computes.
        logits: on the host, once `done`. None: the one sequence does not fit into the device's memory.
        done: None where the device computes before it returns.
        num_saved: how many tokens were not computed.
    """

    indices: list[int]
    logits: "Tensor | None"
    done: "torch.cuda.Event | None" = None
    num_saved: int = 0


class _Launched(NamedTuple):
    """A batch that the device computes."""

    batch: Batch
    passes: list[_Pass]


class Replica:
    """A model on one device. A batch that does not fit into the device's memory is computed in halves.

    Args:
        model: with its weights on the device.
        forward: the forward pass.
        plan: how sequences are batched for it.
        tokens_per_batch: the most tokens of a forward pass; fewer while the device's memory does not admit them.
        prefixes: has what sequences begin with alike computed once. None: each sequence is computed whole.
    """

    def __init__(
        self,
        model: "PreTrainedModel",
        forward: Forward,
        plan: Plan,
        tokens_per_batch: int,
        prefixes: "SharedPrefixes | None" = None,
    ):
        self.model = model
        self.forward = forward
        self.plan = plan
        self.tokens_per_batch = tokens_per_batch
        self.prefixes = prefixes
        self._limit = tokens_per_batch
        self._fitting = 0
        self._warned = False

    def work(self, batches: "queue.SimpleQueue[Batch | None]") -> None:
        """Compute the batches of a queue until it gives END. An error is raised where the result is read."""
        with Threads() as threads:
            self._work(batches, threads)

    def _work(self, batches: "queue.SimpleQueue[Batch | None]", threads: Threads) -> None:
        computing: _Launched | None = None
        while True:
            try:
                batch = batches.get(block=computing is None)
            except queue.Empty:  # nothing to give the device before the last batch is read
                self._finish(computing)
                computing = None
                continue
            threads.adjust()
            launched = None if batch is END else self._launch(batch)
            self._finish(computing)
            if batch is END:
                if self.prefixes is not None:
                    self.prefixes.hold(None)
                return
            computing = launched

    def batches(self, lengths: Sequence[int]) -> list[list[int]]:
        """Micro-batches, as lists of indices, for sequences of these lengths in tokens."""
        return self.plan(lengths, self.tokens_per_batch)

    def _launch(self, batch: Batch) -> _Launched | None:
        try:
            _use(self.model.device)
            return _Launched(batch, self._passes(batch))
        except BaseException as error:
            batch.result.set_exception(error)
            del batch  # the error's traceback has this frame: held by it, all that was computed would stay
            return None

    def _finish(self, launched: _Launched | None) -> None:
        if launched is None:
            return
        batch, passes = launched
        try:
            values = self._read(len(batch.sequences), passes)
            batch.result.set_result(batch.finish(values, sum(one.num_saved for one in passes)))
        except BaseException as error:
            batch.result.set_exception(error)
            del batch, passes, launched

    def _passes(self, batch: Batch) -> list[_Pass]:
        """Give a batch to the device, in as many passes as its memory needs."""
        lengths = [len(ids) for ids in batch.sequences]
        fits = batch.tokens is not None and batch.tokens <= self._limit
        waiting = deque([list(range(len(lengths)))] if fits else self.plan(lengths, self._limit))
        passes = []
        while waiting:
            indices = waiting.popleft()
            launched = self._attempt(indices, batch, is_last=not waiting)
            if launched is None and len(indices) == 1:
                # Alone, and with all memory that could be given back.
                launched = self._attempt(indices, batch, is_last=False)
            if launched is None and len(indices) > 1:
                self._shrink(sum(lengths[index] for index in indices))
                left = [*indices, *chain.from_iterable(waiting)]
                smaller = self.plan([lengths[index] for index in left], self._limit)
                waiting = deque([left[index] for index in part] for part in smaller)
                continue
            passes.append(launched or _Pass(indices, None))
        self._regrow()
        return passes

    def _attempt(self, indices: list[int], batch: Batch, is_last: bool) -> _Pass | None:
        """Give sequences of a batch to the device; None if its memory is too small."""
        sequences = [batch.sequences[index] for index in indices]
        try:
            if self.prefixes is None or batch.tokens is None:
                return _Pass(indices, *_on_the_way_to_the_host(self.forward(self.model, sequences)))
            return self._attempt_shared(indices, sequences, batch.kept if is_last else 0, self.prefixes)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        # Here the error is gone, and with it the frames that held what had been computed.
        if self.prefixes is not None:
            self.prefixes.hold(None)
        _give_back_memory(self.model.device)
        return None

    def _attempt_shared(
        self, indices: list[int], sequences: list[list[int]], kept: int, prefixes: "SharedPrefixes"
    ) -> _Pass:
        row = prefixes.row(sequences, kept)
        shared: dict[str, Any] = {} if row is None else {"row": row}
        launched = _on_the_way_to_the_host(self.forward(self.model, sequences, **shared))
        prefixes.hold(row)
        return _Pass(indices, *launched, 0 if row is None else row.num_saved)

    def _read(self, count: int, passes: list[_Pass]) -> list[Value]:
        values: dict[int, Value] = {}
        for indices, logits, done, _ in passes:
            if logits is None:
                values[indices[0]] = Unscorable(
                    "out_of_memory", f"the text does not fit into the memory of {self.model.device}, even alone"
                )
                continue
            if done is not None:
                done.synchronize()
            for index, value in zip(indices, logits.tolist(), strict=True):
                values[index] = value
        return [values[index] for index in range(count)]

    def _shrink(self, tokens: int) -> None:
        self._limit = max(1, min(self._limit, tokens) // 2)
        self._fitting = 0
        if not self._warned:
            self._warned = True
            logger.warning(
                f"{self.model.device} is out of memory with {tokens} tokens at once: going on with {self._limit}, "
                f"later with more again. tokens_per_batch={self._limit} would spare the attempts."
            )

    def _regrow(self) -> None:
        self._fitting += 1
        if self._limit < self.tokens_per_batch and self._fitting >= BATCHES_BEFORE_REGROWING:
            self._limit = min(self.tokens_per_batch, 2 * self._limit)
            self._fitting = 0


class Workers:
    """A thread for each replica, all fed from one queue, so that none waits while another has more to do.

    Args:
        replicas: of one model.
    """

    def __init__(self, replicas: Sequence[Replica]):
        # Each of torch's operations gives up Python's lock, and waits for it so long beside a thread that renders.
        sys.setswitchinterval(min(sys.getswitchinterval(), SWITCH_SECONDS))
        if any(replica.model.device.type == "cpu" for replica in replicas):
            _keep_freed_memory()
            _have_waiting_threads_yield()
        self.count = len(replicas)
        self.batches = _plan_of(replicas)
        self.tokens_per_batch = replicas[0].tokens_per_batch
        self._queue: queue.SimpleQueue[Batch | None] = queue.SimpleQueue()
        self.threads = [
            threading.Thread(target=replica.work, args=(self._queue,), name=f"scoring on {place}", daemon=True)
            for place, replica in enumerate(replicas)
        ]
        for thread in self.threads:
            thread.start()

    def submit(
        self, planned: PlannedBatch, sequences: Sequence[list[int]], finish: Callable[[list[Value], int], Any]
    ) -> "Future[Any]":
        """Have a micro-batch computed.

        Args:
            planned: what `batches` gave.
            sequences: token ids of its sequences.
            finish: as in `Batch`.

        Returns:
            The result to come.
        """
        batch = Batch(sequences, finish, Future(), planned.tokens, planned.kept)
        self._queue.put(batch)
        return batch.result

    def close(self, timeout: float) -> bool:
        """Leave what has not begun, and wait for the threads; False if one still runs after so many seconds."""
        with suppress(queue.Empty):
            while True:
                self._queue.get_nowait()
        for _ in self.threads:
            self._queue.put(END)
        for thread in self.threads:
            if thread is not threading.current_thread():
                thread.join(timeout)
        return not any(thread.is_alive() for thread in self.threads)


def _plan_of(replicas: Sequence[Replica]) -> Callable[[Sequence[list[int]]], list[PlannedBatch]]:
    """How a window's sequences are batched. Of several replicas none knows which batches it gets, so none holds."""
    first = replicas[0]
    if first.prefixes is None:
        return lambda sequences: [PlannedBatch(indices) for indices in first.batches([len(ids) for ids in sequences])]
    holds = len(replicas) == 1 and first.model.device.type == "cpu"
    return PrefixGroups(first.batches, first.tokens_per_batch, max_held_tokens(first.model) if holds else 0).batches


def copy_to(model: "PreTrainedModel", device: "torch.device") -> "PreTrainedModel":
    """A copy of a model on another device: its tensors go there one by one, without a second copy beside the first.

    On the same device the copy shares them.
    """
    from torch import nn

    moved: dict[int, Any] = {id(buffer): buffer.to(device) for buffer in model.buffers()}
    moved |= {
        id(weight): nn.Parameter(weight.detach().to(device), requires_grad=False) for weight in model.parameters()
    }
    return deepcopy(model, moved)


def _keep_freed_memory() -> None:
    """Raise malloc's thresholds, so that memory that a layer frees is reused by the next and not faulted in again.

    Without that it depends on the layout of the heap, and so on the thread, whether freed memory goes to the system.
    """
    with suppress(AttributeError, OSError):  # only glibc has this function
        mallopt = ctypes.CDLL(None).mallopt
        for option, size in MALLOC_OPTIONS.items():
            mallopt(option, size)


@cache
def _have_waiting_threads_yield() -> None:
    """Have OpenMP's threads yield their CPUs while they wait, since the threads that render and tokenize need them.

    libgomp spins at the end of each operation unless it has started more threads than there are CPUs, which a second
    team does. OMP_WAIT_POLICY is no way: it is read when torch is imported.
    """
    threading.Thread(target=_keep_a_team, name="idle OpenMP team", daemon=True).start()


def _keep_a_team() -> None:
    import torch

    # All threads that this process may ever take, though it has fewer while it shares the cores.
    torch.set_num_threads(undivided_threads() or torch.get_num_threads())
    torch.zeros(2**20).add_(1)  # large enough for all of them
    threading.Event().wait()


def _use(device: "torch.device") -> None:
    """Make a device this thread's own: some kernels go to the current one, whatever their tensors are on."""
    import torch

    if device.type == "cuda":
        torch.cuda.set_device(device)


def _on_the_way_to_the_host(logits: "Tensor") -> "tuple[Tensor, torch.cuda.Event | None]":
    """Queue the copy now: queued later, it would wait behind the next batch."""
    import torch

    if logits.device.type != "cuda":
        return logits, None
    host = logits.to("cpu", non_blocking=True)  # into pinned memory
    done = torch.cuda.Event(blocking=True)  # else waiting for it takes a core
    done.record()
    return host, done


def _give_back_memory(device: "torch.device") -> None:
    """What the allocator keeps for later may be in pieces that are too small."""
    import torch

    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()
