"""How far a share of a sample may be from that of the whole: exact binomial intervals (Clopper-Pearson).

A bootstrap shows only what the sample holds: where none of 20 rows differs, no resample has one that does, and its
interval has no width. These intervals hold the truth at least as often as they say, also there; where both sides have
many rows the bootstrap does, too, and no other is given.
"""

import math

from datatrove_quality.cascade.bounds import BISECTIONS, chance_of_at_most, upper_bound
from datatrove_quality.evaluation.resampling import CONFIDENCE


# With more rows than these on either side the bootstrap is as good.
MAX_FEW = 100


def share_interval(share: float, rows: float) -> tuple[float, float]:
    """The 95% interval of a share; (share, share) where a bootstrap is as good.

    Args:
        share: of the sample.
        rows: of the sample, or as many as they are worth; rounded down.
    """
    size = math.floor(rows + 1e-9)
    if size < 1:
        return 0.0, 1.0
    if share > 0.5:
        low, high = share_interval(1 - share, rows)
        return 1 - high, 1 - low
    few = share * size
    if few > MAX_FEW:
        return share, share
    tail = (1 - CONFIDENCE) / 2
    low = _lower_bound(math.floor(few + 1e-6), size, tail)
    return min(low, share), max(upper_bound(math.ceil(few - 1e-6), size, tail), share)


def unseen_share(share: float, rows: float) -> float:
    """How many more rows may differ than do in the sample, as a share of all rows.

    Args:
        share: of rows that differ.
        rows: of the sample, or as many as they are worth.
    """
    return share_interval(share, rows)[1] - share


def _lower_bound(seen: int, rows: int, alpha: float) -> float:
    """The smallest share at which a sample has so many with a chance of `alpha`."""
    low, high = 0.0, seen / rows
    if not seen:
        return 0.0
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        too_low = 1 - chance_of_at_most(seen - 1, rows, middle) <= alpha
        low, high = (middle, high) if too_low else (low, middle)
    return low
