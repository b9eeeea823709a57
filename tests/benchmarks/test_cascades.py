"""The benchmark of cascades: its texts can be learned, and its figures are those of its turns."""

from types import SimpleNamespace

import cascades
import pytest
import throughput

from datatrove_quality import Cascade, ScorerConfig
from datatrove_quality.cascade.calibration import Calibration


def test_a_label_is_the_share_of_the_one_kind_of_words():
    made = list(cascades.labelled(300, seed=1))
    good = {word.lower() for word in cascades.corpora.words()[0][: cascades.KINDS]}
    for text, label in made:
        words = text.rstrip(".").lower().split()
        assert label == pytest.approx(1 + 4 * sum(word in good for word in words) / len(words))
    assert 0.4 < sum(label >= cascades.MIN_SCORE for _, label in made) / 300 + 0.1 < 0.6
    assert made == list(cascades.labelled(300, seed=1)) != list(cascades.labelled(300, seed=2))


def test_figures_are_those_of_the_turns(model_folder, capsys):
    """A proxy that keeps all changes the decisions that the classifier alone makes otherwise."""
    classifier, proxy = (
        ScorerConfig(model=str(model_folder("qwen3", **options)), dtype="float32", device="cpu")
        for options in ({}, {"seed": 1})
    )
    options = SimpleNamespace(device="cpu", shape="tiny", documents=20, rounds=2)
    pipelines = {"classifier alone": None, "keeps all": Cascade(proxy, (-99, -99), audit=0.0)}
    turns = cascades.measure(classifier, pipelines, options)
    for number, (alone, all_kept) in enumerate(zip(*turns.values(), strict=True)):
        made = cascades.documents(20, seed=100 + number)
        _, kept = cascades.seconds(classifier, None, made)
        assert (alone["changed"], all_kept["changed"]) == (0, (20 - len(kept)) / 20)
    refused = Calibration(None, "too small", None, (), 10, 0.5, 1.0, 2.0, ())
    result = cascades.report(options, {"student": refused}, turns)
    ratios = [one["seconds"] / other["seconds"] for one, other in zip(*turns.values(), strict=True)]
    assert result["times_as_fast"]["keeps all"] == pytest.approx(sum(ratios) / 2)
    assert result["refused"] == {"student": "too small"} and throughput.hardware.machine_name(result["machine"])
    assert "times as fast" in capsys.readouterr().out
