"""Which models can be scored with: what would give wrong scores is refused before its weights are read."""

import pytest
from scorers import assert_like_the_card, config_of, loaded, refused, texts
from tiny_models import DECODERS, ENCODERS, Card, chatml_tokenizer, conversations, encoder_tokenizer, save_model

from datatrove_quality.model.found_model import find_model


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


def test_a_decoder_that_sees_both_ways_is_padded(tmp_path):
    """What stands behind the pooled token matters where tokens see it, so such a model runs as encoders do."""
    values = DECODERS["gemma3"][2] | {"use_bidirectional_attention": True}
    folder = save_model(tmp_path / "m", "gemma3_text", chatml_tokenizer(), **values)
    config, inputs = config_of(folder), ["um texto", *texts(10), "outro<|endoftext|>"]
    assert_like_the_card(loaded(config).score(inputs), Card(folder), inputs)
    assert not find_model(config).packable


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


@pytest.mark.parametrize("pad_token_id", [None, -1])
def test_encoder_without_pad_token(tmp_path, pad_token_id):
    """An encoder that cannot pad says where the token goes."""
    values = ENCODERS["bert"][2] | {"pad_token_id": pad_token_id}
    folder = save_model(tmp_path / "m", "bert", encoder_tokenizer(), **values)
    refused(config_of(folder), "pad_token_id")


def test_a_model_that_reads_the_last_place_is_refused(tmp_path):
    """An encoder that pools the padding (XLNet expects it on the left) is found by the self-check."""
    values = {"d_model": 64, "n_layer": 2, "n_head": 4, "d_inner": 96}
    folder = save_model(tmp_path / "m", "xlnet", encoder_tokenizer(), **values)
    refused(config_of(folder), "self-check failed", load=loaded)
