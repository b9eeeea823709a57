"""The values that scoring starts from and ends in: frozen, validated, hashable, free of torch."""

import inspect
import math
import re
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Self


# Dtypes of products alone, and what all else is computed in.
QUANTIZED = {"int8": "float32", "int8_bfloat16": "bfloat16", "float8": "bfloat16"}
DTYPES = ("auto", "float32", "bfloat16", "float16", *QUANTIZED)
# What a classifier was trained for, by transformers' names: what its logits mean.
PROBLEM_TYPES = ("regression", "single_label_classification", "multi_label_classification")

# What an `Unscorable.reason` looks like.
REASON = r"[a-z][a-z0-9_]{0,39}"
_ERROR_TEXT = re.compile(rf"({REASON}): (.*)", re.DOTALL)


class Unscorable(ValueError):
    """A document that cannot be given a score, and why.

    It is a result as much as an error: the scorer hands it back in the place of a `Score`, so that one bad
    document never stops the others.

    Args:
        reason: a short snake_case word; becomes `filter_reason="unscorable_<reason>"`.
        message: what was found and where, for a person.
    """

    def __init__(self, reason: str, message: str):
        super().__init__(message)
        self.reason = reason

    @classmethod
    def from_text(cls, text: object) -> Self | None:
        """The error that `to_text` gave this text for; None: the value is no such text."""
        found = _ERROR_TEXT.fullmatch(text) if isinstance(text, str) else None
        return cls(found[1], found[2]) if found else None

    def to_text(self) -> str:
        """`"<reason>: <message>"`: the form in which metadata and columns hold an error."""
        return f"{self.reason}: {self}"

    def __reduce__(self) -> tuple:
        # An exception is unpickled from its `args`, which lack the reason; errors cross process borders in executors.
        return type(self), (self.reason, str(self))


@dataclass(frozen=True)
class ScoreScale:
    """How a logit becomes a score: `score = logit + offset`, and its rounded form between `low` and `high`.

    The defaults are the model card's: logits from 0 to 4, scores from 1 to 5. The FineWeb-Edu classifier is
    `ScoreScale(offset=0, low=0, high=5)`.

    Args:
        offset: added to the logit.
        low: the lowest `int_score`.
        high: the highest `int_score`.

    Raises:
        ValueError: a value is not a finite number, or `low` is not below `high`.
    """

    offset: float = 1.0
    low: int = 1
    high: int = 5

    def __post_init__(self) -> None:
        for name in ("offset", "low", "high"):
            _require_number(f"ScoreScale {name}", getattr(self, name))
        for name in ("low", "high"):
            if float(getattr(self, name)) != int(getattr(self, name)):
                raise ValueError(f"ScoreScale {name}={getattr(self, name)!r}: int_score needs a whole number here.")
        if self.low >= self.high:
            raise ValueError(f"ScoreScale low={self.low!r} must be below high={self.high!r}.")

    def score(self, logit: float) -> float:
        """The score of a logit, not clipped."""
        return logit + self.offset

    def int_score(self, logit: float) -> int:
        """The score as a whole number from `low` to `high`; rounding half to even, as Python and the card do."""
        rounded = round(max(self.low - self.offset, min(logit, self.high - self.offset))) + self.offset
        # An offset that is no whole number could round out of the scale.
        return int(max(self.low, min(rounded, self.high)))

    def outside(self, threshold: float) -> str | None:
        """What is wrong with a threshold outside the scale, for an error; None: it is on the scale."""
        if self.low <= threshold <= self.high:
            return None
        # With its decimal point forgotten.
        meant = next((threshold / ten for ten in (10, 100) if self.low <= threshold / ten <= self.high), None)
        hint = "." if meant is None else f": did you mean {meant:g}?"
        return f"{threshold:g} is outside the scale of the scores, {self.low} to {self.high}{hint}"


@dataclass(frozen=True)
class Score:
    """The score of one document.

    Args:
        score: logit plus the scale's offset, not clipped; of a classifier with several outputs, what `score_of` names.
        int_score: rounded and clipped to the scale.
        tokens: the number of tokens that were scored, special tokens included.
        truncated: whether the text was longer than `max_tokens`, so that its end was not seen.
        outputs: of a classifier with several outputs or with probabilities, what each says, such as
            "score_clarity", "probability_toxic" or "label".
    """

    score: float
    int_score: int
    tokens: int
    truncated: bool
    outputs: dict[str, float | str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, kw_only=True)
class ScorerConfig:
    """Which classifier scores, and how. Two equal configs share one loaded model per process.

    Args:
        model: hub id or local folder of a sequence classifier.
        revision: branch, tag or commit on the hub.
        dtype: "auto" takes the checkpoint's own where the device has it natively, else float32 with a warning;
            or "float32", "bfloat16", "float16"; or, for the proxy of a cascade, "int8" on CPUs, "int8_bfloat16" or
            "float8" on CUDA, in which linear layers multiply while all else is computed in float32 or bfloat16.
        max_tokens: longer texts are cut, on the tokenizer's `truncation_side`, which is the right by default. None:
            `score_max_tokens` in the model's config.json, else the tokenizer's `model_max_length`, at most what the
            model's positions admit.
        tokens_per_batch: how many tokens go through the model at once. None: chosen from the device.
        scale: how a logit becomes a score. None: `score_scale` in the model's config.json, else the model card's; of
            probabilities, 0 to 1 or the labels' range. They have no offset.
        score_of: the name of the output that is the score, where there are several. None: of labels that are numbers,
            the expected level.
        problem_type: what the outputs mean: "regression" (logits are scores), "single_label_classification" (a softmax
            makes probabilities) or "multi_label_classification" (a sigmoid does). None: what the model's config.json
            names, else regression for one output.
        chat_template: the text of a Jinja template. None: the tokenizer's own.
        add_special_tokens: whether the tokenizer adds its special tokens around the rendered text, as the card does,
            even where the text then has two BOS tokens.
        add_bos_token: whether a BOS token is put before each text; to be chosen where tokenizer_config.json says
            otherwise than the tokenizer does, so that versions of transformers differ. None: as the tokenizer does.
        template_date: what a chat template that writes the date takes for now, such as "2026-11-29". None: the day on
            which the run, or the process, starts.
        device: "auto" is every GPU that the process may use, else MPS, else CPU; or "cuda", "cuda:1", "mps", "cpu".
        compile: compile the model's layers with torch.compile. It takes up to some minutes, the next time seconds.
        fused: compute norms, rotary embeddings and gated activations in one kernel each, on CUDA and on CPUs with
            avx512_bf16, where they agree with the model's own code. Not used with `compile`.
        trust_remote_code: whether code that comes with the model may run.
        self_check: compare our forward pass with the model's own on a few probe texts at load.
        allow_unexpected: names, or patterns such as "model.mtp.*", of stored tensors that the model may leave unused
            although they belong to it.
        allow_constant_scores: take a model that gives the probe texts one and the same score.

    Raises:
        ValueError: a value is not one of those above; names the field, the value and the fix.
    """

    model: str
    revision: str | None = None
    dtype: str = "auto"
    max_tokens: int | None = None
    tokens_per_batch: int | None = None
    scale: ScoreScale | None = None
    score_of: str | None = None
    problem_type: str | None = None
    chat_template: str | None = None
    add_special_tokens: bool = True
    add_bos_token: bool | None = None
    template_date: str | None = None
    device: str = "auto"
    compile: bool = False
    fused: bool = True
    trust_remote_code: bool = False
    self_check: bool = True
    allow_unexpected: tuple[str, ...] = ()
    allow_constant_scores: bool = False

    def __new__(cls, **values: object) -> "ScorerConfig":
        """Refuse an unknown field as a user's mistake like any other: with a ValueError that says what there is."""
        known = [field.name for field in fields(cls)]
        if unknown := [name for name in values if name not in known]:
            raise ValueError(f"{unknown[0]}={values[unknown[0]]!r}: there is no such field; give {', '.join(known)}.")
        return super().__new__(cls)

    def __post_init__(self) -> None:
        # A path object is welcome; as a string it hashes, pickles and prints in executor.json like any other.
        object.__setattr__(self, "model", str(self.model) if hasattr(self.model, "__fspath__") else self.model)
        self._require_names()
        for name in ("max_tokens", "tokens_per_batch"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise ValueError(f"{name}={value!r}: give a whole number of tokens from 1, or None.")
        if self.scale is not None and not isinstance(self.scale, ScoreScale):
            raise ValueError(f"scale={self.scale!r}: give a ScoreScale(offset, low, high), or None.")
        self._require_globs()
        flags = ("add_special_tokens", "compile", "fused", "trust_remote_code", "self_check", "allow_constant_scores")
        for name in flags:
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name}={getattr(self, name)!r}: give True or False.")
        if self.compile and self.dtype in QUANTIZED:
            raise ValueError(f"compile=True does not go with dtype={self.dtype!r}: omit one of them.")
        self._require_tokenizing()

    def _require_tokenizing(self) -> None:
        if self.add_bos_token is not None and not isinstance(self.add_bos_token, bool):
            raise ValueError(f"add_bos_token={self.add_bos_token!r}: give True, False, or None.")
        if self.add_bos_token and not self.add_special_tokens:
            raise ValueError("add_bos_token=True has no effect with add_special_tokens=False: omit one of them.")
        if self.template_date is not None and not _is_date(self.template_date):
            raise ValueError(
                f"template_date={self.template_date!r}: give a date such as '2026-11-29', also with a time, "
                "'2026-11-29 18:30', or None."
            )

    def _require_globs(self) -> None:
        globs = self.allow_unexpected
        if not isinstance(globs, tuple | list) or not all(isinstance(glob, str) and glob for glob in globs):
            raise ValueError(f"allow_unexpected={globs!r}: give a tuple of names or patterns of tensors.")
        object.__setattr__(self, "allow_unexpected", tuple(globs))

    def _require_names(self) -> None:
        if not isinstance(self.model, str) or not self.model.strip():
            raise ValueError(f"model={self.model!r}: give a hub id such as 'org/name', or a local folder.")
        if self.revision is not None and (not isinstance(self.revision, str) or not self.revision.strip()):
            raise ValueError(f"revision={self.revision!r}: give a branch, tag or commit, or None.")
        if self.score_of is not None and (not isinstance(self.score_of, str) or not self.score_of.strip()):
            raise ValueError(f"score_of={self.score_of!r}: give the name of one of the model's outputs, or None.")
        if self.problem_type not in (None, *PROBLEM_TYPES):
            raise ValueError(f"problem_type={self.problem_type!r}: give one of {', '.join(PROBLEM_TYPES)}, or None.")
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype={self.dtype!r}: give one of {', '.join(map(repr, DTYPES))}.")
        if not isinstance(self.device, str) or not re.fullmatch(r"auto|cuda(:[0-9]+)?|mps|cpu", self.device):
            raise ValueError(f"device={self.device!r}: give 'auto', 'cuda', 'cuda:<index>', 'mps' or 'cpu'.")
        template = self.chat_template
        if template is not None and (not isinstance(template, str) or "{" not in template):
            raise ValueError(
                f"chat_template={template!r:.80}: give the text of a Jinja template, not a file's name, or None."
            )


# What help() and editors show, which would else be the signature of `__new__`.
_own = inspect.signature(ScorerConfig.__init__)
setattr(ScorerConfig, "__signature__", _own.replace(parameters=list(_own.parameters.values())[1:]))  # noqa: B010


def _is_date(text: object) -> bool:
    try:
        return bool(datetime.fromisoformat(str(text))) and isinstance(text, str)
    except ValueError:
        return False


def _require_number(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{name}={value!r}: give a finite number.")
