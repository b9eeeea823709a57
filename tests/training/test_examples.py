"""Rows become examples: none is lost without a count, and each level is on both sides of the split."""

import math
from collections import Counter

import numpy as np
import pytest
from training_runs import annotated, config

from datatrove_quality.config import Unscorable
from datatrove_quality.training import TrainingConfig, train_classifier
from datatrove_quality.training.batches import Collator
from datatrove_quality.training.examples import Example, split_examples


def test_bad_rows_are_counted_and_never_trained_on(base, tmp_path):
    """Labels of any spelling count; what is outside the scale, missing or unscorable is refused, by its reason."""
    good = annotated(50)
    spelled = [(item, [str(level), float(level), level][number % 3]) for number, (item, level) in enumerate(good)]
    messages = good[0][0]
    bad = [(messages, 9), (messages, 5.51), (messages, math.nan), (messages, None), (messages, "gut")]
    bad += [(Unscorable("null_column", "null"), 3), ([{"role": "narrador", "content": "x"}], 3), ([], 3)]
    bad += [(Unscorable("missing_column", "no messages"), Unscorable("judge_error", "invalid_json"))]
    record = train_classifier(config(base), spelled + bad, tmp_path / "out")
    assert record["rows"]["training"] + record["rows"]["held_out"] == 50
    assert sum(record["rows"]["refused"].values()) == len(bad)
    assert record["rows"]["refused"].keys() >= {"null_column", "template_error", "judge_error"}
    assert "missing_column" not in record["rows"]["refused"]  # of the row as its judge wrote it


def test_fractions_are_trained_on_as_they_are(base, tmp_path, monkeypatch):
    """The mean of several annotations is the target itself; the split and the metrics go by the nearest level."""
    seen = set()
    collate = Collator.__call__
    monkeypatch.setattr(
        Collator, "__call__", lambda self, batch: (seen.update(one.label for one in batch), collate(self, batch))[1]
    )
    rows = [(item, level - 0.25 if level == 5 else level) for item, level in annotated(50)]
    record = train_classifier(config(base), rows, tmp_path / "out")
    assert seen == {1, 2, 3, 4, 4.75}
    assert record["rows"]["levels"] == {str(level): 10 for level in range(1, 6)}
    assert record["rows"]["fractional_labels"] == 10
    rows[4] = (rows[4][0], 4.76)
    with pytest.raises(ValueError, match="rows: was"):  # it is a part of what a run is recognised by
        train_classifier(config(base), rows, tmp_path / "out")


def test_a_batch_has_the_fraction_as_its_target():
    """Labels less the offset, in float32."""
    batch = Collator(0, 1.0, masks=False)([Example(np.array([3]), 4.25, False), Example(np.array([3, 4]), 5, False)])
    assert batch["labels"].tolist() == [3.25, 4.0]


def test_no_usable_row_is_an_error_that_says_why(base, tmp_path):
    """A wrong label column must not end in an empty training."""
    with pytest.raises(ValueError, match=r"No row can be used to train on: .*: 10"):
        train_classifier(config(base), [(item, 77) for item, _ in annotated(10)], tmp_path / "out")
    with pytest.raises(ValueError, match=r"No row can be used to evaluate on: .*: 10"):
        train_classifier(config(base), annotated(10), tmp_path / "out", [(item, 77) for item, _ in annotated(10)])


def test_one_level_is_an_error(base, tmp_path):
    """A regression on a constant learns nothing."""
    with pytest.raises(ValueError, match="all 20 rows are of level 4"):
        train_classifier(config(base), annotated(20, levels=(4,)), tmp_path / "out")


def test_too_few_rows_of_a_level_are_an_error_with_the_counts(base, tmp_path):
    """Macro F1 needs each level on both sides of the split."""
    with pytest.raises(ValueError, match=r"--holdout.*1: 20, 2: 1"):
        train_classifier(config(base), annotated(20, levels=(1,)) + annotated(1, levels=(2,)), tmp_path / "out")


def test_the_split_keeps_the_shares_of_the_levels():
    """Rare levels stand on both sides in proportion, the same ones on every run."""
    examples = [Example(np.array([number]), 5 if number % 10 else 1, False) for number in range(200)]
    settings = TrainingConfig(model="x", holdout=50)
    training, held_out = split_examples(examples, settings)
    assert Counter(example.label for example in held_out) == {5: 45, 1: 5}
    assert not {int(one.ids[0]) for one in training} & {int(one.ids[0]) for one in held_out}
    assert split_examples(examples, settings)[1] == held_out


def test_duplicates_across_the_split_are_warned_of_and_dedup_removes_them(base, tmp_path, log):
    """A held-out row that was trained on flatters the figures."""
    rows = annotated(40) * 2
    train_classifier(config(base), rows, tmp_path / "twice")
    assert "look the same to the model" in "\n".join(log)
    record = train_classifier(config(base, dedup=True), rows, tmp_path / "once")
    assert record["rows"]["repeated"] == 40
    assert record["rows"]["training"] + record["rows"]["held_out"] == 40
