"""What the outputs of a classifier mean: the columns that they become, and which of them is the score."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from datatrove_quality.config import PROBLEM_TYPES, ScorerConfig, ScoreScale
from datatrove_quality.rows.score_columns import clean_name


if TYPE_CHECKING:
    from transformers import PreTrainedConfig

REGRESSION, SINGLE_LABEL, MULTI_LABEL = PROBLEM_TYPES
PROBABILITY = ScoreScale(offset=0, low=0, high=1)


@dataclass(frozen=True)
class Outputs:
    """The outputs of a classifier, one a label, and what is made of their logits.

    Args:
        problem_type: "regression": a logit is a score; "single_label_classification": a softmax makes probabilities;
            "multi_label_classification": a sigmoid does.
        labels: as config.json has them.
        names: the same, as parts of column names.
        score_of: the index of the output that is the score. None: the expected level of numeric labels.
    """

    problem_type: str
    labels: tuple[str, ...]
    names: tuple[str, ...]
    score_of: int | None

    @property
    def columns(self) -> dict[str, str]:
        """What a document gets beside the columns of every score: suffixes of names, and their Arrow types."""
        if self.problem_type == REGRESSION:
            return {f"score_{name}": "float64" for name in self.names} if len(self.names) > 1 else {}
        found = {f"probability_{name}": "float64" for name in self.names}
        return found | ({"label": "string"} if self.problem_type == SINGLE_LABEL else {})

    @property
    def levels(self) -> tuple[float, ...] | None:
        """The labels as numbers; None: not all of them are."""
        return _numbers(self.labels)

    @property
    def scale(self) -> ScoreScale | None:
        """The scale of the score where probabilities make it; None: it is a logit's."""
        if self.problem_type == REGRESSION:
            return None
        if self.score_of is not None or self.levels is None:
            return PROBABILITY
        return ScoreScale(offset=0, low=math.floor(min(self.levels)), high=math.ceil(max(self.levels)))

    def read(self, logits: Sequence[float], offset: float) -> tuple[float, dict[str, float | str]]:
        """What the logits of a text say.

        Args:
            logits: finite, one an output.
            offset: of the scale, which makes a score of a logit.

        Returns:
            The score without the scale's offset; and the values of `columns`.
        """
        if self.problem_type == REGRESSION:
            assert self.score_of is not None
            scores = [logit + offset for logit in logits]
            return logits[self.score_of], dict(zip(self.columns, scores, strict=True)) if self.columns else {}
        is_single = self.problem_type == SINGLE_LABEL
        values = _softmax(logits) if is_single else [_sigmoid(logit) for logit in logits]
        columns: dict[str, float | str] = {
            f"probability_{name}": value for name, value in zip(self.names, values, strict=True)
        }
        if is_single:
            columns["label"] = self.labels[values.index(max(values))]
        if self.score_of is not None:
            return values[self.score_of], columns
        assert self.levels is not None
        level = sum(value * level for value, level in zip(values, self.levels, strict=True))
        # Rounding must not lift it above the highest level, which may be a bound.
        return min(max(level, min(self.levels)), max(self.levels)), columns

    def describe(self) -> dict[str, Any]:
        """What is written beside scores; empty where the one output is the score."""
        if not self.columns:
            return {}
        score_of = "expected level" if self.score_of is None else self.names[self.score_of]
        return {"outputs": {"problem_type": self.problem_type, "names": list(self.names), "score_of": score_of}}


def outputs_of(config: ScorerConfig, model_config: "PreTrainedConfig") -> Outputs:
    """The outputs of a classifier, by its config.json and what the user has chosen.

    Args:
        config: which classifier, and how.
        model_config: its config.json.

    Raises:
        ValueError: nothing that is known says what the outputs mean or which is the score, or two have one name.
    """
    labels = tuple(str(label) for _, label in sorted(dict(model_config.id2label or {}).items()))
    if not labels:
        raise ValueError(
            f"model={config.model!r} has no output, by id2label or num_labels in its config.json: correct them, or "
            "fetch it again."
        )
    names = tuple(map(clean_name, labels))
    what = f"model={config.model!r} has {len(labels)} output{'s' if len(labels) > 1 else ''} ({', '.join(names):.300})"
    stored = config.problem_type or model_config.problem_type
    if stored is not None and stored not in PROBLEM_TYPES:
        raise ValueError(
            f"model={config.model!r}: problem_type={stored!r} in its config.json is none of "
            f"{', '.join(PROBLEM_TYPES)}, so that nothing says what its outputs mean: correct it, or set "
            "problem_type (--problem-type)."
        )
    if stored is None and len(labels) > 1:
        raise ValueError(
            f"{what} and its config.json names no problem_type, so that nothing says what they mean. Set problem_type "
            f"(--problem-type) to {REGRESSION!r} (logits are scores), {SINGLE_LABEL!r} (softmax) or {MULTI_LABEL!r} "
            "(sigmoid)."
        )
    problem_type = stored or REGRESSION
    if problem_type == SINGLE_LABEL and len(labels) == 1:
        raise ValueError(
            f"{what} and the problem_type {SINGLE_LABEL!r}: a softmax of one output is always 1. Set problem_type "
            f"(--problem-type) to {REGRESSION!r} (the logit is the score) or {MULTI_LABEL!r} (sigmoid)."
        )
    found = Outputs(problem_type, labels, names, _score_of(config, what, problem_type, labels, names))
    if found.columns and (not all(names) or len(set(names)) < len(names)):
        raise ValueError(
            f"{what}, which do not give a column name each. Rename id2label in its config.json ({', '.join(labels)})."
        )
    return found


def _score_of(
    config: ScorerConfig, what: str, problem_type: str, labels: tuple[str, ...], names: tuple[str, ...]
) -> int | None:
    """The index of the output that is the score; None: the expected level is."""
    if config.score_of is not None:
        wanted = clean_name(config.score_of)
        if wanted not in names:
            raise ValueError(f"{what}: score_of={config.score_of!r} is not one of them.")
        return names.index(wanted)
    if len(labels) == 1:
        return 0
    if problem_type == SINGLE_LABEL and _numbers(labels) is not None:
        return None
    raise ValueError(f"{what}: set score_of (--score-of) to the name of the one that is the score.")


def _numbers(labels: Sequence[str]) -> tuple[float, ...] | None:
    try:
        numbers = tuple(map(float, labels))
    except ValueError:
        return None
    return numbers if all(map(math.isfinite, numbers)) and len(set(numbers)) > 1 else None


def _softmax(logits: Sequence[float]) -> list[float]:
    highest = max(logits)
    powers = [math.exp(logit - highest) for logit in logits]
    total = sum(powers)
    return [power / total for power in powers]


def _sigmoid(logit: float) -> float:
    # The power of a large number would overflow.
    if logit < 0:
        power = math.exp(logit)
        return power / (1 + power)
    return 1 / (1 + math.exp(-logit))
