"""The streaming engine: scores as one text at a time gives them, in order, from any number of devices; clean ends."""

import ctypes
import gc
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
import types
from contextlib import suppress
from itertools import islice

import pytest
import torch
from datatrove.data import Document
from tiny_models import conversations

from datatrove_quality import QualityFilter, ScorerConfig
from datatrove_quality.config import Unscorable
from datatrove_quality.engine import replicas, streaming
from datatrove_quality.engine.ahead import Ahead
from datatrove_quality.engine.lazy_model import LazyModel, LoadedModel
from datatrove_quality.engine.replicas import Replica
from datatrove_quality.engine.scorer import Score, Scorer
from datatrove_quality.engine.store import ScoreStore
from datatrove_quality.model import architectures, budget, forward


OUT_OF_MEMORY = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def config_of(folder, **options):
    return ScorerConfig(model=str(folder), dtype="float32", device="cpu", **options)


@pytest.fixture(scope="module")
def folder(model_folder):
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


@pytest.fixture(autouse=True)
def no_thread_stays():
    """Whatever a test does to a stream, its threads end."""
    yield
    gc.collect()
    ours = ("reading ahead", "tokenizing ahead", "scoring on", "loading")
    for thread in threading.enumerate():
        if thread.name.startswith(ours):
            thread.join(10)
            assert not thread.is_alive(), thread.name


def simple(one, inputs):
    """Each input alone, without a thread, a batch or a store."""
    results = []
    logits_of = forward.packed_logits if architectures.is_packable(one.model) else forward.padded_logits
    for item in inputs:
        (text,) = one.renderer.encode([item])
        results.append(text if isinstance(text, Unscorable) else logits_of(one.model, [text.ids]).item() + 1)
    return results


def assert_same(results, expected):
    assert len(results) == len(expected)
    for result, value in zip(results, expected, strict=True):
        if isinstance(value, Unscorable):
            assert isinstance(result, Unscorable) and result.reason == value.reason
        else:
            assert result.score == pytest.approx(value, abs=5e-5)


def mixed_inputs():
    """Of all lengths, with what cannot be scored in between, the same text again, and one of a million tokens."""
    inputs = conversations(120, seed=4, longest=60)
    inputs[3:3] = [[], "", "um texto", [{"role": "user", "content": "a " * 500_000}]]
    return inputs + inputs[40:60] + ["a"] * 30


# --- the same results ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("devices", [1, 2, 3])
@pytest.mark.parametrize("family", ["qwen3", "bert"])
def test_streams_score_as_the_simple_path(on_devices, model_folder, monkeypatch, devices, family):
    """Windows, batches and replicas change no score, no reason and no place."""
    monkeypatch.setattr(streaming, "WINDOW_ITEMS", 16)
    inputs = mixed_inputs() if family == "qwen3" else ["um texto " * count for count in range(1, 60)]
    one = on_devices(model_folder(family), devices, tokens_per_batch=300)
    assert_same(list(one.stream(inputs)), simple(one, inputs))


@pytest.mark.parametrize(
    "inputs",
    [["a"] * 10_000, ["um texto igual"] * 500, [], [[{"role": "user", "content": "a " * 500_000}]]],
    ids=["ten thousand of a token", "all of one length", "empty", "a million tokens"],
)
def test_extreme_lengths(on_devices, folder, inputs):
    """Streams at the edges: the length of the result is the input's, and equal texts have equal scores."""
    results = list(on_devices(folder, 2).stream(inputs))
    assert len(results) == len(inputs)
    if inputs:
        (expected,) = on_devices(folder, 1).score(inputs[:1])
        assert {round(result.score - expected.score, 4) for result in results} == {0.0}


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


def test_a_copy_that_computes_something_else_is_found(on_devices, folder, monkeypatch):
    """A device that gives other logits than the first is not trusted with documents."""
    real = replicas.copy_to

    def broken(model, device):
        copied = real(model, device)
        copied.score.weight = torch.nn.Parameter(copied.score.weight * 1.5, requires_grad=False)
        return copied

    monkeypatch.setattr("datatrove_quality.engine.model_setup.copy_to", broken)
    with pytest.raises(ValueError, match="that device computes wrongly"):
        on_devices(folder, 2)


# --- the device never waits ------------------------------------------------------------------------------------------


def test_reading_goes_on_while_the_device_computes(on_devices, folder, monkeypatch):
    """While a batch computes, what comes next is read; and a slow consumer does not stop the device."""
    monkeypatch.setattr(streaming, "WINDOW_ITEMS", 4)
    one = on_devices(folder, 1)
    read, seen_while_computing, computed = [], [], []
    forward = one.replicas[0].forward

    def slow(model, sequences):
        time.sleep(0.05)
        seen_while_computing.append(len(read))
        computed.append(len(sequences))
        return forward(model, sequences)

    monkeypatch.setattr(one.replicas[0], "forward", slow)
    stream = one.stream(read.append(index) or f"texto {index}" for index in range(40))
    next(stream)
    assert seen_while_computing[0] > 4
    time.sleep(0.5)  # the consumer is busy
    assert sum(computed) >= 4 * (1 + streaming.WINDOWS_AHEAD)
    assert len(list(stream)) == 39


def test_the_next_batch_is_queued_before_the_last_is_read():
    """A device that computes asynchronously gets its next batch before anybody waits for the last one."""
    events = []

    class Asynchronous(Replica):
        def _passes(self, sequences):
            events.append(("queued", sequences[0][0]))
            return super()._passes(sequences)

        def _read(self, count, passes):
            result = super()._read(count, passes)
            events.append(("read", int(result[0])))
            return result

    model = torch.nn.Linear(1, 1)
    model.device = torch.device("cpu")
    first_ids = lambda model, sequences: torch.tensor([float(ids[0]) for ids in sequences])  # noqa: E731
    replica = Asynchronous(model, first_ids, lambda lengths, budget: [list(range(len(lengths)))], 100)
    queue = replicas.queue.SimpleQueue()
    batches = [replicas.Batch([[number]], list, replicas.Future()) for number in range(4)]
    for batch in [*batches, replicas.END]:
        queue.put(batch)
    replica.work(queue)
    assert [batch.result.result() for batch in batches] == [[0.0], [1.0], [2.0], [3.0]]
    assert events[:4] == [("queued", 0), ("queued", 1), ("read", 0), ("queued", 2)]


# --- out of memory ---------------------------------------------------------------------------------------------------


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
    """What waits behind a batch that failed is planned anew, and does not halve the limit again in its turn."""
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


# --- budget and compiler ---------------------------------------------------------------------------------------------


def test_the_budget_follows_the_models_width_and_the_devices_memory(folder, monkeypatch):
    """A wide model gets fewer tokens at once, memory that others use counts, and a configured budget is kept."""
    model = Scorer(config_of(folder)).model
    assert Scorer(config_of(folder, tokens_per_batch=77)).replicas[0].tokens_per_batch == 77
    outputs = 64 + 2 * 32 + 64 + 2 * 96 + 64  # queries, keys and values, their output, the feed-forward layer's
    monkeypatch.setattr(budget, "CPU_CACHE_BYTES", 1_000 * budget.bytes_per_token(model))
    assert budget.bytes_per_token(model) == 2 * 4 * outputs
    assert budget.tokens_per_batch(model) == 1_000
    monkeypatch.setattr(budget, "CPU_CACHE_BYTES", 10**12)
    assert budget.tokens_per_batch(model) == budget.MOST_TOKENS["cpu"]

    gpu = types.SimpleNamespace(device=torch.device("cuda", 0), dtype=torch.bfloat16)
    monkeypatch.setattr(budget, "bytes_per_token", lambda model: 100_000)
    for free, processes, expected in ((70e9, 1, 32_768), (4e9, 1, 20_000), (4e9, 4, 5_000), (1e6, 1, 512)):
        monkeypatch.setattr(budget, "_free_memory", lambda device, free=free: int(free))
        monkeypatch.setattr(budget, "processes_sharing", lambda device, processes=processes: processes)
        assert budget.tokens_per_batch(gpu) == expected


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on the CPU")
def test_a_compiled_model_scores_the_same(folder, tmp_path, monkeypatch):
    """Compiled once for all lengths: the same scores, in every batch, and the code is kept for the next process."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    inputs = conversations(40, seed=9, longest=60)
    compiled = Scorer(config_of(folder, compile=True, tokens_per_batch=300))
    compiled.load()
    torch._dynamo.utils.counters.clear()
    assert_same(list(compiled.stream(inputs)), simple(Scorer(config_of(folder)), inputs))
    assert not torch._dynamo.utils.counters["frames"], "a length was compiled anew"
    assert any(tmp_path.rglob("*.so"))


def test_no_compiler(folder, monkeypatch):
    """Where torch.compile does not work, that is said at load, with what to set."""

    def broken(self, **options):
        raise RuntimeError("no C++ compiler")

    monkeypatch.setattr(torch.nn.Module, "compile", broken)
    with pytest.raises(ValueError, match=r"compile=True.*no C\+\+ compiler\nSet compile=False"):
        Scorer(config_of(folder, compile=True)).load()


def test_the_first_scores_do_not_wait_for_a_whole_window(on_devices, folder):
    """A device starts when a few documents are there; later windows are larger."""
    scored = threading.Event()

    def texts():
        yield from ("um texto" for _ in range(streaming.FIRST_WINDOW_ITEMS))
        assert scored.wait(60)
        yield from ("outro texto" for _ in range(20 * streaming.FIRST_WINDOW_ITEMS))

    stream = on_devices(folder, 1).stream(texts())
    first = next(stream)
    scored.set()
    assert [first, *stream][: streaming.FIRST_WINDOW_ITEMS] == [first] * streaming.FIRST_WINDOW_ITEMS


@pytest.mark.parametrize("form", ["text", "turns", "parts", "sharegpt"])
def test_windows_follow_from_the_budget(on_devices, folder, form):
    """What a run holds is a few windows of some batches each, wherever in a conversation its text stands."""
    text = "uma palavra e outra " * 8
    turn = {"parts": {"role": "user", "content": [text]}, "sharegpt": {"from": "human", "value": text}}
    item = text if form == "text" else [turn.get(form, {"role": "user", "content": text})]
    of_a_window = 8 * 4 * 64 // len(text) + 1
    read: list[int] = []
    stream = on_devices(folder, 1, tokens_per_batch=64).stream(read.append(index) or item for index in range(10_000))
    for taken in range(1, 401):
        assert isinstance(next(stream), Score)
        if taken > 16 + 32 + 64:  # windows that may be cut before the budget is known
            assert len(read) <= taken + of_a_window * (2 * (streaming.WINDOWS_AHEAD + 1) + 1)
    stream.close()


def test_a_window_is_cut_whatever_a_message_holds(on_devices, folder):
    """A content that is nested too deep is unscorable, and no error of the reading thread."""
    content: list = []
    for _ in range(5_000):
        content = [content]
    deep, score = on_devices(folder, 1).stream([[{"role": "user", "content": content}], "um texto"])
    assert isinstance(deep, Unscorable)
    assert isinstance(score, Score)


def test_windows_stay_small_while_all_scores_are_known(on_devices, folder, tmp_path):
    """A task that goes on where it stopped loads no model at first: it holds no more than one that computes."""
    one = on_devices(folder, 1)
    with ScoreStore(tmp_path, one.fingerprint, rank=0) as store:
        (score,) = one.stream(["um texto"], store)
        read: list[int] = []
        stream = one.stream((read.append(index) or "um texto" for index in range(10_000)), store)
        for taken in range(1, 2_001):
            assert next(stream).score == score.score
            assert len(read) <= taken + 64 * (2 * (streaming.WINDOWS_AHEAD + 1) + 1)
        stream.close()


def test_long_texts_fill_batches_too(on_devices, folder, monkeypatch):
    """A text that is cut counts as what is left of it, so that windows of such texts are as many batches."""
    one = on_devices(folder, 1, tokens_per_batch=320, max_tokens=160)
    forward, computed = one.replicas[0].forward, []
    monkeypatch.setattr(one.replicas[0], "forward", lambda *given: computed.append(len(given[1])) or forward(*given))
    assert all(score.truncated for score in one.score(["uma palavra e outra " * 1_000] * 200))
    assert sum(computed) == 200
    assert computed.count(1) <= 5  # the last of a window


# --- to a clean end --------------------------------------------------------------------------------------------------


def failing(after):
    for index in range(after):
        yield f"texto {index}"
    raise OSError("the disk is gone")


@pytest.mark.parametrize("after", [0, 1, 50])
def test_an_upstream_that_raises(on_devices, folder, monkeypatch, after):
    """Its error arrives as it was raised, after the results of the windows before it."""
    monkeypatch.setattr(streaming, "WINDOW_ITEMS", 8)
    results = []
    with pytest.raises(OSError, match="disk is gone") as caught:
        results.extend(on_devices(folder, 2).stream(failing(after)))
    assert any(entry.name == "failing" for entry in caught.traceback)


@pytest.mark.parametrize("taken", [0, 1, 30])
def test_a_consumer_that_stops_early(on_devices, folder, monkeypatch, taken):
    """Closed or forgotten, a stream ends its threads and closes its input, however fast that comes."""
    monkeypatch.setattr(streaming, "WINDOW_ITEMS", 8)
    closed = []

    def endless():
        try:
            while True:
                yield "um texto"
        finally:
            closed.append(threading.current_thread().name)

    one = on_devices(folder, 2)
    stream = one.stream(endless())
    assert len(list(islice(stream, taken))) == taken
    stream.close()
    assert len(closed) == (taken > 0)
    forgotten = one.stream(endless())
    list(islice(forgotten, taken))
    del forgotten
    gc.collect()
    assert len(closed) == 2 * (taken > 0)


def test_probes_beside_a_stream_that_tokenizes(folder, monkeypatch):
    """A stream's texts keep their tokens while another stream's load cuts probes with the same tokenizer."""
    one = Scorer(config_of(folder))
    text = "uma palavra e outra " * 60
    expected = one.renderer.tokenize([text])
    call = one.renderer._call_tokenizer

    def called(texts):
        result = call(texts)
        other = threading.Thread(target=one.renderer.model_inputs, args=(text, 7))
        other.start()
        other.join(0.3)
        return result

    monkeypatch.setattr(one.renderer, "_call_tokenizer", called)
    assert one.renderer.tokenize([text]) == expected


def test_a_consumer_that_raises(on_devices, folder, monkeypatch):
    """Downstream's error is the one that is seen, and nothing stays behind."""
    monkeypatch.setattr(streaming, "WINDOW_ITEMS", 8)
    step = QualityFilter(config_of(folder))
    docs = (Document(text="", id=str(i), metadata={"messages": m}) for i, m in enumerate(conversations(100)))
    with pytest.raises(ZeroDivisionError):
        for index, _ in enumerate(step.run(docs)):
            1 // (index - 20)


def test_a_device_that_cannot_be_used_stops_the_run(on_devices, folder, monkeypatch):
    """A device that fails before it computes anything is an error for whoever waits, not silence."""
    one = on_devices(folder, 1)
    monkeypatch.setattr(replicas, "_use", lambda device: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        one.score(["um texto"])


def test_a_stream_that_is_left_while_the_model_loads(on_devices, folder, log):
    """A caller that gives up during a long load waits for nothing; the model is there for the next stream."""
    one = on_devices(folder, 1)
    loads, go = [], threading.Event()

    def load():
        loads.append(threading.current_thread().name)
        assert go.wait(60)
        return LoadedModel(one.replicas, [], "sdpa")

    model = LazyModel(load)
    stream = streaming.LogitStream(one.renderer, model, None, packs=True)
    results = stream.of((number, "um texto") for number in range(3))
    caller = threading.Thread(target=lambda: next(results, None), daemon=True)
    caller.start()
    while not loads:
        time.sleep(0.01)
    stream._close()
    assert not stream._ahead.thread.is_alive() and not stream._reading.thread.is_alive()
    assert not any("hangs" in line for line in log)
    go.set()
    assert [number for number, _ in streaming.LogitStream(one.renderer, model, None, True).of([(7, "um texto")])] == [
        7
    ]
    assert loads == ["loading"]


def test_a_stream_that_its_own_thread_collects(on_devices, folder, log):
    """A garbage collection in a stream's own thread ends it without waiting for itself."""
    one = on_devices(folder, 1)
    stream = streaming.LogitStream(one.renderer, one._model, None, packs=True)
    closed = threading.Event()

    def inputs():
        yield None, "um texto"
        stream._close()
        closed.set()
        yield None, "outro"

    results = stream.of(inputs())
    threading.Thread(target=lambda: next(results, None), daemon=True).start()
    assert closed.wait(20)
    assert not any("hangs" in line for line in log)


ENDS = {"pass": 0, "sys.exit(3)": 3, "raise KeyError": 1, "os.kill(os.getpid(), signal.SIGINT)": -signal.SIGINT}


def test_a_process_ends(folder):
    """With a stream half read and somebody holding it, a process still ends, by its own status."""
    code = f"""
        import os, signal, sys
        import transformers.modeling_utils  # once for all processes; it takes the longest
        from datatrove_quality import ScorerConfig, load_scorer
        for how in {list(ENDS)}:
            child = os.fork()
            if not child:
                break
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        else:
            sys.exit()
        signal.alarm(60)  # the end of one that would not end
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
        scorer = load_scorer(ScorerConfig(model={str(folder)!r}, dtype="float32", device="cpu"))
        stream = scorer.stream(iter(lambda: "um texto", 1))
        next(stream)
        held = [stream]
        exec(how)
    """
    run = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=300)
    assert list(map(int, run.stdout.split())) == list(ENDS.values()), run.stderr


def test_ahead_is_a_queue_of_bounded_length():
    """No more items wait than asked for, whoever is slow, and they come in order."""
    made = []
    ahead = Ahead((made.append(index) or index for index in range(100)), limit=lambda: 3, name="reading ahead")
    ahead.start()
    deadline = time.monotonic() + 20
    while len(made) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)
    assert len(made) == 4
    assert list(ahead) == list(range(100))
    assert ahead.close(timeout=10)


def test_ahead_survives_any_interleaving():
    """Closed at any moment, with a producer that is fast, slow, ending or raising, its thread ends."""
    rng = random.Random(0)

    def items(count, error):
        for index in range(count):
            if rng.random() < 0.2:
                time.sleep(0.0005)
            yield index
        if error:
            raise ValueError("cut")

    for _ in range(300):
        made = items(rng.randrange(12), rng.random() < 0.3)
        ahead = Ahead(made, limit=lambda: rng.randrange(1, 4), name="reading ahead")
        ahead.start()
        with suppress(ValueError):
            for _ in islice(ahead, rng.randrange(4)):
                time.sleep(rng.choice([0, 0, 0.0005]))
        assert ahead.close(timeout=10)


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
