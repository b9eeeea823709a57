"""Rows that several raters have rated: their levels side by side, and those about which raters differ most."""

import hashlib
import heapq
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from tqdm import tqdm

from datatrove_quality.config import ScoreScale, Unscorable
from datatrove_quality.evaluation.agreement import Agreement, measure_agreement
from datatrove_quality.evaluation.arrays import Floats
from datatrove_quality.evaluation.columns import columns_found, listed, read_columns, require_no_cascade
from datatrove_quality.evaluation.labels import label_in, parse_real_label
from datatrove_quality.evaluation.sample_weights import SampleWeights
from datatrove_quality.rows.score_columns import is_decided_by_proxy
from datatrove_quality.rows.types import Row
from datatrove_quality.runs.inputs import Inputs


@dataclass
class RatedRows:
    """The levels that raters gave.

    Args:
        raters: the columns of their ratings.
        scale: of the levels.
        weights: of the rows.
        missing: for each rater the number of rows without a usable level, by reason.
    """

    raters: Sequence[str]
    scale: ScoreScale
    weights: SampleWeights
    missing: dict[str, Counter[str]] = field(init=False)
    _levels: list[tuple[float, ...]] = field(default_factory=list)
    _decided: int = 0  # rows that one rates, and that a cascade's proxy decided instead of another

    def __post_init__(self) -> None:
        self.missing = {rater: Counter() for rater in self.raters}

    def __len__(self) -> int:
        return len(self._levels)

    def add(self, row: Row) -> None:
        """Read a row's levels and its weight."""
        levels = tuple(self._level(row, rater) for rater in self.raters)
        is_rated = not all(map(math.isnan, levels))
        self._decided += is_rated and any(is_decided_by_proxy(row, rater) for rater in self.raters)
        self._levels.append(levels)
        self.weights.add(row)

    def agreement(self, seed: int) -> Agreement:
        """How far the raters agree.

        Args:
            seed: of the bootstrap.

        Raises:
            ValueError: two have no row in common, or a cascade's proxy has decided rows that another has rated.
        """
        require_no_cascade(self._decided, len(self))
        levels = range(int(self.scale.low), int(self.scale.high) + 1)
        return measure_agreement(self._levels, self.raters, levels, self.weights.found(), seed)

    def disagreements(self, place: int, count: int, seed: int) -> dict[int, list[int]]:
        """Rows to read, drawn at random: those about which the first rater and another one differ.

        Args:
            place: of the other rater.
            count: the most for each difference.
            seed: of the draw.

        Returns:
            The numbers of rows by the other's level less the first's; the largest differences first.
        """
        table: Floats = np.array(self._levels)
        differences = table[:, place] - table[:, 0]
        found = {}
        there_are = {float(one) for one in differences if one and not math.isnan(one)}
        for difference in sorted(there_are, key=lambda one: (-abs(one), one)):
            numbers = np.flatnonzero(differences == difference).tolist()
            found[int(difference)] = heapq.nsmallest(count, numbers, key=lambda number: _drawn(seed, number))
        return found

    def ratings(self, number: int) -> dict[str, int | None]:
        """What each rater gave a row; None where it gave nothing."""
        levels = zip(self.raters, self._levels[number], strict=True)
        return {rater: None if math.isnan(level) else int(level) for rater, level in levels}

    def text_of_missing(self) -> str:
        """How many rows lack a level and why, a line a rater; "" where none does."""
        return "\n".join(
            f"{rater}: {reasons.total():,} of {len(self):,} rows have no usable level: {listed(reasons)}"
            for rater, reasons in self.missing.items()
            if reasons
        )

    def _level(self, row: Row, rater: str) -> float:
        try:
            return round(parse_real_label(label_in(row, rater), self.scale))
        except Unscorable as error:
            self.missing[rater][error.reason] += 1
            return math.nan


def read_rated_rows(inputs: Inputs, raters: Sequence[str], scale: ScoreScale, weights: SampleWeights) -> RatedRows:
    """Read all rows; progress is shown on stderr.

    Args:
        inputs: the files.
        raters: the columns of ratings; one that is a fraction counts as its nearest level.
        scale: of the levels.
        weights: of the rows.

    Raises:
        ValueError: a column holds no level that can be used; names the columns that there are.
    """
    found = RatedRows(raters, scale, weights)
    row: Row = {}
    for row in tqdm(read_columns(inputs), unit=" rows", disable=None):
        found.add(row)
    for rater, reasons in found.missing.items():
        if reasons.total() == len(found):
            why = f"{listed(reasons)}; {columns_found(row)}" if row else "the input has no rows"
            raise ValueError(f"column {rater}: none of {len(found):,} rows has a usable level there: {why}.")
    return found


def _drawn(seed: int, number: int) -> bytes:
    return hashlib.blake2b(f"{seed} {number}".encode(), digest_size=8).digest()
