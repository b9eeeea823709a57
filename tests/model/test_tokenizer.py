"""A tokenizer gives one text the same tokens on each call, and the BOS token that the user knows of."""

import json
import shutil

import pytest
from scorers import TURNS, config_of, loaded, refused
from tiny_models import DECODER, Card, byte_level_tokenizer, save_model
from tokenizers import processors

from datatrove_quality.model.fingerprint import fingerprint
from datatrove_quality.model.found_model import computing_dtype, find_model


TEMPLATE = "{% for m in messages %}{{ '[' + m.role + '] ' + m.content }}{% endfor %}"
TEXT = "Explique a fotossíntese em três frases, por favor."


def changed(folder, target, name, **values):
    """A copy of a model's folder with other values in one of its JSON files; "a.b" is a value within a."""
    shutil.copytree(folder, target)
    stored = json.loads((target / name).read_text())
    for key, value in values.items():
        *path, last = key.split("__")
        inner = stored
        for part in path:
            inner = inner[part]
        inner[last] = value
    (target / name).write_text(json.dumps(stored))
    return target


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A classifier whose tokenizer has a BOS token and gives none."""
    made = byte_level_tokenizer(["<s>", "</s>"], TEMPLATE, bos_token="<s>", eos_token="</s>", pad_token="</s>")
    return save_model(tmp_path_factory.mktemp("plain"), "llama", made, **DECODER)


@pytest.fixture(scope="module")
def contradictory(plain, tmp_path_factory):
    """As DeepSeek's: tokenizer_config.json promises a BOS token, which transformers 4 added and 5 does not."""
    target = tmp_path_factory.mktemp("bos") / "model"
    values = {"add_bos_token": True, "tokenizer_class": "LlamaTokenizerFast"}
    return changed(plain, target, "tokenizer_config.json", **values)


@pytest.fixture(scope="module")
def giving(plain, tmp_path_factory):
    """A classifier whose tokenizer gives both a BOS token and an end token."""
    target = tmp_path_factory.mktemp("giving") / "model"
    ids = {name: {"id": name, "ids": [place], "tokens": [name]} for place, name in enumerate(["<s>", "</s>"])}
    pieces = [
        {"SpecialToken": {"id": "<s>", "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}},
        {"SpecialToken": {"id": "</s>", "type_id": 0}},
    ]
    template = {"type": "TemplateProcessing", "single": pieces, "pair": pieces, "special_tokens": ids}
    byte_level = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True}
    both = {"type": "Sequence", "processors": [byte_level, template]}
    return changed(plain, target, "tokenizer.json", post_processor=both)


def ids_of(folder, **options):
    (result,) = find_model(config_of(folder, **options)).renderer.encode([TEXT])
    return result.ids


def digest_of(folder, **options):
    config = config_of(folder, **options)
    found = find_model(config)
    return fingerprint(config, found, computing_dtype(config, found, None) or "float32").digest


# --- the BOS token ---------------------------------------------------------------------------------------------------


def test_a_promised_bos_token_is_chosen(plain, contradictory):
    """Without a choice it is refused; with it, the token is there or not, and both are told apart."""
    refused(
        config_of(contradictory), r"add_bos_token\": true, and its tokens do not begin with '<s>'.*--add-bos-token"
    )
    without = ids_of(plain)
    assert without[0] != 0
    assert ids_of(contradictory, add_bos_token=True) == [0, *without]
    assert ids_of(contradictory, add_bos_token=False) == without
    digests = {digest_of(contradictory, add_bos_token=choice) for choice in (True, False)}
    assert len(digests) == 2
    # Where no token is added at all there is nothing to choose.
    assert ids_of(contradictory, add_special_tokens=False) == without


def test_a_chosen_bos_token_is_scored(contradictory):
    """The scores are those of plain transformers with that token before the text; a cut text keeps it."""
    card = Card(contradictory)
    card.tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 0)]
    )
    one = loaded(config_of(contradictory, add_bos_token=True, max_tokens=20))
    card.tokenizer.model_max_length = 20
    for item in (TURNS, TURNS[::-1] * 3):
        (score,) = one.score([item])
        expected = card(item)
        assert score.score == pytest.approx(expected.score, abs=1e-4)
        assert (score.tokens, score.truncated) == (expected.tokens, expected.truncated)


def test_a_bos_token_that_was_not_promised(giving, tmp_path):
    """The other contradiction; a choice takes the token away, and leaves the end token."""
    folder = changed(giving, tmp_path / "no", "tokenizer_config.json", add_bos_token=False)
    refused(config_of(folder), "add_bos_token\": false, and its tokens begin with '<s>'")
    given = ids_of(giving)
    assert (given[0], given[-1]) == (0, 1)
    assert ids_of(folder, add_bos_token=True) == given
    assert ids_of(folder, add_bos_token=False) == given[1:]


def test_a_choice_that_decides_nothing_is_the_same_scorer(plain, giving):
    """A choice of what the tokenizer does anyway finds the scores that are there; another one does not."""
    assert digest_of(plain) == digest_of(plain, add_bos_token=False) != digest_of(plain, add_bos_token=True)
    assert digest_of(giving) == digest_of(giving, add_bos_token=True) != digest_of(giving, add_bos_token=False)
    assert ids_of(giving, add_bos_token=False) == ids_of(giving)[1:]


def test_a_choice_that_is_not_possible(model_folder):
    """A tokenizer without a BOS token cannot give one."""
    refused(config_of(model_folder("qwen3"), add_bos_token=True), "has no BOS token; omit it")


def test_a_promised_end_token(plain, tmp_path):
    """A decoder's score is read at the last token: a promised end token that is not there is refused."""
    values = {"add_eos_token": True, "tokenizer_class": "LlamaTokenizerFast"}
    folder = changed(plain, tmp_path / "eos", "tokenizer_config.json", **values)
    refused(config_of(folder), "add_eos_token=True, and its tokens do not end with '</s>'")


# --- subword sampling ------------------------------------------------------------------------------------------------


def test_dropout_is_switched_off(plain, tmp_path, log):
    """A tokenizer with BPE dropout gives the tokens that it gives without, on each call; it is said once."""
    folder = changed(plain, tmp_path / "dropout", "tokenizer.json", model__dropout=0.5)
    assert [ids_of(folder) for _ in range(3)] == 3 * [ids_of(plain)]
    assert sum("subword sampling" in message for message in log) == 1
    assert digest_of(folder) != digest_of(plain)


def test_random_tokens_are_refused(plain, monkeypatch):
    """What is random in a way that is not known here shows in the tokens."""
    kind = type(find_model(config_of(plain)).renderer.tokenizer)
    call, calls = kind.__call__, iter(range(1_000))

    def random(self, text, *arguments, **options):
        return call(self, f"{text}{next(calls)}" if isinstance(text, str) else text, *arguments, **options)

    monkeypatch.setattr(kind, "__call__", random)
    refused(config_of(plain), "other tokens on each call", load=find_model)


# --- the limit of tokens ---------------------------------------------------------------------------------------------


def test_the_classifiers_own_limit(plain, tmp_path):
    """`score_max_tokens` in config.json overrides the tokenizer's; an explicit max_tokens overrides both."""
    folder = changed(plain, tmp_path / "own", "config.json", score_max_tokens=7)
    assert find_model(config_of(plain)).renderer.max_tokens == 160
    assert len(ids_of(folder)) == 7
    assert len(ids_of(folder, max_tokens=9)) == 9
    assert digest_of(folder) == digest_of(plain, max_tokens=7)
    beyond = changed(plain, tmp_path / "beyond", "config.json", score_max_tokens=6_032)
    assert find_model(config_of(beyond)).renderer.max_tokens == 512  # as many as there are positions


@pytest.mark.parametrize("limit", [0, -1, 2.5, "6032", True])
def test_a_limit_that_is_none(plain, tmp_path, limit):
    """It is refused with the name of the key."""
    folder = changed(plain, tmp_path / "bad", "config.json", score_max_tokens=limit)
    refused(config_of(folder), "score_max_tokens=.* in its config.json", load=find_model)


# --- truncation on the left ------------------------------------------------------------------------------------------


def test_truncation_on_the_left_is_scored(plain, tmp_path):
    """As plain transformers does with the tokenizer's own `truncation_side`; the fingerprint has it."""
    folder = changed(plain, tmp_path / "left", "tokenizer_config.json", truncation_side="left")
    one, card = loaded(config_of(folder, max_tokens=20)), Card(folder, max_tokens=20)
    long = [*TURNS, *TURNS]
    (score,) = one.score([long])
    assert score.score == pytest.approx(card(long).score, abs=1e-4)
    assert (score.tokens, score.truncated) == (20, True)
    assert digest_of(folder) != digest_of(plain)
