"""The settings of a training run, validated."""

import math
from dataclasses import dataclass, field

from datatrove_quality.config import ScoreScale


FREEZE = ("embeddings", "backbone", "none")
ORDERS = ("grouped", "random", "given")
DTYPES = ("auto", "float32", "bfloat16")
DEVICES = ("auto", "cpu")
_CHOICES = {"freeze": FREEZE, "order": ORDERS, "dtype": DTYPES, "device": DEVICES}
_MINIMUM = {"epochs": 1, "batch_size": 1, "max_tokens": 1, "evaluations": 1, "warmup_steps": 0, "seed": 0}


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """What is trained, and how. The defaults are the model card's; docs/training.md says where each comes from.

    Args:
        model: hub id or folder of the base model, anything that `AutoModelForSequenceClassification` takes.
        revision: branch, tag or commit on the hub.
        freeze: "embeddings" trains all but the embedding tables, "backbone" the head alone, "none" everything.
        epochs: how often each row is seen.
        batch_size: rows per optimizer step, over all devices.
        per_device_batch_size: rows that a device takes at once; the rest of a step is accumulated. None: the largest
            up to 8 that divides its share of `batch_size`.
        learning_rate: peak learning rate of AdamW.
        warmup_steps: steps in which the learning rate rises to its peak; then it falls along a cosine to zero.
        weight_decay: of AdamW, on weight matrices.
        adam_beta2: of AdamW, the decay rate of the second moment.
        max_tokens: longer texts are cut, on the tokenizer's `truncation_side`; at most what the model's positions
            admit. Saved with the classifier.
        scale: what the labels mean: `logit = label - offset`, levels from `low` to `high`.
        holdout: what is held out for evaluation: a share of the rows, or from 1 on a number of rows.
        evaluations: how many times, evenly over the run, the model is evaluated and a checkpoint is saved.
        order: "grouped" shuffles the rows and batches those of similar length, which saves padding; "random" only
            shuffles them; "given" keeps their order, for a curriculum.
        gradient_checkpointing: compute activations twice instead of keeping them: less memory, a third more time.
        dtype: "bfloat16" computes and saves in bfloat16, "float32" in float32; "auto" is bfloat16 on a GPU that has it
            natively, else float32. The trained weights are held in float32 either way.
        seed: of the new head, the split and the order.
        dedup: leave out rows that look the same to the model as an earlier one.
        chat_template: the text of a Jinja template; saved with the classifier. None: the tokenizer's own.
        template_date: what a chat template that writes the date takes for now, such as "2026-11-29". None: the day on
            which the training starts.
        add_bos_token: whether a BOS token is put before each text; saved with the classifier. To be chosen where
            tokenizer_config.json says otherwise than the tokenizer does. None: as the tokenizer does.
        pad_token: a token of the vocabulary to pad with; saved with the classifier. None: the tokenizer's own.
        device: "auto" is a GPU where there is one, else the CPU; or "cpu".

    Raises:
        ValueError: a value is not one of those above; names the field, the value and the fix.
    """

    model: str
    revision: str | None = None
    freeze: str = "embeddings"
    epochs: int = 2
    batch_size: int = 64
    per_device_batch_size: int | None = None
    learning_rate: float = 5e-5
    warmup_steps: int = 100
    weight_decay: float = 0.1
    adam_beta2: float = 0.999
    max_tokens: int = 6_032
    scale: ScoreScale = field(default_factory=ScoreScale)
    holdout: float = 0.1
    evaluations: int = 10
    order: str = "grouped"
    gradient_checkpointing: bool = False
    dtype: str = "auto"
    seed: int = 0
    dedup: bool = False
    chat_template: str | None = None
    template_date: str | None = None
    add_bos_token: bool | None = None
    pad_token: str | None = None
    device: str = "auto"

    def __post_init__(self) -> None:
        self._require_types()
        rate, decay, holdout = self.learning_rate, self.weight_decay, self.holdout
        _require(rate > 0, "learning_rate", rate, "give a number above 0")
        _require(decay >= 0, "weight_decay", decay, "give a number from 0")
        _require(0 < self.adam_beta2 < 1, "adam_beta2", self.adam_beta2, "give a number between 0 and 1")
        is_holdout = 0 < holdout < 1 or (holdout >= 1 and holdout == int(holdout))
        _require(is_holdout, "holdout", holdout, "give a share between 0 and 1, or a whole number of rows")

    def _require_types(self) -> None:
        minimum = _MINIMUM | ({} if self.per_device_batch_size is None else {"per_device_batch_size": 1})
        for name, low in minimum.items():
            value = getattr(self, name)
            is_whole = isinstance(value, int) and not isinstance(value, bool)
            _require(is_whole and value >= low, name, value, f"give a whole number from {low}")
        for name, choices in _CHOICES.items():
            value = getattr(self, name)
            _require(value in choices, name, value, f"give one of {', '.join(map(repr, choices))}")
        for name in ("learning_rate", "weight_decay", "adam_beta2", "holdout"):
            value = getattr(self, name)
            _require(isinstance(value, int | float) and math.isfinite(value), name, value, "give a finite number")
        _require(isinstance(self.scale, ScoreScale), "scale", self.scale, "give a ScoreScale(offset, low, high)")


def _require(holds: bool, name: str, value: object, fix: str) -> None:
    if not holds:
        raise ValueError(f"{name}={value!r} (--{name.replace('_', '-')}): {fix}.")
