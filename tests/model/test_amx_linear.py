"""Linear layers on AMX: near exact products for all widths and numbers of rows; the same bits in any batch."""

import pytest
import torch
import torch.nn.functional as F
from fused_arithmetic import random
from torch import nn

from datatrove_quality.model import amx_attention, amx_linear
from datatrove_quality.model.amx_linear import AmxLinear, tiles


pytestmark = pytest.mark.skipif(not amx_attention.is_supported(), reason="needs a CPU with AMX")
# From 2,048 inputs on, and from 1,024 with as many sums, rows stay and weights pass; else the other way round.
WIDTHS = [(32, 32), (96, 160), (512, 64), (1024, 96), (1056, 1056), (2048, 64), (2080, 1056), (4128, 1088)]


@pytest.fixture(autouse=True)
def poisoned(monkeypatch):
    """Outputs start as NaN: what the loop does not write shows."""
    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *sizes, **options: empty(*sizes, **options).fill_(torch.nan))


def linear(inputs, outputs, bias=True, seed=1):
    own = nn.Linear(inputs, outputs, bias=bias, dtype=torch.bfloat16).requires_grad_(False)
    own.weight.data = random(outputs, inputs, dtype=torch.bfloat16, seed=seed) * inputs**-0.5
    if bias:
        own.bias.data = random(outputs, dtype=torch.bfloat16, seed=seed)
    return own


def on_amx(own):
    of_own = tiles(own.weight)
    return AmxLinear(of_own[::2], of_own[1::2], own.bias)


def exact(own, rows):
    return F.linear(rows.double(), own.weight.double(), None if own.bias is None else own.bias.double())


def assert_rounded(mine, right):
    """To bfloat16, but for sums in float32 that lie at the border between two of its numbers."""
    assert mine.dtype == torch.bfloat16
    allowed = 2**-8 * right.abs() + 2**-16 * right.abs().amax(-1, keepdim=True)
    assert ((mine.double() - right).abs() <= allowed).all()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("inputs", "outputs"), WIDTHS)
def test_products(inputs, outputs, bias):
    """Of rows that fill no tile, some tiles, and several tasks; the weights can be had again."""
    own = linear(inputs, outputs, bias)
    layer = on_amx(own)
    assert (layer.in_features, layer.out_features) == (inputs, outputs)
    assert torch.equal(layer.weights()[0], own.weight)
    for count in (1, 31, 32, 33, 300):
        rows = random(count, inputs, dtype=torch.bfloat16)
        assert_rounded(layer(rows), exact(own, rows))
    assert layer(rows[:0]).shape == (0, outputs)
    assert torch.equal(layer(rows.view(2, 150, inputs)).flatten(0, 1), layer(rows))
    assert torch.equal(layer(rows.t().contiguous().t()), layer(rows))


@pytest.mark.parametrize("activation", ["silu", "gelu"])
@pytest.mark.parametrize(("inputs", "outputs"), [*WIDTHS, (64, 80), (2048, 80), (2080, 80)])
def test_gates(inputs, outputs, activation):
    """A gate and what it lets through are not rounded before they are multiplied."""
    gate, up = (linear(inputs, outputs, bias=False, seed=seed) for seed in (1, 2))
    gate.weight.data *= 4
    joined = AmxLinear(tiles(gate.weight), tiles(up.weight), activation=activation)
    assert joined.out_features == outputs
    assert all(map(torch.equal, joined.weights(), (gate.weight, up.weight)))
    rows = random(70, inputs, dtype=torch.bfloat16)
    gates = exact(gate, rows)
    right = (F.silu(gates) if activation == "silu" else F.gelu(gates, approximate="tanh")) * exact(up, rows)
    allowed = 2**-8 * right.abs() + 2**-12 * right.abs().amax(-1, keepdim=True)
    assert ((joined(rows).double() - right).abs() <= allowed).all()


@pytest.mark.parametrize(("inputs", "outputs"), [(512, 96), (1024, 64), (1056, 1056), (2080, 1056)])
def test_a_row_has_the_same_bits_in_any_batch(inputs, outputs, monkeypatch):
    """And by any number of threads; what is not finite stays in its row."""
    layer, rows = on_amx(linear(inputs, outputs)), random(600, inputs, dtype=torch.bfloat16)
    whole = layer(rows)
    for start, end in ((0, 1), (31, 34), (255, 600), (599, 600)):
        assert torch.equal(layer(rows[start:end]), whole[start:end])
    for threads in (2, 3, 40):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        assert torch.equal(layer(rows), whole) and torch.equal(layer(rows[:5]), whole[:5])
    for value in (torch.nan, torch.inf):
        rows[290, 7] = value
        found = layer(rows)
        assert not found[290].isfinite().any()
        found[290] = whole[290]
        assert torch.equal(found, whole)


def test_what_the_loop_cannot_read_is_refused():
    """It reads memory by a tensor's dtype and sizes."""
    layer, rows = on_amx(linear(64, 32)), random(3, 64, dtype=torch.bfloat16)
    with pytest.raises(TypeError, match="float32"):
        layer(rows.float())
    with pytest.raises(ValueError, match="rows of 32"):
        layer(rows[:, :32])
    with pytest.raises(TypeError, match="gradients"):
        layer(rows.requires_grad_())
    with pytest.raises(TypeError, match="float32"):
        layer.float()(random(3, 64, dtype=torch.bfloat16))


@pytest.mark.parametrize(("inputs", "outputs", "fits"), [(64, 96, True), (64, 80, False), (80, 96, False)])
def test_widths(inputs, outputs, fits):
    assert amx_linear.fits(linear(inputs, outputs)) == fits
