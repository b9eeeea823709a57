"""Exact binomial bounds on the share of errors in a population, from the errors in a simple random sample of it."""

import math

import numpy as np
from numpy.typing import NDArray


BISECTIONS = 60


def rows_needed(limit: float, alpha: float) -> int:
    """The fewest rows that, without one error among them, show a share of errors of at most `limit`.

    Args:
        limit: above 0, below 1.
        alpha: the chance of being wrong, above 0, below 1.
    """
    return math.ceil(math.log(alpha) / math.log1p(-limit))


def chance_of_at_most(errors: int, rows: int, share: float) -> float:
    """The chance that a sample has at most so many errors (the binomial's distribution function)."""
    if errors >= rows or share <= 0:
        return 1.0
    if errors < 0 or share >= 1:
        return 0.0
    return float(np.exp(_log_binomial(np.arange(errors + 1), rows, share)).sum())


def upper_bound(errors: int, rows: int, alpha: float) -> float:
    """The largest share of errors at which a sample has so few of them with a chance of `alpha` (Clopper-Pearson).

    Args:
        errors: in the sample.
        rows: of the sample; of none nothing is known, and the bound is 1.
        alpha: the chance that the bound is below the true share is at most this.
    """
    if errors >= rows:
        return 1.0
    low, high = errors / rows, 1.0
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (low, middle) if chance_of_at_most(errors, rows, middle) <= alpha else (middle, high)
    return high


def errors_allowed(rows: int, limit: float, alpha: float) -> int:
    """The most errors with which a sample shows a share of at most `limit`; -1: it is too small, even without one."""
    chances = np.exp(_log_binomial(np.arange(rows), rows, limit)).cumsum()
    return int(np.searchsorted(chances, alpha, side="right")) - 1


def chance_of_passing(seen: int, rows: int, allowed: int, edges: int = 1) -> float:
    """The chance that another sample of the same size has at most the allowed errors beyond a chosen edge.

    An edge is put at the first error that it does not admit. The share of errors beyond an edge that admits `seen`
    ones of `rows` is then distributed as Beta(seen + 1, rows - seen), whatever the scores' distribution.

    Args:
        seen: errors that the edges admit in the sample by which they are chosen.
        rows: of that sample.
        allowed: errors in the other sample.
        edges: how many edges share these errors.
    """
    if allowed < 0 or seen + edges > rows:
        return 0.0
    first, second = seen + edges, rows - seen - edges + 1
    errors = np.arange(min(allowed, rows) + 1)
    table = _log_factorials(2 * rows + 2)
    log_chances = (
        table[rows] - table[errors] - table[rows - errors]
        + table[errors + first - 1] + table[rows - errors + second - 1] - table[rows + first + second - 1]
        + table[first + second - 1] - table[first - 1] - table[second - 1]
    )  # fmt: skip
    return float(np.exp(log_chances).sum())


def _log_binomial(errors: NDArray[np.int64], rows: int, share: float) -> NDArray[np.float64]:
    table = _log_factorials(rows + 1)
    choices = table[rows] - table[errors] - table[rows - errors]
    return choices + errors * math.log(share) + (rows - errors) * math.log1p(-share)


_table = np.zeros(1)


def _log_factorials(size: int) -> NDArray[np.float64]:
    """log(0!), log(1!), ...; at least `size` of them, kept for the next call."""
    global _table
    if len(_table) < size:
        _table = np.concatenate([[0.0], np.log(np.arange(1, 2 * size)).cumsum()])
    return _table


def lower_bound_at_any_time(errors: int, rows: int, alpha: float) -> float:
    """A lower bound on the share of errors that holds at every time at once, however often one looks.

    The end of a confidence sequence: the likelihood ratio of a Beta(1/2, 1/2) mixture to a share is a martingale if
    that share is the true one, and exceeds 1 / alpha at any time with a chance of at most alpha (Ville's inequality).

    Args:
        errors: among the rows looked at so far.
        rows: as many.
        alpha: the chance that the bound is ever above the true share is at most this.
    """
    if not errors:
        return 0.0
    right = rows - errors
    log_mixture = math.lgamma(errors + 0.5) + math.lgamma(right + 0.5) - math.lgamma(rows + 1) - math.log(math.pi)

    def is_refuted(share: float) -> bool:
        return log_mixture - errors * math.log(share) - right * math.log1p(-share) >= -math.log(alpha)

    low, high = 0.0, errors / rows
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if middle < 1 and is_refuted(middle) else (low, middle)
    return low
