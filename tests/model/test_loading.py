"""The weights that score are the weights that were meant: damaged, missing, spare and foreign tensors are refused."""

import json
import shutil

import pytest
import torch
from damaged_models import WIDTH, edit_weights, in_hub_cache, scorer, values
from safetensors.torch import load_file, save_file
from scorers import assert_like_the_card, config_of, edited, loaded, refused
from tiny_models import conversations

from datatrove_quality import ScorerConfig
from datatrove_quality.engine.scorer import Scorer
from datatrove_quality.model import found_model, loading
from datatrove_quality.model.found_model import find_model, pinned


pytestmark = pytest.mark.usefixtures("new_process")


# --- constant scores -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["score__weight", "model__norm__weight"])
def test_a_head_or_body_of_zeros_is_refused(folder, name):
    """The self-check would compare bad weights with themselves."""
    weights = load_file(folder / "model.safetensors")
    edit_weights(folder, **{name: torch.zeros_like(weights[name.replace("__", ".")])})
    for options in ({}, {"self_check": False}):
        with pytest.raises(ValueError, match=r"one and the same logit, 0\.0.*--allow-constant-scores"):
            scorer(folder, **options).load()
    assert values(folder, allow_constant_scores=True) == [1.0, 1.0, 1.0]


# --- adapters --------------------------------------------------------------------------------------------------------


@pytest.fixture(params=[None, ["score"]], ids=["lora", "lora and head"])
def adapted(folder, request):
    """A classifier with a LoRA adapter beside its weights, its head in it or not, and the same merged."""
    modules_to_save = request.param
    peft = pytest.importorskip("peft")
    pytest.importorskip("transformers", minversion="5.22", reason="the extra `adapters` needs it")
    from transformers import AutoModelForSequenceClassification

    base = AutoModelForSequenceClassification.from_pretrained(folder)
    torch.manual_seed(1)
    settings = peft.LoraConfig(task_type="SEQ_CLS", r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    settings.modules_to_save = modules_to_save
    model = peft.get_peft_model(base, settings)
    if modules_to_save:  # as training changes it
        model.base_model.model.score.modules_to_save["default"].weight.data.mul_(1.5)
    merged = folder.parent / "merged"
    shutil.copytree(folder, merged)
    model.save_pretrained(folder)
    model.merge_and_unload().save_pretrained(merged)
    return folder, merged


def test_an_adapter_is_applied_and_stands_in_the_fingerprint(adapted, model_folder):
    """With peft the scores are the merged model's, under a fingerprint of their own."""
    folder, merged = adapted
    assert values(folder) == pytest.approx(values(merged), abs=1e-5)
    assert not [name for name, _ in scorer(folder).model.named_parameters() if "lora" in name or "base_layer" in name]
    assert values(folder) != pytest.approx(values(model_folder("qwen3")), abs=1e-2)
    parts = scorer(folder).fingerprint.parts
    assert parts["adapter"] == "merged"
    before = scorer(folder).fingerprint.digest
    weights = load_file(folder / "adapter_model.safetensors")
    save_file({name: tensor * 2 for name, tensor in weights.items()}, folder / "adapter_model.safetensors")
    assert scorer(folder).fingerprint.digest != before


def test_an_adapter_that_lacks_a_tensor_is_refused(adapted):
    """Such as one whose tensors were renamed: peft would leave random ones in their place."""
    folder = adapted[0]
    weights = load_file(folder / "adapter_model.safetensors")
    weights.pop(next(name for name in weights if "lora_B" in name))
    save_file(weights, folder / "adapter_model.safetensors")
    with pytest.raises(ValueError, match=r"adapter that cannot be applied: it lacks .*lora_B.*merge_and_unload"):
        scorer(folder).load()


def test_an_adapter_without_peft_is_refused(adapted, monkeypatch):
    """transformers would leave it out without a word."""
    monkeypatch.setattr("datatrove_quality.model.weights.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"adapter.*pip install peft"):
        scorer(adapted[0]).load()


def test_an_adapter_without_its_base_is_refused(adapted):
    """The adapter's config names a base model elsewhere, which no fingerprint covers."""
    (adapted[0] / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="without the model that it belongs to"):
        scorer(adapted[0]).load()


def test_a_base_that_lacks_its_head_is_refused_under_an_adapter(adapted):
    """Of a model with an adapter transformers tells only what the adapter lacks."""
    folder = adapted[0]
    weights = load_file(folder / "model.safetensors")
    del weights["score.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"score\.weight"):
        scorer(folder).load()


def test_spare_tensors_of_the_base_are_refused_under_an_adapter(adapted):
    """The same rule as without an adapter."""
    edit_weights(adapted[0], model__layers__0__self_attn__q_proj__bias=torch.ones(WIDTH))
    with pytest.raises(ValueError, match=r"does not use: model\.layers\.0\.self_attn\.q_proj\.bias"):
        scorer(adapted[0]).load()


# --- modules that change themselves, scales --------------------------------------------------------------------------


BIG_BIRD = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "max_position_embeddings": 512, "block_size": 16, "num_random_blocks": 1,
}  # fmt: skip


def big_bird(folder, attention):
    from tiny_models import encoder_tokenizer, save_model

    return save_model(folder, "big_bird", encoder_tokenizer(), attention_type=attention, max_tokens=400, **BIG_BIRD)


def test_block_sparse_attention_is_refused(tmp_path):
    """It is switched off for good by the first short text."""
    with pytest.raises(ValueError, match=r"block_sparse.*original_full"):
        find_model(ScorerConfig(model=str(big_bird(tmp_path / "sparse", "block_sparse"))))
    assert len(values(big_bird(tmp_path / "full", "original_full"))) == 3


def test_a_model_that_changes_its_settings_is_refused(tmp_path, monkeypatch):
    """What no list knows of is seen: a plain value of a module that a forward pass changed."""
    from datatrove_quality.model import architectures

    folder = big_bird(tmp_path / "sparse", "block_sparse")
    real = architectures.why_not_scorable
    monkeypatch.setattr(
        architectures,
        "why_not_scorable",
        lambda model, tokens: None if "block_sparse" in (real(model, tokens) or "") else real(model, tokens),
    )
    with pytest.raises(ValueError, match=r"changes its own settings.*attention_type was 'block_sparse'"):
        scorer(folder).load()


@pytest.mark.parametrize(
    "scale",
    [
        {},
        {"offset": 1},
        {"offset": 10**400, "low": 1, "high": 5},
        {"offset": 1e6, "low": 1, "high": 5},
        {"offset": 1, "low": 1, "high": 10**12},
        {"offset": True, "low": 1, "high": 5},
        {"offset": 1, "low": 1.5, "high": 5},
        "1,1,5",
        7,
    ],
)
def test_nonsense_for_a_scale_is_refused(folder, scale):
    """A scale that is half there, of wrong types or sizes would make scores that look right."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"score_scale": scale}))
    with pytest.raises(ValueError, match=r"model=.*score_scale=.*config\.json"):
        find_model(ScorerConfig(model=str(folder)))


# --- commits ---------------------------------------------------------------------------------------------------------


def test_a_config_is_pinned_to_the_commit(folder, tmp_path, monkeypatch):
    """What `main` stands for now; folders and commits stay as they are."""
    in_hub_cache(folder, tmp_path / "hub", monkeypatch, commit="d" * 40)
    config = ScorerConfig(model="org/classifier", max_tokens=50)
    assert pinned(config) == ScorerConfig(model="org/classifier", max_tokens=50, revision="d" * 40)
    for unchanged in (pinned(config), ScorerConfig(model=str(folder)), ScorerConfig(model="/not/here")):
        assert pinned(unchanged) is unchanged
    with pytest.raises(ValueError, match="org/missing"):
        pinned(ScorerConfig(model="org/missing"))


def test_a_bfloat16_checkpoint_in_float32(model_folder, card):
    """`dtype="float32"` computes in float32 whatever the checkpoint holds."""
    options = {"dtype": torch.bfloat16}
    inputs = conversations(20, seed=2)
    scores = loaded(config_of(model_folder("qwen3", **options))).score(inputs)
    assert_like_the_card(scores, card("qwen3", **options), inputs)


@pytest.mark.parametrize("native", [True, False])
def test_auto_dtype(model_folder, monkeypatch, log, native):
    """The checkpoint's dtype is kept where the device has it, else float32 is used and said."""
    for module in (found_model, loading):
        monkeypatch.setattr(module, "is_native_dtype", lambda device, dtype: native)
    one = loaded(config_of(model_folder("qwen3", dtype=torch.bfloat16), dtype="auto"))
    assert one.model.dtype == (torch.bfloat16 if native else torch.float32)
    assert any(line.startswith("WARNING") and "float32" in line for line in log) is not native


def test_a_base_model_without_head(model_folder, tmp_path):
    """Weights without a score head would be scored with a random one: refused, whatever config.json says."""
    folder = edited(model_folder("qwen3"), tmp_path / "m", architectures=None)
    weights = load_file(folder / "model.safetensors")
    del weights["score.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    refused(config_of(folder), r"score\.weight.*no trained score head", load=loaded)


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
