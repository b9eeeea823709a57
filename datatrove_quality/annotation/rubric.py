"""Rubrics: the task of a judge and its levels, in small TOML files. docs/annotating.md explains their entries."""

import hashlib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from importlib.resources import files
from pathlib import Path
from typing import Any


SHIPPED = files("datatrove_quality.annotation") / "rubrics"
CHOICES = {"reason": ("before", "after"), "thinking": ("server", "on", "off"), "cut": ("right", "middle")}
MIN_LEVELS = 2


@dataclass(frozen=True)
class Level:
    """A level of a rubric's scale.

    Args:
        value: the whole number that the judge gives.
        description: what deserves it.
    """

    value: int
    description: str


@dataclass(frozen=True)
class Example:
    """A judgement that the prompt shows.

    Args:
        text: what is judged.
        score: one of the levels.
        reason: for it.
    """

    text: str
    score: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class Rubric:
    """The task of a judge, and how its answer is read.

    Args:
        name: of the rubric; with the digest it is what rows carry as `judge_rubric`.
        language: of the prompt's own words: "pt", or "en" for any other.
        task: who the judge is, and what it rates.
        scale: the lowest and the highest level.
        levels: one for each whole number of the scale.
        rules: for cases that the levels do not settle.
        examples: judgements to go by.
        sampling: entries of the request, such as `temperature` and `max_tokens`, as the endpoint names them.
        reason: whether the judge gives its reason "before" the score or "after" it.
        thinking: "on" or "off" tells the chat template so (`enable_thinking`); "server" says nothing about it.
        cut: of a conversation that is too long the "right" end is left out, or whole messages in its "middle".
        max_chars: characters of a conversation that the judge sees, where no tokenizer is given.
        max_tokens: tokens of a conversation that the judge sees, where a tokenizer is given.
        template: the Jinja template of the prompt. None: that of the language.

    Raises:
        ValueError: a value is not one of those above; names the field, the value and the fix.
    """

    name: str
    task: str
    levels: tuple[Level, ...]
    scale: tuple[int, int] = (1, 5)
    language: str = "en"
    rules: tuple[str, ...] = ()
    examples: tuple[Example, ...] = ()
    sampling: Mapping[str, Any] = field(default_factory=dict)
    reason: str = "before"
    thinking: str = "server"
    cut: str = "right"
    max_chars: int = 28_000
    max_tokens: int = 7_000
    template: str | None = None

    def __post_init__(self) -> None:
        for name in ("name", "task", "language"):
            if not isinstance(getattr(self, name), str) or not getattr(self, name).strip():
                raise ValueError(f"rubric: {name}={getattr(self, name)!r}: give a text.")
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"rubric: {name}={getattr(self, name)!r}: give one of {', '.join(choices)}.")
        for name in ("max_chars", "max_tokens"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"rubric: {name}={value!r}: give a whole number from 1.")
        if not isinstance(self.rules, tuple) or not all(isinstance(rule, str) for rule in self.rules):
            raise ValueError(f"rubric: rules={self.rules!r:.80}: give a list of texts.")
        self._require_levels()
        self._require_sampling()

    def _require_levels(self) -> None:
        scale = self.scale
        is_pair = isinstance(scale, tuple) and len(scale) == 2 and all(type(value) is int for value in scale)
        if not is_pair or scale[1] - scale[0] < MIN_LEVELS - 1:
            raise ValueError(f"rubric: scale={scale!r}: give the lowest and the highest level, such as [1, 5].")
        if not self.levels:
            raise ValueError("rubric: it has no levels: give a [[levels]] with value and description for each.")
        values = sorted(level.value for level in self.levels)
        wanted = list(range(scale[0], scale[1] + 1))
        if values != wanted:
            raise ValueError(
                f"rubric: its levels are {values} and its scale is {list(scale)}: give one level for each of {wanted}."
            )
        if outside := [example.score for example in self.examples if example.score not in wanted]:
            raise ValueError(f"rubric: an example has the score {outside[0]!r}, which is not one of {wanted}.")

    def _require_sampling(self) -> None:
        taken = {"messages", "model", "response_format", "stream", "n", "logprobs", "top_logprobs"}
        if found := sorted(taken & set(self.sampling)):
            raise ValueError(f"rubric: sampling has {', '.join(found)}, which this program sets itself: omit it.")

    @property
    def digest(self) -> str:
        """Tells two rubrics apart that differ in anything: 8 hexadecimal digits."""
        content = json.dumps(asdict(self), sort_keys=True, ensure_ascii=False)
        return hashlib.blake2b(content.encode(), digest_size=4).hexdigest()

    @property
    def identity(self) -> str:
        """Name and digest, as rows carry them."""
        return f"{self.name}@{self.digest}"

    @property
    def values(self) -> list[int]:
        """The levels, from the lowest to the highest."""
        return list(range(self.scale[0], self.scale[1] + 1))


def shipped_rubrics() -> list[str]:
    """The names of the rubrics that come with the package."""
    return sorted(path.name.removesuffix(".toml") for path in SHIPPED.iterdir() if path.name.endswith(".toml"))


def load_rubric(name: str) -> Rubric:
    """Read a rubric.

    Args:
        name: of a shipped one, or the path of a file.

    Raises:
        ValueError: there is no such rubric, or it says something that no rubric can; names the file.
    """
    known = shipped_rubrics()
    advice = f"give a .toml file, or one of {', '.join(known)}."
    is_file = name.endswith(".toml") or "/" in name
    if not is_file and name not in known:
        raise ValueError(f"rubric={name!r}: there is no rubric of that name; {advice}")
    path = Path(name) if is_file else SHIPPED / f"{name}.toml"
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"rubric={name!r} cannot be read ({error}): {advice}") from error
    try:
        return _rubric(tomllib.loads(text))
    except (tomllib.TOMLDecodeError, ValueError) as error:
        raise ValueError(f"{name}: {error}") from error


def _rubric(entries: dict[str, Any]) -> Rubric:
    known = [entry.name for entry in fields(Rubric)]
    if unknown := [name for name in entries if name not in known]:
        raise ValueError(f"rubric: there is no entry {unknown[0]!r}; there are {', '.join(known)}.")
    if missing := [name for name in ("name", "task") if name not in entries]:
        raise ValueError(f"rubric: {missing[0]} is missing.")
    levels = tuple(_table(Level, entry, "levels") for entry in entries.get("levels", ()))
    examples = tuple(_table(Example, entry, "examples") for entry in entries.get("examples", ()))
    pairs = {name: tuple(entries[name]) for name in ("scale", "rules") if isinstance(entries.get(name), list)}
    return Rubric(**entries | pairs | {"levels": levels, "examples": examples})


def _table(kind: Any, entry: Any, name: str) -> Any:
    """A table of a rubric's file as what it means."""
    types: dict[str, Any] = {one.name: one.type for one in fields(kind)}
    if not isinstance(entry, dict) or entry.keys() != types.keys():
        raise ValueError(f"rubric: [[{name}]] is {entry!r:.80}: give {', '.join(types)}.")
    if wrong := [key for key, value in entry.items() if type(value) is not types[key]]:
        kinds = {int: "a whole number", str: "a text"}
        raise ValueError(f"rubric: [[{name}]] has {wrong[0]}={entry[wrong[0]]!r:.80}: give {kinds[types[wrong[0]]]}.")
    return kind(**entry)
