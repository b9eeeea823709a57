"""The base model: what it lacks must be chosen, and what cannot be loaded is named."""

import json
import shutil

import pytest
import tiny_models
from training_runs import annotated, causal_model, config
from transformers import AutoTokenizer

from datatrove_quality.config import ScorerConfig
from datatrove_quality.model.found_model import find_model
from datatrove_quality.training import train_classifier
from datatrove_quality.training.base_model import find_base


def test_a_tokenizer_without_template_or_pad_token_asks_for_a_choice(tmp_path):
    """Neither is ever made up; the choice is saved with the classifier."""
    bare = causal_model(tmp_path / "bare", chat_template=None, pad_token=None)
    with pytest.raises(ValueError, match=r"--pad-token TOKEN.*<\|im_end\|>"):
        train_classifier(config(bare), annotated(50), tmp_path / "out")
    with pytest.raises(ValueError, match="'<pad>' is not in its vocabulary"):
        train_classifier(config(bare, pad_token="<pad>"), annotated(50), tmp_path / "out")
    with pytest.raises(ValueError, match="--chat-template FILE"):
        train_classifier(config(bare, pad_token="<|endoftext|>"), annotated(50), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    chosen = config(bare, pad_token="<|endoftext|>", chat_template=tiny_models.CHATML)
    train_classifier(chosen, annotated(50), tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert (tokenizer.pad_token, tokenizer.chat_template) == ("<|endoftext|>", tiny_models.CHATML)


def test_a_base_model_that_is_not_there_is_an_error(tmp_path):
    """The message names the option, and no traceback of transformers is needed."""
    with pytest.raises(ValueError, match=r"--model.*cannot be loaded as a base model"):
        train_classifier(config(tmp_path / "nothing"), annotated(50), tmp_path / "out")


TEXT = "Explique a fotossíntese em três frases, por favor."


def edit(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def tokens_of(base, **values):
    """What a text becomes in training, what it becomes in scoring with what is saved, and what is saved."""
    made = find_base(config(base, **values))
    (trained,) = made.renderer.encode([TEXT])
    saved = base.parent / "saved"
    shutil.copytree(base, saved)
    made.config.architectures = ["Qwen3ForSequenceClassification"]
    made.config.save_pretrained(saved)
    made.tokenizer.save_pretrained(saved)
    (scored,) = find_model(ScorerConfig(model=str(saved), device="cpu")).renderer.encode([TEXT])
    return trained.ids, scored.ids, json.loads((saved / "config.json").read_text())


def test_a_text_is_cut_in_training_as_in_scoring(tmp_path):
    """Where the tokenizer has it, at the limit that is saved with the classifier."""
    base = causal_model(tmp_path / "base")
    edit(base / "tokenizer_config.json", truncation_side="left")
    whole = AutoTokenizer.from_pretrained(base)(TEXT)["input_ids"]
    trained, scored, values = tokens_of(base, max_tokens=9)
    assert trained == scored == whole[-9:]
    assert values["score_max_tokens"] == 9


def test_tokens_are_settled_in_training_as_in_scoring(tmp_path):
    """Sampling is off, and the BOS token is the chosen one, in the tokenizer that is saved too."""
    base = causal_model(tmp_path / "base", bos_token="<|endoftext|>")
    whole = AutoTokenizer.from_pretrained(base)(TEXT)["input_ids"]
    edit(base / "tokenizer_config.json", add_bos_token=True)
    model = json.loads((base / "tokenizer.json").read_text())["model"]
    edit(base / "tokenizer.json", model=model | {"dropout": 0.5})
    with pytest.raises(ValueError, match="--add-bos-token"):
        find_base(config(base))
    trained, scored, _ = tokens_of(base, add_bos_token=True)
    assert trained == scored == [0, *whole]


def test_a_training_goes_on_with_its_date(tmp_path):
    """A text of yesterday's training would be another one today."""
    template = "{{ strftime_now('%Y') }}" + tiny_models.CHATML
    base = causal_model(tmp_path / "base", chat_template=template)
    dated = config(base, template_date="2020-05-05")
    assert find_base(dated).renderer.render(annotated(1)[0][0]).startswith("2020<|im_start|>")
    output = tmp_path / "out"
    train_classifier(dated, annotated(40), output)
    (output / "README.md").unlink()
    record = train_classifier(config(base), annotated(40), output)  # finished: nothing is left to do
    assert record["settings"]["template_date"] == "2020-05-05"
    assert not (output / "README.md").exists()
