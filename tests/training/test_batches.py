"""How rows are ordered, batched and divided among devices."""

import numpy as np
import pytest
import torch

from datatrove_quality.training import TrainingConfig
from datatrove_quality.training.batches import Collator, Order, batches_per_step, num_steps
from datatrove_quality.training.config import ORDERS
from datatrove_quality.training.examples import Example


def test_a_step_is_shared_by_the_devices():
    """batch size = rows per device x accumulation x devices, worked out; what does not divide names what does."""
    assert batches_per_step(TrainingConfig(model="x"), 1) == (8, 8)
    assert batches_per_step(TrainingConfig(model="x"), 4) == (8, 2)
    assert batches_per_step(TrainingConfig(model="x", per_device_batch_size=32), 2) == (32, 1)
    with pytest.raises(ValueError, match=r"--batch-size.*3 devices: set 63 or 66"):
        batches_per_step(TrainingConfig(model="x"), 3)
    with pytest.raises(ValueError, match=r"--per-device-batch-size.*set 4 or 8"):
        batches_per_step(TrainingConfig(model="x", per_device_batch_size=5), 1)


def test_more_warmup_than_steps_names_the_option():
    """The card's 100 warm-up steps do not fit a small data set."""
    assert num_steps(80, TrainingConfig(model="x", batch_size=16, warmup_steps=10)) == 10
    assert num_steps(81, TrainingConfig(model="x", batch_size=16, warmup_steps=10)) == 11
    with pytest.raises(ValueError, match=r"--warmup-steps.* 10 steps"):
        num_steps(80, TrainingConfig(model="x", batch_size=16, warmup_steps=100))


def test_every_row_comes_once_an_epoch_grouped_or_not():
    """Whatever the order, an epoch is an epoch, and the next one is another order."""
    lengths = [1 + number * 7 % 50 for number in range(203)]
    for kind in ORDERS:
        order = list(Order(lengths, 2, kind, 16, seed=0))
        assert sorted(order[:203]) == sorted(order[203:]) == list(range(203))
        assert order == list(Order(lengths, 2, kind, 16, seed=0))
        if kind == "given":
            assert order == [*range(203), *range(203)]
            continue
        assert order[:203] != order[203:]
        assert order != list(Order(lengths, 2, kind, 16, seed=1))


def test_grouped_steps_are_of_similar_length():
    """Which is what grouping is for: little padding."""
    lengths = [1 + number * 37 % 400 for number in range(800)]
    order = list(Order(lengths, 1, "grouped", 16, seed=0))
    spreads = [np.ptp([lengths[row] for row in order[start : start + 16]]) for start in range(0, 800, 16)]
    assert max(spreads) < 40


def test_a_curriculum_keeps_its_order():
    """Rows in the order given move within a window of fifty steps at most."""
    order = list(Order([1 + number * 37 % 400 for number in range(2_000)], 1, "given", 16, seed=0))
    assert [sorted(order[:800]), sorted(order[800:1600])] == [list(range(800)), list(range(800, 1600))]


@pytest.mark.parametrize("masks", [True, False])
def test_a_batch_is_padded_on_the_right_and_its_labels_are_logits(masks):
    """Padding is masked where tokens could see it; the target is the label less the offset."""
    examples = [Example(np.array([5, 6, 7], np.int32), 4, False), Example(np.array([8], np.int32), 1, True)]
    batch = Collator(pad_token_id=9, offset=1.0, masks=masks)(examples)
    assert batch["input_ids"].tolist() == [[5, 6, 7], [8, 9, 9]] and batch["input_ids"].dtype == torch.int64
    assert batch["labels"].tolist() == [3.0, 0.0]
    assert ("attention_mask" in batch) == masks
    if masks:
        assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
