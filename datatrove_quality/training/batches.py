"""The order in which examples are trained on, and how they are batched."""

import math
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from datatrove_quality.evaluation.labels import LabelledRow
from datatrove_quality.training.config import TrainingConfig
from datatrove_quality.training.examples import Example, count_levels, require_two_levels


if TYPE_CHECKING:
    import torch


MAX_ROWS_PER_DEVICE = 8
STEPS_PER_WINDOW = 50
# Before a base model is loaded, at least; a warm-up may need more.
ROWS_READ = 1_000


def batches_per_step(config: TrainingConfig, processes: int) -> tuple[int, int]:
    """Divide a step's rows among devices and forward passes.

    Args:
        config: for its `batch_size` and `per_device_batch_size`.
        processes: how many devices train together.

    Returns:
        Rows that a device takes at once, and how many times it does so in a step.

    Raises:
        ValueError: the batch cannot be divided so; names the nearest values that can.
    """
    share, rest = divmod(config.batch_size, processes)
    if rest or not share:
        near = [size for size in (processes * share, processes * (share + 1)) if size]
        raise ValueError(
            f"batch_size={config.batch_size} (--batch-size) cannot be divided among {processes} devices: set "
            f"{' or '.join(map(str, near))}."
        )
    sizes = [size for size in range(1, share + 1) if share % size == 0]
    rows = config.per_device_batch_size or max(size for size in sizes if size <= MAX_ROWS_PER_DEVICE)
    if rows not in sizes:
        near = [max(size for size in sizes if size < rows), *[size for size in sizes if size > rows][:1]]
        raise ValueError(
            f"per_device_batch_size={rows} (--per-device-batch-size) does not divide the {share} rows that each of "
            f"{processes} device(s) has of batch_size={config.batch_size}: set {' or '.join(map(str, near))}."
        )
    return rows, share // rows


def num_steps(num_rows: int, config: TrainingConfig) -> int:
    """Optimizer steps of the whole training.

    Raises:
        ValueError: there are fewer than `warmup_steps`.
    """
    steps = math.ceil(num_rows * config.epochs / config.batch_size)
    if config.warmup_steps > steps:
        raise ValueError(
            f"warmup_steps={config.warmup_steps} (--warmup-steps): {config.epochs} epochs of {num_rows} rows, "
            f"{config.batch_size} a step, are only {steps} steps; set fewer, such as {steps // 10}."
        )
    return steps


def require_enough_rows(
    rows: Iterable[LabelledRow], held_out_rows: Iterable[LabelledRow] | None, config: TrainingConfig
) -> None:
    """Refuse what labels alone show, before a base model is loaded; reads no more rows than could be too few.

    Args:
        rows: conversations or texts with their labels.
        held_out_rows: rows to evaluate on; None: a part of `rows` is held out.
        config: what is trained, and how.

    Raises:
        ValueError: no row can be used, all are of one level, or they are too few for the warm-up or to hold some out.
    """
    holdout = 0.0 if held_out_rows is not None else config.holdout
    needed = config.batch_size * (config.warmup_steps - 1) // config.epochs + 1
    enough = max(ROWS_READ, math.ceil(needed / (1 - holdout)) + 2 if holdout < 1 else needed + int(holdout))
    levels = count_levels(rows, config, enough, "train on")
    if held_out_rows is not None:
        count_levels(held_out_rows, config, 1, "evaluate on")
    if levels.total() < enough:  # these are all
        require_two_levels(levels)
        held_out = math.ceil(holdout * levels.total()) if holdout < 1 else int(holdout)
        if held_out >= levels.total():
            raise ValueError(f"holdout={holdout} (--holdout): none of {levels.total()} rows is left to train on.")
        num_steps(levels.total() - held_out, config)


@dataclass(frozen=True)
class Order:
    """The order in which rows are seen, all epochs in one stream.

    It depends on the seed alone, so that a resumed run goes on with the rows that are left.

    Args:
        lengths: tokens of each row.
        epochs: how often each row comes.
        kind: one of `ORDERS`.
        rows_per_step: in grouped order, the number of rows of similar length that come together.
        seed: of the order.
    """

    lengths: list[int]
    epochs: int
    kind: str
    rows_per_step: int
    seed: int

    def __len__(self) -> int:
        return len(self.lengths) * self.epochs

    def __iter__(self) -> Iterator[int]:
        for epoch in range(self.epochs):
            rng = random.Random(f"{self.seed} {epoch}")
            order = list(range(len(self.lengths)))
            if self.kind != "given":
                rng.shuffle(order)
            yield from self._grouped(order, rng) if self.kind == "grouped" else order

    def _grouped(self, order: list[int], rng: random.Random) -> Iterator[int]:
        """Sort within windows, so that batches differ from epoch to epoch, and shuffle the batches of each."""
        size = STEPS_PER_WINDOW * self.rows_per_step
        for start in range(0, len(order), size):
            window = sorted(order[start : start + size], key=self.lengths.__getitem__)
            steps = [window[first : first + self.rows_per_step] for first in range(0, len(window), self.rows_per_step)]
            rng.shuffle(steps)
            # A step that is not full comes last, so that it shifts no other.
            for step in sorted(steps, key=lambda step: len(step) < self.rows_per_step):
                yield from step


@dataclass(frozen=True)
class Collator:
    """Examples in, a batch with target logits out, padded on the right.

    Args:
        pad_token_id: the token that pads.
        offset: of the scale.
        masks: whether padding is masked; in a causal decoder no token sees those to its right.
    """

    pad_token_id: int
    offset: float
    masks: bool

    def __call__(self, examples: Sequence[Example]) -> "dict[str, torch.Tensor]":
        import torch
        from torch.nn.utils.rnn import pad_sequence

        rows = [torch.from_numpy(example.ids).long() for example in examples]
        batch = {
            "input_ids": pad_sequence(rows, batch_first=True, padding_value=self.pad_token_id),
            "labels": torch.tensor([example.label - self.offset for example in examples]),
        }
        if self.masks:
            batch["attention_mask"] = pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
        return batch
