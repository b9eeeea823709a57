"""Annotated rows become token ids and levels, divided into training and held-out examples."""

from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from loguru import logger

from datatrove_quality.config import ScoreScale, Unscorable
from datatrove_quality.engine.batching import windows
from datatrove_quality.evaluation.labels import LabelledRow, parse_real_label
from datatrove_quality.model.rendering import Renderer
from datatrove_quality.training.config import TrainingConfig


ROWS_PER_WINDOW = 1_024


@dataclass(frozen=True, slots=True)
class Example:
    """A row as the model sees it.

    Args:
        ids: token ids, int32, shape (tokens,).
        label: on the scale of the labels; a level, or a number between levels.
        truncated: whether the text had more tokens than are kept.
    """

    ids: np.ndarray
    label: float
    truncated: bool

    @property
    def level(self) -> int:
        """The nearest level, rounding half to even; rows are divided and metrics computed by it."""
        return round(self.label)


@dataclass(frozen=True)
class Examples:
    """The rows that can be used, and counts of those that cannot.

    Args:
        kept: in the order of the rows.
        refused: number of rows that cannot be used, by reason.
        repeated: number of rows left out because an earlier one looks the same to the model.
    """

    kept: list[Example]
    refused: Counter[str]
    repeated: int = 0

    def __add__(self, others: "Examples") -> "Examples":
        kept, repeated = self.kept + others.kept, self.repeated + others.repeated
        return Examples(kept, self.refused + others.refused, repeated)

    @property
    def levels(self) -> Counter[int]:
        """Number of rows of each level."""
        return Counter(sorted(example.level for example in self.kept))

    def without_repeats(self) -> "Examples":
        """Of the rows with the same token ids, the first alone."""
        first = {example.ids.tobytes(): example for example in reversed(self.kept)}
        unique = [example for example in self.kept if first[example.ids.tobytes()] is example]
        return Examples(unique, self.refused, repeated=len(self.kept) - len(unique))


def read_split(
    rows: Iterable[LabelledRow],
    held_out_rows: Iterable[LabelledRow] | None,
    renderer: Renderer,
    config: TrainingConfig,
) -> tuple[Examples, list[Example], list[Example]]:
    """Read rows and divide them into training and held-out examples.

    Args:
        rows: conversations or texts with their labels.
        held_out_rows: rows to evaluate on, in place of a part of `rows`; None: a part of `rows` is held out.
        renderer: the base model's.
        config: for its `scale`, `dedup`, `holdout` and `seed`.

    Returns:
        All examples, those to train on, and those to evaluate on, the longest first.

    Raises:
        ValueError: as `read_examples` and `split_examples`.
    """
    examples = read_examples(rows, renderer, config)
    if held_out_rows is None:
        training, held_out = split_examples(examples.kept, config)
    else:
        others = read_examples(held_out_rows, renderer, config, purpose="evaluate on")
        require_two_levels(examples.levels)
        training, held_out = examples.kept, others.kept
        examples += others
    warn_of_leaks(training, held_out)
    # The longest first, so that a batch too large for the device's memory shows at the first evaluation's start.
    return examples, training, sorted(held_out, key=lambda example: -len(example.ids))


def read_examples(
    rows: Iterable[LabelledRow], renderer: Renderer, config: TrainingConfig, purpose: str = "train on"
) -> Examples:
    """Render and tokenize rows as scoring does, and read their labels.

    Args:
        rows: conversations or texts with their labels.
        renderer: the base model's.
        config: for its `scale` and `dedup`.
        purpose: what the rows are for, as messages say it.

    Returns:
        The rows that can be used, and counts of those that cannot, which are logged as well.

    Raises:
        ValueError: there are conversations and no chat template, or no row can be used.
    """
    kept: list[Example] = []
    refused: Counter[str] = Counter()
    for window in windows(rows, lambda row: 1, ROWS_PER_WINDOW, ROWS_PER_WINDOW):
        if any(isinstance(item, list) for item, _ in window):
            _require_template(renderer)
        texts = renderer.encode([item for item, _ in window])
        for text, (_, value) in zip(texts, window, strict=True):
            label = _label(value, config.scale)
            if isinstance(value, Unscorable):  # which says what was wrong where it was labelled
                refused[value.reason] += 1
            elif isinstance(text, Unscorable):
                refused[text.reason] += 1
            elif isinstance(label, Unscorable):
                refused[label.reason] += 1
            else:
                kept.append(Example(np.asarray(text.ids, np.int32), label, text.truncated))
    if refused:
        total = refused.total() + len(kept)
        logger.warning(f"{refused.total()} of {total} rows cannot be used to {purpose}: {_listed(refused)}")
    require_rows(len(kept), refused, purpose)
    examples = Examples(kept, refused)
    return examples.without_repeats() if config.dedup else examples


def count_levels(rows: Iterable[LabelledRow], config: TrainingConfig, enough: int, purpose: str) -> Counter[int]:
    """Read labels until enough rows have one, without a tokenizer.

    Args:
        rows: conversations or texts with their labels.
        config: for its `scale`.
        enough: number of rows after which no more are read.
        purpose: as for `read_examples`.

    Returns:
        Number of rows of each level; no more than these can be used.

    Raises:
        ValueError: no row can be used.
    """
    refused: Counter[str] = Counter()
    levels: Counter[int] = Counter()
    for item, value in rows:
        label = item if isinstance(item, Unscorable) else _label(value, config.scale)
        if isinstance(label, Unscorable):
            refused[label.reason] += 1
            continue
        levels[round(label)] += 1
        if levels.total() == enough:
            break
    require_rows(levels.total(), refused, purpose)
    return levels


def require_rows(number: int, refused: Counter[str], purpose: str) -> None:
    """Refuse to go on without a row.

    Raises:
        ValueError: there is none that can be used; counts the reasons.
    """
    if not number:
        raise ValueError(f"No row can be used to {purpose}: {_listed(refused) or 'the input is empty'}.")


def split_examples(examples: Sequence[Example], config: TrainingConfig) -> tuple[list[Example], list[Example]]:
    """Split into training and held-out examples, with the same share of each level.

    Args:
        examples: in an order that is the same on every run.
        config: for its `holdout` and `seed`.

    Returns:
        Training examples and held-out ones, in their order.

    Raises:
        ValueError: there is one level only, or too few rows of one to be on both sides.
    """
    from sklearn.model_selection import train_test_split

    labels = [example.level for example in examples]
    levels = Counter(sorted(labels))
    require_two_levels(levels)
    size = config.holdout if config.holdout < 1 else int(config.holdout)
    places: list[list[int]] = [[], []]
    with suppress(ValueError):  # scikit-learn's; the check below is stricter, and its message says more
        places = train_test_split(range(len(labels)), test_size=size, stratify=labels, random_state=config.seed)
    training, held_out = ([examples[place] for place in sorted(part)] for part in places)
    if any({example.level for example in part} != set(levels) for part in (training, held_out)):
        raise ValueError(
            f"holdout={config.holdout} (--holdout): too few rows for a split with every level on both sides; rows of "
            f"each level: {_listed(levels)}. Annotate more of the rare ones, leave them out, or hold out another "
            "share."
        )
    return training, held_out


def require_two_levels(levels: Counter[int]) -> None:
    """Refuse rows that are all of one level.

    Args:
        levels: number of rows of each.

    Raises:
        ValueError: there is one level only.
    """
    if len(levels) < 2:
        raise ValueError(f"labels: all {levels.total()} rows are of level {min(levels)}: nothing can be learned.")


def warn_of_leaks(training: Sequence[Example], held_out: Sequence[Example]) -> None:
    """Log a warning where a held-out text is a training text too."""
    seen = {example.ids.tobytes() for example in training}
    if leaked := sum(example.ids.tobytes() in seen for example in held_out):
        logger.warning(
            f"{leaked} of {len(held_out)} held-out rows look the same to the model as a training row: the metrics "
            "will be too good. dedup (--dedup) leaves repeated rows out."
        )


def row_counts(examples: Examples, training: list[Example], held_out: list[Example]) -> dict[str, Any]:
    """How many rows are used, held out and left out, and why; for the record."""
    return {
        "training": len(training),
        "held_out": len(held_out),
        "levels": {str(level): count for level, count in examples.levels.items()},
        "refused": dict(examples.refused),
        "fractional_labels": sum(example.label != example.level for example in examples.kept),
        "repeated": examples.repeated,
        "tokens": sum(len(example.ids) for example in examples.kept),
        "truncated": sum(example.truncated for example in examples.kept),
    }


def _label(value: object, scale: ScoreScale) -> float | Unscorable:
    try:
        return parse_real_label(value, scale)
    except Unscorable as error:
        return error


def _require_template(renderer: Renderer) -> None:
    if not renderer.tokenizer.chat_template:
        raise ValueError(
            "chat_template (--chat-template FILE): the base model's tokenizer has none to render conversations with. "
            "Choose the one to train and score with; it is saved with the classifier."
        )
    renderer.require_template()


def _listed(counts: Counter) -> str:
    return ", ".join(f"{name}: {count}" for name, count in counts.items())
