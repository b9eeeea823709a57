"""The fingerprint changes with whatever decides a logit, and with nothing else."""

import json
import os
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from datatrove_quality import ScorerConfig, ScoreScale
from datatrove_quality.engine.scorer import Scorer
from datatrove_quality.model import digests


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """A cache of digests that no other test has filled."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


def digest(folder, **options):
    return Scorer(
        ScorerConfig(**{"model": str(folder), "dtype": "float32", "device": "cpu"} | options)
    ).fingerprint.digest


def edit_json(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def nudge_weights(folder):
    weights = load_file(folder / "model.safetensors")
    weights["score.weight"] += 1e-3
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def shard(folder, name="shards/a.safetensors"):
    """Move the weights to where an index says."""
    weights = load_file(folder / "model.safetensors")
    (folder / name).parent.mkdir(exist_ok=True)
    save_file(weights, folder / name, metadata={"format": "pt"})
    (folder / "model.safetensors").unlink(missing_ok=True)
    index = {"metadata": {"total_size": 1}, "weight_map": dict.fromkeys(weights, name)}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def version_tokenizer(folder):
    """Let transformers load another tokenizer file than the usual one."""
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.4.0.0.json").write_text(json.dumps(tokenizer | {"normalizer": {"type": "Lowercase"}}))
    edit_json(folder / "tokenizer_config.json", fast_tokenizer_files=["tokenizer.4.0.0.json"])


DECISIVE = {
    "versioned tokenizer": version_tokenizer,
    "weights": nudge_weights,
    "config": lambda folder: edit_json(folder / "config.json", rms_norm_eps=1e-3),
    "pad token": lambda folder: edit_json(folder / "config.json", pad_token_id=1),
    "tokenizer": lambda folder: edit_json(folder / "tokenizer.json", normalizer={"type": "Lowercase"}),
    "template": lambda folder: (folder / "chat_template.jinja").write_text("{{ messages[0].content }}{{ messages }}"),
}
INDIFFERENT = {
    "scale": lambda folder: edit_json(folder / "config.json", score_scale={"offset": 0.0, "low": 0, "high": 5}),
    "label names": lambda folder: edit_json(folder / "config.json", id2label={"0": "quality"}),
    "writer": lambda folder: edit_json(folder / "config.json", transformers_version="5.0.0"),
    "optimizer": lambda folder: save_file({"a": torch.zeros(3)}, folder / "optimizer.safetensors"),
    "notes": lambda folder: (folder / "README.md").write_text("Notas"),
    "time": lambda folder: os.utime(folder / "model.safetensors", (1, 1)),
}


@pytest.mark.parametrize("part", DECISIVE)
def test_what_decides_a_logit_changes_it(folder, part):
    """Weights, configuration, tokenizer and template of a local model each stand in its fingerprint."""
    before = digest(folder)
    DECISIVE[part](folder)
    assert digest(folder) != before


@pytest.mark.parametrize("thing", INDIFFERENT)
def test_what_decides_no_logit_does_not(folder, thing):
    """Scale, names, notes and times of files leave it as it is."""
    before = digest(folder)
    INDIFFERENT[thing](folder)
    assert digest(folder) == before


def test_shards_and_their_index_stand_in_it(folder):
    """Weights in several files are read by the index, wherever in the folder they lie."""
    shard(folder)
    before = digest(folder)
    weights = load_file(folder / "shards" / "a.safetensors")
    weights["score.weight"] += 1e-3
    save_file(weights, folder / "shards" / "b.safetensors", metadata={"format": "pt"})
    assert digest(folder) == before
    index = (folder / "model.safetensors.index.json").read_text()
    (folder / "model.safetensors.index.json").write_text(index.replace("a.safetensors", "b.safetensors"))
    assert digest(folder) != before


def test_commits_of_the_hub_are_told_apart(folder, tmp_path, monkeypatch):
    """A hub model is its commit: two revisions and two repositories never share scores, a branch is its commit."""
    import huggingface_hub.constants
    import transformers.utils.hub

    cache = tmp_path / "hub"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    for name in ("TRANSFORMERS_CACHE", "HF_HUB_CACHE"):
        monkeypatch.setattr(transformers.utils.hub, name, str(cache), raising=False)
    digests = {}
    for repository, branch, commit in (
        ("o--m", "main", "a" * 40),
        ("o--m", "v2", "b" * 40),
        ("p--q", "main", "c" * 40),
    ):
        root = cache / f"models--{repository}"
        (root / "refs").mkdir(parents=True, exist_ok=True)
        (root / "refs" / branch).write_text(commit)
        shutil.copytree(folder, root / "snapshots" / commit)
        nudge_weights(folder)
        scorer = Scorer(ScorerConfig(model=repository.replace("--", "/"), revision=branch, device="cpu"))
        assert scorer.fingerprint.parts["commit"] == commit
        digests[repository, branch] = scorer.fingerprint.digest
        scorer.load()
    assert len(set(digests.values())) == 3
    pinned = Scorer(ScorerConfig(model="o/m", revision="b" * 40, device="cpu"))
    assert pinned.fingerprint.digest == digests["o--m", "v2"]


def test_options_that_decide_a_logit(folder):
    """dtype, max_tokens, special tokens and template of a config each stand in the fingerprint."""
    options = [
        {},
        {"dtype": "bfloat16"},
        {"max_tokens": 100},
        {"add_special_tokens": False},
        {"chat_template": "{{ messages }}"},
    ]
    assert len({digest(folder, **each) for each in options}) == len(options)


def test_options_that_do_not(folder):
    """Batch, scale, self-check, a device written otherwise and the model's own max_tokens leave it as it is."""
    options = [
        {},
        {"tokens_per_batch": 77},
        {"scale": ScoreScale(0, 0, 5)},
        {"self_check": False},
        {"device": "auto"},
        {"max_tokens": 160},
        {"dtype": "auto"},
        {"chat_template": (folder / "chat_template.jinja").read_text()},
    ]
    assert len({digest(folder, **each) for each in options}) == 1


def test_a_copy_elsewhere_is_the_same_scorer(folder, tmp_path):
    """Weights that were copied to a node's own disk keep their scores."""
    shutil.copytree(folder, tmp_path / "elsewhere" / "copy")
    assert digest(folder) == digest(tmp_path / "elsewhere" / "copy")


def test_large_files_are_read_once(folder, cache, monkeypatch):
    """A digest of weights is cached by path, size and time; a changed file is read again, and a damaged cache too."""
    first = digest(folder)
    (entry,) = (cache / "datatrove-quality" / "digests").iterdir()
    monkeypatch.setattr(digests, "_read_here", {})  # as in another process
    monkeypatch.setattr(digests, "CHUNK", "none")  # reading now fails
    assert digest(folder) == first
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    entry.write_text("torn")
    assert digest(folder) == first
    nudge_weights(folder)
    assert digest(folder) != first


def test_a_cache_that_cannot_be_written_costs_time_alone(folder, monkeypatch):
    """Without a home to write to, the digest is computed each time."""
    first = digest(folder)
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    assert digest(folder) == first


def test_a_user_without_a_home_costs_time_alone(folder, monkeypatch):
    """Containers run under user ids without an account."""
    first = digest(folder)
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    assert digest(folder) == first
    assert not os.path.exists("~")


def test_differences_are_named(folder):
    """For a person: which parts differ, and how."""
    config = {"model": str(folder), "device": "cpu"}
    one = Scorer(ScorerConfig(**config, dtype="float32")).fingerprint
    other = Scorer(ScorerConfig(**config, dtype="bfloat16")).fingerprint
    assert other.differences(one.parts) == ["dtype was float32, is now bfloat16"]
    assert one.differences(one.parts) == []
