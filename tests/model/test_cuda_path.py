"""The CUDA path on fake GPUs: devices, dtypes, shapes and strides are right, and nothing waits for the device.

What fake tensors cannot tell is in tests/gpu: values, speed, and whether a kernel runs. The self-check and the loading
of weights are left out here, since they read values.
"""

import queue
from concurrent.futures import Future
from functools import partial, wraps
from types import SimpleNamespace

import pytest
import torch
from fake_cuda import FakeCuda, Mistake, int_products_of_cuda
from tiny_models import FAMILIES, WIDE_HEADS
from transformers import AutoConfig, AutoModelForSequenceClassification

from datatrove_quality.config import ScorerConfig
from datatrove_quality.engine import replicas, shared_trunk
from datatrove_quality.engine.batching import packed_batches
from datatrove_quality.engine.lazy_model import LoadedModel
from datatrove_quality.engine.replicas import END, Batch, Replica, copy_to
from datatrove_quality.model import attention, forward, fused, quantized, self_check, token_budget, trunk
from datatrove_quality.model.shared_rows import SharedPrefixes


# Each of these has a flash kernel in torch: no soft cap, no sinks.
FLASH_FAMILIES = ("qwen3", "llama", "mistral", "gemma3", "qwen3_moe")
ENCODER_FAMILIES = ("bert", "roberta", "modernbert")
FLASH_KERNELS = ("torch_varlen_attention", "torch_flash_attention")
SEQUENCES = [[5, 6, 7], [8], list(range(10, 60))]
OTHER_SEQUENCES = [[9, 10], list(range(20, 45))]
PROMPT = list(range(10, 60))
ALIKE = [[*PROMPT, 61], [*PROMPT, 62, 63], PROMPT, [5, 6, 7]]


@pytest.fixture
def gpu(monkeypatch):
    attention._flash_kernel.cache_clear()
    yield FakeCuda(monkeypatch)
    attention._flash_kernel.cache_clear()


def classifier(gpu, family, dtype=torch.bfloat16, pooled=False):
    """A classifier on the first fake GPU, prepared as the scorer prepares it."""
    model_type, make_tokenizer, values = FAMILIES[family]
    tokenizer = make_tokenizer()
    is_decoder = "num_key_value_heads" in values
    values = values | (WIDE_HEADS if is_decoder else {})
    values |= {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id, "num_labels": 1}
    with gpu.tensors():
        with torch.device("cuda"):
            config = AutoConfig.for_model(model_type, **values)
            model = AutoModelForSequenceClassification.from_config(config, dtype=dtype)
        model.eval().requires_grad_(False)
        forward.keep_head_in_float32(model)
        if is_decoder:
            model.set_attn_implementation(attention.PACKED)
        if pooled:
            forward.pool_in_last_layer(model)
        if is_decoder:
            attention.kernel_name(model)  # as at load: each kernel is tried once, which waits
    return model


@pytest.fixture
def attended(monkeypatch):
    """What each flash kernel gets, checked to be what it can take: its name, and how many queries and keys."""
    seen = []

    def watch(kernel, query, key, value, spans, terms):
        for states in (query, key, value):
            assert states.device == query.device and states.dtype == query.dtype and states.stride(-1) == 1
        for boundaries in (spans.queries, spans.keys):
            assert boundaries.dtype == torch.int32 and boundaries.is_contiguous()
            assert boundaries.device == query.device
        assert type(spans.longest_query) is int and type(spans.longest_key) is int
        assert len(spans.queries) == len(spans.keys) and len(key) == len(value)
        output = kernel(query, key, value, spans, terms)
        assert output.shape == (*query.shape[:-1], value.shape[-1])
        assert output.device == query.device and output.dtype == query.dtype
        seen.append((kernel.__name__, len(query), len(key)))
        return output

    chosen = attention.kernel_for

    def watched(*terms):
        kernel = chosen(*terms)
        return wraps(kernel)(partial(watch, kernel))

    monkeypatch.setattr(attention, "kernel_for", watched)
    return seen


@pytest.mark.parametrize("pooled", [False, True], ids=["all", "pooled"])
@pytest.mark.parametrize(
    ("family", "dtype"),
    # torch 2.13's fake product of experts takes bfloat16 alone.
    [*((one, torch.bfloat16) for one in FLASH_FAMILIES), *((one, torch.float16) for one in FLASH_FAMILIES[:-1])],
)
def test_a_decoder_never_waits(gpu, attended, family, dtype, pooled):
    """Packing, layers, a flash kernel, pooling and head: three copies to the device, and no other meeting with it."""
    model = classifier(gpu, family, dtype, pooled)
    attended.clear()
    with gpu.asynchronous() as calls:
        logits = forward.packed_logits(model, SEQUENCES)
    assert logits.shape == (len(SEQUENCES), 1) and logits.dtype == torch.float32
    assert logits.device == torch.device("cuda:0")
    assert calls == ["copy to cuda:0"] * 3
    tokens = sum(map(len, SEQUENCES))
    assert {name for name, *_ in attended} == {"torch_flash_attention"}
    assert [queries for _, queries, _ in attended] == [tokens, tokens, len(SEQUENCES) if pooled else tokens]
    assert {keys for *_, keys in attended} == {tokens}


@pytest.mark.parametrize("pooled", [False, True], ids=["all", "pooled"])
@pytest.mark.parametrize("family", FLASH_FAMILIES)
def test_shared_prefixes_never_wait(gpu, attended, family, pooled):
    """Each segment's keys are gathered with those before it; indices go to the device as all else does."""
    model = classifier(gpu, family, pooled=pooled)
    attended.clear()
    with gpu.asynchronous() as calls:
        row = SharedPrefixes(model).row(ALIKE)
        logits = forward.packed_logits(model, ALIKE, row=row)
    assert logits.shape == (len(ALIKE), 1) and logits.device == torch.device("cuda:0")
    assert set(calls) == {"copy to cuda:0"}
    in_row, last = (56, 50 + 51 + 52 + 3), (4, 50 + 51 + 52 + 3)
    assert [one[1:] for one in attended] == [in_row, in_row, last if pooled else in_row]
    assert {name for name, *_ in attended} == {"torch_flash_attention"}


@pytest.mark.parametrize("kernel", FLASH_KERNELS)
def test_each_of_torchs_kernels_takes_our_tensors(gpu, attended, monkeypatch, kernel):
    """The public function and the operator under it accept what packed attention hands to them."""
    only = getattr(attention, kernel)
    monkeypatch.setattr(attention, "_offers", lambda tried, terms: tried is only)
    model = classifier(gpu, "mistral", pooled=True)
    with gpu.asynchronous():
        forward.packed_logits(model, SEQUENCES)
    assert {name for name, *_ in attended} == {kernel}


@pytest.mark.parametrize("family", ENCODER_FAMILIES)
def test_an_encoder_never_waits(gpu, family):
    """Padding, layers and head: two copies to the device."""
    model = classifier(gpu, family)
    with gpu.asynchronous() as calls:
        logits = forward.padded_logits(model, SEQUENCES)
    assert logits.shape == (len(SEQUENCES), 1) and logits.dtype == torch.float32
    assert logits.device == torch.device("cuda:0")
    assert calls == ["copy to cuda:0"] * 2


@pytest.mark.parametrize("family", ["gemma2", "gpt_oss", "deberta"])
def test_what_waits_is_known(gpu, family):
    """torch has no kernel with soft caps or sinks, so that sequences are cut apart; DeBERTa's own code copies."""
    model = classifier(gpu, family)
    logits = forward.padded_logits if family == "deberta" else forward.packed_logits
    # Before transformers 5.23 some of DeBERTa's functions are TorchScript, whose errors have neither type nor words.
    said = r"is read|a copy from cpu|in the TorchScript interpreter"
    with pytest.raises((Mistake, RuntimeError), match=said), gpu.asynchronous():
        logits(model, SEQUENCES)


@pytest.fixture
def launched(gpu, monkeypatch):
    """What the Triton kernels get instead of being started, checked to be what they can take: their names."""
    kernels = pytest.importorskip("datatrove_quality.model.triton_kernels", exc_type=ImportError)
    seen = []

    def launch(kernel, programs, *arguments, **options):
        states = [one for one in arguments if isinstance(one, torch.Tensor)]
        assert programs > 0 and {one.device for one in states} == {states[0].device}
        assert all(one.stride(-1) == 1 for one in states)
        assert all(isinstance(one, int | float) for one in arguments if not isinstance(one, torch.Tensor))
        is_there = states[0].device == gpu.current
        seen.append(kernel.__name__ if is_there else f"{kernel.__name__} on another GPU")

    monkeypatch.setattr(kernels, "launch", launch)
    # What they compute is compared elsewhere, with values: test_fused.py, and at load on the device.
    monkeypatch.setattr(fused, "_near", lambda mine, other, dtype, roundings=1: _alike(mine, other))
    return seen


def _alike(mine, other):
    assert mine.shape == other.shape and mine.dtype == other.dtype and mine.device == other.device
    return True


@pytest.mark.parametrize("sequences", [SEQUENCES, ALIKE], ids=["apart", "alike"])
@pytest.mark.parametrize("family", ["qwen3", "llama", "gemma3"])
def test_fused_functions_never_wait(gpu, attended, launched, family, sequences):
    """With Triton kernels in the place of norms, rotary embeddings and gates, all stays on the device."""
    model = classifier(gpu, family, pooled=True)
    replaced = fused.Replaced()
    with gpu.tensors():
        fused.replace_parts(model, fused.functions_for(model.device), replaced)
    launched.clear()
    with gpu.asynchronous() as calls:
        row = SharedPrefixes(model).row(sequences)
        logits = forward.packed_logits(model, sequences, row=row)
    assert (row is None) == (sequences is SEQUENCES)
    assert logits.device == torch.device("cuda:0") and logits.shape == (len(sequences), 1)
    assert set(calls) == {"copy to cuda:0"}
    layers = 3
    # The last layer runs twice: on all tokens up to its keys, then on the pooled ones.
    assert launched.count("gate_kernel") == layers == replaced.counts["gates"]
    assert launched.count("rotary_kernel") == 2 * (layers + 1)
    assert launched.count("norm_kernel") > replaced.counts["norms"]


def test_fused_functions_are_tried_on_the_models_gpu(gpu, launched):
    """The current GPU is the first one, whose kernels cannot read what another one has."""
    model = classifier(gpu, "qwen3")
    with gpu.tensors():
        probe = {"input_ids": torch.tensor([SEQUENCES[0]])}
        fused.use_fused_functions(copy_to(model, torch.device("cuda:1")), forward.packed_logits, [probe])
    assert set(launched) == {"norm_kernel", "rotary_kernel", "gate_kernel"} and gpu.current.index == 0


@pytest.mark.parametrize("dtype", quantized.ON_CUDA)
def test_products_of_8_bits_never_wait(gpu, attended, monkeypatch, dtype):
    """Neither with all tokens nor with the few that are pooled, of which CUDA's int8 needs more."""
    rows = int_products_of_cuda(monkeypatch)
    model = classifier(gpu, "qwen3", pooled=True)
    last, layers = quantized.LastRows(), list(quantized.linear_layers(model))
    with gpu.tensors():
        for parent, name, own in layers:
            setattr(parent, name, quantized.ON_CUDA[dtype](own, last))
    with gpu.asynchronous() as calls:
        logits = forward.packed_logits(model, SEQUENCES)
    assert logits.shape == (len(SEQUENCES), 1) and logits.device == torch.device("cuda:0")
    assert calls == ["copy to cuda:0"] * 3
    if dtype == "int8_bfloat16":
        assert len(rows) >= len(layers) and set(rows) == {sum(map(len, SEQUENCES)), quantized.LEAST_ROWS}


def batch(sequences, tokens=None, kept=0):
    """Its result: the logits, and how many tokens were saved."""
    return Batch(sequences, lambda values, num_saved: (values, num_saved), Future(), tokens, kept)


def work(replica, batches):
    waiting = queue.SimpleQueue()
    for one in [*batches, END]:
        waiting.put(one)
    replica.work(waiting)


LAUNCH = ["set_device cuda:0", "copy to cpu", "record event"]


def test_a_device_gets_its_next_batch_before_the_last_one_is_read(gpu):
    """Each batch's copy to the host is queued behind it, and waited for when the next batch is on its way."""
    model = classifier(gpu, "qwen3", pooled=True)
    replica = Replica(model, forward.packed_logits, packed_batches, 1_000)
    batches = [batch(SEQUENCES), batch(OTHER_SEQUENCES)]
    with gpu.asynchronous() as calls:
        work(replica, batches)
    device, *rest = LAUNCH
    launch = [device, *["copy to cuda:0"] * 3, *rest]
    assert calls == [*launch, *launch, "synchronize event", "synchronize event"]
    assert [len(one.result.result()[0]) for one in batches] == [len(SEQUENCES), len(OTHER_SEQUENCES)]


def test_so_it_does_where_texts_begin_alike(gpu):
    """As batches are planned for a GPU: nothing is held for the next one, since looking at what is held waits."""
    model = classifier(gpu, "qwen3", pooled=True)
    replica = Replica(model, forward.packed_logits, packed_batches, len(PROMPT) + 2, SharedPrefixes(model))
    sequences = [[*PROMPT, token] for token in range(61, 65)]
    planned = replicas._plan_of([replica])(sequences)
    batches = [batch([sequences[index] for index in one.indices], one.tokens, one.kept) for one in planned]
    with gpu.asynchronous() as calls:
        work(replica, batches)
    assert [call for call in calls if call != "copy to cuda:0"] == [*LAUNCH, *LAUNCH, *["synchronize event"] * 2]
    assert [one.result.result()[1] for one in batches] == [len(PROMPT)] * 2


def test_a_replica_computes_on_its_own_device(gpu):
    """A copy of a model on a second GPU has no tensor on the first, in its weights or on the way."""
    model = classifier(gpu, "qwen3")
    with gpu.tensors():
        copied = copy_to(model, torch.device("cuda:1"))
        for one in (model, copied):
            forward.pool_in_last_layer(one)
        attention.kernel_name(copied)
    one = batch(SEQUENCES)
    with gpu.asynchronous() as calls:
        assert forward.packed_logits(copied, SEQUENCES).device == torch.device("cuda:1")
        work(Replica(copied, forward.packed_logits, packed_batches, 1_000), [one])
    assert len(one.result.result()[0]) == len(SEQUENCES)
    assert "copy to cuda:0" not in calls and "set_device cuda:1" in calls


def head_of(gpu, model):
    """The head of another classifier with the model's trunk, on the CPU, as `trunk.head_on_trunk` gives it."""
    with gpu.tensors():
        head = AutoModelForSequenceClassification.from_config(model.config, dtype=model.dtype)
        setattr(head, head.base_model_prefix, trunk._GivenTrunk())
        forward.keep_head_in_float32(head)
    return head.eval().requires_grad_(False)


@pytest.mark.parametrize("family", ["qwen3", "bert"])
def test_heads_of_one_trunk_are_on_each_replicas_device(gpu, monkeypatch, family):
    """A forward pass gives the logits of all heads, without another copy or another wait."""
    monkeypatch.setattr(self_check, "probes", lambda model, renderer: [])
    model = classifier(gpu, family)
    logits = forward.padded_logits if family == "bert" else forward.packed_logits
    with gpu.tensors():
        models = [model, copy_to(model, torch.device("cuda:1"))]
        if family != "bert":
            attention.kernel_name(models[1])
        every = [Replica(one, logits, packed_batches, 1_000) for one in models]
        found = SimpleNamespace(outputs=SimpleNamespace(names=("score",)), renderer=None)
        sharing = [shared_trunk.Sharing(ScorerConfig(model=name), found, lambda model: None) for name in "ab"]
        sharing[0].loaded = LoadedModel(every, [], "", "")
        shared = shared_trunk._Trunk(sharing[0])
        trunk.note_trunk(model)
        shared._heads, shared._members = [copy_to(head_of(gpu, model), model.device)], sharing
        shared._results.append([])
        shared.publish()
    for place, replica in enumerate(every):
        with gpu.asynchronous() as calls:
            both = replica.forward(replica.model, SEQUENCES)
        assert both.shape == (len(SEQUENCES), 2) and both.dtype == torch.float32
        assert both.device == torch.device("cuda", place)
        assert calls == [f"copy to cuda:{place}"] * (2 if family == "bert" else 3)


def test_the_budget_of_a_large_gpu_is_the_most(gpu, monkeypatch):
    """100 GB of free memory admit the most tokens that are ever taken at once; a nearly full device fewer."""
    monkeypatch.setattr(token_budget, "processes_sharing", lambda device: 1)
    model = classifier(gpu, "qwen3")
    most = token_budget.tokens_per_batch(model)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (10_000_000, 140 * 10**9))
    assert token_budget.tokens_per_batch(model) < most == 32_768


MISTAKES = {
    "item": lambda hidden: hidden * hidden.max().item(),
    "tolist": lambda hidden: hidden[: len(hidden.flatten().tolist())],
    "bool": lambda hidden: hidden if hidden.isfinite().all() else -hidden,
    "int": lambda hidden: hidden[: int(hidden.argmax())],
    "cpu": lambda hidden: hidden.cpu().to("cuda", non_blocking=True),
    "nonzero": lambda hidden: hidden.nonzero(),
    "boolean mask": lambda hidden: hidden[hidden > 0],
    "a new tensor": lambda hidden: hidden + torch.tensor([1.0], device="cuda", dtype=hidden.dtype),
    "not pinned": lambda hidden: hidden + torch.ones(1, dtype=hidden.dtype).to("cuda", non_blocking=True),
    "index on the host": lambda hidden: hidden[torch.tensor([0])],
    "tensor on the host": lambda hidden: hidden + torch.ones(hidden.shape[-1]),
    "another GPU": lambda hidden: hidden + torch.ones(hidden.shape[-1], device="cuda:1"),
    "dtype": lambda hidden: hidden @ torch.ones(hidden.shape[-1], hidden.shape[-1], device="cuda"),
    "shape": lambda hidden: hidden + torch.ones(3, device="cuda"),
    "stride": lambda hidden: hidden.transpose(-1, -2).view(-1),
    "synchronize": lambda hidden: [hidden, torch.cuda.synchronize()][0],
}
# Ours, and those of torch.
ERRORS = (Mistake, RuntimeError, ValueError)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_the_hot_path_is_seen(gpu, mistake):
    """Each of these, put behind a layer, fails here as it would slow down or end a run on a GPU."""
    model = classifier(gpu, "qwen3")
    layer = model.model.layers[1]
    plain = layer.forward
    layer.forward = lambda *arguments, **options: MISTAKES[mistake](plain(*arguments, **options))
    with pytest.raises(ERRORS), gpu.asynchronous():
        forward.packed_logits(model, SEQUENCES)


def test_reading_a_copy_too_soon_is_seen(gpu):
    """Logits on the way to the host are not there before their event was waited for."""
    with gpu.asynchronous(), pytest.raises(Mistake):
        torch.ones(3, device="cuda").to("cpu", non_blocking=True).tolist()
