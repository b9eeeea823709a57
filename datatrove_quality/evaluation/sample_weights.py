"""How many rows of the whole a sampled row stands for: the column `sample_weight`, which a sample's rows carry."""

import math
from array import array

from datatrove_quality.rows.score_columns import is_score
from datatrove_quality.rows.types import Row


WEIGHT = "sample_weight"


class SampleWeights:
    """The weights of rows that are used, in their order.

    Args:
        column: that holds them. None: `sample_weight`, where the rows have it.
        used: whether weights are read at all.
    """

    def __init__(self, column: str | None = None, used: bool = True):
        self._column = column
        self._used = used
        self._weights = array("d")

    def add(self, row: Row) -> None:
        """Read a row's weight.

        Raises:
            ValueError: it is no number above 0.
        """
        if not self._used:
            return
        value = row.get(self._column or WEIGHT)
        if value is not None and not (is_score(value) and value > 0):
            raise ValueError(
                f"{self._column or WEIGHT}: a row has the weight {value!r:.80}: weights are numbers above 0 "
                "(--weights COLUMN, or --unweighted)."
            )
        self._weights.append(math.nan if value is None else float(value))

    def found(self) -> array | None:
        """The weights; None: the rows have none.

        Raises:
            ValueError: some rows lack them, or all lack those of a column that was named.
        """
        missing = sum(map(math.isnan, self._weights))
        if not missing:
            return self._weights if self._weights else None
        if missing == len(self._weights) and self._column is None:
            return None
        raise ValueError(
            f"{self._column or WEIGHT}: {missing:,} of {len(self._weights):,} rows have no weight, so what "
            "was sampled and what was not are mixed: give the rows of one sample, or --unweighted."
        )
