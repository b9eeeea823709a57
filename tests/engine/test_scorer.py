"""A score is the model card's, whatever the batch; and a model that cannot be scored truly is refused at load."""

import copy
import json
import os
import pickle
import random
import shutil
from contextlib import nullcontext
from itertools import count, islice

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tiny_models import (
    DECODER,
    DECODERS,
    ENCODERS,
    Card,
    chatml_tokenizer,
    conversations,
    encoder_tokenizer,
    save_model,
)
from tokenizers.processors import TemplateProcessing
from transformers import Gemma2ForSequenceClassification

from datatrove_quality.config import Score, ScorerConfig, ScoreScale, Unscorable
from datatrove_quality.engine import scorer, streaming
from datatrove_quality.engine.batching import padded_batches
from datatrove_quality.engine.scorer import Scorer, load_scorer
from datatrove_quality.model import attention, files, forward, loading
from datatrove_quality.model.files import find_model
from datatrove_quality.model.loading import load_weights
from datatrove_quality.model.self_check import probes
from datatrove_quality.rows.score_columns import RecordedScore


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


# --- parity ----------------------------------------------------------------------------------------------------------


def test_qwen3_scores_are_the_cards(model_folder, card):
    """On 200 conversations of all lengths, with emoji, empty turns and white space, and one of 5 MB."""
    edges = [
        [{"role": "user", "content": "a"}],
        [{"role": "user", "content": "🙂🙂"}, {"role": "assistant", "content": ""}],
        [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b \n\t \n"}],
        [{"role": "system", "content": ""}, {"role": "user", "content": "<|endoftext|>"}],
        [{"role": "user", "content": "a<|endoftext|><|im_end|>"}, {"role": "assistant", "content": "<|endoftext|>"}],
        [{"role": "user", "content": "Qual é a capital de Portugal? " * 175_000}],
    ]
    inputs = conversations(200, longest=60) + edges
    scores = loaded(config_of(model_folder("qwen3"), tokens_per_batch=1_000)).score(inputs)
    assert_like_the_card(scores, card("qwen3"), inputs)
    assert 50 < sum(score.truncated for score in scores) < 150
    assert len({score.int_score for score in scores}) == 5


@pytest.mark.parametrize("family", [family for family in DECODERS if family != "qwen3"])
def test_decoders_score_as_the_card(model_folder, card, family):
    """What sets a family apart is honoured: BOS twice, pad equal to the end token, window, cap, sinks, experts."""
    inputs = [*conversations(30, seed=1), [{"role": "user", "content": "a"}]]
    scores = loaded(config_of(model_folder(family), tokens_per_batch=700)).score(inputs)
    assert_like_the_card(scores, card(family), inputs)
    assert min(score.tokens for score in scores) < 24 < 100 < max(score.tokens for score in scores)


@pytest.mark.parametrize("family", ENCODERS)
def test_encoders_score_as_the_card(model_folder, card, family):
    """Padding to the longest of a batch changes no score of an encoder."""
    inputs = [*texts(40), "a", "🙂"]
    scores = loaded(config_of(model_folder(family), tokens_per_batch=700)).score(inputs)
    assert_like_the_card(scores, card(family), inputs)
    assert any(score.truncated for score in scores)


def test_plain_text_on_a_decoder(model_folder, card):
    """A decoder scores strings without a template, as the card's code does from its `text` on."""
    inputs = texts(15)
    assert_like_the_card(loaded(config_of(model_folder("llama"))).score(inputs), card("llama"), inputs)


def test_a_bfloat16_checkpoint_in_float32(model_folder, card):
    """`dtype="float32"` computes in float32 whatever the checkpoint holds."""
    options = {"dtype": torch.bfloat16}
    inputs = conversations(20, seed=2)
    scores = loaded(config_of(model_folder("qwen3", **options))).score(inputs)
    assert_like_the_card(scores, card("qwen3", **options), inputs)


def test_max_tokens_template_and_special_tokens_reach_the_model(model_folder):
    """The limit and the template of the config stand in place of the tokenizer's."""
    folder, template = model_folder("qwen3"), "{% for m in messages %}{{ m.content }}|{% endfor %}"
    inputs = conversations(15, seed=4)
    scores = loaded(config_of(folder, max_tokens=33, chat_template=template)).score(inputs)
    assert_like_the_card(scores, Card(folder, 33, template), inputs)
    assert max(score.tokens for score in scores) == 33


def test_longrope_within_its_first_regime(model_folder):
    """A length-dependent rotation is scored where all texts are in one regime."""
    folder = model_folder("longrope")
    inputs = conversations(20, seed=5)
    assert_like_the_card(loaded(config_of(folder, max_tokens=64)).score(inputs), Card(folder, 64), inputs)


def test_dynamic_rope_within_its_positions(model_folder):
    """A dynamic rotation stays the same up to the positions that it was trained with."""
    folder = model_folder("dynamic_rope")
    inputs = conversations(10, seed=5)
    assert_like_the_card(loaded(config_of(folder, max_tokens=64)).score(inputs), Card(folder, 64), inputs)


def test_a_decoder_without_pad_token(tmp_path):
    """Without a pad token the last token is read, and packing needs none."""
    folder = save_model(tmp_path / "m", "qwen3", chatml_tokenizer(), **(DECODERS["qwen3"][2] | {"pad_token_id": None}))
    inputs = conversations(10, seed=6)
    assert_like_the_card(loaded(config_of(folder)).score(inputs), Card(folder), inputs)


def test_a_decoder_that_sees_both_ways_is_padded(tmp_path):
    """What stands behind the pooled token matters where tokens see it, so such a model runs as encoders do."""
    values = DECODERS["gemma3"][2] | {"use_bidirectional_attention": True}
    folder = save_model(tmp_path / "m", "gemma3_text", chatml_tokenizer(), **values)
    config, inputs = config_of(folder), ["um texto", *texts(10), "outro<|endoftext|>"]
    assert_like_the_card(loaded(config).score(inputs), Card(folder), inputs)
    assert not find_model(config).packable


@pytest.mark.parametrize("model_type", ["qwen3", "gpt2"])
def test_the_head_runs_in_float32(tmp_path, model_type):
    """In bfloat16 the logit has more digits than a bfloat16, so that scores do not fall into steps, padded or not."""
    values = {"qwen3": DECODERS["qwen3"][2], "gpt2": {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 512}}
    folder = save_model(tmp_path / "m", model_type, chatml_tokenizer(), **values[model_type])
    config = config_of(folder, dtype="bfloat16")
    assert find_model(config).packable == (model_type == "qwen3")
    scores = loaded(config).score(conversations(20))
    logits = torch.tensor([score.score - 1 for score in scores], dtype=torch.float64)
    assert (logits.bfloat16().double() - logits).abs().max() > 1e-3


# --- batches ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def alone(model_folder):
    """Scorers and, for one set of inputs each, the scores of every input scored alone."""
    made = {}

    def of(family, dtype="float32"):
        if (family, dtype) not in made:
            inputs = texts(24, seed=7) if family in ENCODERS else conversations(24, seed=7)
            one = loaded(config_of(model_folder(family), dtype=dtype))
            made[family, dtype] = one, inputs, [one.score([item])[0].score for item in inputs]
        return made[family, dtype]

    return of


@pytest.mark.parametrize("family", ["qwen3", "mistral", "bert"])
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), budget=st.integers(1, 4_000))
def test_a_score_does_not_depend_on_its_batch(alone, family, seed, budget):
    """Any subset, any order, any budget: the same score within float32's noise."""
    one, inputs, expected = alone(family)
    rng = random.Random(seed)
    chosen = rng.sample(range(len(inputs)), rng.randint(1, len(inputs)))
    one.replicas[0].tokens_per_batch = budget
    scores = one.score([inputs[index] for index in chosen])
    assert [score.score for score in scores] == pytest.approx([expected[index] for index in chosen], abs=5e-5)


@pytest.mark.parametrize("budget", [1, 300, 100_000])
def test_a_bfloat16_score_does_not_depend_on_its_batch(alone, budget):
    """The same in bfloat16 on the CPU, within 0.02."""
    one, inputs, expected = alone("qwen3", "bfloat16")
    one.replicas[0].tokens_per_batch = budget
    reversed_scores = [score.score for score in one.score(inputs[::-1])]
    assert reversed_scores[::-1] == pytest.approx(expected, abs=0.02)


def test_no_padding_in_a_decoder(model_folder):
    """The tokens that pass through each layer are the conversations' own, to the last one."""
    one = loaded(config_of(model_folder("qwen3"), tokens_per_batch=500))
    passed = []
    for layer in one.model.model.layers:
        layer.register_forward_hook(lambda module, inputs, output: passed.append(inputs[0].shape[:2].numel()))
    scores = one.score(conversations(60))
    total = sum(score.tokens for score in scores)
    assert sum(passed) == total * len(one.model.model.layers)
    assert max(passed) <= 500
    assert len(passed) / len(one.model.model.layers) <= total / (500 - 160) + 1


def test_the_budget_counts_an_encoders_padding(model_folder):
    """An encoder's batches stay within the budget with their padding, longest first."""
    one = loaded(config_of(model_folder("bert"), tokens_per_batch=400))
    shapes = []
    one.model.bert.encoder.layer[0].register_forward_hook(
        lambda module, inputs, output: shapes.append(inputs[0].shape[:2])
    )
    scores = one.score(texts(60))
    lengths = [score.tokens for score in scores]
    assert max(shape.numel() for shape in shapes) <= 400
    assert [shape[0] for shape in shapes] == [len(batch) for batch in padded_batches(lengths, 400)]
    assert [shape[1] for shape in shapes] == sorted((shape[1] for shape in shapes), reverse=True)


# --- stream and score ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def qwen3(model_folder):
    return loaded(config_of(model_folder("qwen3"), tokens_per_batch=1_000))


def test_stream_keeps_order_with_errors_in_their_places(qwen3):
    """One result per input, in the inputs' order; what cannot be scored has its reason where its score would be."""
    known = Unscorable("damaged_file", "said the reader")
    inputs = [TURNS, [], known, "texto", [{"role": "critic", "content": "a"}], TURNS]
    results = list(qwen3.stream(inputs))
    assert [getattr(result, "reason", None) for result in results] == [
        *(None, "no_messages", "damaged_file", None, "template_error", None)
    ]
    assert results[0] == results[5]
    assert isinstance(results[0], Score)


def test_stream_crosses_windows(qwen3, monkeypatch):
    """Windows are cut and joined without anybody noticing."""
    inputs = conversations(23)
    inputs[5] = []
    whole = [getattr(result, "score", None) for result in qwen3.stream(inputs)]
    monkeypatch.setattr(streaming, "WINDOW_ITEMS", 4)
    cut = [getattr(result, "score", None) for result in qwen3.stream(inputs)]
    assert cut[5] is whole[5] is None
    assert [one for one in cut if one] == pytest.approx([one for one in whole if one], abs=5e-5)


def test_each_input_comes_out_with_what_it_came_in_with(qwen3, monkeypatch):
    """A document travels with its input, whatever it is, through windows, errors, and known scores."""
    monkeypatch.setattr(streaming, "WINDOW_ITEMS", 4)
    made = conversations(40)
    expected = {id(item): score for item, score in zip(made, qwen3.score(made), strict=True)}
    inputs = [*made, [], Unscorable("damaged_file", "said the reader"), RecordedScore(3.5, None, None, False), "  "]
    random.Random(0).shuffle(inputs)
    pairs = list(qwen3.stream_pairs((item, item) for item in inputs))
    assert [companion for companion, _ in pairs] == inputs
    for companion, result in pairs:
        if id(companion) in expected:
            assert result.score == pytest.approx(expected[id(companion)].score, abs=5e-5)
        elif isinstance(companion, RecordedScore | Unscorable):
            assert result is companion
        else:
            assert result.reason == ("no_messages" if companion == [] else "empty_text")


def test_stream_holds_a_window(qwen3, monkeypatch):
    """An endless input is read no further than a few windows ahead of what was asked for."""
    monkeypatch.setattr(streaming, "WINDOW_ITEMS", 8)
    read = []

    def endless():
        for number in count():
            read.append(number)
            yield f"texto {number}"

    at_most_ahead = 2 * (streaming.WINDOWS_AHEAD + 1) + 1  # those that wait, those in the making and the caller's
    assert len(list(islice(qwen3.stream(endless()), 20))) == 20
    assert 24 <= len(read) <= 16 + 8 * at_most_ahead
    monkeypatch.setattr(streaming, "WINDOW_CHARACTERS", 1_000)
    read.clear()
    long = ([{"role": "user", "content": "a" * 600}] for _ in iter(lambda: read.append(0), 1))
    assert len(list(islice(qwen3.stream(long), 2))) == 2
    assert 2 <= len(read) <= 2 * at_most_ahead


def test_score_names_the_index_of_what_it_cannot_score(qwen3):
    """Without a pipeline, an unscorable input is an error that says which one and why."""
    with pytest.raises(Unscorable, match=r"inputs\[2\]: .*empty") as error:
        qwen3.score([TURNS, "texto", []])
    assert error.value.reason == "no_messages"


@pytest.mark.parametrize("inputs", ["um texto", TURNS, tuple(TURNS)], ids=["text", "conversation", "tuple"])
def test_a_lone_input_is_refused(qwen3, inputs):
    """A single conversation or text is not taken for a list of them."""
    with pytest.raises(ValueError, match="list of one"):
        qwen3.score(inputs)


def test_nothing_to_score(qwen3):
    """An empty list gives an empty list."""
    assert qwen3.score([]) == []


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_non_finite_logit_is_never_a_score(qwen3, monkeypatch, value):
    """One overflowing text is unscorable, and the others of its batch keep their scores."""
    expected = qwen3.score([TURNS, "texto", TURNS])

    def poisoned(model, sequences):
        logits = forward.packed_logits(model, sequences).clone()
        logits[1] = value
        return logits

    monkeypatch.setattr(qwen3.replicas[0], "forward", poisoned)
    results = list(qwen3.stream([TURNS, "texto", TURNS]))
    assert isinstance(results[1], Unscorable)
    assert results[1].reason == "non_finite_score"
    assert str(expected[1].tokens) in str(results[1])
    assert (results[0], results[2]) == (expected[0], expected[2])


def test_scores_are_plain_values(qwen3):
    """Scores hold Python's own types, so that any writer takes them."""
    (score,) = qwen3.score([TURNS])
    assert [type(value) for value in (score.score, score.int_score, score.tokens, score.truncated)] == [
        *(float, int, int, bool)
    ]


def test_one_load_per_config(model_folder, monkeypatch):
    """Equal configs share one model in a process; another config loads its own."""
    monkeypatch.setattr(scorer, "_found", {})
    loads = []
    monkeypatch.setattr(scorer, "load_weights", lambda *_: loads.append(1) or load_weights(*_))
    first = load_scorer(config_of(model_folder("qwen3")))
    assert load_scorer(config_of(model_folder("qwen3"))) is first
    assert load_scorer(config_of(model_folder("qwen3"), max_tokens=20)) is not first
    assert len(loads) == 2


def test_a_failed_load_is_tried_again(model_folder, monkeypatch):
    """A load that failed leaves nothing behind."""
    monkeypatch.setattr(scorer, "_found", {})
    for _ in range(2):
        with pytest.raises(ValueError, match="no folder"):
            load_scorer(config_of("/nowhere/model"))
    assert not scorer._found


@pytest.mark.parametrize("config", ["org/name", None, {"model": "org/name"}])
def test_what_is_no_config_is_refused(config):
    """A model's name, which QualityFilter takes too, is a named error here and no AttributeError."""
    with pytest.raises(ValueError, match=r"config=.*ScorerConfig\(model"):
        load_scorer(config)


# --- scale and dtype -------------------------------------------------------------------------------------------------


def edited(folder, target, **values):
    """A copy of a model folder with other values in its config.json."""
    shutil.copytree(folder, target)
    config = json.loads((target / "config.json").read_text()) | values
    (target / "config.json").write_text(json.dumps(config))
    return target


def test_scale_from_the_models_own_config(model_folder, tmp_path, card):
    """A model that names its scale is scored on it, without a word; a scale that is set goes before it."""
    folder = edited(model_folder("qwen3"), tmp_path / "m", score_scale={"offset": 0, "low": 0, "high": 5})
    logit = card("qwen3")(TURNS).score - 1
    (own,) = loaded(config_of(folder)).score([TURNS])
    assert own.score == pytest.approx(logit, abs=1e-4)
    assert own.int_score == round(max(0, min(logit, 5)))
    (set_one,) = loaded(config_of(folder, scale=ScoreScale(offset=10, low=10, high=12))).score([TURNS])
    assert set_one.score == pytest.approx(logit + 10, abs=1e-4)
    assert 10 <= set_one.int_score <= 12


def test_the_default_scale_is_said(model_folder, log):
    """A model without a scale gets the card's, and the log says so once."""
    loaded(config_of(model_folder("qwen3")))
    assert sum("score_scale" in line and "ScoreScale(offset=1.0, low=1, high=5)" in line for line in log) == 1


@pytest.mark.parametrize("scale", [{"offset": "a"}, {"lowest": 1}, [1, 1, 5], {"low": 9}])
def test_a_bad_scale_in_the_models_config(model_folder, tmp_path, scale):
    """A scale that is none is refused before any work, not taken for the default."""
    folder = edited(model_folder("qwen3"), tmp_path / "m", score_scale=scale)
    with pytest.raises(ValueError, match=r"model=.*score_scale=.*config\.json"):
        find_model(config_of(folder))


@pytest.mark.parametrize("native", [True, False])
def test_auto_dtype(model_folder, monkeypatch, log, native):
    """The checkpoint's dtype is kept where the device has it, else float32 is used and said."""
    for module in (files, loading):
        monkeypatch.setattr(module, "native_dtype", lambda device, dtype: native)
    one = loaded(config_of(model_folder("qwen3", dtype=torch.bfloat16), dtype="auto"))
    assert one.model.dtype == (torch.bfloat16 if native else torch.float32)
    assert any(line.startswith("WARNING") and "float32" in line for line in log) is not native


# --- refused at load -------------------------------------------------------------------------------------------------


def refused(config, match, load=None):
    """Loading this config (and checking it, where `load` is None) is a ValueError that names the model and matches."""
    actions = (find_model, loaded) if load is None else (load,)
    for action in actions:
        with pytest.raises(ValueError, match=match) as error:
            action(config)
        assert config.model in str(error.value)


@pytest.mark.parametrize(
    ("family", "match"),
    [
        ("qwen3_next", "carry state"),
        ("jamba", "carry state"),
        ("minimax", "carry state"),
        ("longrope", "set max_tokens=64"),
        ("t5", "encoder-decoder"),
    ],
)
def test_what_cannot_be_scored_truly_is_refused_without_reading_weights(model_folder, family, match):
    """State that leaks along the row, rotations that depend on a neighbour, and other kinds are refused at once."""
    refused(config_of(model_folder(family)), match)


def test_dynamic_rope_beyond_its_positions(model_folder, tmp_path):
    """A limit above the regime of a dynamic rotation is refused, whatever the reason that is named."""
    refused(config_of(model_folder("dynamic_rope"), max_tokens=65), "max_tokens")


def test_masks_of_its_own_are_refused(model_folder):
    """A model that hands a mask of its own to attention is refused by the name of its layer."""
    refused(config_of(model_folder("doge")), "DogeAttention.*mask.*not supported", load=loaded)


def test_two_outputs(tmp_path):
    """A classifier of classes has no score."""
    folder = save_model(tmp_path / "m", "qwen3", chatml_tokenizer(), **(DECODERS["qwen3"][2] | {"num_labels": 2}))
    refused(config_of(folder), "2 outputs.*num_labels=1")


def test_another_kind_of_model(model_folder, tmp_path):
    """A language model without a score head is refused by what it calls itself, before its weights are read."""
    folder = edited(model_folder("qwen3"), tmp_path / "m", architectures=["Qwen3ForCausalLM"])
    refused(config_of(folder), "Qwen3ForCausalLM.*sequence classifier")


def test_a_base_model_without_head(model_folder, tmp_path):
    """Weights without a score head would be scored with a random one: refused, whatever config.json says."""
    folder = edited(model_folder("qwen3"), tmp_path / "m", architectures=None)
    weights = load_file(folder / "model.safetensors")
    del weights["score.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    refused(config_of(folder), r"score\.weight.*no trained score head", load=loaded)


def test_only_pickled_weights(model_folder, tmp_path):
    """Pickled weights can run code and are not read; the error says how to convert them."""
    folder = edited(model_folder("qwen3"), tmp_path / "m")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    refused(config_of(folder), "no safetensors.*convert", load=loaded)


def test_no_weights_at_all(model_folder, tmp_path):
    """A folder whose weights were not copied says so."""
    folder = edited(model_folder("qwen3"), tmp_path / "m")
    (folder / "model.safetensors").unlink()
    refused(config_of(folder), "safetensors", load=loaded)


def test_corrupt_weights(model_folder, tmp_path):
    """A download that broke off is refused with the model's name."""
    folder = edited(model_folder("qwen3"), tmp_path / "m")
    whole = (folder / "model.safetensors").read_bytes()
    for broken in (whole[: len(whole) // 2], b"version https://git-lfs.github.com/spec/v1\n", b""):
        (folder / "model.safetensors").write_bytes(broken)
        refused(config_of(folder), "cannot be loaded", load=loaded)


def test_weights_of_another_shape(model_folder, tmp_path):
    """Weights that do not fit config.json are refused."""
    folder = edited(model_folder("qwen3"), tmp_path / "m", intermediate_size=64)
    refused(config_of(folder), "other shapes", load=loaded)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"model_type": "no_such_model"}', '{"hidden_size": 3}'])
def test_broken_model_config(model_folder, tmp_path, text):
    """A config.json that is none is refused with the model's name."""
    folder = edited(model_folder("qwen3"), tmp_path / "m")
    (folder / "config.json").write_text(text)
    refused(config_of(folder), "cannot be loaded")


def test_missing_folder():
    """A path that is not there is said to be not there, in full."""
    refused(config_of("/nowhere/model"), "There is no folder /nowhere/model")
    refused(config_of("./nowhere"), f"There is no folder {os.path.abspath('./nowhere')}")


def test_empty_folder(tmp_path):
    """A folder without a model says what it should hold."""
    refused(config_of(tmp_path), r"config\.json, model\.safetensors")


def test_missing_tokenizer_files(model_folder, tmp_path):
    """A folder without tokenizer files would be scored on made-up tokens: refused."""
    folder = edited(model_folder("qwen3"), tmp_path / "m")
    for path in folder.glob("*token*"):
        path.unlink()
    refused(config_of(folder), "tokenizer")


def test_tokenizer_of_another_model(model_folder, tmp_path):
    """A tokenizer whose vocabulary is larger than the model's embeddings belongs to another model."""
    folder = save_model(tmp_path / "m", "qwen3", chatml_tokenizer(), vocab_size=300, **DECODER)
    refused(config_of(folder), "do not belong together")


@pytest.mark.parametrize("template", [None, "<turn>{{ messages[0].content }}"])
def test_tokens_in_every_text_must_be_known(model_folder, tmp_path, template):
    """A BOS or a template's token without an embedding is refused before any work, not found in every document."""
    folder = edited(model_folder("qwen3"), tmp_path / "m")
    tokenizer = chatml_tokenizer()
    tokenizer.add_tokens(["<turn>"])
    if template is None:
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single="<turn> $A", special_tokens=[("<turn>", tokenizer.convert_tokens_to_ids("<turn>"))]
        )
    tokenizer.save_pretrained(folder)
    with pytest.raises(ValueError, match=r"<turn>.*do not belong together"):
        find_model(config_of(folder, chat_template=template)).renderer.require_template()


def test_added_tokens_without_embeddings(model_folder, tmp_path):
    """Tokens that were only added to a tokenizer (Gemma 3's for images) cost the texts that have them, no more."""
    folder = edited(model_folder("qwen3"), tmp_path / "m")
    tokenizer = chatml_tokenizer()
    tokenizer.add_tokens(["<image>"])
    tokenizer.save_pretrained(folder)
    with_image, without = list(loaded(config_of(folder)).stream(["Veja <image> aqui.", "Veja aqui."]))
    assert with_image.reason == "unknown_token" and "<image>" in str(with_image)
    assert without == loaded(config_of(model_folder("qwen3"))).score(["Veja aqui."])[0]


def test_encoder_without_pad_token(tmp_path):
    """An encoder that cannot pad says where the token goes."""
    values = ENCODERS["bert"][2] | {"pad_token_id": None}
    folder = save_model(tmp_path / "m", "bert", encoder_tokenizer(), **values)
    refused(config_of(folder), "pad_token_id")


@pytest.mark.parametrize(("family", "positions"), [("qwen3", 512), ("bert", 256), ("roberta", 254), ("deberta", 256)])
def test_more_tokens_than_positions(model_folder, family, positions):
    """A limit above the model's positions is refused with the most that they admit."""
    folder = model_folder(family)
    refused(config_of(folder, max_tokens=positions + 1), f"positions for {positions} tokens")
    find_model(config_of(folder, max_tokens=positions))


@pytest.mark.parametrize("family", ENCODERS)
def test_the_longest_text_that_positions_admit(tmp_path, family):
    """Without a limit from anywhere, a text fills all positions that can be used, and not one more."""
    model_type, make_tokenizer, values = ENCODERS[family]
    folder = save_model(tmp_path / "m", model_type, make_tokenizer(), max_tokens=None, **values)
    one = loaded(config_of(folder))
    (score,) = one.score(["Qual é a capital? " * 200])
    assert score.tokens == one.renderer.max_tokens == (254 if family == "roberta" else 256)
    assert score.truncated


def test_no_limit_of_tokens_at_all(tmp_path):
    """A model with relative positions and a tokenizer without a limit scores a text whole."""
    values = {"hidden_size": 64, "n_layer": 2, "n_head": 4}
    folder = save_model(tmp_path / "m", "bloom", chatml_tokenizer(), max_tokens=None, **values)
    inputs = ["Qual é a capital? " * 100, "Lisboa."]
    scores = loaded(config_of(folder)).score(inputs)
    assert_like_the_card(scores, Card(folder), inputs)
    assert scores[0].tokens > 500


def test_a_model_that_reads_the_last_place_is_refused(tmp_path):
    """An encoder that pools the padding (XLNet expects it on the left) is found by the self-check."""
    values = {"d_model": 64, "n_layer": 2, "n_head": 4, "d_inner": 96}
    folder = save_model(tmp_path / "m", "xlnet", encoder_tokenizer(), **values)
    refused(config_of(folder), "self-check failed", load=loaded)


def test_positions_of_the_limit_itself(model_folder):
    """`max_tokens` beyond the tokenizer's own limit is granted up to the positions."""
    one = loaded(config_of(model_folder("qwen3"), max_tokens=400))
    (score,) = one.score(["Qual é a capital? " * 200])
    assert score.tokens == 400


def test_a_hub_name_without_network():
    """A hub name on a node without network says how to get the model there."""
    refused(config_of("no-such-org/no-such-model"), "hf download no-such-org/no-such-model")


def test_a_hub_that_does_not_answer(monkeypatch):
    """The same where nobody set HF_HUB_OFFLINE: the words are transformers' after half a minute of retries."""
    from transformers import AutoConfig

    def unreachable(*args, **options):
        raise OSError(
            "We couldn't connect to 'https://huggingface.co' to load the files, and couldn't find them in the cached "
            "files.\nCheck your internet connection or see how to run the library in offline mode at 'https://..."
        )

    monkeypatch.setattr(AutoConfig, "from_pretrained", unreachable)
    refused(config_of("no-such-org/no-such-model"), "hf download no-such-org/no-such-model")


def test_code_that_comes_with_a_model_is_not_run(model_folder, tmp_path):
    """A model with code of its own needs a yes, and the error says which."""
    folder = edited(model_folder("qwen3"), tmp_path / "m", model_type="own", auto_map={"AutoConfig": "own.OwnConfig"})
    (folder / "own.py").write_text("raise SystemExit('this ran')")
    refused(config_of(folder), "trust_remote_code=True")


# --- self-check ------------------------------------------------------------------------------------------------------


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
    with pytest.raises(ValueError, match=r"self-check failed.*(nan|inf)"):
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


@pytest.mark.parametrize("family", ["qwen3", "bert"])
def test_a_config_that_names_no_dtype_computes_in_that_of_its_weights(model_folder, tmp_path, family):
    """Older models' config.json says nothing of a dtype: then the weights do, in the fingerprint too."""
    shutil.copytree(model_folder(family), tmp_path / "m")
    path = tmp_path / "m" / "config.json"
    values = {name: value for name, value in json.loads(path.read_text()).items() if "dtype" not in name}
    path.write_text(json.dumps(values))
    for asks_first in (False, True):
        one = Scorer(config_of(tmp_path / "m", dtype="auto"))
        if asks_first:
            assert one.fingerprint.parts["dtype"] == "float32"
        assert len(one.score(["Um texto."])) == 1
        assert one.fingerprint.parts["dtype"] == "float32"


def test_a_step_may_hold_a_scorer(model_folder):
    """Executors copy and pickle steps: a scorer among their attributes is not loaded, nor kept, a second time."""
    one = load_scorer(ScorerConfig(model=str(model_folder("qwen3")), device="cpu", dtype="float32"))
    assert copy.deepcopy(one) is one
    assert pickle.loads(pickle.dumps(one)) is one
