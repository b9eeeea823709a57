"""A score is the model card's, whatever the batch; and a model that cannot be scored truly is refused at load."""

import copy
import pickle
import random
from itertools import count, islice

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scorers import TURNS, assert_like_the_card, config_of, loaded, texts
from tiny_models import DECODERS, ENCODERS, Card, chatml_tokenizer, conversations, save_model

from datatrove_quality.config import Score, ScorerConfig, Unscorable
from datatrove_quality.engine import scorer, streaming
from datatrove_quality.engine.batching import padded_batches
from datatrove_quality.engine.scorer import load_scorer
from datatrove_quality.model import forward
from datatrove_quality.model.found_model import find_model
from datatrove_quality.model.loading import load_weights
from datatrove_quality.rows.score_columns import RecordedScore


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


def test_max_tokens_template_and_special_tokens_reach_the_model(model_folder):
    """The limit and the template of the config stand in place of the tokenizer's."""
    folder, template = model_folder("qwen3"), "{% for m in messages %}{{ m.content }}|{% endfor %}"
    inputs = conversations(15, seed=4)
    scores = loaded(config_of(folder, max_tokens=33, chat_template=template)).score(inputs)
    assert_like_the_card(scores, Card(folder, 33, template), inputs)
    assert max(score.tokens for score in scores) == 33


def test_a_decoder_without_pad_token(tmp_path):
    """Without a pad token the last token is read, and packing needs none."""
    folder = save_model(tmp_path / "m", "qwen3", chatml_tokenizer(), **(DECODERS["qwen3"][2] | {"pad_token_id": None}))
    inputs = conversations(10, seed=6)
    assert_like_the_card(loaded(config_of(folder)).score(inputs), Card(folder), inputs)


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


def test_a_step_may_hold_a_scorer(model_folder):
    """Executors copy and pickle steps: a scorer among their attributes is not loaded, nor kept, a second time."""
    one = load_scorer(ScorerConfig(model=str(model_folder("qwen3")), device="cpu", dtype="float32"))
    assert copy.deepcopy(one) is one
    assert pickle.loads(pickle.dumps(one)) is one
