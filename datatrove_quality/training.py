"""Fine-tune a classifier by the model card's recipe: annotated conversations in, a folder that scores as it is out.

    rows -> token ids and levels -> stratified split -> transformers' Trainer -> best checkpoint -> model folder

Nothing in scoring differs from training: the tokens come from the scorer's own `Renderer`, made from the very config
and tokenizer that are saved; the model pools by the same pad token; a decoder's head runs in float32; and the figures
in the model card are `evaluate_scores` of the weights as they are saved.
"""

import hashlib
import json
import math
import os
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from loguru import logger

from datatrove_quality.batching import windows
from datatrove_quality.config import ScorerConfig, ScoreScale, Unscorable
from datatrove_quality.conversation import Conversation
from datatrove_quality.devices import any_device, native_dtype
from datatrove_quality.evaluation import Evaluation, evaluate_scores, parse_label
from datatrove_quality.loading import find_model
from datatrove_quality.rendering import Renderer


if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase, Trainer, TrainingArguments


# A row: a conversation, a text, or why there is neither; and its label as the data has it.
Row = tuple[Conversation | str | Unscorable, Any]

FREEZE = ("embeddings", "backbone", "none")
ORDERS = ("grouped", "random", "given")
DTYPES = ("auto", "float32", "bfloat16")
LEAST = {"epochs": 1, "batch_size": 1, "max_tokens": 1, "evaluations": 1, "warmup_steps": 0, "seed": 0}
MOST_ROWS_PER_DEVICE = 8
ROWS_PER_WINDOW = 1_024
STEPS_PER_WINDOW = 50
RECORD = "training.json"
CHECKPOINTS = "checkpoints"


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """What is trained, and how. The defaults are the model card's; docs/training.md says where each comes from.

    Args:
        model: hub id or folder of the base model, anything that `AutoModelForSequenceClassification` takes.
        revision: branch, tag or commit on the hub.
        freeze: "embeddings" trains all but the embedding tables, "backbone" the head alone, "none" everything.
        epochs: how often each row is seen.
        batch_size: rows per optimizer step, over all devices.
        per_device_batch_size: rows that a device takes at once; the rest of a step is accumulated. None: the most up
            to 8 that divides its share of `batch_size`.
        learning_rate: of AdamW at its highest.
        warmup_steps: steps in which the rate rises to it; then it falls along a cosine to zero.
        weight_decay: of AdamW, on weight matrices.
        adam_beta2: of AdamW, how slowly it forgets the size of gradients.
        max_tokens: longer texts are cut on the right; at most what the model's positions admit.
        scale: what the labels mean: `logit = label - offset`, levels from `low` to `high`.
        holdout: what is held out for evaluation: a share of the rows, or from 1 on a number of rows.
        evaluations: how many times, evenly over the run, the model is evaluated and a checkpoint is saved.
        order: "grouped" shuffles the rows and batches those of similar length, which saves padding; "random" shuffles
            them alone; "given" takes them as they come, for a curriculum.
        gradient_checkpointing: compute activations twice instead of keeping them.
        dtype: "bfloat16" computes in it and saves in it, "float32" likewise; "auto" is bfloat16 on a GPU that has it
            natively. The weights that are trained are held in float32 either way.
        seed: of the split, the order of rows and a new head.
        dedup: of rows that the model would see alike, train and evaluate on the first alone.
        chat_template: the text of a Jinja template; None: the tokenizer's own.
        pad_token: a token of the vocabulary to pad with, for a tokenizer that names none.
        device: "auto", or "cpu".

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
    pad_token: str | None = None
    device: str = "auto"

    def __post_init__(self) -> None:
        least = LEAST | ({} if self.per_device_batch_size is None else {"per_device_batch_size": 1})
        for name, low in least.items():
            value = getattr(self, name)
            _require(isinstance(value, int) and not isinstance(value, bool) and value >= low, name, value,
                     f"give a whole number from {low}")  # fmt: skip
        choices_of = {"freeze": FREEZE, "order": ORDERS, "dtype": DTYPES, "device": ("auto", "cpu")}
        for name, choices in choices_of.items():
            value = getattr(self, name)
            _require(value in choices, name, value, f"give one of {', '.join(map(repr, choices))}")
        for name in ("learning_rate", "weight_decay", "adam_beta2", "holdout"):
            value = getattr(self, name)
            _require(isinstance(value, int | float) and math.isfinite(value), name, value, "give a finite number")
        rate, decay, holdout = self.learning_rate, self.weight_decay, self.holdout
        _require(rate > 0, "learning_rate", rate, "give a number above 0")
        _require(decay >= 0, "weight_decay", decay, "give a number from 0")
        _require(0 < self.adam_beta2 < 1, "adam_beta2", self.adam_beta2, "give a number between 0 and 1")
        _require(isinstance(self.scale, ScoreScale), "scale", self.scale, "give a ScoreScale(offset, low, high)")
        _require(0 < holdout < 1 or (holdout >= 1 and holdout == int(holdout)), "holdout", holdout,
                 "give a share between 0 and 1, or a whole number of rows")  # fmt: skip


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


def train_classifier(
    config: TrainingConfig,
    rows: Iterable[Row],
    output: str | Path,
    held_out_rows: Iterable[Row] | None = None,
    prepare: "Callable[[PreTrainedModel], None] | None" = None,
) -> dict[str, Any]:
    """Fine-tune a classifier; run again with the same config, rows and folder, it goes on where it was stopped.

    Under `torchrun` each process calls it alike; the first one writes.

    Args:
        config: what is trained, and how.
        rows: conversations or texts, each with its label ("4", 4 or 4.0).
        output: an empty or new folder; becomes a model that `ScorerConfig(model=output)` scores with, with a README.md
            as its model card and the run's record in training.json.
        held_out_rows: what to evaluate on, in the place of a part of `rows`; the config's `holdout` is then not used.
        prepare: called with the model before it is trained, to attach hooks. What a model gives as its own `loss`
            while it trains is added to the squared error.

    Returns:
        The record: `asked`, `rows` (counts), `log` (losses, rates and held-out figures by step) and `evaluation`.

    Raises:
        ValueError: the base model cannot be trained, the rows do not admit a stratified split, the schedule does not
            fit, or the folder holds something else; the message says what to do.
        ImportError: the extra `train` is not installed.
    """
    _require_extra()
    arguments = _training_arguments(config, Path(output) / CHECKPOINTS)
    if arguments.process_index > 0:
        logger.disable(__package__)
    base = _find_base(config)
    examples = read_examples(rows, base.renderer, config)
    if held_out_rows is None:
        training, held_out = split_examples(examples.kept, config)
    else:
        others = read_examples(held_out_rows, base.renderer, config, purpose="evaluate on")
        training, held_out = examples.kept, others.kept
        examples += others
        _check_levels(training)
    _warn_of_leaks(training, held_out)
    # From the longest on, so that a batch too large for the device's memory shows at once.
    held_out = sorted(held_out, key=lambda example: -len(example.ids))
    steps = _num_steps(len(training), config)
    with arguments.main_process_first(local=False):
        record = _claim(Path(output), _asked(config, arguments, base.renderer, training + held_out))
    if "evaluation" in record:
        logger.info(f"{output} holds this training, finished: nothing is left to do.")
        return record
    record["rows"] = _row_counts(examples, training, held_out)
    model = _load_model(config, base)
    if prepare is not None:
        prepare(model)
    trainer = _make_trainer(model, arguments, config, training, held_out, steps)
    trainer.train(resume_from_checkpoint=_last_checkpoint(Path(output)))
    evaluation = _final_evaluation(trainer, held_out, config)
    record |= {"log": trainer.state.log_history, "evaluation": evaluation.to_dict()}
    if trainer.is_world_process_zero():
        _save(Path(output), trainer, base.tokenizer, evaluation, record)
    trainer.accelerator.wait_for_everyone()
    return record


# --- rows ------------------------------------------------------------------------------------------------------------


def read_examples(
    rows: Iterable[Row], renderer: Renderer, config: TrainingConfig, purpose: str = "train on"
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

    levels = _check_levels(examples)
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


def _check_levels(examples: Sequence[Example]) -> Counter[int]:
    """The number of rows of each level, of which there must be two."""
    levels = Counter(sorted(example.label for example in examples))
    if len(levels) < 2:
        raise ValueError(f"labels: all {len(examples)} rows are of level {min(levels)}: nothing can be learned.")
    return levels


def _warn_of_leaks(training: Sequence[Example], held_out: Sequence[Example]) -> None:
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


def _row_counts(examples: Examples, training: list[Example], held_out: list[Example]) -> dict[str, Any]:
    return {
        "training": len(training),
        "held_out": len(held_out),
        "levels": {str(level): count for level, count in examples.levels.items()},
        "refused": dict(examples.refused),
        "repeated": examples.repeated,
        "tokens": sum(len(example.ids) for example in examples.kept),
        "truncated": sum(example.truncated for example in examples.kept),
    }


# --- the base model --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Base:
    """A base model without its weights, as the classifier will be.

    Args:
        config: with one output and the score scale.
        tokenizer: as it is saved: with its template, pad token and maximum length; never used to tokenize, since
            truncation is state on it that would be saved too.
        renderer: as the scorer will make it of the two above.
    """

    config: "PreTrainedConfig"
    tokenizer: "PreTrainedTokenizerBase"
    renderer: Renderer


def _find_base(config: TrainingConfig) -> _Base:
    """The base model's config and tokenizer, turned into the classifier's, and read again as the scorer will."""
    from transformers import AutoConfig, AutoTokenizer

    source: dict[str, Any] = {"revision": config.revision or "main"}
    try:
        model_config = AutoConfig.from_pretrained(config.model, num_labels=1, **source)
        tokenizer = AutoTokenizer.from_pretrained(config.model, **source)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"model={config.model!r} (--model) cannot be loaded as a base model: {error}") from error
    model_config.architectures = None  # of the base model; it is not what is saved
    model_config.problem_type = "regression"
    model_config.score_scale = asdict(config.scale)  # any attribute is kept
    model_config.get_text_config().pad_token_id = _pad_token_id(config, tokenizer)
    tokenizer.chat_template = config.chat_template or tokenizer.chat_template
    tokenizer.padding_side = "right"
    tokenizer.model_max_length = config.max_tokens
    with TemporaryDirectory() as folder:
        model_config.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        try:
            renderer = find_model(ScorerConfig(model=folder)).renderer
        except ValueError as error:
            raise ValueError(str(error).replace(folder, config.model)) from error
    tokenizer.model_max_length = renderer.max_tokens
    return _Base(model_config, tokenizer, renderer)


def _pad_token_id(config: TrainingConfig, tokenizer: "PreTrainedTokenizerBase") -> int:
    """The token that pads, at whose first neighbour the head reads: the tokenizer's, or the one that was chosen."""
    token = config.pad_token or tokenizer.pad_token
    if token is None or token not in tokenizer.get_vocab():
        problem = "the base model's tokenizer names none" if token is None else f"{token!r} is not in its vocabulary"
        raise ValueError(
            f"pad_token (--pad-token TOKEN): {problem}. Choose a token that stands in no text; its special tokens are "
            f"{', '.join(map(repr, tokenizer.all_special_tokens)) or 'none'}."
        )
    tokenizer.pad_token = token
    return int(tokenizer.get_vocab()[token])


def _load_model(config: TrainingConfig, base: _Base) -> "PreTrainedModel":
    """The classifier with the base model's weights in float32 and, where it has no trained head, a new one."""
    import torch
    from transformers import AutoModelForSequenceClassification, set_seed

    from datatrove_quality.packed import keep_head_in_float32

    set_seed(config.seed)
    source: dict[str, Any] = {"revision": config.revision or "main", "use_safetensors": True}
    try:
        model = AutoModelForSequenceClassification.from_pretrained(
            config.model, config=base.config, dtype=torch.float32, **source
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise ValueError(f"model={config.model!r} (--model) cannot be loaded as a base model: {error}") from error
    _freeze(model, config.freeze)
    keep_head_in_float32(model)
    return model


def _freeze(model: "PreTrainedModel", what: str) -> None:
    from torch import nn

    if what == "backbone":
        model.base_model.requires_grad_(False)
    elif what == "embeddings":
        for module in model.modules():
            if isinstance(module, nn.Embedding):
                module.requires_grad_(False)


# --- the run ---------------------------------------------------------------------------------------------------------


def batches_per_step(config: TrainingConfig, processes: int) -> tuple[int, int]:
    """Work out how a step's rows are shared.

    Args:
        config: for its `batch_size` and `per_device_batch_size`.
        processes: how many devices train together.

    Returns:
        Rows that a device takes at once, and how many times it does so in a step.

    Raises:
        ValueError: the batch cannot be shared so; names values near by that can.
    """
    share, rest = divmod(config.batch_size, processes)
    if rest or not share:
        near = [size for size in (processes * share, processes * (share + 1)) if size]
        raise ValueError(
            f"batch_size={config.batch_size} (--batch-size) cannot be shared by {processes} devices: set "
            f"{' or '.join(map(str, near))}."
        )
    sizes = [size for size in range(1, share + 1) if share % size == 0]
    rows = config.per_device_batch_size or max(size for size in sizes if size <= MOST_ROWS_PER_DEVICE)
    if rows not in sizes:
        near = [max(size for size in sizes if size < rows), *[size for size in sizes if size > rows][:1]]
        raise ValueError(
            f"per_device_batch_size={rows} (--per-device-batch-size) does not divide the {share} rows that each of "
            f"{processes} device(s) has of batch_size={config.batch_size}: set {' or '.join(map(str, near))}."
        )
    return rows, share // rows


def _num_steps(num_rows: int, config: TrainingConfig) -> int:
    steps = math.ceil(num_rows * config.epochs / config.batch_size)
    if config.warmup_steps > steps:
        raise ValueError(
            f"warmup_steps={config.warmup_steps} (--warmup-steps): {config.epochs} epochs of {num_rows} rows, "
            f"{config.batch_size} a step, are only {steps} steps; set fewer, such as {steps // 10}."
        )
    return steps


def _training_arguments(config: TrainingConfig, folder: Path) -> "TrainingArguments":
    """All of transformers' arguments that do not depend on the number of rows."""
    import torch
    from transformers import TrainingArguments

    device = any_device(_requested_device(config))
    is_native = device.type == "cuda" and native_dtype(device, torch.bfloat16)
    arguments = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=1,  # `_Order` holds all epochs
        learning_rate=config.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=config.warmup_steps,
        weight_decay=config.weight_decay,
        adam_beta2=config.adam_beta2,
        optim="adamw_torch_fused" if device.type == "cuda" else "adamw_torch",
        bf16=is_native if config.dtype == "auto" else config.dtype == "bfloat16",
        eval_strategy="steps",
        save_strategy="steps",
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model="macro_f1",
        greater_is_better=True,
        seed=config.seed,
        use_cpu=device.type == "cpu",
        dataloader_pin_memory=device.type == "cuda",
        remove_unused_columns=False,
        **_checkpointing(config),
        label_names=["labels"],
        report_to="none",
        disable_tqdm=True,
    )
    rows, accumulation = batches_per_step(config, arguments.world_size)
    arguments.per_device_train_batch_size = arguments.per_device_eval_batch_size = rows
    arguments.gradient_accumulation_steps = accumulation
    arguments._n_gpu = min(arguments.n_gpu, 1)  # several devices train in several processes
    return arguments


def _checkpointing(config: TrainingConfig) -> dict[str, Any]:
    """The arguments for gradient checkpointing, by the name that this version of transformers has for them."""
    from transformers import TrainingArguments

    if not config.gradient_checkpointing:
        return {}
    name = "activation" if hasattr(TrainingArguments, "activation_checkpointing") else "gradient"
    # The reentrant kind needs an input with a gradient, which frozen embeddings do not give.
    return {f"{name}_checkpointing": True, f"{name}_checkpointing_kwargs": {"use_reentrant": False}}


def _requested_device(config: TrainingConfig) -> str:
    """The device to look at: under torchrun, the GPU of this process."""
    import torch

    rank = os.environ.get("LOCAL_RANK")
    return f"cuda:{rank}" if config.device == "auto" and rank and torch.cuda.is_available() else config.device


@dataclass(frozen=True)
class _Order:
    """The order in which rows are seen, all epochs in one stream.

    It follows from the seed alone, so that a run that is resumed anywhere goes on with the rows that are left.

    Args:
        lengths: tokens of each row.
        epochs: how often each row comes.
        kind: one of `ORDERS`.
        rows_per_step: in grouped order, so many rows of similar length come together.
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
            # A step that is not full stands last, so that it shifts no other.
            for step in sorted(steps, key=lambda step: len(step) < self.rows_per_step):
                yield from step


def _make_trainer(
    model: "PreTrainedModel",
    arguments: "TrainingArguments",
    config: TrainingConfig,
    training: list[Example],
    held_out: list[Example],
    steps: int,
) -> "Trainer":
    """transformers' Trainer with our order of rows, our loss and our log."""
    from torch.utils.data import DataLoader
    from transformers import PrinterCallback, Trainer

    from datatrove_quality.packed import is_packable

    class QualityTrainer(Trainer):
        def get_train_dataloader(self) -> DataLoader:
            lengths = [len(example.ids) for example in training]
            order = _Order(lengths, config.epochs, config.order, config.batch_size, config.seed)
            loader: Any = DataLoader(
                training,  # type: ignore[arg-type]  # a list is a dataset
                batch_size=self.args.per_device_train_batch_size,
                sampler=order,
                collate_fn=self.data_collator,
                pin_memory=self.args.dataloader_pin_memory,
            )
            return self.accelerator.prepare(loader)

        def log(self, logs: dict[str, float], *rest: Any) -> None:
            super().log(logs, *rest)
            _report(logs, self.state.global_step, steps)

    arguments.eval_steps = arguments.save_steps = math.ceil(steps / config.evaluations)
    arguments.logging_steps = math.ceil(steps / 100)
    trainer = QualityTrainer(
        model=model,
        args=arguments,
        data_collator=_Collator(
            model.config.get_text_config().pad_token_id, config.scale.offset, masks=not is_packable(model)
        ),
        train_dataset=training,  # type: ignore[arg-type]
        eval_dataset=held_out,  # type: ignore[arg-type]
        compute_loss_func=_squared_error,
        compute_metrics=_metrics(config.scale),
    )
    trainer.remove_callback(PrinterCallback)
    if trainer.accelerator.ddp_handler is not None:
        # Else each of several devices holds all gradients twice.
        trainer.accelerator.ddp_handler.gradient_as_bucket_view = True
    return trainer


@dataclass(frozen=True)
class _Collator:
    """Examples in, a batch with target logits out, padded on the right.

    Args:
        pad_token_id: what pads.
        offset: of the scale.
        masks: whether padding is masked; a decoder never looks at what stands to its right.
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


def _squared_error(outputs: Any, labels: "torch.Tensor", num_items_in_batch: Any = None) -> "torch.Tensor":
    """The mean over all rows of a step, however they are shared and accumulated, and the model's own loss, if any."""
    errors = (outputs["logits"][:, 0].float() - labels) ** 2
    own = outputs.get("loss", 0.0) * len(labels)
    return (errors.sum() + own) / (len(labels) if num_items_in_batch is None else num_items_in_batch)


def _metrics(scale: ScoreScale) -> Callable[[Any], dict[str, float]]:
    """What the Trainer computes of its predictions, and selects the model by."""

    def compute(prediction: Any) -> dict[str, float]:
        labels = np.rint(prediction.label_ids + scale.offset).astype(int)
        evaluation = evaluate_scores(labels, _scores(prediction.predictions, scale), scale)
        return {"macro_f1": evaluation.macro_f1, "accuracy": evaluation.accuracy, "mae": evaluation.mae}

    return compute


def _scores(logits: np.ndarray, scale: ScoreScale) -> np.ndarray:
    scores = logits.reshape(-1).astype(np.float64) + scale.offset
    if not np.isfinite(scores).all():
        raise ValueError(
            "The model's output is no longer finite: set a lower learning_rate (--learning-rate), or dtype='float32'."
        )
    return scores


def _final_evaluation(trainer: "Trainer", held_out: list[Example], config: TrainingConfig) -> Evaluation:
    """The figures of the best checkpoint on the held-out rows, with its weights rounded as they are saved."""
    model: Any = trainer.model
    if trainer.args.bf16:
        for parameter in model.parameters():
            parameter.data = parameter.data.bfloat16().float()
    logits: Any = trainer.predict(held_out).predictions  # type: ignore[arg-type]
    labels = np.array([example.label for example in held_out])
    tokens = np.array([len(example.ids) for example in held_out])
    return evaluate_scores(labels, _scores(logits, config.scale), config.scale, tokens)


def _report(logs: dict[str, float], step: int, steps: int) -> None:
    if "loss" in logs:
        logger.info(f"step {step} of {steps}: loss {logs['loss']:.4f}, learning rate {logs['learning_rate']:.2e}")
    elif "eval_macro_f1" in logs:
        logger.info(f"step {step} of {steps}: held out: macro F1 {logs['eval_macro_f1']:.4f}, "
                    f"loss {logs['eval_loss']:.4f}")  # fmt: skip


# --- the output folder -----------------------------------------------------------------------------------------------


def _asked(
    config: TrainingConfig, arguments: "TrainingArguments", renderer: Renderer, examples: list[Example]
) -> dict[str, Any]:
    """What a run that goes on in a folder must share with the one that began there."""
    digest = hashlib.sha256()
    for example in examples:
        digest.update(b"%d %d " % (example.label, len(example.ids)) + example.ids.tobytes())
    return asdict(config) | {
        "per_device_batch_size": arguments.per_device_train_batch_size,
        "accumulated": arguments.gradient_accumulation_steps,
        "devices": arguments.world_size,
        "device": arguments.device.type,
        "dtype": "bfloat16" if arguments.bf16 else "float32",
        "max_tokens": renderer.max_tokens,
        "rows": digest.hexdigest(),
    }


def _claim(output: Path, asked: dict[str, Any]) -> dict[str, Any]:
    """Make a folder this run's own, and give back the record that an earlier one of the same began there."""
    path = output / RECORD
    if not path.is_file():
        if output.exists() and any(output.iterdir()):
            raise ValueError(f"output={output} (--output) holds what no training wrote: give another folder.")
        output.mkdir(parents=True, exist_ok=True)
        _write_json(path, {"asked": asked})
    record = json.loads(path.read_text(encoding="utf-8"))
    was = record["asked"]
    if changed := [name for name in asked if was.get(name) != asked[name]]:
        lines = [f"  {name}: was {was.get(name)!r:.80}, is now {asked[name]!r:.80}" for name in changed]
        raise ValueError(
            f"output={output} (--output) holds a training that was asked something else; give another folder, or "
            "delete this one:\n" + "\n".join(lines)
        )
    return dict(record)


def _last_checkpoint(output: Path) -> str | None:
    """The last checkpoint that was written to its end: its state file is the last to be written."""
    found = []
    for state in (output / CHECKPOINTS).glob("checkpoint-*/trainer_state.json"):
        with suppress(ValueError):
            found.append((json.loads(state.read_text(encoding="utf-8"))["global_step"], state.parent))
    if not found:
        return None
    step, folder = max(found)
    logger.info(f"Going on from step {step}, {folder}.")
    return str(folder)


def _save(
    output: Path,
    trainer: "Trainer",
    tokenizer: "PreTrainedTokenizerBase",
    evaluation: Evaluation,
    record: dict[str, Any],
) -> None:
    """Write the classifier, its model card and its record; the record last, since it says that all is there."""
    import torch

    model: Any = trainer.model
    (model.to(torch.bfloat16) if trainer.args.bf16 else model).save_pretrained(output)
    tokenizer.save_pretrained(output)
    write_curves(record["log"], output / "curves.png")
    (output / "README.md").write_text(model_card(record, evaluation), encoding="utf-8")
    _write_json(output / RECORD, record)
    shutil.rmtree(output / CHECKPOINTS, ignore_errors=True)


def _write_json(path: Path, value: dict[str, Any]) -> None:
    part = path.with_suffix(".part")
    part.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    part.replace(path)


def write_curves(log: list[dict[str, float]], path: Path) -> None:
    """Draw loss, and macro F1 on the held-out rows, over the steps.

    Args:
        log: of the record.
        path: of the image, its ending says its format.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.5), layout="constrained")
    loss, f1 = figure.subplots(1, 2)
    for axes, name, label in (
        (loss, "loss", "training"),
        (loss, "eval_loss", "held out"),
        (f1, "eval_macro_f1", "held out"),
    ):
        points = [(entry["step"], entry[name]) for entry in log if name in entry]
        axes.plot(*zip(*points, strict=True), marker="." if "eval" in name else None, label=label)
    loss.set(xlabel="step", ylabel="squared error", ylim=(0, None))
    f1.set(xlabel="step", ylabel="macro F1", ylim=(0, 1))
    loss.legend()
    figure.savefig(path, dpi=100)


CARD = """\
---
library_name: transformers
pipeline_tag: text-classification
---

# Quality classifier

A sequence classifier with one regression output, fine-tuned from `{model}` by datatrove-quality.
`score = logit + {scale[offset]}` on a scale from {scale[low]} to {scale[high]} (`score_scale` in `config.json`).

```python
from datatrove_quality import ScorerConfig, load_scorer

load_scorer(ScorerConfig(model="this folder or its hub id")).score([[
    {{"role": "user", "content": "Qual é a capital de Portugal?"}},
    {{"role": "assistant", "content": "A capital de Portugal é Lisboa."}},
]])
```

## Training

{recipe}

{rows}

![Loss and macro F1 over the steps](curves.png)

## Evaluation

On the {held_out:,} rows that were held out, the best of the run's checkpoints by macro F1.

{evaluation}
"""


def model_card(record: dict[str, Any], evaluation: Evaluation) -> str:
    """The README of a trained classifier: recipe, counts of the data, evaluation.

    Args:
        record: of the run.
        evaluation: on the held-out rows.

    Returns:
        Markdown.
    """
    asked, rows = record["asked"], record["rows"]
    without = ("model", "scale", "chat_template", "rows")
    recipe = [(name, value) for name, value in asked.items() if name not in without]
    counts = [
        *((f"rows of level {level}", count) for level, count in rows["levels"].items()),
        *((name, rows[name]) for name in ("training", "held_out", "repeated", "truncated", "tokens")),
        *((f"refused: {reason}", count) for reason, count in rows["refused"].items()),
    ]
    return CARD.format(
        model=asked["model"],
        scale=asked["scale"],
        recipe=_table("recipe", recipe),
        rows=_table("data", counts),
        held_out=rows["held_out"],
        evaluation=evaluation.to_markdown(),
    )


def _table(title: str, pairs: Iterable[tuple[str, Any]]) -> str:
    lines = [f"| {name.replace('_', ' ')} | {'none' if value is None else value} |" for name, value in pairs]
    return "\n".join([f"| {title} | |", "|---|---|", *lines])


def _shown(counts: Counter) -> str:
    return ", ".join(f"{name}: {count}" for name, count in counts.items())


def _require(holds: bool, name: str, value: object, fix: str) -> None:
    if not holds:
        raise ValueError(f"{name}={value!r} (--{name.replace('_', '-')}): {fix}.")


def _require_extra() -> None:
    """Find out before any work starts that what training needs beyond scoring is installed."""
    for module in ("accelerate", "sklearn", "matplotlib"):
        if find_spec(module) is None:
            raise ImportError(f"Training needs {module}: pip install 'datatrove-quality[train]'.")
