"""Modules in place of a model's own: they compute the same with the same weights, or they are not used."""

import platform

import pytest
import torch
from torch import nn
from transformers import AutoModelForSequenceClassification
from transformers.models.gemma2.modeling_gemma2 import Gemma2RMSNorm

from datatrove_quality import ScorerConfig, fast_modules, packed
from datatrove_quality.fast_modules import BlockedLinear, use_fast_modules
from datatrove_quality.replicas import copy_to
from datatrove_quality.scorer import Scorer


SEQUENCES = [[5, 6, 7], [8], list(range(10, 60))]
x86 = pytest.mark.skipif(platform.machine() not in fast_modules.X86, reason="blocked weights are for x86 CPUs")


@pytest.mark.parametrize("family", ["qwen3", "gpt_oss", "gemma2"])
def test_a_norm_is_replaced_where_torchs_computes_the_same(model_folder, family, monkeypatch):
    """All of a model's norms are replaced, or, where they compute something else (Gemma), none; logits stay."""
    monkeypatch.setattr(fast_modules, "_blocked_linear", lambda own: None)
    monkeypatch.setattr(fast_modules, "NORM_DEVICES", ("cpu",))
    model = AutoModelForSequenceClassification.from_pretrained(model_folder(family)).eval()
    model.set_attn_implementation(packed.PACKED)
    norms = {name: module.weight for name, module in model.named_modules() if "RMSNorm" in type(module).__name__}
    for seed, weight in enumerate(norms.values()):
        weight.data.normal_(generator=torch.Generator().manual_seed(seed))
    before = packed.packed_logits(model, SEQUENCES)
    replaced = use_fast_modules(model)
    torch.testing.assert_close(packed.packed_logits(model, SEQUENCES), before, atol=1e-5, rtol=1e-5)
    assert replaced == (0 if family == "gemma2" else len(norms))
    modules = dict(model.named_modules())
    assert all(modules[name].weight is weight for name, weight in norms.items()), "a weight was copied"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_rounding_does_not_hide_another_formula(monkeypatch, dtype):
    """Gemma's norm, which adds one to its weights, is told apart in any dtype, however large the weights are."""
    monkeypatch.setattr(fast_modules, "NORM_DEVICES", ("cpu",))
    norm = Gemma2RMSNorm(64)
    norm.weight.data.fill_(40)
    assert use_fast_modules(nn.Sequential(norm.to(dtype))) == 0


@pytest.mark.parametrize("kind", ["a gate", "a hook", "two dimensions", "one weight"])
def test_a_norm_of_another_kind_stays(monkeypatch, kind):
    """A norm that may be called otherwise than with rows is left alone, and ends no load."""
    monkeypatch.setattr(fast_modules, "NORM_DEVICES", ("cpu",))
    norm = nn.RMSNorm({"two dimensions": (8, 16), "one weight": 1}.get(kind, 16), eps=1e-6)
    if kind == "a gate":
        norm.forward = lambda rows, gate=None: rows
    if kind == "a hook":
        norm.register_forward_hook(lambda module, rows, output: 2 * output)
    assert use_fast_modules(nn.Sequential(norm)) == 0


@x86
def test_the_self_check_sees_a_wrong_module(model_folder, monkeypatch):
    """In float32 our logits are compared with those of the model as it was before any module was replaced."""
    monkeypatch.setattr(fast_modules, "_computes_same", lambda faster, own: True)
    monkeypatch.setattr(fast_modules.BlockedLinear, "forward", lambda self, rows: 1.01 * nn.Linear.forward(self, rows))
    with pytest.raises(ValueError, match="self-check failed"):
        Scorer(ScorerConfig(model=str(model_folder("qwen3")), device="cpu", dtype="float32")).load()


def test_a_norm_of_another_epsilon_is_not_replaced(monkeypatch):
    """Rows as small as epsilon tell norms apart that agree on all others."""
    monkeypatch.setattr(fast_modules, "NORM_DEVICES", ("cpu",))

    class OtherRMSNorm(nn.RMSNorm):
        def forward(self, rows):
            return self.weight * rows * torch.rsqrt(rows.square().mean(-1, keepdim=True) + 1e-5)

    assert use_fast_modules(nn.Sequential(OtherRMSNorm(16, eps=1e-6))) == 0


@x86
@pytest.mark.parametrize("family", ["qwen3", "bert"])
def test_linear_layers_in_blocks(model_folder, family):
    """On a CPU in float32 all linear layers are oneDNN's, under the same weights, and logits stay."""
    model = AutoModelForSequenceClassification.from_pretrained(model_folder(family)).eval()
    if family == "qwen3":
        model.set_attn_implementation(packed.PACKED)
    forward = packed.packed_logits if family == "qwen3" else packed.padded_logits
    weights = {name: module.weight for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    before, parameters = forward(model, SEQUENCES), model.num_parameters()
    use_fast_modules(model)
    torch.testing.assert_close(forward(model, SEQUENCES), before, atol=1e-5, rtol=1e-5)
    modules = dict(model.named_modules())
    assert all(isinstance(modules[name], BlockedLinear) for name in weights)
    assert all(modules[name].weight is weight for name, weight in weights.items()), "a weight was copied"
    assert model.num_parameters() == parameters


@x86
@pytest.mark.parametrize("shape", [(0, 24), (24,), (1, 7, 24), (2, 3, 4, 24)], ids=str)
@pytest.mark.parametrize("bias", [True, False])
def test_linear_layers_take_any_input(shape, bias):
    """Rows in any number of dimensions, none, and rows that do not lie side by side in memory."""
    own = nn.Linear(24, 40, bias=bias).requires_grad_(False)
    blocked = BlockedLinear(own)
    rows = torch.randn(shape)
    torch.testing.assert_close(blocked(rows), own(rows))
    if len(shape) > 2:
        spread = torch.randn(*shape[:-2], shape[-1], shape[-2]).transpose(-1, -2)
        torch.testing.assert_close(blocked(spread), own(spread))


@pytest.mark.parametrize("kind", ["a subclass", "bfloat16"])
def test_a_linear_layer_of_another_kind_stays(kind):
    """What is no plain linear layer in float32 may compute anything, and stays as it is."""
    own = nn.Linear(8, 8)
    if kind == "a subclass":
        own = type("ScaledLinear", (nn.Linear,), {"forward": lambda self, rows: 2 * rows @ self.weight.T})(8, 8)
    model = nn.Sequential(own.to(torch.bfloat16) if kind == "bfloat16" else own)
    assert use_fast_modules(model) == 0
    assert model[0] is own


@x86
def test_an_operation_that_is_missing_is_done_without(monkeypatch):
    """A torch without oneDNN's operation, or with another one, computes as the model does."""

    def missing(*arguments):
        raise RuntimeError("no such operation")

    monkeypatch.setattr(fast_modules.BlockedLinear, "forward", missing)
    assert use_fast_modules(nn.Sequential(nn.Linear(8, 8))) == 0


@x86
def test_copies_share_blocks(model_folder):
    """A copy on the same device takes no memory for its weights, in whatever layout."""
    model = Scorer(ScorerConfig(model=str(model_folder("qwen3")), device="cpu", dtype="float32")).model
    copied = copy_to(model, torch.device("cpu"))
    pairs = zip(model.buffers(), copied.buffers(), strict=True)
    assert all(mine is other for mine, other in pairs)
    assert any(name.endswith("blocks") for name, _ in model.named_buffers())
