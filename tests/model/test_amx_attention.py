"""Attention on AMX: near the exact one for any lengths, windows and layouts; refused where it cannot be right."""

import subprocess

import pytest
import torch

from datatrove_quality.model import amx_attention, attention
from datatrove_quality.model.attention import AttentionTerms, Spans, per_sequence_attention


needs_amx = pytest.mark.skipif(not amx_attention.is_supported(), reason="needs a CPU with AMX")


@pytest.fixture(autouse=True)
def tried_anew():
    attention._amx_kernel.cache_clear()
    yield
    attention._amx_kernel.cache_clear()


def states(queries, keys, heads=4, key_heads=2, dim=64):
    generator = torch.Generator().manual_seed(0)
    counts = ((sum(queries), heads), (sum(keys), key_heads), (sum(keys), key_heads))
    tensors = [torch.randn(count, of, dim, generator=generator).bfloat16() for count, of in counts]
    ends = (torch.tensor([0, *counts]).cumsum(0).int() for counts in (queries, keys))
    return *tensors, Spans(*ends, max(queries), max(keys))


def exact(query, key, value, spans, terms):
    return per_sequence_attention(query.double(), key.double(), value.double(), spans, terms)


@needs_amx
@pytest.mark.parametrize(
    ("queries", "keys", "window", "causal"),
    [
        ([5], [5], None, True),
        ([300, 7, 33, 64, 1, 32], [300, 7, 33, 64, 1, 32], None, True),
        ([1, 1, 1], [300, 7, 32], None, True),
        ([30, 1, 290], [300, 7, 600], None, True),
        ([600, 70, 31], [600, 70, 31], 50, True),
        ([600, 1], [900, 70], 300, True),
        ([40, 70], [600, 70], None, False),
    ],
)
@pytest.mark.parametrize(("heads", "key_heads", "dim"), [(4, 2, 64), (3, 3, 32), (4, 1, 128), (2, 1, 96)])
def test_near_the_exact_attention(queries, keys, window, causal, heads, key_heads, dim):
    """As near as torch's operator in the same dtype, which some versions do not use where heads share keys."""
    query, key, value, spans = given = states(queries, keys, heads, key_heads, dim)
    terms = AttentionTerms(scale=dim**-0.5, window=window, causal=causal)
    right = exact(*given, terms)
    repeated = [one.repeat_interleave(heads // key_heads, 1) for one in (key, value)]
    own = (per_sequence_attention(query, *repeated, spans, terms).double() - right).abs()
    mine = (amx_attention.amx_attention(*given, terms).double() - right).abs()
    assert mine.mean() <= 1.1 * own.mean() + 1e-6 and mine.max() <= 0.02


@needs_amx
def test_sequences_do_not_see_each_other():
    """A sequence's result is the same bits in any batch, by any number of threads; NaN stays in its sequence."""
    query, key, value, spans = states([90, 40, 300], [90, 40, 300])
    terms = AttentionTerms(scale=0.1)
    whole = amx_attention.amx_attention(query, key, value, spans, terms)
    alone = Spans(torch.tensor([0, 40]).int(), torch.tensor([0, 40]).int(), 40, 40)
    part = slice(90, 130)
    assert torch.equal(amx_attention.amx_attention(query[part], key[part], value[part], alone, terms), whole[part])
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        assert torch.equal(amx_attention.amx_attention(query, key, value, spans, terms), whole)
    finally:
        torch.set_num_threads(threads)
    for spoilt in (query, key, value):
        kept = spoilt[100].clone()
        spoilt[100] = torch.nan
        mine = amx_attention.amx_attention(query, key, value, spans, terms).isfinite()
        assert mine[:90].all() and mine[130:].all() and not mine[100].any()
        spoilt[100] = kept


@needs_amx
def test_large_products():
    """The largest product is taken off first; those far below it weigh nothing, and infinity is no number."""
    query, key, value, spans = states([50], [50], heads=1, key_heads=1)
    terms = AttentionTerms(scale=1.0)
    given = (query * 100, key * 100, value, spans, terms)
    torch.testing.assert_close(amx_attention.amx_attention(*given).double(), exact(*given), atol=0.03, rtol=0.02)
    query[20, 0, 0] = torch.inf
    assert not amx_attention.amx_attention(query, key, value, spans, terms)[20].isfinite().any()


@needs_amx
def test_layouts():
    """Heads before tokens, and columns of one product of queries, keys and values."""
    query, key, value, spans = states([70], [70], heads=2, key_heads=2)
    terms = AttentionTerms(scale=0.125)
    expected = amx_attention.amx_attention(query, key, value, spans, terms)
    turned = [one.transpose(0, 1).contiguous().transpose(0, 1) for one in (query, key, value)]
    wide = torch.cat([query, key, value], -1)
    for given in (turned, wide.chunk(3, -1), [one.mT.contiguous().mT for one in (query, key, value)]):
        assert torch.equal(amx_attention.amx_attention(*given, spans, terms), expected)


@needs_amx
def test_boundaries_outside_of_the_tensors_are_refused():
    """The loops read memory where boundaries point."""
    query, key, value, spans = states([40, 40], [40, 40])
    terms = AttentionTerms(scale=1.0)

    def with_spans(queries, keys, kind=torch.int32):
        ends = (torch.tensor(one, dtype=kind) for one in (queries, keys))
        return amx_attention.amx_attention(query, key, value, Spans(*ends, 40, 40), terms)

    for queries, keys in (([0, 40, 81], [0, 40, 80]), ([0, 50, 40, 80], [0, 40, 40, 80]), ([0, 60, 80], [0, 40, 80])):
        with pytest.raises(ValueError, match="boundaries"):
            with_spans(queries, keys)
    with pytest.raises(ValueError, match="boundaries"):
        with_spans([0, 40, 80], [0, 40, 80], torch.int64)
    with pytest.raises(ValueError, match="attention of"):
        amx_attention.amx_attention(query, key, value.float(), spans, terms)
    with pytest.raises(ValueError, match="attention of"):
        amx_attention.amx_attention(query, key, value, spans, AttentionTerms(scale=1.0, softcap=5.0))


def kernel(**terms):
    query, key, _, _ = states([3], [3])
    query, key = (one.transpose(0, 1)[None] for one in (query, key))
    return attention.kernel_for(query, key, key, AttentionTerms(scale=1.0, **terms))


@needs_amx
def test_it_is_chosen_where_it_is_right(monkeypatch, log):
    """For plain attention and windows in bfloat16; what computes something else is found at its first use."""
    assert kernel() is kernel(window=4) is amx_attention.amx_attention
    assert kernel(softcap=30.0) is kernel(sinks=torch.zeros(4)) is per_sequence_attention
    query, key, _, _ = (one.float() if isinstance(one, torch.Tensor) else one for one in states([3], [3]))
    query, key = (one.transpose(0, 1)[None] for one in (query, key))
    assert attention.kernel_for(query, key, key, AttentionTerms(scale=1.0)) is per_sequence_attention
    attention._amx_kernel.cache_clear()
    monkeypatch.setattr(amx_attention, "amx_attention", lambda *given: torch.nan * given[0])
    assert kernel() is per_sequence_attention
    assert any("computes something else" in line for line in log)


def test_trouble_costs_speed_alone(monkeypatch):
    """Such as a compiler that hangs."""

    def hangs():
        raise subprocess.TimeoutExpired("cc", 60)

    monkeypatch.setattr(amx_attention, "library", hangs)
    assert kernel() is per_sequence_attention


def test_a_cpu_without_it_goes_on_as_before(monkeypatch):
    amx_attention.library.cache_clear()
    monkeypatch.setattr(amx_attention, "is_supported", lambda: False)
    assert kernel() is per_sequence_attention
    amx_attention.library.cache_clear()


@needs_amx
def test_boundaries_of_any_strides():
    *tensors, spans = states([5, 7], [5, 7])
    wide = torch.full((2, 6), 2**30).int()
    wide[0, ::2], wide[1, ::2] = spans.queries, spans.keys
    strided = Spans(wide[0, ::2], wide[1, ::2], 7, 7)
    terms = AttentionTerms(scale=1.0)
    mine, other = (amx_attention.amx_attention(*tensors, one, terms) for one in (strided, spans))
    assert torch.equal(mine, other)


@needs_amx
@pytest.mark.parametrize("wrong", ["pooled", "window"])
def test_the_trial_tries_all_that_is_scored_with(monkeypatch, wrong):
    """A kernel that is wrong only for the last token of each sequence, or only with a window, is not taken."""
    right = amx_attention.amx_attention

    def wrong_for(query, key, value, spans, terms):
        result = right(query, key, value, spans, terms)
        is_wrong = terms.window is not None if wrong == "window" else len(query) < len(key)
        return result * 1.5 if is_wrong else result

    monkeypatch.setattr(amx_attention, "amx_attention", wrong_for)
    assert kernel() is per_sequence_attention
