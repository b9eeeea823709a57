"""How many calibrations, of those of many simulated corpora, end in a certificate whose promise is broken.

    PYTHONPATH=tests:tests/faults python tests/faults/broken_certificates.py --trials 1000

Each trial makes a corpus, draws a sample, calibrates, and counts the changed decisions in the whole corpus. At most 5%
of the trials of a case may end in a broken certificate, and the noise of so many trials; those that issue none are
counted too. A case is a shape of corpus, a size of sample and a kind of promise.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import product

import numpy as np
from numpy.typing import NDArray

from datatrove_quality.cascade.bounds import chance_of_at_most
from datatrove_quality.cascade.calibration import calibrate_cascade


ROWS = 30_000
Floats = NDArray[np.float64]
# The classifier's scores, the proxy's, and the threshold.
Corpus = tuple[Floats, Floats, float]
Shape = Callable[[np.random.Generator], Corpus]


def ties_at_the_top(rng: np.random.Generator) -> Corpus:
    """As the model card's matrix: 62% of the conversations are level 5, in whole levels, and the proxy's are too."""
    levels = rng.choice([1.0, 2.0, 3.0, 4.0, 5.0], ROWS, p=[0.05, 0.06, 0.09, 0.18, 0.62])
    return levels, np.rint(_noisy(levels, rng.uniform(0.2, 0.6), rng)).clip(1, 5), 4.0


def good_proxy(rng: np.random.Generator) -> Corpus:
    """The same classifier in a cheaper arithmetic."""
    scores = rng.normal(3.5, 0.9, ROWS)
    return scores, _noisy(scores, rng.uniform(0.01, 0.05), rng), 4.0


def student(rng: np.random.Generator) -> Corpus:
    """Another model, on a scale of its own."""
    scores = rng.beta(4, 1.3, ROWS) * 4 + 1
    return scores, 0.25 * _noisy(scores, rng.uniform(0.2, 0.5), rng) - 1, 3.5


def sharp_threshold(rng: np.random.Generator) -> Corpus:
    """Most of the scores lie just around a threshold of 4.5."""
    scores = 5 - rng.exponential(0.35, ROWS)
    return scores, _noisy(scores, rng.uniform(0.05, 0.3), rng), 4.5


def useless_proxy(rng: np.random.Generator) -> Corpus:
    """It knows next to nothing of the score."""
    scores = rng.normal(3.5, 0.9, ROWS)
    return scores, _noisy(0.2 * scores, 1.0, rng), 4.0


def rare_surprises(rng: np.random.Generator) -> Corpus:
    """Right, but for some of the rows, where it is wrong far from any band."""
    scores = rng.normal(3.5, 0.9, ROWS)
    proxies = _noisy(scores, 0.02, rng)
    fooled = rng.random(ROWS) < rng.uniform(0.005, 0.03)
    return scores, np.where(fooled, 7 - proxies, proxies), 4.0


def coarse_proxy(rng: np.random.Generator) -> Corpus:
    """It says yes, no or perhaps, and is wrong about as often as the promises allow."""
    answers = rng.choice([-1.0, 0.0, 1.0], ROWS, p=[0.3, 0.2, 0.5])
    right = answers + rng.normal(0, 0.3, ROWS) * (answers == 0)
    return np.where(rng.random(ROWS) < rng.uniform(0.008, 0.02), -right, right), answers, 0.5


def _noisy(scores: Floats, noise: float, rng: np.random.Generator) -> Floats:
    return scores + rng.normal(0, noise, len(scores))


SHAPES = (ties_at_the_top, good_proxy, student, sharp_threshold, useless_proxy, rare_surprises, coarse_proxy)
# Just enough for an attempt, where a lucky sample tempts most; and enough for a narrow band.
SAMPLES = (760, 3_000)
PROMISES = ({"disagreement": 0.01}, {"wrongly_dropped": 0.03, "wrongly_kept": 0.05})


def true_shares(corpus: Corpus, band: tuple[float, float]) -> dict[str, float]:
    """The share of changed decisions of each kind in a whole corpus."""
    scores, proxies, min_score = corpus
    keeps = scores >= min_score
    dropped, kept = np.count_nonzero(keeps & (proxies < band[0])), np.count_nonzero(~keeps & (proxies > band[1]))
    return {
        "disagreement": (dropped + kept) / len(scores),
        "wrongly_dropped": dropped / keeps.sum(),
        "wrongly_kept": kept / (~keeps).sum(),
    }


def outcome(shape: Shape, rows: int, promise: dict[str, float], seed: int) -> str:
    """What one calibration ends in: "none", "kept" or "broken"."""
    rng = np.random.default_rng(seed)
    corpus = scores, proxies, min_score = shape(rng)
    drawn = rng.choice(ROWS, rows, replace=False)
    found = calibrate_cascade(scores[drawn], proxies[drawn], min_score, seed=seed, **promise)
    if found.cascade is None:
        return "none"
    shares = true_shares(corpus, found.cascade.band)
    return "broken" if any(shares[kind] > limit for kind, limit in promise.items()) else "kept"


def cases(trials: int, shapes: Iterable[Shape] = SHAPES) -> Iterator[tuple[str, Counter[str]]]:
    """What the trials of each case end in."""
    for shape, rows, promise in product(shapes, SAMPLES, PROMISES):
        yield (
            f"{shape.__name__}, {rows:,} rows, {promise}",
            Counter(outcome(shape, rows, promise, seed) for seed in range(trials)),
        )


def too_many(broken: int, trials: int, alpha: float = 0.05) -> bool:
    """Whether so many broken ones are more than alpha of the trials and their noise, once in 10,000."""
    return chance_of_at_most(broken - 1, trials, alpha) > 1 - 1e-4


def main() -> None:
    """Run the trials, and fail if a case has too many broken certificates."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1_000)
    trials = parser.parse_args().trials
    failed = False
    for name, counts in cases(trials):
        print(f"{name:<80}{counts['kept']:>6} issued, {counts['broken']:>4} broken, {counts['none']:>6} none")
        failed |= too_many(counts["broken"], trials)
    if failed:
        sys.exit("FAILED: too many certificates are broken")


if __name__ == "__main__":
    main()
