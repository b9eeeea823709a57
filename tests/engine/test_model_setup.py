"""A model becomes replicas: copies and compiled layers are checked before the first score."""

import shutil
from collections import Counter

import pytest
import torch
from scorers import assert_same, config_of, loaded, simple
from tiny_models import conversations

from datatrove_quality.engine import replicas
from datatrove_quality.engine.scorer import Scorer


def test_a_copy_that_computes_something_else_is_found(on_devices, folder, monkeypatch):
    """A device that gives other logits than the first is not trusted with documents."""
    real = replicas.copy_to

    def broken(model, device):
        copied = real(model, device)
        copied.score.weight = torch.nn.Parameter(copied.score.weight * 1.5, requires_grad=False)
        return copied

    monkeypatch.setattr("datatrove_quality.engine.model_setup.copy_to", broken)
    with pytest.raises(ValueError, match="that device computes wrongly"):
        on_devices(folder, 2)


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on the CPU")
def test_a_compiled_model_scores_the_same(folder, tmp_path, monkeypatch):
    """Compiled once for all lengths: the same scores, in every batch, and the code is kept for the next process."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    inputs = conversations(40, seed=9, longest=60)
    inputs += [[{"role": "system", "content": "Explique em três frases. " * 9}, *item[-2:]] for item in inputs[:20]]
    compiled = Scorer(config_of(folder, compile=True, tokens_per_batch=300))
    compiled.load()
    torch._dynamo.utils.counters.clear()
    counts = Counter()
    results = [result for _, result in compiled.stream_pairs(((None, item) for item in inputs), counts=counts)]
    assert_same(results, simple(Scorer(config_of(folder)), inputs))
    assert counts["shared_tokens"] > 20 * 32
    assert not torch._dynamo.utils.counters["frames"], "a length was compiled again"
    assert any(tmp_path.rglob("*.so"))


def test_no_compiler(folder, monkeypatch):
    """Where torch.compile does not work, that is said at load, with what to set."""

    def broken(self, **options):
        raise RuntimeError("no C++ compiler")

    monkeypatch.setattr(torch.nn.Module, "compile", broken)
    with pytest.raises(ValueError, match=r"compile=True.*no C\+\+ compiler\nSet compile=False"):
        Scorer(config_of(folder, compile=True)).load()


def test_the_log_says_what_was_loaded(model_folder, log):
    """One line names the model, its class, dtype, device, attention, limit and budget."""
    folder = model_folder("mistral")
    loaded(config_of(folder, tokens_per_batch=123))
    (line,) = [line for line in log if "Loaded" in line]
    for word in (
        str(folder),
        "MistralForSequenceClassification",
        "float32",
        "cpu",
        "per_sequence_attention",
        "160",
        "123",
    ):
        assert word in line
