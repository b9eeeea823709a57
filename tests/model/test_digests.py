"""The bytes that are loaded are those that were hashed, wherever they lie."""

import json
import os
import shutil

import pytest
from damaged_models import damage, hide, in_hub_cache, scorer, values
from safetensors.torch import load_file, save_file

from datatrove_quality import ScorerConfig
from datatrove_quality.model import digests, loading
from datatrove_quality.model.found_model import find_model
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


def without_links(snapshot):
    """A copy of a cache as a file system without links has it, or `cp -rL`."""
    for path in snapshot.iterdir():
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content)


def test_a_cache_without_links_has_the_digests_of_its_files_in_its_fingerprint(folder, tmp_path, monkeypatch, log):
    """Nothing there names what the bytes should be: wrong ones are another model, in stores too."""
    snapshot = in_hub_cache(folder, tmp_path / "hub", monkeypatch)
    right = values("org/classifier")
    assert scorer("org/classifier").fingerprint.parts.keys().isdisjoint({"weights", "config", "tokenizer"})
    without_links(snapshot)
    assert values("org/classifier") == right
    [line] = (line for line in log if "hf cache verify" in line)
    assert line.startswith("WARNING") and f"model.safetensors in {snapshot}" in line
    assert f"hf cache verify org/classifier --revision {snapshot.name}" in line
    parts = scorer("org/classifier").fingerprint.parts
    assert parts["commit"] == snapshot.name
    assert (
        parts.items()
        >= {name: scorer(folder).fingerprint.parts[name] for name in ("weights", "config", "tokenizer")}.items()
    )
    damage(snapshot / "model.safetensors", at=200_000)
    again = scorer("org/classifier")
    assert again.fingerprint.digest != scorer(folder).fingerprint.digest
    assert again.fingerprint.differences(parts)[0].startswith("weights was")


def test_a_file_in_the_hubs_cache_that_was_edited_is_in_the_fingerprint(folder, tmp_path, monkeypatch):
    """`sed -i` puts a file of its own into the place of the link."""
    snapshot = in_hub_cache(folder, tmp_path / "hub", monkeypatch)
    before = scorer("org/classifier").fingerprint.digest
    content = (snapshot / "config.json").read_text()
    (snapshot / "config.json").unlink()
    (snapshot / "config.json").write_text(content.replace('"rms_norm_eps": 1e-06', '"rms_norm_eps": 1e-03'))
    assert scorer("org/classifier").fingerprint.digest != before


def test_weights_without_links_that_rotted_since_they_were_hashed_are_refused(folder, tmp_path, monkeypatch):
    """As those of a local folder."""
    hide(monkeypatch)
    snapshot = in_hub_cache(folder, tmp_path / "hub", monkeypatch)
    without_links(snapshot)
    right = scorer("org/classifier").fingerprint.digest
    monkeypatch.setattr(digests, "_read_here", {})
    damage(snapshot / "model.safetensors")
    again = scorer("org/classifier")
    assert again.fingerprint.digest == right
    with pytest.raises(ValueError, match=r"model\.safetensors: the bytes are not those that were there before"):
        again.load()


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "chat_template.jinja"])
def test_a_small_file_of_the_hub_with_other_bytes_is_refused(folder, tmp_path, monkeypatch, name):
    """Configuration and tokenizer decide a score as weights do; git names them by SHA-1."""
    snapshot = in_hub_cache(folder, tmp_path / "hub", monkeypatch)
    blob = (snapshot / name).resolve()
    blob.write_bytes(blob.read_bytes().replace(b" ", b"\t", 1))
    with pytest.raises(ValueError, match=f"hub names.*{name}"):
        find_model(ScorerConfig(model="org/classifier"))


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
