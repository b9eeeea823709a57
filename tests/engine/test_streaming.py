"""The streaming engine: scores as one text at a time gives them, in order, from any number of devices; clean ends."""

import gc
import signal
import subprocess
import sys
import textwrap
import threading
import time
from itertools import islice

import pytest
from datatrove.data import Document
from scorers import assert_same, config_of, simple
from tiny_models import conversations

from datatrove_quality import QualityFilter
from datatrove_quality.config import Unscorable
from datatrove_quality.engine import streaming
from datatrove_quality.engine.lazy_model import LazyModel, LoadedModel
from datatrove_quality.engine.scorer import Score, Scorer
from datatrove_quality.engine.store import ScoreStore


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


# --- windows ---------------------------------------------------------------------------------------------------------


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
    assert all(score.truncated for score in one.score([f"{index} palavras e outra " * 1_000 for index in range(200)]))
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


def test_a_stream_that_is_left_while_the_model_loads(on_devices, folder, log):
    """A caller that gives up during a long load waits for nothing; the model is there for the next stream."""
    one = on_devices(folder, 1)
    loads, go = [], threading.Event()

    def load():
        loads.append(threading.current_thread().name)
        assert go.wait(60)
        return LoadedModel(one.replicas, [], "sdpa", "sdpa")

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


@pytest.mark.parametrize("place", ["rendering", "computing"])
def test_a_stream_that_its_own_thread_collects_while_it_computes(on_devices, folder, monkeypatch, log, place):
    """The other threads end too, those that wait for a batch among them; the fixture `no_thread_stays` looks."""
    one = on_devices(folder, 2)
    stream = streaming.LogitStream(one.renderer, one._model, None, packs=True)
    computing, closed = threading.Event(), threading.Event()

    def close():
        assert computing.wait(20)
        stream._close()
        closed.set()

    def forward(model, sequences, forward=one.replicas[0].forward, **given):
        computing.set()
        if place == "computing":
            close()
        return forward(model, sequences, **given)

    def inputs():
        yield from ((None, f"texto {number}") for number in range(300))
        if place == "rendering":
            close()
        yield None, "o último"

    for replica in one.replicas:
        monkeypatch.setattr(replica, "forward", forward)
    threading.Thread(target=lambda: next(stream.of(inputs()), None), daemon=True).start()
    assert closed.wait(20)
    assert not any("hangs" in line for line in log)


ENDS = {"pass": 0, "sys.exit(3)": 3, "raise KeyError": 1, "os.kill(os.getpid(), signal.SIGINT)": -signal.SIGINT}


def test_a_process_ends(folder):
    """With a stream that is half read and still referenced, a process still ends, by its own status."""
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
