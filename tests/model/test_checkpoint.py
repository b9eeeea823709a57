"""Stored tensors that the model does not use, and whole numbers in the place of weights."""

import pytest
import torch
from damaged_models import WIDTH, edit_weights, scorer, values


pytestmark = pytest.mark.usefixtures("new_process")


REFUSED = {
    "a bias of the head": {"score__bias": torch.ones(1)},
    "a bias of a projection": {"model__layers__0__self_attn__q_proj__bias": torch.ones(WIDTH)},
    "an extra layer": {"model__layers__3__mlp__up_proj__weight": torch.ones(96, WIDTH)},
    "a norm that the class has not": {"model__layers__0__self_attn__v_norm__weight": torch.ones(16)},
    "a norm of the base model": {"model__embed_norm__weight": torch.ones(WIDTH)},
    "LoRA beside the base": {
        "base_model__model__model__layers__0__self_attn__q_proj__lora_A__weight": torch.ones(4, WIDTH)
    },
    "LoRA merged into the names": {"model__layers__0__self_attn__q_proj__lora_A__weight": torch.ones(4, WIDTH)},
    "a wrapper's names": {"_orig_mod__model__layers__9__mlp__up_proj__weight": torch.ones(96, WIDTH)},
}


IGNORED = {
    "a head for tokens": {"lm_head__weight": torch.ones(4, WIDTH)},
    "a pretraining head": {"cls__predictions__transform__dense__weight": torch.ones(4, 4)},
    "positions": {"model__embeddings__position_ids": torch.arange(5)[None]},
    "frequencies": {"model__layers__0__self_attn__rotary_emb__inv_freq": torch.ones(8)},
}


@pytest.mark.parametrize("case", REFUSED)
def test_tensors_of_a_loaded_module_that_it_does_not_use_are_refused(folder, case):
    """They would change every score, were they used: names and all are told, and a pattern lets them pass."""
    right = values(folder)
    edit_weights(folder, **REFUSED[case])
    [name] = (name.replace("__", ".") for name in REFUSED[case])
    with pytest.raises(ValueError, match=rf"does not use: {name.replace('.', '[.]')}.*--allow-unexpected"):
        scorer(folder).load()
    part = name.split(".")[-2]
    assert values(folder, allow_unexpected=(f"*.{part}.*", name)) == right


@pytest.mark.parametrize("case", IGNORED)
def test_heads_of_other_tasks_and_computed_tensors_pass(folder, log, case):
    """They change no score; those that transformers does not know of are listed."""
    right = values(folder)
    edit_weights(folder, **IGNORED[case])
    assert values(folder) == right
    [name] = (name.replace("__", ".") for name in IGNORED[case])
    assert name.endswith(("position_ids", "inv_freq")) or any(name in line and "does not use" in line for line in log)


def test_an_integer_head_is_refused(folder):
    """Whole numbers are a quantization's, whose scale is not there: an int32 head gave scores of 264."""
    edit_weights(folder, score__weight=torch.randint(-100, 100, (1, WIDTH), dtype=torch.int32))
    with pytest.raises(ValueError, match=r"whole numbers \(score\.weight: I32\).*quantization_config"):
        scorer(folder).load()
