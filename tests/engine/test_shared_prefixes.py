"""Texts that begin alike, from conversations to scores: the card's for each, in their order, at less cost."""

import random
from collections import Counter
from shutil import copytree

import pytest
import torch
from datatrove.data import Document
from safetensors.torch import load_file, save_file
from scorers import TURNS, assert_like_the_card, assert_same, config_of, loaded, simple
from tiny_models import WORDS, Card, conversations

from datatrove_quality import QualityFilter
from datatrove_quality.config import Unscorable
from datatrove_quality.engine import scorer


SYSTEM = {"role": "system", "content": "Explique a fotossíntese em três frases, por favor. " * 3}


def words(rng, count):
    return " ".join(rng.choices(WORDS, k=count))


def shared_conversations(seed=0):
    """Answers to some prompts, interleaved; turns of one conversation; equal ones; others; some cut in the prefix."""
    rng = random.Random(seed)
    made = []
    for _ in range(6):
        asked = [SYSTEM, {"role": "user", "content": words(rng, rng.choice([3, 20]))}]
        made += [[*asked, {"role": "assistant", "content": words(rng, rng.randint(0, 12))}] for _ in range(5)]
        made += [asked, asked]
        made.append([*made[-4], {"role": "user", "content": words(rng, 8)}])
        long = {"role": "user", "content": words(rng, 90)}
        made += [[long, {"role": "assistant", "content": word}] for word in ("sim", "não")]
    made += conversations(20, seed)
    rng.shuffle(made)
    return made


@pytest.mark.parametrize("family", ["qwen3", "llama", "mistral", "gemma2", "gpt_oss", "qwen3_moe"])
@pytest.mark.parametrize("tokens_per_batch", [120, 700])
def test_scores_are_the_cards(model_folder, card, family, tokens_per_batch):
    """In every architecture; a good part of the tokens is not computed."""
    one = loaded(config_of(model_folder(family), tokens_per_batch=tokens_per_batch))
    inputs, counts = shared_conversations(), Counter()
    results = [result for _, result in one.stream_pairs(((None, item) for item in inputs), counts=counts)]
    assert_like_the_card(results, card(family), inputs)
    assert sum(score.truncated for score in results) >= 6
    assert 0.3 < counts["shared_tokens"] / sum(score.tokens for score in results) < 0.9


def test_a_score_does_not_depend_on_what_shares_its_beginning(model_folder, on_devices, folder):
    """In any order, any batches, on one device or two."""
    inputs = shared_conversations(1)
    expected = simple(on_devices(folder, 1), inputs)
    for count, budget in ((1, 100), (1, 5_000), (2, 150)):
        one = on_devices(folder, count, tokens_per_batch=budget)
        for step in (1, -1):
            assert_same(list(one.stream(inputs[::step])), expected[::step])


def test_how_many_tokens_are_not_computed(model_folder, monkeypatch):
    """What the count says is what the layers did not see."""
    one = loaded(config_of(model_folder("qwen3"), tokens_per_batch=300))
    layer, computed = one.model.model.layers[0], []
    layer.register_forward_pre_hook(lambda module, given: computed.append(given[0].shape[1]))
    inputs, counts = shared_conversations(2), Counter()
    results = [result for _, result in one.stream_pairs(((None, item) for item in inputs), counts=counts)]
    assert sum(computed) == sum(score.tokens for score in results) - counts["shared_tokens"]
    assert one.replicas[0].prefixes._held is None
    computed.clear()
    counts.clear()
    different = [item for item in conversations(40, seed=4) if item[0]["role"] == "user"]
    results = [result for _, result in one.stream_pairs(((None, item) for item in different), counts=counts)]
    assert sum(computed) == sum(score.tokens for score in results) and not counts


def test_nan_in_one_answer(model_folder, monkeypatch):
    """That text alone is unscorable; the other answers to its prompt have their scores."""
    one = loaded(config_of(model_folder("qwen3")))
    inputs = [[SYSTEM, {"role": "user", "content": text}] for text in ("um", "dois", "três", "日本語")]
    expected = one.score(inputs)
    *others, last = (set(text.ids) for text in one.renderer.encode(inputs))
    bad = min(last.difference(*others))
    with torch.no_grad():
        one.model.model.embed_tokens.weight[bad] = float("nan")
    *good, unscorable = list(one.stream(inputs))
    assert isinstance(unscorable, Unscorable) and unscorable.reason == "non_finite_score"
    assert_same(good, [score.score for score in expected[:3]])


@pytest.mark.parametrize("most", [70, 150, 300])
def test_out_of_memory_halves_a_batch_that_shares(model_folder, monkeypatch, most):
    """No text is lost or gets another's score, and what is held is given back."""
    one = loaded(config_of(model_folder("qwen3"), tokens_per_batch=1_000))
    inputs = shared_conversations(3)
    expected = simple(one, inputs)
    replica = one.replicas[0]
    forward, passes = replica.forward, []

    def limited(model, sequences, row=None):
        tokens = sum(map(len, sequences)) - (0 if row is None else row.num_saved)
        passes.append(tokens)
        if tokens > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(model, sequences, **({} if row is None else {"row": row}))

    monkeypatch.setattr(replica, "forward", limited)
    results, counts = [], Counter()
    for _, result in one.stream_pairs(((None, item) for item in inputs), counts=counts):
        results.append(result)
    lengths = [len(text.ids) for text in one.renderer.encode(inputs)]
    for result, value, length in zip(results, expected, lengths, strict=True):
        if isinstance(result, Unscorable):
            assert result.reason == "out_of_memory" and length > most
        else:
            assert result.score == pytest.approx(value, abs=5e-5)
    assert max(passes) > most
    computed = sum(tokens for tokens in passes if tokens <= most)
    scored = sum(length for result, length in zip(results, lengths, strict=True) if not isinstance(result, Unscorable))
    assert counts["shared_tokens"] == scored - computed


def test_two_heads_on_one_trunk_share_prefixes_too(model_folder, card, tmp_path, monkeypatch):
    """One forward pass with each prefix once gives the scores of both heads."""
    monkeypatch.setattr(scorer, "_found", {})
    first = model_folder("qwen3")
    other = copytree(first, tmp_path / "other")
    tensors = load_file(other / "model.safetensors")
    tensors["score.weight"] = tensors["score.weight"].flip(-1).contiguous()
    save_file(tensors, other / "model.safetensors", metadata={"format": "pt"})
    inputs = [item for item in shared_conversations(5) if item[-1]["role"] == "assistant"]
    stream = (Document(text="x", id=str(n), metadata={"messages": item}) for n, item in enumerate(inputs))
    steps = [QualityFilter(config_of(one), prefix=one.name, accept_changed_text=True) for one in (first, other)]
    for step in steps:
        stream = step.run(stream)
    found = list(stream)
    assert scorer.find_scorer(config_of(first)).model is scorer.find_scorer(config_of(other)).model
    for name, expected in ((first.name, card("qwen3")), ("other", Card(other))):
        scores = [doc.metadata[f"{name}_score"] for doc in found]
        assert scores == pytest.approx([expected(item).score for item in inputs], abs=1e-4)
    assert sum(step.stats["shared_tokens"].total for step in steps if "shared_tokens" in step.stats.stats) > 0


def test_the_step_counts_them(model_folder, tmp_path, monkeypatch):
    """In its statistics; equal texts come from the store and are not counted again."""
    monkeypatch.setattr(scorer, "_found", {})
    docs = [
        Document(
            text="x",
            id=str(number),
            metadata={"messages": [SYSTEM, *TURNS[:1], {"role": "assistant", "content": str(number)}]},
        )
        for number in range(8)
    ]
    step = QualityFilter(config_of(model_folder("qwen3")), checkpoints_dir=tmp_path, accept_changed_text=True)
    assert len(list(step.run(docs))) == 8
    shared = step.stats["shared_tokens"].total
    assert shared > 7 * 32
    again = QualityFilter(step.scorer, checkpoints_dir=tmp_path, accept_changed_text=True)
    assert len(list(again.run(docs))) == 8 and "shared_tokens" not in again.stats.stats
