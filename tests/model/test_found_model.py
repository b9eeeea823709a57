"""A classifier without its weights: found and checked to fit together, or an error that says what to do."""

import errno
import json

import pytest
from scorers import TURNS, assert_like_the_card, config_of, edited, loaded, refused
from tiny_models import DECODER, ENCODERS, Card, chatml_tokenizer, encoder_tokenizer, save_model
from tokenizers.processors import TemplateProcessing

from datatrove_quality.config import ScorerConfig, ScoreScale
from datatrove_quality.model.found_model import find_model, require_classifier


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
    """An invalid scale is refused before any work, and the default is not taken instead."""
    folder = edited(model_folder("qwen3"), tmp_path / "m", score_scale=scale)
    with pytest.raises(ValueError, match=r"model=.*score_scale=.*config\.json"):
        find_model(config_of(folder))


def test_another_kind_of_model(model_folder, tmp_path):
    """A language model without a score head is refused by what it calls itself, before its weights are read."""
    folder = edited(model_folder("qwen3"), tmp_path / "m", architectures=["Qwen3ForCausalLM"])
    refused(config_of(folder), "Qwen3ForCausalLM.*sequence classifier")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"model_type": "no_such_model"}', '{"hidden_size": 3}'])
def test_broken_model_config(model_folder, tmp_path, text):
    """An invalid config.json is refused with the model's name."""
    folder = edited(model_folder("qwen3"), tmp_path / "m")
    (folder / "config.json").write_text(text)
    refused(config_of(folder), "cannot be loaded")


@pytest.mark.parametrize(
    ("family", "name", "value"),
    [
        ("qwen3", "num_attention_heads", 0),
        ("qwen3", "num_attention_heads", "four"),
        ("qwen3", "head_dim", -16),
        ("qwen3", "pad_token_id", 10**9),
        ("qwen3", "hidden_act", "abc"),
        ("qwen3", "dtype", "abc"),
        ("qwen3", "architectures", 3),
        ("qwen3", "id2label", 7),
        ("qwen3", "id2label", {}),
        ("qwen3", "quantization_config", "x"),
        ("bert", "hidden_size", 0),
        ("bert", "vocab_size", 1.5),
    ],
)
def test_nonsense_in_the_models_config_is_named(model_folder, tmp_path, family, name, value):
    """Libraries raise whatever comes of it: divisions by zero, missing attributes, assertions."""
    folder = edited(model_folder(family), tmp_path / "m", **{name: value})
    with pytest.raises(ValueError, match=rf"model=.*config\.json|model=.*{name}") as error:
        find_model(config_of(folder))
    assert name in str(error.value) and "config.json" in str(error.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_hidden_layers", 10**9),
        ("num_attention_heads", 10**12),
        ("num_labels", 10**9),
        ("vocab_size", 10**15),
        ("hidden_size", 1e18),
        ("text_config", {"num_hidden_layers": 10**9}),
    ],
)
def test_an_enormous_model_is_refused_before_memory_is_taken(model_folder, tmp_path, name, value):
    """transformers would make lists of that length, or modules without end."""
    folder = edited(model_folder("qwen3"), tmp_path / "m", **{name: value})
    named = f"{name}={value!r}" if name != "text_config" else "num_hidden_layers=1000000000"
    with pytest.raises(ValueError, match=r"config\.json: no classifier is that large; correct it") as error:
        find_model(config_of(folder))
    assert named in str(error.value)


def test_a_config_of_a_far_larger_model_is_refused_before_memory_is_taken(model_folder, tmp_path):
    """Each size may be, and together they are not those of the weights."""
    folder = edited(model_folder("qwen3"), tmp_path / "m", hidden_size=2**16, intermediate_size=2**18, head_dim=2**14)
    with pytest.raises(ValueError, match=r"describes a model of [\d,]{15,} parameters, and [\d,]{6,7} are stored"):
        loaded(config_of(folder))


@pytest.mark.parametrize("value", ["abc", "512", 0, -1, True, [], float("nan")])
def test_nonsense_for_the_tokenizers_limit_is_named(model_folder, tmp_path, value):
    """It is compared with numbers of tokens before anything else looks at it."""
    folder = edited(model_folder("qwen3"), tmp_path / "m")
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_max_length": value}))
    with pytest.raises(ValueError, match=r"model=.*model_max_length=.*tokenizer_config\.json"):
        find_model(config_of(folder))


def test_files_that_are_no_tokenizer(model_folder, tmp_path):
    """Named as the reason, rather than the folder."""
    folder = edited(model_folder("qwen3"), tmp_path / "m")
    (folder / "tokenizer.json").write_text("{}")
    refused(config_of(folder), r"tokenizer\.json and tokenizer_config\.json no tokenizer can be made")


def test_embeddings_of_another_kind(tmp_path):
    """I-BERT computes with whole numbers."""
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
    folder = save_model(tmp_path / "m", "ibert", encoder_tokenizer(), max_position_embeddings=256, **sizes)
    refused(config_of(folder), "IBertForSequenceClassification has embeddings of its own kind")


def test_a_passing_error_is_not_blamed_on_the_files(model_folder, monkeypatch):
    """Too many open files, a disk that fails: nothing is to be corrected in the folder."""
    import transformers

    def failing(*arguments, **options):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", failing)
    refused(config_of(model_folder("qwen3")), r"cannot be read or written: start again.*\n.*Too many open files")


@pytest.mark.parametrize("name", ["m", "bert-model"])
def test_empty_folder(tmp_path, name):
    """A folder without a model says what it should hold, whatever it is called."""
    folder = tmp_path / name
    folder.mkdir()
    refused(config_of(folder), r"config\.json, model\.safetensors")


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


@pytest.mark.parametrize("template", [None, "<turn>{% for m in messages %}{{ m.content }}{% endfor %}"])
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


@pytest.mark.parametrize(("family", "positions"), [("qwen3", 512), ("bert", 256), ("roberta", 254), ("deberta", 256)])
def test_more_tokens_than_positions(model_folder, family, positions):
    """A limit above the model's positions is refused with the most that they admit."""
    folder = model_folder(family)
    refused(config_of(folder, max_tokens=positions + 1), f"positions for {positions} tokens")
    find_model(config_of(folder, max_tokens=positions))


@pytest.mark.parametrize(
    ("values", "is_refused"),
    [
        ({"max_position_embeddings": 8}, True),
        ({"max_position_embeddings": 9}, False),
        ({"n_positions": 8}, True),
        ({"n_positions": 8, "max_position_embeddings": 9}, False),
        ({"text_config": {"max_position_embeddings": 8}, "max_position_embeddings": 9}, True),
        ({"text_config": {"max_position_embeddings": 9}, "max_position_embeddings": 8}, False),
        ({"max_position_embeddings": -1}, False),
        ({"max_position_embeddings": None}, False),
        ({}, False),
    ],
)
def test_positions_that_config_json_names(tmp_path, values, is_refused):
    """They are known before transformers is imported; what only a model's class tells refuses nothing then."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "any"} | values))
    config = ScorerConfig(model=str(tmp_path), max_tokens=9)
    if is_refused:
        with pytest.raises(ValueError, match="max_tokens=9: the model has positions for 8 tokens"):
            require_classifier(config, tmp_path)
    else:
        require_classifier(config, tmp_path)


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


def test_positions_of_the_limit_itself(model_folder):
    """`max_tokens` beyond the tokenizer's own limit is granted up to the positions."""
    one = loaded(config_of(model_folder("qwen3"), max_tokens=400))
    (score,) = one.score(["Qual é a capital? " * 200])
    assert score.tokens == 400


def test_code_that_comes_with_a_model_is_not_run(model_folder, tmp_path):
    """A model with code of its own needs a yes, and the error says which."""
    folder = edited(model_folder("qwen3"), tmp_path / "m", model_type="own", auto_map={"AutoConfig": "own.OwnConfig"})
    (folder / "own.py").write_text("raise SystemExit('this ran')")
    refused(config_of(folder), "trust_remote_code=True")


def test_nonsense_inside_an_object_of_the_models_config_is_named(model_folder, tmp_path):
    """The library's own error says no more than the value."""
    folder = edited(model_folder("qwen3"), tmp_path / "m")
    values = json.loads((folder / "config.json").read_text()) | {"rope_parameters": {"rope_type": "foo"}}
    (folder / "config.json").write_text(json.dumps(values))
    refused(config_of(folder), r"correct rope_parameters\.rope_type='foo'", load=loaded)
