"""The model on each device: its thread, its queue, its memory."""

import ctypes
import subprocess
import sys
import textwrap
import threading
import time

import pytest
import torch
from datatrove.data import Document
from scorers import assert_same, config_of, simple
from tiny_models import conversations

from datatrove_quality import QualityFilter
from datatrove_quality.config import Unscorable
from datatrove_quality.engine import replicas
from datatrove_quality.engine.replicas import Replica
from datatrove_quality.model import forward


OUT_OF_MEMORY = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def test_replicas_divide_the_work(on_devices, folder, monkeypatch):
    """Every replica computes, and a slow one holds up nothing but its own batches."""
    one = on_devices(folder, 2, tokens_per_batch=200)
    computed = [0, 0]
    for place, replica in enumerate(one.replicas):

        def counted(model, sequences, place=place, forward=replica.forward):
            computed[place] += 1
            time.sleep(0.05 if place == 0 else 0.002)
            return forward(model, sequences)

        monkeypatch.setattr(replica, "forward", counted)
    inputs = conversations(100, seed=5)
    assert_same(list(one.stream(inputs)), simple(on_devices(folder, 1), inputs))
    assert 0 < computed[0] < computed[1]


def test_copies_share_nothing_but_their_weights(on_devices, folder):
    """A copy is a model of its own, also where its last layer was changed; on one device it takes no memory."""
    first, second = (replica.model for replica in on_devices(folder, 2).replicas)
    names = dict(first.named_parameters())
    assert all(names[name].data_ptr() == weight.data_ptr() for name, weight in second.named_parameters())
    assert not {id(module) for module in first.modules()} & {id(module) for module in second.modules()}
    layers = [forward._layers(model)[-1] for model in (first, second)]
    assert all(forward.pools_in_last_layer(model) for model in (first, second))
    seen = []
    layers[0].register_forward_pre_hook(lambda *_: seen.append(1))
    forward.packed_logits(second, [[5, 6, 7]])
    assert not seen


def test_the_next_batch_is_queued_before_the_last_is_read():
    """A device that computes asynchronously gets its next batch before anybody waits for the last one."""
    events = []

    class Asynchronous(Replica):
        def _passes(self, batch):
            events.append(("queued", batch.sequences[0][0]))
            return super()._passes(batch)

        def _read(self, count, passes):
            result = super()._read(count, passes)
            events.append(("read", int(result[0][0])))
            return result

    model = torch.nn.Linear(1, 1)
    model.device = torch.device("cpu")
    first_ids = lambda model, sequences: torch.tensor([[float(ids[0])] for ids in sequences])  # noqa: E731
    replica = Asynchronous(model, first_ids, lambda lengths, budget: [list(range(len(lengths)))], 100)
    queue = replicas.queue.SimpleQueue()
    values_of = lambda values, num_saved: values  # noqa: E731
    batches = [replicas.Batch([[number]], values_of, replicas.Future()) for number in range(4)]
    for batch in [*batches, replicas.END]:
        queue.put(batch)
    replica.work(queue)
    assert [batch.result.result() for batch in batches] == [[[0.0]], [[1.0]], [[2.0]], [[3.0]]]
    assert events[:4] == [("queued", 0), ("queued", 1), ("read", 0), ("queued", 2)]


@pytest.fixture
def small_memory(monkeypatch):
    """Let a replica's forward pass fail as a device does whose memory takes `most` tokens."""

    def shrink(replica, most, error=OUT_OF_MEMORY):
        passes = []
        forward = replica.forward

        def limited(model, sequences):
            tokens = sum(map(len, sequences))
            passes.append(tokens)
            if tokens > (most() if callable(most) else most):
                raise error
            return forward(model, sequences)

        monkeypatch.setattr(replica, "forward", limited)
        return passes

    return shrink


@pytest.mark.parametrize("most", [20, 90, 400])
@pytest.mark.parametrize(
    "error",
    [
        OUT_OF_MEMORY,
        RuntimeError("MPS backend out of memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"),
    ],
    ids=["cuda", "mps", "cpu", "cublas"],
)
def test_out_of_memory_halves_the_batch(on_devices, folder, small_memory, most, error):
    """No document is lost or computed into another's place; those that do not fit alone are named."""
    inputs = conversations(80, seed=6, longest=60)
    one = on_devices(folder, 1, tokens_per_batch=1_000)
    expected = simple(one, inputs)
    passes = small_memory(one.replicas[0], most, error)
    results = list(one.stream(inputs))
    lengths = [len(text.ids) for text in one.renderer.encode(inputs)]
    for result, value, length in zip(results, expected, lengths, strict=True):
        if length <= most:
            assert result.score == pytest.approx(value, abs=5e-5)
        else:
            assert isinstance(result, Unscorable) and result.reason == "out_of_memory"
    assert max(passes) > most


def test_memory_that_comes_back_is_used_again(on_devices, folder, small_memory, monkeypatch, log):
    """After many batches that fit, batches grow again; it is logged once, and not each time."""
    monkeypatch.setattr(replicas, "BATCHES_BEFORE_REGROWING", 2)
    one = on_devices(folder, 1, tokens_per_batch=800)
    free = iter([100] * 3 + [10_000] * 30 + [100] * 3)
    passes = small_memory(one.replicas[0], lambda: next(free, 10_000))
    assert len(list(one.stream(conversations(400, seed=7)))) == 400
    assert max(passes[3:30]) > 400
    assert sum("out of memory" in line for line in log) == 1


def test_the_limit_after_out_of_memory_is_no_smaller_than_need_be(on_devices, folder, small_memory):
    """What waits behind a batch that failed is planned again, and does not halve the limit again in its turn."""
    one = on_devices(folder, 1, tokens_per_batch=2_048)
    passes = small_memory(one.replicas[0], 300)
    assert len(one.score(["um texto"] * 2_000)) == 2_000
    assert 150 < one.replicas[0]._limit <= 300
    assert sum(tokens > 300 for tokens in passes) <= 4


def test_another_error_is_no_lack_of_memory(on_devices, folder, small_memory):
    """A broken device stops the run with its own error and traceback."""
    one = on_devices(folder, 1)
    small_memory(one.replicas[0], 0, RuntimeError("CUDA error: an illegal memory access was encountered"))
    with pytest.raises(RuntimeError, match="illegal memory access") as caught:
        one.score(["um texto"])
    assert any(entry.name == "limited" for entry in caught.traceback)


def test_a_document_that_does_not_fit_goes_its_own_way(folder, small_memory, tmp_path):
    """In a pipeline it is dropped with its reason, is not kept in the store, and the others are scored."""
    step = QualityFilter(config_of(folder, tokens_per_batch=500), min_score=-100, checkpoints_dir=tmp_path)
    from datatrove_quality import load_scorer

    small_memory(load_scorer(step.scorer).replicas[0], 60)
    docs = [Document(text="", id=str(i), metadata={"messages": m}) for i, m in enumerate(conversations(30, 8, 60))]
    kept = list(step.run(docs))
    dropped = step.stats["dropped_unscorable_out_of_memory"].total
    assert dropped and len(kept) + dropped == 30
    again = QualityFilter(step.scorer, min_score=-100, checkpoints_dir=tmp_path)
    assert [doc.id for doc in again.run(docs)] == [doc.id for doc in kept]
    assert again.stats["from_store"].total == len(kept)


def test_a_device_that_cannot_be_used_stops_the_run(on_devices, folder, monkeypatch):
    """A device that fails before it computes anything is an error for the caller that waits, not silence."""
    one = on_devices(folder, 1)
    monkeypatch.setattr(replicas, "_use", lambda device: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        one.score(["um texto"])


FAULTS = """
    import resource, sys, threading
    import torch
    from datatrove_quality import ScorerConfig, load_scorer

    def work():
        for _ in range(20):
            [torch.ones(2**21) for _ in range(4)]

    def faults():
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    load_scorer(ScorerConfig(model=sys.argv[1], device="cpu")).score(["um texto"])
    print(faults())
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="not glibc")
def test_a_cpu_keeps_the_memory_of_a_layer_for_the_next(folder):
    """Memory that goes back to the system comes again page by page: 32 MB, 20 times, are 160,000 of them."""
    command = [sys.executable, "-c", textwrap.dedent(FAULTS), str(folder)]
    run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    assert int(run.stdout) < 40_000


def test_waiting_openmp_threads_yield_their_cpus():
    """A second, idle OpenMP team lives beside the one that computes, by which libgomp waits without spinning; once."""
    for _ in range(2):
        replicas._have_waiting_threads_yield()
    teams = [thread for thread in threading.enumerate() if thread.name == "idle OpenMP team"]
    assert len(teams) == 1 and teams[0].daemon
