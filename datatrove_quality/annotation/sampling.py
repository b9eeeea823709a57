"""Which rows are annotated: a random sample, by strata, with what each row stands for; and which are held out.

Rows are drawn by a hash of their file and their number in it, not of their text: so the same ones are drawn whenever a
run starts again, in however many tasks, and copies of a row are not drawn together.
"""

import hashlib
from array import array
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from datatrove.data import Document
from tqdm import tqdm

from datatrove_quality.annotation.near_duplicates import NearDuplicates, compared_text
from datatrove_quality.annotation.sample_config import LENGTH, SampleConfig
from datatrove_quality.rows.score_columns import is_score
from datatrove_quality.rows.types import conversation_error
from datatrove_quality.runs.inputs import Inputs


Stratum: TypeAlias = tuple[Hashable, ...]


@dataclass(frozen=True)
class TaskSample:
    """The rows of a task that are annotated.

    Args:
        rows: how many documents the task reads.
        chosen: the numbers of those that are annotated among them, rising; shape (n,).
        weights: how many rows each stands for; shape (n,).
        held_out: whether each is held out; shape (n,).
    """

    rows: int
    chosen: np.ndarray
    weights: np.ndarray
    held_out: np.ndarray


def draw_task_samples(
    inputs: Inputs, adapter: Callable, config: SampleConfig, tasks: int, levels: tuple[int, int]
) -> list[TaskSample]:
    """Draw the rows of each task; reads all rows, twice where some are held out.

    Args:
        inputs: the files.
        adapter: makes documents of rows.
        config: which rows.
        tasks: among which the files are dealt out, as DataTrove's readers do.
        levels: the lowest and the highest level that an earlier score can have.

    Raises:
        ValueError: there are too few rows, or no earlier scores.
    """
    population = _Population.read(inputs, adapter, config, levels)
    chosen, weights = population.draw(config)
    held_out = np.zeros(len(population.hashes), bool)
    if config.hold_out:
        held_out[_held_out(inputs, adapter, config, chosen, population)] = True
    return [population.of_task(task, tasks, chosen, weights, held_out) for task in range(tasks)]


@dataclass
class _Population:
    """All rows, in the order of the files: 16 bytes a row.

    Args:
        hashes: a random number for each.
        strata: the number of each one's stratum; -1: there is nothing to annotate in it.
        names: the strata by number.
        files: how many rows each file has.
    """

    hashes: np.ndarray
    strata: np.ndarray
    names: list[Stratum]
    files: list[int]

    @classmethod
    def read(cls, inputs: Inputs, adapter: Callable, config: SampleConfig, levels: tuple[int, int]) -> "_Population":
        hashes, strata = array("Q"), array("q")
        numbers: dict[Stratum, int] = {}
        files: Counter[str] = Counter()
        for path, number, document in _documents(inputs, adapter, "sampling"):
            files[path] += 1
            place = f"{config.seed} {path} {number}".encode("utf-8", "surrogatepass")
            hashes.append(int.from_bytes(hashlib.blake2b(place, digest_size=8).digest(), "big"))
            is_usable = conversation_error(document.metadata) is None or config.sample is None
            stratum = numbers.setdefault(_stratum(document, config, levels), len(numbers)) if is_usable else -1
            strata.append(stratum)
        if config.flatten and not any(name[0] is not None for name in numbers):
            raise ValueError(f"scores={config.scores!r}: no row has a score there, by which flatten could draw.")
        for number, column in enumerate(config.by, start=1):
            if column != LENGTH and numbers and all(name[number] is None for name in numbers):
                raise ValueError(f"by={column!r}: no row has a value in this column: correct or omit it.")
        per_file = [files[path] for path in inputs.sizes]
        return cls(np.array(hashes, np.uint64), np.array(strata, np.int64), list(numbers), per_file)

    def draw(self, config: SampleConfig) -> tuple[np.ndarray, np.ndarray]:
        """Which rows are chosen, shape (rows,), and how many each stands for, likewise."""
        sizes = np.bincount(self.strata[self.strata >= 0], minlength=len(self.names))
        if config.sample is None:
            return np.ones(len(self.hashes), bool), np.ones(len(self.hashes))
        by_name = dict(zip(self.names, sizes.tolist(), strict=True))
        wanted = allocate(by_name, config.sample, config.flatten)
        chosen, weights = np.zeros(len(self.hashes), bool), np.ones(len(self.hashes))
        for number, name in enumerate(self.names):
            rows = np.flatnonzero(self.strata == number)
            drawn = rows[np.argsort(self.hashes[rows], kind="stable")[: wanted[name]]]
            chosen[drawn], weights[drawn] = True, len(rows) / wanted[name]
        return chosen, weights

    def of_task(
        self, task: int, tasks: int, chosen: np.ndarray, weights: np.ndarray, held_out: np.ndarray
    ) -> TaskSample:
        ends = np.cumsum([0, *self.files])
        own = [np.arange(ends[file], ends[file + 1]) for file in range(task, len(self.files), tasks)]
        rows = np.concatenate([np.empty(0, np.int64), *own]).astype(np.int64)
        places = np.flatnonzero(chosen[rows])
        return TaskSample(len(rows), places, weights[rows[places]], held_out[rows[places]])


def allocate(sizes: Mapping[Stratum, int], total: int, flatten: bool) -> dict[Stratum, int]:
    """How many rows are drawn from each stratum.

    Args:
        sizes: rows by stratum.
        total: rows to draw; all, where there are fewer.
        flatten: whether each level, the first part of a stratum's name, gets as many, instead of its share.

    Raises:
        ValueError: some stratum would get none, so that no sampled row would represent its rows.
    """
    levels: dict[Hashable, dict[Stratum, int]] = {}
    for name, size in sizes.items():
        levels.setdefault(name[0] if flatten else None, {})[name] = size
    totals = {level: sum(strata.values()) for level, strata in levels.items()}
    wanted: dict[Stratum, int] = {}
    for level, share in _evenly(totals, total).items():
        strata = levels[level]
        if share < len(strata):
            raise ValueError(
                f"sample={total} gives {share} rows to {len(strata)} groups (by=, flatten=), so that some would get "
                "none: take a larger sample, or fewer columns."
            )
        wanted |= _in_proportion(strata, share)
    return wanted


def _evenly(sizes: Mapping[Hashable, int], total: int) -> dict[Hashable, int]:
    """As many of each, as far as there are so many; what is left over goes to the others."""
    shares = {}
    for place, (name, size) in enumerate(sorted(sizes.items(), key=lambda item: (item[1], str(item[0])))):
        shares[name] = min(size, total // (len(sizes) - place))
        total -= shares[name]
    return shares


def _in_proportion(sizes: Mapping[Stratum, int], total: int) -> dict[Stratum, int]:
    """One of each, and the others by the sizes: largest remainders first."""
    spare, whole = total - len(sizes), sum(sizes.values()) - len(sizes)
    quotas = {name: (size - 1) * spare / whole if whole else 0.0 for name, size in sizes.items()}
    found = {name: 1 + int(quota) for name, quota in quotas.items()}
    by_remainder = sorted(quotas, key=lambda name: (int(quotas[name]) - quotas[name], str(name)))
    for name in by_remainder[: total - sum(found.values())]:
        found[name] += 1
    return found


def _stratum(document: Document, config: SampleConfig, levels: tuple[int, int]) -> Stratum:
    """The level of an earlier score, and the values of the columns."""
    score: Any = document.metadata.get(config.scores) if config.flatten else None
    level = min(max(round(score), levels[0]), levels[1]) if is_score(score) else None
    return level, *(_value(document, name) for name in config.by)


def _value(document: Document, name: str) -> Hashable:
    """A column's value, as text; of the length the number of its binary digits: strata that double."""
    if name == LENGTH and LENGTH not in document.metadata:
        return len(document.text).bit_length()
    value = document.metadata.get(name)
    return None if value is None else str(value)


def _held_out(
    inputs: Inputs, adapter: Callable, config: SampleConfig, chosen: np.ndarray, population: _Population
) -> list[int]:
    """The numbers of the rows that are held out: whole groups of near-duplicates, in random order."""
    duplicates, rows = NearDuplicates(), np.flatnonzero(chosen)
    for row, (_, _, document) in enumerate(_documents(inputs, adapter, "comparing")):
        if chosen[row]:
            duplicates.add(compared_text(document))
    groups = sorted(duplicates.groups(), key=lambda group: int(population.hashes[rows[group[0]]]))
    found: list[int] = []
    for group in groups:
        if len(found) + len(group) <= config.hold_out:  # a group that is too large is learned from
            found += rows[group].tolist()
    if len(found) < config.hold_out:
        raise ValueError(
            f"hold_out={config.hold_out}: of {len(rows):,} rows only {len(found):,} can be held out without their "
            "near-duplicates: hold out fewer."
        )
    return found


def _documents(inputs: Inputs, adapter: Callable, what: str) -> Iterator[tuple[str, int, Document]]:
    reader: Any = inputs.reader(adapter)
    with tqdm(unit=" rows", desc=what, disable=None) as bar:
        for path in inputs.sizes:
            for number, document in enumerate(reader.read_file(path)):
                bar.update()
                yield path, number, document
