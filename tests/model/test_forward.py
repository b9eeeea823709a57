"""The forward passes: sequences are laid end to end, and the last layer computes only the pooled tokens."""

import types

import pytest
import torch
from tiny_models import DECODERS
from transformers import AutoModelForSequenceClassification

from datatrove_quality.model import attention, forward
from datatrove_quality.model.forward import pack, up_to_pooled
from datatrove_quality.model.self_check import can_pool_in_last_layer


@pytest.mark.parametrize("version", ["2.6", "2.11", "2.12"])
def test_the_compilers_limit_is_raised_where_it_counts(version, monkeypatch):
    """Torch has renamed and moved it: in each version layers of many devices are compiled, in every thread."""
    given = []

    def before(model, *, dynamic):
        given.append(None)
        return model

    def since(model, *, dynamic, recompile_limit=None):
        given.append(recompile_limit)
        return model

    names = ("cache_size_limit",) if version == "2.6" else ("cache_size_limit", "recompile_limit")
    config = types.SimpleNamespace(**dict.fromkeys(names, 8))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "unused")
    monkeypatch.setattr(attention.AttentionInterface, "register", lambda *arguments: None)
    monkeypatch.setattr(torch, "compile", since if version == "2.12" else before)
    monkeypatch.setattr(torch._dynamo, "config", config)
    forward.compile_layers(torch.nn.Sequential(forward.GradientCheckpointingLayer()))
    assert given == [64 if version == "2.12" else None]
    assert config.cache_size_limit == (8 if version == "2.12" else 64)


def test_pack():
    """Sequences lie end to end, positions start again at each, and the boundaries are cumulative int32 lengths."""
    batch = pack([[5, 6], [7], [8, 9, 10]], torch.device("cpu"))
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8, 9, 10]]
    assert batch["position_ids"].tolist() == [[0, 1, 0, 0, 1, 2]]
    assert batch["cu_seq_lens_q"].tolist() == batch["cu_seq_lens_k"].tolist() == [0, 2, 3, 6]
    assert batch["cu_seq_lens_q"].dtype == torch.int32
    assert batch["max_length_q"] == batch["max_length_k"] == 3
    assert batch["num_queries"] == batch["num_keys"] == 6


@pytest.mark.parametrize(
    ("ids", "pad", "position"),
    [
        ([4, 5, 6], 0, 2),
        ([4, 5, 0, 0], 0, 1),
        ([0, 4, 0], 0, 1),
        ([0, 0], 0, 0),
        ([0, 4, 0], None, 2),
        ([4], 0, 0),
    ],
)
def test_up_to_pooled(ids, pad, position):
    """The head reads the rightmost token that is not the pad token, as transformers' own does."""
    assert up_to_pooled(ids, pad) == ids[: position + 1]
    if pad is not None:
        mask = (torch.tensor(ids) != pad).int()
        assert int((torch.arange(len(ids)) * mask).argmax()) == position


SEQUENCES = [[5, 6, 7], [8], list(range(10, 60))]


@pytest.fixture
def packed_model(model_folder):
    """A function that gives a family's model with packed attention: `packed_model("qwen3")`."""

    def load(family):
        model = AutoModelForSequenceClassification.from_pretrained(model_folder(family)).eval()
        model.set_attn_implementation(attention.PACKED)
        return model

    return load


@pytest.mark.filterwarnings("error::FutureWarning")
@pytest.mark.parametrize("family", DECODERS)
def test_the_last_layer_computes_only_the_pooled_tokens(packed_model, family):
    """Whatever transformers calls a layer's cache, the feed-forward network sees one token a sequence; logits stay."""
    model = packed_model(family)
    expected = forward.packed_logits(model, SEQUENCES)
    layer, rows = forward._layers(model)[-1], []
    layer.mlp.register_forward_pre_hook(lambda module, inputs: rows.append(inputs[0].shape[:-1].numel()))
    forward.packed_logits(model, SEQUENCES)
    forward.pool_in_last_layer(model)
    torch.testing.assert_close(forward.packed_logits(model, SEQUENCES), expected, atol=1e-5, rtol=1e-5)
    assert rows == [54, 3]
    forward.pool_after_last_layer(model)
    forward.packed_logits(model, SEQUENCES)
    assert rows == [54, 3, 54]


def test_each_name_of_a_cache_is_known():
    """transformers 5.24 renamed the parameter; a layer that has neither is told of before it is changed."""

    class Layer(torch.nn.Module):
        def forward(self, hidden, cache=None, **kwargs): ...

    class OlderLayer(torch.nn.Module):
        def forward(self, hidden, past_key_values=None, **kwargs): ...

    class LayerWithout(torch.nn.Module):
        def forward(self, hidden, **kwargs): ...

    assert forward._cache_parameter(Layer()) == "cache"
    assert forward._cache_parameter(OlderLayer()) == "past_key_values"
    with pytest.raises(ValueError, match=r"LayerWithout\.forward has none of the parameters cache, past_key_values"):
        forward._cache_parameter(LayerWithout())


@pytest.mark.parametrize("name", ["nothing", "past_key_values"])
def test_a_layer_that_drops_its_cache_computes_all_tokens(packed_model, monkeypatch, name, log):
    """Under a third name, or where the model's `cache=None` wins, scores stay and no kernel reads out of bounds."""
    model = packed_model("qwen3")
    expected = forward.packed_logits(model, SEQUENCES)
    own = type(forward._layers(model)[-1]).forward

    def forgetful(self, hidden, *args, cache=None, past_key_values=None, nothing=None, **kwargs):
        return own(self, hidden, *args, **kwargs)

    monkeypatch.setattr(type(forward._layers(model)[-1]), "forward", forgetful)
    monkeypatch.setattr(forward, "CACHE_PARAMETERS", (name,))
    probes = [{"input_ids": torch.tensor([ids])} for ids in SEQUENCES]
    assert not can_pool_in_last_layer(model, forward.packed_logits, probes)
    assert any("does not hand its keys and values to the cache" in line.replace("\n", " ") for line in log)
    assert not forward.pools_in_last_layer(model)
    torch.testing.assert_close(forward.packed_logits(model, SEQUENCES), expected)


def test_a_layer_without_a_cache_computes_all_tokens(packed_model, monkeypatch, log):
    """A layer whose signature has no known name stays as it is."""
    model = packed_model("qwen3")
    monkeypatch.setattr(forward, "CACHE_PARAMETERS", ("memory",))
    probes = [{"input_ids": torch.tensor([ids])} for ids in SEQUENCES]
    assert not can_pool_in_last_layer(model, forward.packed_logits, probes)
    assert any("has none of the parameters memory" in line for line in log)
