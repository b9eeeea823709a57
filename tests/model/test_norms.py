"""torch's norm in place of a model's own: it computes the same with the same weights, or it is not used."""

import pytest
import torch
from torch import nn
from transformers import AutoModelForSequenceClassification
from transformers.models.gemma2.modeling_gemma2 import Gemma2RMSNorm

from datatrove_quality.config import ScorerConfig
from datatrove_quality.engine.scorer import Scorer
from datatrove_quality.model import attention, forward
from datatrove_quality.model import norms as fast_norms
from datatrove_quality.model.norms import use_fast_norms


SEQUENCES = [[5, 6, 7], [8], list(range(10, 60))]


def stays(norm):
    """Whether a norm is left where it is."""
    model = nn.Sequential(norm)
    use_fast_norms(model)
    return model[0] is norm


@pytest.mark.parametrize("family", ["qwen3", "gpt_oss", "gemma2"])
def test_a_norm_is_replaced_where_torchs_computes_the_same(model_folder, family, monkeypatch):
    """All of a model's norms are replaced, or, where they compute something else (Gemma), none; logits stay."""
    monkeypatch.setattr(fast_norms, "DEVICES", ("cpu",))
    model = AutoModelForSequenceClassification.from_pretrained(model_folder(family)).eval()
    model.set_attn_implementation(attention.PACKED)
    norms = {name: module.weight for name, module in model.named_modules() if "RMSNorm" in type(module).__name__}
    for seed, weight in enumerate(norms.values()):
        weight.data.normal_(generator=torch.Generator().manual_seed(seed))
    before = forward.packed_logits(model, SEQUENCES)
    use_fast_norms(model)
    torch.testing.assert_close(forward.packed_logits(model, SEQUENCES), before, atol=1e-5, rtol=1e-5)
    modules = dict(model.named_modules())
    replaced = [name for name in norms if type(modules[name]) is nn.RMSNorm]
    assert replaced == ([] if family == "gemma2" else list(norms))
    assert all(modules[name].weight is weight for name, weight in norms.items()), "a weight was copied"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_rounding_does_not_hide_another_formula(monkeypatch, dtype):
    """Gemma's norm, which adds one to its weights, is told apart in any dtype, however large the weights are."""
    monkeypatch.setattr(fast_norms, "DEVICES", ("cpu",))
    norm = Gemma2RMSNorm(64)
    norm.weight.data.fill_(40)
    assert stays(norm.to(dtype))


@pytest.mark.parametrize("kind", ["a gate", "a hook", "two dimensions", "one weight"])
def test_a_norm_of_another_kind_stays(monkeypatch, kind):
    """A norm that may be called otherwise than with rows is left alone, and ends no load."""
    monkeypatch.setattr(fast_norms, "DEVICES", ("cpu",))
    norm = nn.RMSNorm({"two dimensions": (8, 16), "one weight": 1}.get(kind, 16), eps=1e-6)
    if kind == "a gate":
        norm.forward = lambda rows, gate=None: rows
    if kind == "a hook":
        norm.register_forward_hook(lambda module, rows, output: 2 * output)
    assert stays(norm)


def test_a_norm_of_another_epsilon_is_not_replaced(monkeypatch):
    """Rows as small as epsilon tell norms apart that agree on all others."""
    monkeypatch.setattr(fast_norms, "DEVICES", ("cpu",))

    class OtherRMSNorm(nn.RMSNorm):
        def forward(self, rows):
            return self.weight * rows * torch.rsqrt(rows.square().mean(-1, keepdim=True) + 1e-5)

    assert stays(OtherRMSNorm(16, eps=1e-6))


def test_the_self_check_sees_a_wrong_norm(model_folder, monkeypatch):
    """In float32 our logits are compared with those of the model as it was before any norm was replaced."""
    monkeypatch.setattr(fast_norms, "DEVICES", ("cpu",))
    monkeypatch.setattr(fast_norms, "_computes_same", lambda norm, own: True)
    with pytest.raises(ValueError, match="self-check failed"):
        Scorer(
            ScorerConfig(model=str(model_folder("gemma2")), device="cpu", dtype="float32", allow_constant_scores=True)
        ).load()
