"""Packed attention: each kernel computes what the reference computes, and what cannot be computed is refused."""

import dataclasses
import sys
import types
from itertools import pairwise

import pytest
import torch
from tiny_models import Card, conversations

from datatrove_quality.config import ScorerConfig
from datatrove_quality.engine.scorer import Scorer
from datatrove_quality.model import attention
from datatrove_quality.model.attention import (
    AttentionTerms,
    Spans,
    flash_attn_attention,
    packed_attention,
    per_sequence_attention,
    torch_flash_attention,
    torch_varlen_attention,
)


LENGTHS = [1, 5, 40, 2, 17]


# --- what a flash kernel computes, written with one dense mask ------------------------------------------------------


def flash_reference(query, key, value, cu_q, cu_k, max_q, max_k, scale, left, right, softcap=0.0):
    """Attention over (tokens, heads, dim) as flash kernels define it; `left` and `right` do not count the token.

    Where a sequence has fewer queries than keys, they are its last tokens.
    """
    for boundaries, longest, states in ((cu_q, max_q, [query]), (cu_k, max_k, [key, value])):
        assert boundaries.dtype == torch.int32
        assert boundaries[0] == 0
        assert all(boundaries[-1] == len(one) for one in states)
        assert longest == boundaries.diff().max()
    place_q, place_k = torch.arange(len(query)), torch.arange(len(key))
    sequence_q, sequence_k = (
        torch.bucketize(place, boundaries[1:], right=True) for place, boundaries in ((place_q, cu_q), (place_k, cu_k))
    )
    from_end_q, from_end_k = cu_q[1:][sequence_q] - place_q, cu_k[1:][sequence_k] - place_k
    distance = from_end_k[None] - from_end_q[:, None]
    visible = sequence_q[:, None] == sequence_k[None]
    if left >= 0:
        visible &= distance <= left
    if right >= 0:
        visible &= -distance <= right
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    products = torch.einsum("qhd,khd->hqk", query.double(), key.double()) * scale
    if softcap:
        products = softcap * torch.tanh(products / softcap)
    weights = products.masked_fill(~visible, -torch.inf).softmax(-1)
    return torch.einsum("hqk,khd->qhd", weights, value.double()).to(query.dtype)


def varlen_new(
    query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, return_aux=None, scale=None, window_size=(-1, -1),
    enable_gqa=False, seqused_k=None,
):  # fmt: skip
    assert enable_gqa or query.shape[1] == key.shape[1]
    # torch 2.15 takes these to cuDNN on some GPUs, and others to flash.
    assert window_size not in ((-1, -1), (-1, 0))
    return flash_reference(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, scale, *window_size)


def varlen_without_gqa(
    query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, return_aux=None, scale=None, window_size=(-1, -1)
):
    return flash_reference(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, scale, *window_size)


def varlen_oldest(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, is_causal=False, return_aux=None):
    raise AssertionError("a function without scale and window must not be chosen")


class AtenFlash:
    """Stands for `torch.ops.aten._flash_attention_forward`, schema included."""

    def __init__(self, *names):
        arguments = [types.SimpleNamespace(name=name) for name in names]
        self.default = types.SimpleNamespace(_schema=types.SimpleNamespace(arguments=arguments))

    def __call__(
        self, query, key, value, cum_seq_q, cum_seq_k, max_q, max_k, dropout_p, is_causal, return_debug_mask, *,
        scale=None, window_size_left=None, window_size_right=None,
    ):  # fmt: skip
        assert dropout_p == 0.0
        assert not return_debug_mask
        right = 0 if is_causal else window_size_right
        bounds = (cum_seq_q, cum_seq_k, max_q, max_k)
        return flash_reference(query, key, value, *bounds, scale, window_size_left, right), None, None, None, None


def flash_attn_varlen_func(
    q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, dropout_p=0.0, softmax_scale=None,
    causal=False, window_size=(-1, -1), softcap=0.0, alibi_slopes=None, deterministic=False,
):  # fmt: skip
    assert dropout_p == 0.0
    left, right = window_size
    bounds = (cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k)
    return flash_reference(q, k, v, *bounds, softmax_scale, left, 0 if causal else right, softcap)


NEW_NAMES = ("query", "scale", "window_size_left", "window_size_right")


@pytest.fixture
def install(monkeypatch):
    """Install substitutes: `install(varlen=..., aten=..., flash_attn=...)`; what is not given is not there."""

    def substitute(varlen=None, aten=None, flash_attn=None):
        module = types.ModuleType("torch.nn.attention.varlen")
        if varlen is not None:
            module.varlen_attn = varlen
        monkeypatch.setitem(sys.modules, "torch.nn.attention.varlen", module if varlen else None)
        monkeypatch.setattr(torch.ops.aten, "_flash_attention_forward", aten or object(), raising=False)
        module = types.ModuleType("flash_attn")
        module.flash_attn_varlen_func = flash_attn
        monkeypatch.setitem(sys.modules, "flash_attn", module if flash_attn else None)

    attention._flash_kernel.cache_clear()
    yield substitute
    attention._flash_kernel.cache_clear()


def states(heads=4, key_heads=2, dim=8, lengths=LENGTHS, seed=0):
    generator = torch.Generator().manual_seed(seed)
    total = sum(lengths)
    made = [torch.randn(total, count, dim, generator=generator) * 2 for count in (heads, key_heads, key_heads)]
    boundaries = torch.tensor([0, *lengths]).cumsum(0).to(torch.int32)
    return *made, Spans(boundaries, boundaries, max(lengths), max(lengths))


def last_tokens(lengths, most):
    """Which rows are the last tokens of their sequences, at most so many of each."""
    ends = torch.tensor(lengths).cumsum(0).tolist()
    return [list(range(end - min(length, most), end)) for length, end in zip(lengths, ends, strict=True)]


def last_queries(query, key, value, spans, most):
    """The same sequences, of which only the last tokens ask."""
    rows = last_tokens(spans.keys.diff().tolist(), most)
    counts = [len(some) for some in rows]
    ends = torch.tensor([0, *counts]).cumsum(0).to(torch.int32)
    return query[sum(rows, [])], key, value, Spans(ends, spans.keys, max(counts), spans.longest_key)  # noqa: RUF017


TERMS = {
    "plain": AttentionTerms(scale=8**-0.5),
    "scale": AttentionTerms(scale=0.05),
    "window": AttentionTerms(scale=8**-0.5, window=4),
    "window of one": AttentionTerms(scale=8**-0.5, window=1),
    "both directions": AttentionTerms(scale=8**-0.5, causal=False),
}


@pytest.mark.parametrize("heads", [(4, 4), (4, 2), (4, 1)], ids=str)
@pytest.mark.parametrize("terms", TERMS.values(), ids=TERMS)
def test_every_kernel_gets_the_right_inputs(install, terms, heads):
    """Each kernel is called so that its definition gives what one SDPA call per sequence gives."""
    arguments = states(*heads)
    expected = per_sequence_attention(*arguments, terms)
    for varlen in (varlen_new, varlen_without_gqa):
        install(varlen, AtenFlash(*NEW_NAMES), flash_attn_varlen_func)
        for kernel in (torch_varlen_attention, torch_flash_attention, flash_attn_attention):
            torch.testing.assert_close(kernel(*arguments, terms), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("options", [{}, {"softcap": 1.5}, {"sinks": torch.linspace(-1, 1, 4)}], ids=str)
@pytest.mark.parametrize("terms", TERMS.values(), ids=TERMS)
@pytest.mark.parametrize("most", [1, 3])
def test_the_last_tokens_alone_get_what_they_get_among_all(install, terms, options, most):
    """In the last layer, and behind a shared prefix, only these ask: their rows are those of the whole."""
    install(varlen_new, AtenFlash(*NEW_NAMES), flash_attn_varlen_func)
    terms = dataclasses.replace(terms, **options)
    arguments = states()
    rows = torch.tensor(sum(last_tokens(LENGTHS, most), []))  # noqa: RUF017
    expected = per_sequence_attention(*arguments, terms)[rows]
    flash = (torch_varlen_attention, torch_flash_attention, flash_attn_attention) if not options else ()
    for kernel in (per_sequence_attention, *flash):
        torch.testing.assert_close(kernel(*last_queries(*arguments, most), terms), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("window", [None, 4])
def test_flash_attn_gets_the_soft_cap(install, window):
    """The one kernel with a soft cap computes what the definition says, with and without a window."""
    install(flash_attn=flash_attn_varlen_func)
    arguments, terms = states(), AttentionTerms(scale=0.5, softcap=1.5, window=window)
    expected = per_sequence_attention(*arguments, terms)
    torch.testing.assert_close(flash_attn_attention(*arguments, terms), expected, atol=1e-5, rtol=1e-5)
    uncapped = per_sequence_attention(*arguments, AttentionTerms(scale=0.5, window=window))
    assert (uncapped - expected).abs().max() > 0.1


@pytest.mark.parametrize("terms", TERMS.values(), ids=TERMS)
def test_definition_and_sdpa_agree(terms):
    """The attention written out by its definition is SDPA's, across its blocks of queries."""
    query, key, value, *_ = (tensor.transpose(0, 1) for tensor in states(lengths=[50])[:3])
    expected = attention._sdpa(query, key, value, terms)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention, "QUERY_BLOCK", 16)
        torch.testing.assert_close(
            attention._reference_attention(query, key, value, terms), expected, atol=1e-5, rtol=1e-5
        )


def test_sinks_take_their_share():
    """A sink joins the softmax and is dropped: weights sum to less than one, per head."""
    query, key, _, spans = states(heads=2, key_heads=2)
    value = torch.ones_like(key)
    sinks = torch.tensor([-1e9, 1.0])
    output = per_sequence_attention(query, key, value, spans, AttentionTerms(scale=1.0, sinks=sinks))
    torch.testing.assert_close(output[:, 0], torch.ones_like(output[:, 0]))
    alone = (query[0, 1] @ key[0, 1]).exp()
    torch.testing.assert_close(output[0, 1], (alone / (alone + sinks[1].exp())).expand(8))
    assert output[:, 1].min() < 0.999


def test_values_may_be_narrower_than_keys():
    """Heads whose values have another width (DeepSeek's) keep it."""
    query, key, value, *rest = states()
    output = per_sequence_attention(query, key, value[..., :5], *rest, AttentionTerms(scale=1.0))
    whole = per_sequence_attention(query, key, value, *rest, AttentionTerms(scale=1.0))
    torch.testing.assert_close(output, whole[..., :5])


# --- the choice of a kernel ------------------------------------------------------------------------------------------


def chosen(softcap=None, dtype=torch.bfloat16):
    """The choice as on a GPU, tried on the CPU."""
    return attention._flash_kernel(torch.device("cpu"), dtype, 4, 2, 8, softcap)


def test_the_first_that_runs_is_chosen(install):
    """PyTorch's flash operator comes first, then the public function over it, then flash-attn."""
    aten = AtenFlash(*NEW_NAMES)
    for substitutes, kernel in (
        ((varlen_new, aten, flash_attn_varlen_func), torch_flash_attention),
        ((None, aten, flash_attn_varlen_func), torch_flash_attention),
        ((varlen_new, None, flash_attn_varlen_func), torch_varlen_attention),
        ((varlen_without_gqa, AtenFlash("query", "scale"), flash_attn_varlen_func), torch_varlen_attention),
        ((varlen_oldest, None, flash_attn_varlen_func), flash_attn_attention),
        ((varlen_oldest, AtenFlash("query", "scale"), flash_attn_varlen_func), flash_attn_attention),
        ((None, None, flash_attn_varlen_func), flash_attn_attention),
    ):
        install(*substitutes)
        attention._flash_kernel.cache_clear()
        assert chosen() is kernel


def test_only_flash_attn_takes_a_soft_cap(install):
    """A kernel without a soft cap is never asked for one."""
    install(varlen_new, AtenFlash(*NEW_NAMES), flash_attn_varlen_func)
    assert chosen(softcap=30.0) is flash_attn_attention


def test_an_old_flash_attn_is_not_chosen(install, log):
    """A flash-attn without soft cap in its signature would drop it silently: it is not used."""

    def old(q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, softmax_scale=None, window_size=None):
        raise AssertionError

    install(flash_attn=old)
    assert chosen() is per_sequence_attention


def test_kernels_that_raise_are_passed_over(install, log):
    """A kernel that is installed and does not run here leads to the next, at the end to the slow one, said aloud."""

    def raises(error):
        def varlen(*args, scale=None, window_size=None, softcap=None, **options):
            raise error

        return varlen

    install(raises(RuntimeError("no sm_50")), AtenFlash(*NEW_NAMES), None)
    assert chosen() is torch_flash_attention
    attention._flash_kernel.cache_clear()
    install(raises(NotImplementedError("no kernel")), None, raises(ValueError("head dim")))
    assert chosen() is per_sequence_attention
    assert any(line.startswith("WARNING") and "sequence by sequence" in line.replace("\n", " ") for line in log)
    assert any("torch_varlen_attention does not run here: no kernel" in line for line in log)


def test_what_is_installed_here_ends_somewhere(log):
    """With the torch that is installed, the choice on a CPU ends at the slow one and not in an error."""
    attention._flash_kernel.cache_clear()
    assert chosen() is per_sequence_attention
    attention._flash_kernel.cache_clear()


@pytest.mark.parametrize(
    ("device", "dtype", "terms", "value_dim", "flash"),
    [
        ("cuda", torch.bfloat16, AttentionTerms(scale=1.0), 8, True),
        ("cuda", torch.float16, AttentionTerms(scale=1.0, window=4), 8, True),
        ("cuda", torch.float32, AttentionTerms(scale=1.0), 8, False),
        ("cuda", torch.bfloat16, AttentionTerms(scale=1.0, sinks=torch.zeros(4)), 8, False),
        ("cuda", torch.bfloat16, AttentionTerms(scale=1.0), 5, False),
        ("mps", torch.float16, AttentionTerms(scale=1.0), 8, False),
        ("cpu", torch.bfloat16, AttentionTerms(scale=1.0), 8, False),
    ],
    ids=["bf16", "fp16 window", "fp32", "sinks", "narrow values", "mps", "cpu"],
)
def test_flash_is_for_what_flash_computes(monkeypatch, device, dtype, terms, value_dim, flash):
    """Flash kernels serve half precision on CUDA; float32, sinks and values of another width go the slow way."""
    asked = []
    monkeypatch.setattr(
        attention, "_flash_kernel", lambda *arguments: asked.append(arguments) or torch_varlen_attention
    )

    def tensor(heads, dim):
        return types.SimpleNamespace(device=torch.device(device), dtype=dtype, shape=torch.Size((1, heads, 3, dim)))

    kernel = attention.kernel_for(tensor(4, 8), tensor(2, 8), tensor(2, value_dim), terms)
    assert kernel is (torch_varlen_attention if flash else per_sequence_attention)
    assert asked == ([(torch.device(device), dtype, 4, 2, 8, None)] if flash else [])


@pytest.mark.parametrize(
    ("family", "kernel"),
    [
        ("qwen3", torch_varlen_attention),
        ("qwen3", torch_flash_attention),
        ("mistral", torch_varlen_attention),
        ("mistral", torch_flash_attention),
        ("mistral", flash_attn_attention),
        ("gemma3", torch_varlen_attention),
        ("gemma2", flash_attn_attention),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_whole_models_through_substituted_kernels(install, monkeypatch, model_folder, card, family, kernel):
    """A model scored through a GPU kernel's stand-in gives the card's scores: heads, scale, window and cap arrive."""
    install(varlen_new, AtenFlash(*NEW_NAMES), flash_attn_varlen_func)
    calls = []

    def counted(*arguments):
        calls.append(arguments)
        return kernel(*arguments)

    monkeypatch.setattr(attention, "kernel_for", lambda *_: counted)
    monkeypatch.setattr(counted, "__name__", kernel.__name__, raising=False)
    made = conversations(12, seed=3)
    scorer = Scorer(ScorerConfig(model=str(model_folder(family)), dtype="float32", device="cpu", tokens_per_batch=400))
    assert [score.score for score in scorer.score(made)] == pytest.approx(
        [card(family)(conversation).score for conversation in made], abs=1e-4
    )
    assert len(calls) > 3


# --- what the model asks ---------------------------------------------------------------------------------------------


class Layer(torch.nn.Module):
    """An attention layer that says nothing of causality."""


def attend(tokens=6, **options):
    query = torch.randn(1, 2, 6, 8)
    boundaries = torch.tensor([0, 2, tokens], dtype=torch.int32)
    values = {"attention_mask": None, "cu_seq_lens_q": boundaries, "max_length_q": 4, "num_queries": tokens}
    values |= {"cu_seq_lens_k": boundaries, "max_length_k": 4, "num_keys": tokens} | options
    return packed_attention(Layer(), query, query, query, **values)


@pytest.mark.parametrize(
    "options",
    [
        {"position_bias": torch.zeros(1)},
        {"alibi": torch.zeros(1)},
        {"some_new_keyword": 1.0},
        {"some_new_keyword": True},
        {"dropout": 0.1},
        {"attention_mask": torch.zeros(1, 1, 6, 6)},
        {"cu_seq_lens_q": None},
        {"max_length_q": None},
        {"cu_seq_lens_k": None},
        {"max_length_k": None},
        {"num_queries": None},
        {"num_keys": None},
        {"sliding_window": 2, "is_causal": False},
    ],
    ids=str,
)
def test_what_is_not_computed_is_refused(options):
    """A keyword that would change the scores is an error that says so, never ignored."""
    with pytest.raises(ValueError, match=r"Layer .*not supported"):
        attend(**options)


LONGER = torch.tensor([0, 2, 1_150], dtype=torch.int32)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize(
    "options",
    [
        {"cu_seq_lens_k": LONGER, "max_length_k": 1_148, "num_keys": 1_150},
        {"cu_seq_lens_q": LONGER, "max_length_q": 1_148, "num_queries": 1_150},
        {"num_keys": 5},
        {"max_length_k": 7},
        {"max_length_q": 7},
        {"cu_seq_lens_q": torch.tensor([0, 6], dtype=torch.int32)},
        {"tokens": 1_150, "max_length_q": 1_148, "max_length_k": 1_148},
    ],
    ids=lambda options: "-".join(options),
)
def test_boundaries_beyond_the_tensors_reach_no_kernel(monkeypatch, options, device):
    """A kernel would read memory that is not the tensors': refused by what the host knows, without asking a GPU."""
    kernels = []
    monkeypatch.setattr(attention, "kernel_for", lambda *arguments: kernels.append(arguments))
    if device == "cuda":

        class OnAGpu:
            """Boundaries that must not be read: that would wait for the GPU."""

            device = torch.device("cuda")

            def __init__(self, boundaries):
                self.length = len(boundaries)

            def __len__(self):
                return self.length

        given = {"cu_seq_lens_q": torch.zeros(3), "cu_seq_lens_k": torch.zeros(3)} | options
        options = given | {name: OnAGpu(given[name]) for name in ("cu_seq_lens_q", "cu_seq_lens_k")}
    with pytest.raises(ValueError, match=r"Layer computes attention of 6 queries to 6 keys.*not supported"):
        attend(**options)
    assert not kernels


def test_boundaries_that_lie_about_their_end_reach_no_kernel():
    """On the CPU, where it costs nothing, the boundaries themselves are read too."""
    with pytest.raises(ValueError, match="6 queries to 6 keys"):
        attend(cu_seq_lens_k=LONGER)


def test_neutral_keywords_pass():
    """Keywords without effect, and those that are off, change nothing."""
    torch.manual_seed(0)
    plain, weights = attend()
    torch.manual_seed(0)
    same, _ = attend(position_ids=torch.zeros(6), use_cache=False, output_attentions=False, anything=None, other=False)
    torch.testing.assert_close(plain, same)
    assert weights is None
    assert plain.shape == (1, 6, 2, 8)


# --- the reference, and blocks of queries ----------------------------------------------------------------------------


def test_boundaries_have_runs():
    """The reference of these tests keeps sequences apart: one alone gives what it gives among others."""
    *made, spans = states()
    longest = spans.longest_key
    whole = flash_reference(*made, spans.keys, spans.keys, longest, longest, 0.3, -1, 0)
    for start, end in pairwise(spans.keys.tolist()):
        own = torch.tensor([0, end - start], dtype=torch.int32)
        parts = (states[start:end] for states in made)
        alone = flash_reference(*parts, own, own, end - start, end - start, 0.3, -1, 0)
        torch.testing.assert_close(whole[start:end], alone)


def test_a_long_sequence_through_blocks_of_queries(model_folder):
    """A text longer than a block of queries scores as the model's own forward, soft cap and window included."""
    folder = model_folder("gemma2", max_tokens=500)
    text = " ".join(["Qual é a capital de Portugal?"] * 60)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention, "QUERY_BLOCK", 100)
        (score,) = Scorer(ScorerConfig(model=str(folder), dtype="float32", device="cpu")).score([text])
    assert score.tokens > 300
    assert score.score == pytest.approx(Card(folder)(text).score, abs=1e-4)


@pytest.mark.parametrize("block", [3, 8, 512])
@pytest.mark.parametrize("options", [{}, {"softcap": 3.0}, {"sinks": torch.linspace(-1, 1, 4)}])
@pytest.mark.parametrize("window", [None, 1, 5, 8])
def test_blocks_of_queries_change_nothing(monkeypatch, block, options, window):
    """A long sequence is computed in blocks that see only their window's keys: the result is that of one full mask."""
    query, key, value, spans = states(lengths=(21,))
    terms = AttentionTerms(scale=0.3, window=window, **options)
    monkeypatch.setattr(attention, "QUERY_BLOCK", block)
    got = per_sequence_attention(query, key, value, spans, terms)
    key, value = (kept.repeat_interleave(2, 1).transpose(0, 1) for kept in (key, value))
    products = query.transpose(0, 1) @ key.transpose(1, 2) * 0.3
    if cap := options.get("softcap"):
        products = cap * torch.tanh(products / cap)
    back = torch.arange(21)[:, None] - torch.arange(21)[None]
    products[:, (back < 0) | (back >= (window or 21))] = -torch.inf
    sinks = options["sinks"].view(4, 1, 1).expand(4, 21, 1) if "sinks" in options else torch.empty(4, 21, 0)
    weights = torch.cat([products, sinks], -1).softmax(-1)[..., :21]
    torch.testing.assert_close(got, (weights @ value).transpose(0, 1), atol=1e-5, rtol=1e-5)
