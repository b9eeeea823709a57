"""The benchmark: its contenders score alike, and its operations are those that a forward pass takes."""

import gc
import json
import os
import signal
import sys
import time
from concurrent.futures.process import BrokenProcessPool
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace

import contenders
import corpora
import figures
import hardware
import multiprocess
import pipeline_runs
import pytest
import shapes
import simulated_gpus
import store
import throughput
import time_slices
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from datatrove_quality.engine import scorer


HERE = ("card", "annotator", "sorted", "pipeline", "ours", "ours-pipeline")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    shapes.save_random_model(folder, "tiny", "float32", "cpu")
    return folder


@pytest.fixture(scope="module")
def result(tiny, tmp_path_factory):
    """The results of the contenders that every installation has, kept in a file as a user would."""
    patch = pytest.MonkeyPatch()
    patch.setattr(throughput, "RESULTS", tmp_path_factory.mktemp("results"))
    patch.setattr(hardware, "SECONDS_OF_PASSES", 0.0)
    arguments = ["--model", str(tiny), "--docs", "40", "--mix", "chat", "--device", "cpu", "--only", ",".join(HERE)]
    throughput.main([*arguments, "--repeats", "1", "--one-process"])
    (path,) = throughput.RESULTS.iterdir()
    patch.undo()
    multiprocess.set_start_method(None, force=True)
    return json.loads(path.read_text())


def test_contenders_give_the_cards_scores(result):
    """A figure of a contender that computes something else would be worth nothing."""
    differences = {name: each["largest_difference"] for name, each in result["contenders"].items()}
    assert list(differences) == list(HERE)
    assert max(differences.values()) < 1e-4


def test_scores_tell_documents_apart(tiny, tmp_path):
    """Contenders that agree on one constant would agree on nothing."""
    tokenizer = AutoTokenizer.from_pretrained(tiny)
    made = corpora.conversations(8, "chat", corpora.tokens_per_word(tokenizer))
    path = corpora.write(tmp_path / "few.jsonl", made)
    loaded = contenders.Loaded("card", contenders.Setup(str(tiny), "cpu", "float32"), path, warmup=1)
    scores = sorted(loaded.turn().scores)
    assert min(after - before for before, after in pairwise(scores)) > 1e-3


def test_figures_follow_from_each_other(result):
    """Rates, shares and ratios are of the same turn and the same operations."""
    ours, annotator = result["contenders"]["ours"], result["contenders"]["annotator"]
    assert ours["documents_per_second"] * ours["seconds"] == pytest.approx(40)
    assert ours["times_annotator"] == pytest.approx(annotator["seconds"] / ours["seconds"])
    useful = result["matrix_flops"] + result["attention_flops"]
    (rate,) = ours["matrix_rates"]
    assert ours["share_of_matrix_rate"] == pytest.approx(useful / ours["seconds"] / rate)
    bare = result["matrix_flops"] / rate
    assert ours["times_bare_products"] == pytest.approx(ours["seconds"] / bare)


def test_table_and_chart_show_every_contender(result, tmp_path):
    """Terminal, README and chart; one that failed is shown as such."""
    broken = {"label": "another", "error": "OutOfMemoryError: 80 GB"}
    shown = result | {"contenders": result["contenders"] | {"other": broken}}
    for text in (figures.table(shown), figures.markdown(shown)):
        assert all(contenders.LABELS[name] in text for name in HERE)
        assert "failed" in next(line for line in text.splitlines() if "another" in line)
    figures.chart(shown, str(tmp_path / "chart.svg"))
    assert (tmp_path / "chart.svg").stat().st_size > 1_000


def test_a_batch_that_fits_no_memory_is_halved(tiny, tmp_path, monkeypatch):
    """Eager attention over 32 long rows needs more than a GPU has; what is measured is then what fits."""
    setup = contenders.Setup(str(tiny), "cpu", "float32")
    made = list(corpora.conversations(20, "chat", 1.5))
    annotator = contenders.Annotator(setup)
    expected = annotator(contenders.Documents(tmp_path, made))
    whole, rows = annotator.forward, []

    def small(inputs):
        if len(inputs["input_ids"]) > 5:
            raise torch.OutOfMemoryError("CUDA out of memory")
        rows.append(len(inputs["input_ids"]))
        return whole(inputs)

    monkeypatch.setattr(annotator, "forward", small)
    assert annotator(contenders.Documents(tmp_path, made)) == pytest.approx(expected, abs=1e-4)
    assert rows == [5, 5, 5, 5]


@pytest.mark.parametrize("free", [64_000_000, 10**12])
def test_weights_are_kept_in_memory_where_they_fit(free, tmp_path, monkeypatch):
    """A container's /dev/shm holds 64 MB, and 8 GB of weights would end the benchmark before it began."""
    monkeypatch.setattr(throughput, "MEMORY", tmp_path)
    monkeypatch.setattr(throughput.shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    assert throughput.folder_in_memory() == (tmp_path if free > 10**9 else None)
    monkeypatch.setattr(throughput, "MEMORY", tmp_path / "missing")
    assert throughput.folder_in_memory() is None


def test_random_scores_are_quieter_than_the_self_checks_bound(tmp_path, monkeypatch):
    """In bfloat16 a deep random model's noise is a share of what its scores vary by: they must not vary by much."""
    deep = shapes._qwen3(64, 128, 36, 4, 2, 16, shapes.VOCABULARY)
    monkeypatch.setitem(shapes.SHAPES, "deep", deep)
    shapes.save_random_model(tmp_path, "deep", "float32", "cpu")
    ids = torch.randint(10, 8_000, (16, 24), generator=torch.Generator().manual_seed(0))
    logits = []
    for dtype in (torch.float32, torch.bfloat16):
        model = AutoModelForSequenceClassification.from_pretrained(tmp_path, dtype=dtype).eval()
        with torch.inference_mode():
            logits.append(torch.cat([model(input_ids=row[None]).logits[:, 0].float() for row in ids]))
    assert (logits[0] - logits[1]).abs().max() < 0.1


def test_a_contender_in_its_own_process_gives_the_same_or_says_what_failed(tiny, tmp_path):
    """The default way to run: a worker's turn comes back whole, and so does its error, with which it ends."""
    setup = contenders.Setup(str(tiny), "cpu", "float32")
    path = corpora.write(tmp_path / "few.jsonl", corpora.conversations(3, "chat", 1.5))
    expected = contenders.Loaded("card", setup, path, 1).turn().scores
    worker = throughput.Process(contenders.Loaded, "ours-pipeline", setup, path, 1)
    turn = worker.turn()
    assert turn.scores == pytest.approx(expected, abs=1e-4)
    assert turn.peak_memory > 1e8
    path.unlink()
    with pytest.raises(throughput.Failed, match="No files found"):
        worker.turn()
    assert worker.process.exitcode == 0


def test_a_contender_that_does_not_end_is_killed(monkeypatch):
    """A compiler's processes keep theirs waiting for minutes, and the results with it."""
    monkeypatch.setattr(throughput, "SECONDS_TO_END", 0.2)
    waits = "import threading, time; threading.Thread(target=time.sleep, args=(1e6,)).start()"
    worker = throughput.Process(exec, waits)
    worker.close()
    assert worker.process.exitcode == -signal.SIGKILL


@pytest.mark.parametrize("name", ["tiny", "bert-base"])
def test_operations_equal_an_independent_count(name, tmp_path):
    """Torch's own counter, on the card's way of scoring; it counts attention's products above the diagonal too."""
    shape = shapes.SHAPES[name]
    if name == "bert-base":
        small = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
        shape = shapes.Shape("bert", 512, shape.values | small)
    patch = pytest.MonkeyPatch()
    patch.setitem(shapes.SHAPES, name, shape)
    shapes.save_random_model(tmp_path, name, "float32", "cpu")
    patch.undo()
    cost = hardware.model_cost(str(tmp_path))
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path, attn_implementation="eager")
    lengths = (1, 7, 50)
    products = {"addmm": 0, "mm": 0, "bmm": 0}
    for length in lengths:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model.base_model(input_ids=torch.full((1, length), 9))
        counts = counter.get_flop_counts()
        for operator, flops in counts["Global"].items():
            # Some versions of transformers multiply positions with frequencies by a product.
            angles = sum(part.get(operator, 0) for module, part in counts.items() if module.endswith("rotary_emb"))
            products[str(operator).removeprefix("aten.")] += flops - angles
    pooler = 2 * 64 * 64 * len(lengths) if name == "bert-base" else 0
    assert cost.matrix_flops(lengths) == products["addmm"] + products["mm"] - pooler
    attention = cost.attention_flops(lengths)
    # Of a square of pairs, a causal model has use for the lower triangle: half of it and of the diagonal.
    diagonal = 2 * 4 * 64 * sum(lengths) if cost.causal else 0
    assert products["bmm"] == (2 * attention - diagonal if cost.causal else attention)


def test_windows_are_counted():
    """What lies outside a layer's window is no operation."""
    cost = hardware.ModelCost(matrices=(), attention_widths=(1, 1), windows=(None, 3), causal=True)
    everything = sum(range(1, 11))
    within = sum(min(position, 3) for position in range(1, 11))
    assert cost.attention_flops([10]) == 4 * (everything + within)


@pytest.mark.parametrize("mix", ["sft", "chat", "long", "350"])
def test_documents_are_as_long_as_their_mix_says(tiny, mix):
    """The lengths that are asked for are those that the tokenizer makes, and the documents are always the same."""
    tokenizer = AutoTokenizer.from_pretrained(tiny)
    per_word = corpora.tokens_per_word(tokenizer)
    made = list(corpora.conversations(100, mix, per_word))
    assert made == list(corpora.conversations(100, mix, per_word))
    texts = [tokenizer.apply_chat_template(messages, tokenize=False) for messages in made]
    lengths = [len(ids) for ids in tokenizer(texts)["input_ids"]]
    asked = corpora.MIXES[mix].lengths(100)
    assert sum(lengths) == pytest.approx(sum(asked), rel=0.08)
    assert max(lengths) <= 6_500
    if mix == "sft":
        assert sum(lengths) / 100 == pytest.approx(350, rel=0.08)


def run_for(seconds):
    """Seconds by the clock of slices and by the wall's."""
    started, since = time_slices.clock(), time.perf_counter()
    while time_slices.clock() < started + seconds:
        pass
    return time_slices.clock() - started, time.perf_counter() - since


def test_processes_take_turns_and_their_clocks_stand_still_meanwhile(monkeypatch):
    """How cost grows is told from runs of one machine's good and bad seconds alike, not from who came when."""
    monkeypatch.setattr(time_slices, "SECONDS_OF_SLICE", 0.1)
    first, second = time_slices.in_turns([time_slices.Sliced(gc.enable, run_for, 1.0) for _ in range(2)])
    for own, wall in (first, second):
        assert own < 1.1
        assert wall > 1.5


def test_an_error_in_one_slice_ends_the_others():
    """A process that is stopped would otherwise be waited for without end."""
    processes = [time_slices.Sliced(gc.enable, run_for, seconds) for seconds in ("a word", 1e9)]
    with pytest.raises(TypeError):
        time_slices.in_turns(processes)


def start_another(seconds):
    get_context("fork").Process(target=time.sleep, args=(seconds,)).start()
    time.sleep(seconds)


def test_what_a_slice_has_started_ends_with_it():
    """DataTrove's executor starts a process; left behind, it would hold the pipes by which an end is told."""
    processes = [time_slices.Sliced(gc.enable, start_another, 60), time_slices.Sliced(gc.enable, run_for, "a word")]
    with pytest.raises(TypeError):
        time_slices.in_turns(processes)
    with pytest.raises(BrokenProcessPool):  # told at once
        processes[0].result.result(20)


def be_killed_beside_another(told, seconds):
    process = get_context("forkserver").Process(target=time.sleep, args=(seconds,))
    process.start()
    told.write_text(str(process.pid))
    os.kill(os.getpid(), signal.SIGKILL)


def test_what_a_killed_slice_has_started_ends_too(tmp_path):
    """The kernel kills for memory, and DataTrove's queue would wait for ever."""
    told = tmp_path / "pid"
    with pytest.raises(BrokenProcessPool):
        time_slices.in_turns([time_slices.Sliced(gc.enable, be_killed_beside_another, told, 600)])
    for _ in range(1_000):
        if not runs(int(told.read_text())):
            return
        time.sleep(0.01)
    raise AssertionError("it still runs")


def runs(process):
    """Whether a process is there and no zombie."""
    stat = Path(f"/proc/{process}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def refuse():
    raise RuntimeError("no")


def test_a_slice_that_cannot_start_ends_the_others():
    """Started contenders stay idle until they are ended."""
    processes = [time_slices.Sliced(gc.enable, run_for, 1e9), time_slices.Sliced(refuse, run_for, 1.0)]
    with pytest.raises(BrokenProcessPool):
        time_slices.in_turns(processes)
    with pytest.raises(BrokenProcessPool):  # killed
        processes[0].result.result(60)


def test_a_simulated_gpu_is_busy_for_its_tokens_and_idle_between_them(monkeypatch):
    """Its work comes one after another; what comes or is launched too late is what it lacked."""
    now, seconds_to_launch = [50.0], [0.01]

    def sleep(seconds):
        now[0] += seconds

    monkeypatch.setattr(simulated_gpus, "time", SimpleNamespace(perf_counter=lambda: now[0], sleep=sleep))
    gpu = simulated_gpus.SimulatedGpu(lambda model, sequences: sleep(seconds_to_launch[0]))
    first, second = gpu(None, [[0] * 7_500]), gpu(None, [[0] * 7_400, [0] * 100])
    assert now[0] == pytest.approx(50.02)
    assert (first.ready_at, second.ready_at) == pytest.approx((50.1, 50.2))
    assert second.tolist() == [[0.0], [0.0]]
    assert now[0] == pytest.approx(50.2)
    assert gpu.idle == pytest.approx(0)
    sleep(0.05)
    gpu(None, [[0] * 7_500]).tolist()
    assert gpu.idle == pytest.approx(0.05)
    seconds_to_launch[0] = 0.3
    gpu(None, [[0] * 7_500])
    assert (gpu.idle, gpu.busy) == pytest.approx((0.25, 0.4))


@pytest.fixture(scope="module")
def two_sizes(tiny, tmp_path_factory):
    """Files whose counts of documents end alike, as in `--simulated-gpus 1,11`."""
    folder = tmp_path_factory.mktemp("sizes")
    (folder / "model").symlink_to(tiny)
    return pipeline_runs._write_documents(folder, "350", [20, 120])


def test_simulated_gpus_are_no_faster_than_their_clock(tiny, two_sizes):
    """A whole pipeline waits for them, and gives each document of its own file."""
    texts = AutoTokenizer.from_pretrained(tiny)
    for count, path in two_sizes.items():
        run = pipeline_runs.in_fresh_process(simulated_gpus.run, tiny, path, 2)
        assert run["documents"] == count
        rendered = [texts.apply_chat_template(messages, tokenize=False) for messages in corpora.read(path)]
        tokens = sum(len(ids) for ids in texts(rendered)["input_ids"])
        assert count / run["documents_per_second"] > tokens / simulated_gpus.TOKENS_PER_SECOND / 2


def test_a_worker_does_task_after_task(tiny, two_sizes):
    """Cost and memory are told of what came out, and of the first task and all."""
    told = pipeline_runs.in_fresh_process(pipeline_runs.run_tasks, tiny, two_sizes[20], 3)
    assert (told["tasks"], told["documents"]) == (3, 60)
    assert 1e8 < told["peak_memory"] <= told["peak_memory_at_end"]


@pytest.mark.parametrize("given", ["--sizes=0,10", "--simulated-gpus=4,4", "--sizes=-1", "--repeats=0", "--docs=0"])
def test_a_benchmarks_options_are_checked_first(given, capsys):
    """A typing error is told at once, not after a quarter of an hour."""
    with pytest.raises(SystemExit):
        throughput.parse([given])
    assert "give" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ("--scale --docs 10", "--docs means nothing to --scale"),
        ("--simulated-gpus 2 --shape tiny", "--shape means nothing to --simulated-gpus"),
        ("--host --chart a.svg", "--chart means nothing to --host"),
        ("--scale --device cuda", "--scale measures on the CPU"),
        ("--sizes 10,20", "--sizes means nothing to a comparison"),
    ],
)
def test_what_a_measurement_would_not_heed_is_refused(given, named, capsys):
    """Figures are of the documents that were named."""
    with pytest.raises(SystemExit):
        throughput.parse(given.split())
    assert named in capsys.readouterr().err


@pytest.mark.parametrize("given", ["--host --repeats 2", "--scale --sizes 1,2", "--simulated-gpus 2", "--docs 3"])
def test_what_a_measurement_heeds_is_taken(given):
    """Each kind takes its own settings."""
    assert throughput.parse([*given.split(), "--device", "cpu"]).device == "cpu"


def test_what_the_store_costs_is_measured(monkeypatch, capsys):
    """The store's benchmark runs, computes no logits, and divides by the documents that it was given."""
    monkeypatch.setattr(sys, "argv", ["store.py", "--documents", "40", "--rounds", "1"])
    monkeypatch.setattr(scorer, "_found", {})  # or the model that computes nothing would stay
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    store.main()
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["documents"] == 40
    assert told["cost_us"] == pytest.approx(told["seconds"]["store alone"] / 40 * 1e6)
    (nothing,) = scorer._found.values()
    assert {score.score for score in nothing.score(["um texto", "outro"])} == {nothing.scale.score(0.0)}
