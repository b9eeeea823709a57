"""Arrays of scores, labels and token counts: input validation, rounding, counting."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from datatrove_quality.config import ScoreScale


Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def int_scores(scores: Floats, scale: ScoreScale) -> Ints:
    """`ScoreScale.int_score` of each score's logit; shape (n,)."""
    logits = scores - scale.offset
    if scale.offset % 1:
        # With such an offset, (2.5 + offset) - offset can miss the edge by the last bit of a float64. Logits are
        # float32: next to an edge they differ by 3e-8 or more, so this restores them and moves no other.
        logits = logits.round(12)
    rounded = np.rint(logits.clip(scale.low - scale.offset, scale.high - scale.offset)) + scale.offset
    return rounded.clip(scale.low, scale.high).astype(np.int64)


def count_pairs(rows: Ints, columns: Ints, size: int, weights: Floats | None) -> NDArray:
    """How often each pair of a row and a column occurs, or the sum of its weights; `size` columns and as many rows."""
    return np.bincount(rows * size + columns, weights, minlength=size * size).reshape(-1, size)


def share_of(part: NDArray, whole: NDArray, of_nothing: float = 0.0) -> Floats:
    """The share that each part is of its whole; `of_nothing` where the whole is 0."""
    return np.divide(part, whole, out=np.full(np.shape(part), of_nothing), where=whole > 0)


def as_numbers(name: str, values: ArrayLike) -> Floats:
    """A one-dimensional float64 array, or a ValueError that names the argument."""
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: give a sequence of numbers ({error}).") from error
    if array.ndim != 1:
        raise ValueError(f"{name} has shape {array.shape}: give one number per document, shape (n,).")
    return array


def require_same_length(**arrays: Floats) -> None:
    """Refuse arrays that differ in length, or are empty.

    Raises:
        ValueError: names the arguments.
    """
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        found = " and ".join(f"{name} has {length:,}" for name, length in lengths.items())
        raise ValueError(f"{found} values: give one of each per document.")
    if not all(lengths.values()):
        raise ValueError(f"{', '.join(lengths)}: empty; give at least one document.")


def require_all(name: str, array: Floats, good: NDArray[np.bool_], what: str, fix: str) -> None:
    """Refuse an array in which some value is not good; the error names the first such value."""
    if not good.all():
        first = int(np.argmin(good))
        count = len(array) - int(good.sum())
        raise ValueError(
            f"{name}: {count:,} of {len(array):,} are {what}, the first at index {first}: {array[first]}. {fix}"
        )


def as_token_counts(tokens: ArrayLike | None, count: int) -> Floats | None:
    """Token counts as an array of shape (count,), after validation; None if none are given."""
    if tokens is None:
        return None
    array = as_numbers("tokens", tokens)
    require_same_length(tokens=array, scores=np.empty(count))
    good = np.isfinite(array) & (array >= 0)
    require_all("tokens", array, good, "not counts", "Give the number of tokens of each document, 0 or more.")
    return array


def as_weights(weights: ArrayLike | None, count: int) -> Floats | None:
    """Sample weights as an array of shape (count,), after validation; None if none are given."""
    if weights is None:
        return None
    array = as_numbers("weights", weights)
    require_same_length(weights=array, rows=np.empty(count))
    good = np.isfinite(array) & (array > 0)
    require_all("weights", array, good, "not weights", "Give how many rows each row stands for, above 0.")
    return array
