"""A model's files are copied to a node once, whatever starts and is killed meanwhile."""

import os
import subprocess
import sys

import pytest
import torch

from datatrove_quality import ScorerConfig, load_scorer
from datatrove_quality.model.found_model import prepare_for_nodes
from datatrove_quality.model.staging import STAGE_VARIABLE, staged


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(os.urandom(10_000_000))
    (folder / "config.json").write_text("{}")
    (folder / "pytorch_model.bin").write_bytes(b"never read")
    return folder


def copy_in_a_process(model):
    staged = "from datatrove_quality.model.staging import staged"
    code = f"from pathlib import Path; {staged}; print(staged(Path({str(model)!r})))"
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_many_processes_copy_once(model, tmp_path, monkeypatch):
    """Of the tasks that start together on a node one copies, and all read the same copy."""
    monkeypatch.setenv(STAGE_VARIABLE, str(tmp_path / "disk"))
    processes = [copy_in_a_process(model) for _ in range(4)]
    answers = [process.communicate() for process in processes]
    [copy] = {answer.strip() for answer, _ in answers}
    assert sum("Copied" in log for _, log in answers) == 1
    assert sorted(os.listdir(copy)) == [".digests", "config.json", "model.safetensors"]
    with open(f"{copy}/model.safetensors", "rb") as file:
        assert file.read() == (model / "model.safetensors").read_bytes()


def test_a_killed_copy_is_made_again(model, tmp_path, monkeypatch):
    """Half a copy never has the name of a whole one, and is in the way of no other copy."""
    monkeypatch.setenv(STAGE_VARIABLE, str(tmp_path / "disk"))
    name = staged(model).name
    whole = tmp_path / "disk" / name
    half = whole.with_suffix(".unfinished")
    whole.rename(half)
    (half / "model.safetensors").write_bytes(b"half")
    assert staged(model) == whole
    assert (whole / "model.safetensors").stat().st_size == 10_000_000
    assert not half.exists()


@pytest.mark.parametrize("lost", ["config.json", "model.safetensors"])
def test_a_copy_that_lost_a_file_is_made_again(model, tmp_path, monkeypatch, lost):
    """What cleans temporary folders takes single files: the model must not fail on that node for good."""
    monkeypatch.setenv(STAGE_VARIABLE, str(tmp_path / "disk"))
    copy = staged(model)
    (copy / lost).unlink()
    processes = [copy_in_a_process(model) for _ in range(3)]
    answers = [process.communicate() for process in processes]
    assert {answer.strip() for answer, _ in answers} == {str(copy)}
    assert sum("Copied" in log for _, log in answers) == 1
    assert (copy / lost).read_bytes() == (model / lost).read_bytes()


def test_a_copy_that_was_cut_is_made_again(model, tmp_path, monkeypatch):
    """A file of another size is no copy, whatever its name."""
    monkeypatch.setenv(STAGE_VARIABLE, str(tmp_path / "disk"))
    weights = staged(model) / "model.safetensors"
    os.truncate(weights, 5)
    assert (staged(model) / "model.safetensors").stat().st_size == 10_000_000


def test_other_weights_are_another_copy(model, tmp_path, monkeypatch):
    """A model that was trained again under its name is not taken for its earlier copy."""
    monkeypatch.setenv(STAGE_VARIABLE, str(tmp_path / "disk"))
    first = staged(model)
    (model / "model.safetensors").write_bytes(b"other")
    assert staged(model) != first


def test_a_disk_that_cannot_be_written_to_costs_a_warning(model, tmp_path, monkeypatch, log):
    """A full or missing local disk does not stop the run."""
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv(STAGE_VARIABLE, str(tmp_path / "file" / "disk"))
    assert staged(model) == model
    assert any("cannot be copied" in line for line in log)


def test_weights_are_read_from_the_copy(model_folder, tmp_path, monkeypatch):
    """With a folder named, a scorer loads from there: the weights where the model lies are not read again."""
    folder = model_folder("qwen3")
    monkeypatch.setenv(STAGE_VARIABLE, str(tmp_path / "disk"))
    config = ScorerConfig(model=str(folder), device="cpu", dtype="float32", tokens_per_batch=999)
    load_scorer(config)
    [copy] = (path for path in (tmp_path / "disk").iterdir() if path.is_dir())
    assert (copy / "model.safetensors").is_file()


def test_nothing_is_left_open_for_the_nodes(model_folder, monkeypatch):
    """What a node could resolve otherwise is settled where the job is queued, which may have no GPU."""
    folder = model_folder("qwen3")
    monkeypatch.chdir(folder.parent)
    settled = prepare_for_nodes(ScorerConfig(model=folder.name))
    assert settled.model == str(folder) and settled.dtype == "float32"
    assert prepare_for_nodes(ScorerConfig(model=folder.name, dtype="bfloat16")).dtype == "bfloat16"


@pytest.mark.parametrize(("device", "dtype"), [("auto", "bfloat16"), ("cuda", "bfloat16"), ("cpu", "float32")])
def test_auto_is_the_checkpoints_dtype_on_the_nodes_gpus(tmp_path, model_folder, monkeypatch, device, dtype):
    """A login node without GPU must not decide that a bfloat16 model computes in float32 on the cluster's GPUs."""
    import json
    import shutil

    folder = shutil.copytree(model_folder("qwen3"), tmp_path / "model")
    values = json.loads((folder / "config.json").read_text()) | {"dtype": "bfloat16"}
    (folder / "config.json").write_text(json.dumps(values))
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False, raising=False)
    assert prepare_for_nodes(ScorerConfig(model=str(folder), device=device)).dtype == dtype


def test_missing_weights_are_named_where_the_job_is_queued(tmp_path, model_folder, monkeypatch):
    """A cache with a model's config and without its weights is found before ten thousand tasks find it, or by them."""
    import shutil

    from huggingface_hub import constants

    commit = "c" * 40
    root = tmp_path / "models--org--classifier"
    (root / "refs").mkdir(parents=True)
    (root / "refs" / "main").write_text(commit)
    folder = shutil.copytree(model_folder("qwen3"), root / "snapshots" / commit)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    settled = prepare_for_nodes(ScorerConfig(model="org/classifier"))
    assert (settled.model, settled.revision) == ("org/classifier", commit)
    (folder / "model.safetensors").unlink()
    command = f"hf download org/classifier --revision {commit}"
    with pytest.raises(ValueError, match=command):
        prepare_for_nodes(ScorerConfig(model="org/classifier"))
    with pytest.raises(ValueError, match=rf"not in this machine's cache. Run `{command}"):
        load_scorer(ScorerConfig(model="org/classifier", revision=commit, device="cpu"))
