"""What tests of the model and the engine share: scorers of random models, and what their scores should be."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from tiny_models import conversations

from datatrove_quality.config import ScorerConfig, Unscorable
from datatrove_quality.engine.scorer import Scorer
from datatrove_quality.model import architectures, forward, quantized
from datatrove_quality.model.found_model import find_model


needs_int8 = pytest.mark.skipif(
    quantized.why_unusable("int8", torch.device("cpu")) is not None, reason="needs a processor with VNNI or AMX"
)
TURNS = [{"role": "user", "content": "Qual é a capital?"}, {"role": "assistant", "content": "Lisboa."}]


def loaded(config):
    """A scorer of its own for this config, with its weights."""
    one = Scorer(config)
    one.load()
    return one


def config_of(folder, **options):
    return ScorerConfig(**({"model": str(folder), "dtype": "float32", "device": "cpu"} | options))


def texts(number, seed=0):
    made = [" ".join(message["content"] for message in conversation) for conversation in conversations(number, seed)]
    return [text for text in made if text.strip()]


def assert_like_the_card(scores, card, inputs):
    """Score, rounded score, tokens and truncation are what the card's usage example gives for each input alone."""
    for score, expected in zip(scores, map(card, inputs), strict=True):
        assert score.score == pytest.approx(expected.score, abs=1e-4)
        # A logit within the noise of a half may be rounded either way.
        if abs((expected.score % 1) - 0.5) > 1e-4:
            assert score.int_score == expected.int_score
        assert (score.tokens, score.truncated) == (expected.tokens, expected.truncated)


def edited(folder, target, **values):
    """A copy of a model folder with other values in its config.json."""
    shutil.copytree(folder, target)
    config = json.loads((target / "config.json").read_text()) | values
    (target / "config.json").write_text(json.dumps(config))
    return target


def refused(config, match, load=None):
    """Loading this config (and checking it, where `load` is None) is a ValueError that names the model and matches."""
    actions = (find_model, loaded) if load is None else (load,)
    for action in actions:
        with pytest.raises(ValueError, match=match) as error:
            action(config)
        assert config.model in str(error.value)


def simple(one, inputs):
    """Each input alone, without a thread, a batch or a store."""
    results = []
    logits_of = forward.packed_logits if architectures.is_packable(one.model) else forward.padded_logits
    for item in inputs:
        (text,) = one.renderer.encode([item])
        results.append(text if isinstance(text, Unscorable) else logits_of(one.model, [text.ids]).item() + 1)
    return results


def assert_same(results, expected):
    assert len(results) == len(expected)
    for result, value in zip(results, expected, strict=True):
        if isinstance(value, Unscorable):
            assert isinstance(result, Unscorable) and result.reason == value.reason
        else:
            assert result.score == pytest.approx(value, abs=5e-5)


def score_files(folder: str | Path) -> list[Path]:
    """The files of a score store."""
    return sorted(Path(folder).glob("*/*.scores"))
