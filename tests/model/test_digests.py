"""The bytes that are loaded are those that were hashed, wherever they lie."""

import json
import os
import shutil

import pytest
from damaged_models import damage, hide, in_hub_cache, scorer, values
from safetensors.torch import load_file, save_file

from datatrove_quality import ScorerConfig
from datatrove_quality.model import digests, loading
from datatrove_quality.model.files import find_model
from datatrove_quality.model.staging import STAGE_VARIABLE


pytestmark = pytest.mark.usefixtures("new_process")


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


def test_weights_in_the_hubs_cache_that_are_no_links_to_blobs_are_told(folder, tmp_path, monkeypatch, log):
    """Copied without links, nothing on this machine says what their bytes should be."""
    snapshot = in_hub_cache(folder, tmp_path / "hub", monkeypatch)
    right = values("org/classifier")
    assert not any("is not checked" in line for line in log)
    path = snapshot / "model.safetensors"
    path.unlink()
    shutil.copy(folder / "model.safetensors", path)
    assert values("org/classifier") == right
    [line] = (line for line in log if "is not checked" in line)
    assert line.startswith("WARNING")
    assert f"model.safetensors in {snapshot}" in line
    assert f"hf cache verify org/classifier --revision {snapshot.name}" in line


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
