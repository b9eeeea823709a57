"""The base model: what it lacks must be chosen, and what cannot be loaded is named."""

import pytest
import tiny_models
from training_runs import annotated, causal_model, config
from transformers import AutoTokenizer

from datatrove_quality.training import train_classifier


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
