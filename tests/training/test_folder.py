"""A training has its folder to itself."""

import pytest
from training_runs import RECIPE, annotated, config

from datatrove_quality.training import train_classifier
from datatrove_quality.training.folder import claim_folder, last_checkpoint


def test_a_folder_that_holds_something_else_is_refused(base, tmp_path):
    """Files of other programs are not overwritten, and no two trainings mix."""
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"--output.*no training wrote"):
        train_classifier(config(base), annotated(50), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_another_config_in_the_same_folder_is_refused_and_the_same_one_is_finished(trained, base):
    """A rerun of a finished training is no work; one that was asked something else says what differs."""
    before = (trained / "model.safetensors").stat().st_mtime_ns
    record = train_classifier(config(base, **RECIPE), annotated(100), trained)
    assert "evaluation" in record
    assert (trained / "model.safetensors").stat().st_mtime_ns == before
    with pytest.raises(ValueError, match=r"learning_rate: was 0.003, is now 0.01"):
        train_classifier(config(base, **RECIPE | {"learning_rate": 0.01}), annotated(100), trained)
    with pytest.raises(ValueError, match="rows: was"):
        train_classifier(config(base, **RECIPE), annotated(105), trained)


def test_a_folder_is_claimed_once_and_found_again(tmp_path):
    """The same settings find the record; others are named; a file is no folder."""
    folder = tmp_path / "a" / "b"
    assert claim_folder(folder, {"epochs": 2, "seed": 0}) == {"settings": {"epochs": 2, "seed": 0}}
    assert claim_folder(folder, {"epochs": 2, "seed": 0}) == {"settings": {"epochs": 2, "seed": 0}}
    with pytest.raises(ValueError, match=r"different settings.*\n  seed: was 0, is now 1$"):
        claim_folder(folder, {"epochs": 2, "seed": 1})
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match="--output"):
        claim_folder(tmp_path / "file", {})


def test_a_checkpoint_counts_when_its_state_is_whole(tmp_path):
    """Of several the last step, whatever the order of their names; one cut short is ignored."""
    assert last_checkpoint(tmp_path) is None
    for step, text in ((9, '{"global_step": 9}'), (10, '{"global_step": 10}'), (11, '{"global_st')):
        folder = tmp_path / "checkpoints" / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        (folder / "trainer_state.json").write_text(text)
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoints" / "checkpoint-10")
