"""The self-check: a forward pass that is wrong in any way is found before the first score."""

from contextlib import nullcontext

import pytest
import torch
from safetensors.torch import load_file, save_file
from scorers import TURNS, config_of, edited, loaded
from transformers import Gemma2ForSequenceClassification

from datatrove_quality.config import Unscorable
from datatrove_quality.model import attention
from datatrove_quality.model.self_check import probes


@pytest.fixture
def without_boundaries(monkeypatch):
    """A packed path in which sequences see each other."""
    true_path = attention.per_sequence_attention

    def wrong(query, key, value, spans, terms):
        whole = attention.Spans(spans.queries[[0, -1]], spans.keys[[0, -1]], len(query), len(key))
        return true_path(query, key, value, whole, terms)

    monkeypatch.setattr(attention, "per_sequence_attention", wrong)


def test_leaking_sequences_are_found(model_folder, without_boundaries):
    """A packed path that mixes sequences is refused with both logits."""
    with pytest.raises(ValueError, match=r"self-check failed.*logit -?[0-9.]+, the model's own -?[0-9.]+") as error:
        loaded(config_of(model_folder("qwen3")))
    assert "self_check=False" in str(error.value)


def test_the_self_check_can_be_left_out(model_folder, without_boundaries):
    """`self_check=False` scores anyway: the user's word is the last."""
    assert loaded(config_of(model_folder("qwen3"), self_check=False)).score([TURNS])


@pytest.mark.parametrize("wrong_path", [False, True])
def test_a_probe_that_fits_no_memory_is_left_out(model_folder, monkeypatch, wrong_path, request):
    """Plain attention to a long probe may not fit beside a large model, which is no error; short ones still check."""
    if wrong_path:
        request.getfixturevalue("without_boundaries")
    own, left_out = Gemma2ForSequenceClassification.forward, []

    def on_a_small_device(self, input_ids, **arguments):
        if input_ids.shape[1] > 50:
            left_out.append(input_ids.shape[1])
            raise torch.OutOfMemoryError("CUDA out of memory")
        return own(self, input_ids=input_ids, **arguments)

    monkeypatch.setattr(Gemma2ForSequenceClassification, "forward", on_a_small_device)
    with pytest.raises(ValueError, match="self-check failed") if wrong_path else nullcontext():
        assert loaded(config_of(model_folder("gemma2"))).score([TURNS])
    assert len(set(left_out)) >= 2


@pytest.mark.parametrize("family", ["mistral", "gemma2", "gemma3"])
def test_an_ignored_window_is_found(model_folder, monkeypatch, family):
    """A probe is longer than the window, so that a path without it is refused."""
    true_path = attention.per_sequence_attention

    def wrong(query, key, value, spans, terms):
        return true_path(query, key, value, spans, attention.AttentionTerms(terms.scale, softcap=terms.softcap))

    monkeypatch.setattr(attention, "per_sequence_attention", wrong)
    with pytest.raises(ValueError, match="self-check failed"):
        loaded(config_of(model_folder(family)))


def test_an_ignored_soft_cap_is_found(model_folder, monkeypatch):
    """A path that drops a keyword of the model is refused."""
    true_path = attention.per_sequence_attention

    def wrong(query, key, value, spans, terms):
        return true_path(query, key, value, spans, attention.AttentionTerms(terms.scale, window=terms.window))

    monkeypatch.setattr(attention, "per_sequence_attention", wrong)
    with pytest.raises(ValueError, match="self-check failed"):
        loaded(config_of(model_folder("gemma2")))


@pytest.mark.parametrize("family", ["qwen3", "bert"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_broken_weights_are_found(model_folder, tmp_path, family, value):
    """A checkpoint with a NaN in it is refused, and not run for a night for unscorable documents."""
    folder = edited(model_folder(family), tmp_path / "m")
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if name.endswith(("score.weight", "classifier.weight")))
    weights[name][0, 0] = value
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"self-check failed.*own .*(nan|inf).*weights are damaged"):
        loaded(config_of(folder))


@pytest.mark.parametrize(("family", "window"), [("mistral", 90), ("gemma2", 90), ("qwen3", None)])
def test_probes_cover_the_window_and_the_limit(model_folder, family, window):
    """Among the probes are short texts, one a little longer than the window, and one of exactly `max_tokens`."""
    options = {"sliding_window": window} if window else {}
    one = loaded(config_of(model_folder(family, **options), self_check=False))
    lengths = sorted(probe["input_ids"].shape[1] for probe in probes(one.model, one.renderer))
    assert lengths[0] < 24
    assert lengths[-1] == 160 == one.renderer.max_tokens
    if window:
        assert any(window < length <= window + 10 for length in lengths)


def test_probes_fit_a_small_limit(model_folder):
    """A limit below the probes' lengths cuts them, and the check still runs."""
    one = loaded(config_of(model_folder("mistral"), max_tokens=5))
    assert max(probe["input_ids"].shape[1] for probe in probes(one.model, one.renderer)) == 5


def test_a_template_that_always_raises_does_not_stop_the_load(model_folder):
    """The check needs no chat template: its probes are plain texts."""
    template = "{{ raise_exception('no') }}"
    one = loaded(config_of(model_folder("qwen3"), chat_template=template))
    (result,) = one.stream([TURNS])
    assert isinstance(result, Unscorable)
