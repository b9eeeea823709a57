"""Annotated rows become token ids and levels, split into training and held-out examples."""

from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from loguru import logger

from datatrove_quality.config import ScoreScale, Unscorable
from datatrove_quality.engine.batching import windows
from datatrove_quality.evaluation.labels import LabelledRow, parse_label
from datatrove_quality.model.rendering import Renderer
from datatrove_quality.training.config import TrainingConfig


if TYPE_CHECKING:
    pass


ROWS_PER_WINDOW = 1_024


@dataclass(frozen=True, slots=True)
class Example:
    """A row as the model sees it.

    Args:
        ids: token ids, int32, shape (tokens,).
        label: the level, on the scale of the labels.
        truncated: whether the text had more tokens than are kept.
    """

    ids: np.ndarray
    label: int
    truncated: bool


@dataclass(frozen=True)
class Examples:
    """All rows that can be trained on, and what became of the others.

    Args:
        kept: in the order of the rows.
        refused: how many rows cannot be trained on, by reason.
        repeated: how many rows were left out because an earlier one looks the same to the model.
    """

    kept: list[Example]
    refused: Counter[str]
    repeated: int = 0

    def __add__(self, others: "Examples") -> "Examples":
        kept, repeated = self.kept + others.kept, self.repeated + others.repeated
        return Examples(kept, self.refused + others.refused, repeated)

    @property
    def levels(self) -> Counter[int]:
        """Rows of each level."""
        return Counter(sorted(example.label for example in self.kept))


def read_examples(
    rows: Iterable[LabelledRow], renderer: Renderer, config: TrainingConfig, purpose: str = "train on"
) -> Examples:
    """Render and tokenize rows as scoring does, and read their labels.

    Args:
        rows: conversations or texts with their labels.
        renderer: the base model's.
        config: for its `scale` and `dedup`.
        purpose: what the rows are to do, for messages.

    Returns:
        What can be used, and counts of what cannot, which are logged as well.

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
            if isinstance(text, Unscorable) or isinstance(label, Unscorable):
                refused[text.reason if isinstance(text, Unscorable) else label.reason] += 1  # type: ignore[union-attr]
            else:
                kept.append(Example(np.asarray(text.ids, np.int32), label, text.truncated))
    if refused:
        total = refused.total() + len(kept)
        logger.warning(f"{refused.total()} of {total} rows cannot be used to {purpose}: {_shown(refused)}")
    if not kept:
        raise ValueError(f"There is no row to {purpose}: {_shown(refused) or 'the input is empty'}.")
    if not config.dedup:
        return Examples(kept, refused)
    first = {example.ids.tobytes(): example for example in reversed(kept)}
    unique = [example for example in kept if first[example.ids.tobytes()] is example]
    return Examples(unique, refused, repeated=len(kept) - len(unique))


def split_examples(examples: Sequence[Example], config: TrainingConfig) -> tuple[list[Example], list[Example]]:
    """Split into what is trained on and what is held out, with the same share of each level.

    Args:
        examples: in an order that is the same on every run.
        config: for its `holdout` and `seed`.

    Returns:
        Training examples and held-out ones, in their order.

    Raises:
        ValueError: there is one level only, or too few rows of one to stand on both sides.
    """
    from sklearn.model_selection import train_test_split

    levels = check_levels(examples)
    size = config.holdout if config.holdout < 1 else int(config.holdout)
    labels = [example.label for example in examples]
    places: list[list[int]] = [[], []]
    with suppress(ValueError):  # of sklearn's, which looks less closely than we do below
        places = train_test_split(range(len(labels)), test_size=size, stratify=labels, random_state=config.seed)
    training, held_out = ([examples[place] for place in sorted(part)] for part in places)
    if any({example.label for example in part} != set(levels) for part in (training, held_out)):
        raise ValueError(
            f"holdout={config.holdout} (--holdout): too few rows for a split with every level on both sides; rows of "
            f"each level: {_shown(levels)}. Annotate more of the rare ones, leave them out, or hold out another share."
        )
    return training, held_out


def check_levels(examples: Sequence[Example]) -> Counter[int]:
    """The number of rows of each level, of which there must be two."""
    levels = Counter(sorted(example.label for example in examples))
    if len(levels) < 2:
        raise ValueError(f"labels: all {len(examples)} rows are of level {min(levels)}: nothing can be learned.")
    return levels


def warn_of_leaks(training: Sequence[Example], held_out: Sequence[Example]) -> None:
    """Warn where a held-out text is a training text too."""
    seen = {example.ids.tobytes() for example in training}
    if leaked := sum(example.ids.tobytes() in seen for example in held_out):
        logger.warning(
            f"{leaked} of {len(held_out)} held-out rows look the same to the model as one that it is trained on: the "
            "figures will flatter it. dedup (--dedup) leaves repeated rows out."
        )


def _label(value: object, scale: ScoreScale) -> int | Unscorable:
    try:
        return parse_label(value, scale)
    except Unscorable as error:
        return error


def _require_template(renderer: Renderer) -> None:
    if not renderer.tokenizer.chat_template:
        raise ValueError(
            "chat_template (--chat-template FILE): the base model's tokenizer has none to render conversations with. "
            "Choose the one that the classifier is to be trained and scored with; it is saved with it."
        )
    renderer.require_template()


def row_counts(examples: Examples, training: list[Example], held_out: list[Example]) -> dict[str, Any]:
    """How many rows were used, held out and left out, and why; for the record."""
    return {
        "training": len(training),
        "held_out": len(held_out),
        "levels": {str(level): count for level, count in examples.levels.items()},
        "refused": dict(examples.refused),
        "repeated": examples.repeated,
        "tokens": sum(len(example.ids) for example in examples.kept),
        "truncated": sum(example.truncated for example in examples.kept),
    }


def _shown(counts: Counter) -> str:
    return ", ".join(f"{name}: {count}" for name, count in counts.items())
