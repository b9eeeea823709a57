"""Mistakes that local files show are found before anything heavy is imported."""

import argparse
import json

import pytest

from datatrove_quality.cli.checks import known_scale, require_model_folder, require_thresholds, require_writable
from datatrove_quality.config import ScoreScale


CARD = ScoreScale()


def thresholds(low=None, high=None, allow=False):
    return argparse.Namespace(min_score=low, max_score=high, allow_outside_scale=allow)


def model(name, revision=None, scale=None, problem_type=None):
    return argparse.Namespace(model=str(name), revision=revision, scale=scale, problem_type=problem_type)


@pytest.mark.parametrize(
    ("low", "high", "message"),
    [
        (4, 3, "--min-score 4 is above --max-score 3: no score is kept"),
        (45, None, "--min-score 45 is outside the scale of the scores, 1 to 5: did you mean 4.5? "),
        (None, 350, "--max-score 350 is outside the scale of the scores, 1 to 5: did you mean 3.5? "),
        (0.5, None, "--min-score 0.5 is outside the scale of the scores, 1 to 5. If it is meant, add --allow-outside"),
        (None, 7, "--max-score 7 is outside the scale"),
        (-45, None, "--min-score -45 is outside the scale of the scores, 1 to 5. If"),
    ],
)
def test_thresholds_that_cannot_be_meant(low, high, message):
    """The option, its value, the scale, and what may have been meant."""
    with pytest.raises(ValueError) as found:
        require_thresholds(thresholds(low, high), CARD)
    assert message in str(found.value)


def test_thresholds_that_can_be_meant():
    """The ends of the scale are on it; what is outside can be asked for; an unknown scale refuses nothing."""
    require_thresholds(thresholds(1, 5), CARD)
    require_thresholds(thresholds(3, 3), CARD)
    require_thresholds(thresholds(), CARD)
    require_thresholds(thresholds(45, allow=True), CARD)
    require_thresholds(thresholds(45), None)
    require_thresholds(thresholds(0), ScoreScale(0, 0, 5))
    with pytest.raises(ValueError, match="is above"):
        require_thresholds(thresholds(4, 3, allow=True), None)


@pytest.mark.parametrize("name", ["./classifier", "/classifier", "~/classifier", "models/mine/classifier", "../c"])
def test_a_path_that_is_no_folder(tmp_path, monkeypatch, name):
    """What can only be a path is refused where there is no folder; the message has the whole path."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=f"--model {name}: there is no folder {tmp_path.parts[0]}"):
        require_model_folder(name)


def test_what_may_be_a_model(tmp_path, monkeypatch):
    """A folder is taken wherever it is; a name with one slash may be on the hub."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a/b/c").mkdir(parents=True)
    for folder in ("", "a", "a/b/c"):
        (tmp_path / folder / "config.json").write_text("{}")
    for name in ("./a", "a/b/c", str(tmp_path), "org/name", "name"):
        require_model_folder(name)


def test_the_scale_that_local_files_tell(tmp_path, monkeypatch):
    """The given one; the model's own; the card's where the model has none; unknown where there is no file."""
    for name, config in (("own", {"score_scale": {"offset": 0, "low": 0, "high": 5}}), ("none", {}), ("bad", [])):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps(config))
    (tmp_path / "empty").mkdir()
    assert known_scale(model(tmp_path / "own")) == ScoreScale(0, 0, 5)
    assert known_scale(model(tmp_path / "own", scale=ScoreScale(2, 1, 9))) == ScoreScale(2, 1, 9)
    assert known_scale(model(tmp_path / "none")) == CARD
    for name in ("own", "none"):  # a score_scale is about logits
        assert known_scale(model(tmp_path / name, problem_type="multi_label_classification")) is None
    assert known_scale(model(tmp_path / "bad")) is None
    assert known_scale(model(tmp_path / "empty")) is None
    assert known_scale(model("org/name-that-is-in-no-cache")) is None
    (tmp_path / "own/config.json").write_text('{"score_scale": {"low": 5, "high": 1}}')
    with pytest.raises(ValueError, match=r"score_scale=.* in its config.json is no ScoreScale"):
        known_scale(model(tmp_path / "own"))


def test_the_scale_of_a_model_in_the_hubs_cache(tmp_path, monkeypatch):
    """What was downloaded before is known without the hub."""
    commit = "0" * 40
    folder = tmp_path / "models--org--name"
    (folder / f"snapshots/{commit}").mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs/main").write_text(commit)
    config = {"score_scale": {"offset": 0, "low": 0, "high": 3}}
    (folder / f"snapshots/{commit}/config.json").write_text(json.dumps(config))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert known_scale(model("org/name")) == ScoreScale(0, 0, 3)
    assert known_scale(model("org/name", revision="other")) is None


def test_an_output_that_cannot_be_written(tmp_path):
    """A file, a place beneath a file, a folder in which nothing can be created: named, and nothing is created."""
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(ValueError, match=rf"--output {file} cannot be written: it is a file, not a folder"):
        require_writable(str(file))
    with pytest.raises(ValueError, match=rf"--output {file}/out cannot be written: {file}: it is a file"):
        require_writable(f"{file}/out")
    with pytest.raises(ValueError, match="--output /proc/out cannot be written: /proc: "):
        require_writable("/proc/out")
    require_writable(str(tmp_path / "new/deeper"))
    require_writable(str(tmp_path))
    require_writable("s3://bucket/out")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
