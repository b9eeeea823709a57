"""The weights that score are the weights that were meant: damaged, missing, spare and foreign tensors are refused."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from hub_cache import lay_out_cache
from safetensors.torch import load_file, save_file
from scorers import assert_like_the_card, config_of, edited, loaded, refused
from tiny_models import conversations

from datatrove_quality import ScorerConfig
from datatrove_quality.engine.scorer import Scorer
from datatrove_quality.model import digests, files, loading
from datatrove_quality.model.files import find_model, pinned
from datatrove_quality.model.staging import STAGE_VARIABLE


TEXTS = ["Qual é a capital?", "Minha cor favorita é azul.", "código " * 30]


@pytest.fixture(autouse=True)
def new_process(tmp_path_factory, monkeypatch):
    """Nothing is known of any file, as in a new process of a new user."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setattr(digests, "_read_here", {})


@pytest.fixture
def folder(tmp_path, model_folder):
    """A classifier that a test may damage."""
    return Path(shutil.copytree(model_folder("qwen3"), tmp_path / "model"))


def scorer(model, **options):
    return Scorer(ScorerConfig(**{"model": str(model), "dtype": "float32", "device": "cpu"} | options))


def values(model, **options):
    return [score.score for score in scorer(model, **options).score(TEXTS)]


def damage(path, count=4_000, at=None):
    """Zeros in the place of bytes, and nothing that tells: same size, and the time of the last change is set back."""
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(before.st_size - count if at is None else at)
        file.write(bytes(count))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def hide(monkeypatch):
    """As after a power failure or on a failing disk: the bytes are others, and nothing else has changed."""
    real = digests._Stamp.of
    monkeypatch.setattr(digests._Stamp, "of", lambda path: real(path)._replace(modified=0, changed=0))


def edit_weights(folder, **tensors):
    path = folder / "model.safetensors"
    weights = load_file(path)
    weights |= {name.replace("__", "."): tensor for name, tensor in tensors.items()}
    save_file(weights, path, metadata={"format": "pt"})


def in_hub_cache(folder, cache, monkeypatch, name="org/classifier", commit="c" * 40):
    """The hub's cache of this process, with a classifier in it."""
    from huggingface_hub import constants

    snapshot = lay_out_cache(folder, cache, name, commit)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    return snapshot


# --- digests ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [None, 200_000])
def test_local_weights_that_rotted_since_they_were_hashed_are_refused(folder, monkeypatch, at):
    """The cache of digests knows the file by its time and size, which a failing disk does not change."""
    hide(monkeypatch)
    right = scorer(folder).fingerprint.digest
    monkeypatch.setattr(digests, "_read_here", {})
    damage(folder / "model.safetensors", at=at)
    again = scorer(folder)
    assert again.fingerprint.digest == right
    with pytest.raises(ValueError, match=r"model\.safetensors: the bytes are not those that were there before"):
        again.load()
    # What the cache held is forgotten: the file as it is now is another model.
    assert scorer(folder).fingerprint.digest != right


def test_weights_that_change_while_they_are_loaded_are_refused(folder, monkeypatch):
    """What was hashed must be what was loaded."""
    from datatrove_quality.model import loading

    real = loading._load

    def slow(*arguments):
        model = real(*arguments)
        damage(folder / "model.safetensors")
        os.utime(folder / "model.safetensors")
        return model

    monkeypatch.setattr(loading, "_load", slow)
    with pytest.raises(ValueError, match="changed during loading"):
        scorer(folder).load()


def test_a_hub_blob_with_other_bytes_is_refused(folder, tmp_path, monkeypatch):
    """A blob of the right size whose end is zeros is not what its name says."""
    snapshot = in_hub_cache(folder, tmp_path / "hub", monkeypatch)
    right = values("org/classifier")
    damage((snapshot / "model.safetensors").resolve())
    with pytest.raises(ValueError, match=r"blobs/[0-9a-f]{64}: the bytes are not those that the hub names"):
        scorer("org/classifier").load()
    shutil.copy(folder / "model.safetensors", (snapshot / "model.safetensors").resolve())
    assert values("org/classifier") == right


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "chat_template.jinja"])
def test_a_small_file_of_the_hub_with_other_bytes_is_refused(folder, tmp_path, monkeypatch, name):
    """Configuration and tokenizer decide a score as weights do; git names them by SHA-1."""
    snapshot = in_hub_cache(folder, tmp_path / "hub", monkeypatch)
    blob = (snapshot / name).resolve()
    blob.write_bytes(blob.read_bytes().replace(b" ", b"\t", 1))
    with pytest.raises(ValueError, match=f"hub names.*{name}"):
        find_model(ScorerConfig(model="org/classifier"))


def test_a_cache_without_links_is_taken_as_it_is(folder, tmp_path, monkeypatch):
    """Where the file system has no links, nothing names a file's digest."""
    snapshot = in_hub_cache(folder, tmp_path / "hub", monkeypatch)
    shutil.rmtree(snapshot)
    shutil.copytree(folder, snapshot)
    assert values("org/classifier") == values(folder)


def test_a_damaged_staged_copy_is_made_again(folder, tmp_path, monkeypatch, log):
    """Zeros in the second half of the copy, at the same size: the scores are the model's, and the copy is whole."""
    right = values(folder)
    monkeypatch.setenv(STAGE_VARIABLE, str(tmp_path / "disk"))
    assert values(folder) == right
    [copy] = (path for path in (tmp_path / "disk").iterdir() if path.is_dir())
    size = (copy / "model.safetensors").stat().st_size
    hide(monkeypatch)
    monkeypatch.setattr(digests, "_read_here", {})
    damage(copy / "model.safetensors", count=size // 2)
    assert values(folder) == right
    assert any("damaged (model.safetensors): copying again" in line for line in log)
    assert (copy / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()


def test_a_disk_that_gives_back_other_bytes_is_not_read_from(folder, tmp_path, monkeypatch, log):
    """A copy that is wrong twice costs a warning, and the model is read from where it lies."""
    from datatrove_quality.model import staging

    right = values(folder)
    monkeypatch.setenv(STAGE_VARIABLE, str(tmp_path / "disk"))
    real = staging._copy

    def failing(files, source, target):
        real(files, source, target)
        damage(target / "model.safetensors")

    monkeypatch.setattr(staging, "_copy", failing)
    assert values(folder) == right
    assert any("other bytes than were written. Reading them from" in line for line in log)


def test_a_damaged_hub_blob_is_not_staged(folder, tmp_path, monkeypatch):
    """The copy would be a faithful copy of wrong weights."""
    snapshot = in_hub_cache(folder, tmp_path / "hub", monkeypatch)
    damage((snapshot / "model.safetensors").resolve())
    monkeypatch.setenv(STAGE_VARIABLE, str(tmp_path / "disk"))
    with pytest.raises(ValueError, match="is not what the hub says"):
        scorer("org/classifier").load()
    assert not [path for path in (tmp_path / "disk").iterdir() if path.is_dir()]


def test_staged_shards_are_read_from_their_folder(folder, tmp_path, monkeypatch):
    """Weights in folders of their own are copied, too."""
    right = values(folder)
    (folder / "shards").mkdir()
    weights = load_file(folder / "model.safetensors")
    save_file(weights, folder / "shards" / "a.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").unlink()
    index = {"metadata": {"total_size": 1}, "weight_map": dict.fromkeys(weights, "shards/a.safetensors")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    monkeypatch.setenv(STAGE_VARIABLE, str(tmp_path / "disk"))
    assert values(folder) == right


def test_the_weights_are_read_once_for_fingerprint_and_loading(folder, monkeypatch):
    """In the process that hashes a file for the fingerprint, loading does not read it a second time."""
    read = []
    real = digests.digest
    monkeypatch.setattr(digests, "digest", lambda path, *kind: read.append(path.name) or real(path, *kind))
    one = scorer(folder)
    assert one.fingerprint
    one.load()
    assert read.count("model.safetensors") == 1


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


# --- unexpected tensors ----------------------------------------------------------------------------------------------


WIDTH = 64
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
    assert values(folder) == pytest.approx(values(merged), abs=1e-4)
    assert values(folder) != pytest.approx(values(model_folder("qwen3")), abs=1e-2)
    parts = scorer(folder).fingerprint.parts
    assert parts["adapter"] == "applied"
    before = scorer(folder).fingerprint.digest
    weights = load_file(folder / "adapter_model.safetensors")
    save_file({name: tensor * 2 for name, tensor in weights.items()}, folder / "adapter_model.safetensors")
    assert scorer(folder).fingerprint.digest != before


def test_an_adapter_without_peft_is_refused(adapted, monkeypatch):
    """transformers would leave it out without a word."""
    monkeypatch.setattr("datatrove_quality.model.weights.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"adapter.*pip install peft"):
        scorer(adapted[0]).load()


def test_an_adapter_without_its_base_is_refused(adapted):
    """The adapter's config names a base model elsewhere, which no fingerprint covers."""
    (adapted[0] / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="adapter without the model that it belongs to"):
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
    for module in (files, loading):
        monkeypatch.setattr(module, "native_dtype", lambda device, dtype: native)
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
