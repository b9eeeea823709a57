"""Stored tensors that the model does not use, and whole numbers in the place of weights."""

import json

import pytest
import torch
from damaged_models import WIDTH, edit_weights, scorer, values
from safetensors.torch import load_file, save_file
from scorers import edited
from tiny_models import DECODER, chatml_tokenizer, save_model


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


# --- two tensors for one parameter -----------------------------------------------------------------------------------


def _in_shards(folder, second, **index):
    """The weights in a first file, and these in a second; the index has those of the second alone there."""
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    for name, part in zip(names, (weights, second), strict=True):
        save_file(part, folder / name, metadata={"format": "pt"})
    where = dict.fromkeys(second, names[1]) | dict.fromkeys(weights, names[0]) | index
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))


SPARE = {"spare.weight": torch.ones(1)}  # by which the index names the second file


@pytest.mark.parametrize(
    ("stored", "twin"),
    [("score.weight", "model.score.weight"), ("model.norm.weight", "norm.weight")],
)
def test_a_name_with_and_without_the_prefix_is_refused(folder, stored, twin):
    """transformers makes both one parameter, and the last one wins; two of the same values harm nobody."""
    right = values(folder)
    weights = load_file(folder / "model.safetensors")
    edit_weights(folder, **{twin: weights[stored].clone()})
    assert values(folder) == right
    edit_weights(folder, **{twin: weights[stored] * 2})
    with pytest.raises(ValueError, match=rf"not clear.*({stored}|{twin}) in model\.safetensors and .*in model\."):
        scorer(folder).load()


def experts(folder):
    """A mixture of experts, each stored by itself, as transformers writes them."""
    options = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "decoder_sparse_step": 1}
    return save_model(folder, "qwen3_moe", chatml_tokenizer(), **DECODER, **options)


def test_all_experts_of_a_layer_beside_each_of_them_are_refused(tmp_path):
    """transformers takes the one or the others; and so does a name with and without the prefix, of one expert."""
    folder = experts(tmp_path / "m")
    right = values(folder)
    weights = load_file(folder / "model.safetensors")
    each = [name for name in weights if name.startswith("model.layers.0.mlp.experts.")]
    one = "model.layers.0.mlp.experts.1.down_proj.weight"
    assert one in each and len(each) == 12
    fused = torch.stack([weights[one.replace(".1.", f".{number}.")] for number in range(4)])
    edit_weights(folder, model__layers__0__mlp__experts__down_proj=fused)
    with pytest.raises(
        ValueError, match=r"not clear.*experts\.down_proj in model.* and .*experts\.0\.down_proj\.weight in"
    ):
        scorer(folder).load()
    for twin in (weights[one].clone(), weights[one] * 2):
        save_file(weights | {one.removeprefix("model."): twin}, folder / "model.safetensors", {"format": "pt"})
        with pytest.raises(ValueError, match=r"weights: (\S+experts\.1\.down_proj\.weight in \S+( and |\.)){2}"):
            scorer(folder).load()
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    assert values(folder) == right


def test_a_name_in_two_files_is_refused(folder):
    """A stale file of an earlier copy, whatever the index says."""
    head = load_file(folder / "model.safetensors")["score.weight"]
    _in_shards(folder, SPARE | {"score.weight": head * 2})
    with pytest.raises(ValueError, match=r"score\.weight in model-00001\S+ and score\.weight in model-00002"):
        scorer(folder).load()


def test_a_name_in_another_file_than_the_index_says_is_refused(folder):
    """The index belongs to other files; one that says more than is stored passes, as of tied weights."""
    right = values(folder)
    second = "model-00002-of-00002.safetensors"
    _in_shards(folder, SPARE, **{"lm_head.weight": second})
    assert values(folder) == right
    index = folder / "model.safetensors.index.json"
    index.write_text(index.read_text().replace('"score.weight": "model-00001', '"score.weight": "model-00002'))
    with pytest.raises(ValueError, match=r"score\.weight in model-00001\S+, which model\S+ has in model-00002"):
        scorer(folder).load()


def test_older_names_of_norms_are_not_taken_for_twins(model_folder, tmp_path):
    """An encoder with gamma and beta loads; beside weight and bias of other values they are refused."""
    folder = edited(model_folder("bert"), tmp_path / "m")
    right = values(folder)
    weights = load_file(folder / "model.safetensors")
    norm = "bert.embeddings.LayerNorm"
    older = dict(weights)
    older[f"{norm}.gamma"], older[f"{norm}.beta"] = older.pop(f"{norm}.weight"), older.pop(f"{norm}.bias")
    save_file(older, folder / "model.safetensors", metadata={"format": "pt"})
    assert values(folder) == right
    save_file(weights | {f"{norm}.gamma": weights[f"{norm}.weight"] * 2}, folder / "model.safetensors")
    with pytest.raises(ValueError, match=r"LayerNorm\.gamma in model\.safetensors"):
        scorer(folder).load()
