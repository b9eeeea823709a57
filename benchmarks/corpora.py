"""Conversations for benchmarks: made from nothing, the same on every machine, with lengths like real corpora's.

Words are made of syllables and come as often as words of a language do (Zipf), so that a tokenizer has as much to do
with them as with real text.
"""

import json
import math
import random
from bisect import bisect
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


Conversation = list[dict[str, str]]

NUM_WORDS = 20_000
ONSETS = tuple("b c d f g l m n p r s t v br cr pr tr ch lh nh qu".split())  # noqa: SIM905
VOWELS = tuple("a e i o u a e o ã é ê ó ção ei ou".split())  # noqa: SIM905
CODAS = ("", "", "", "", "s", "r", "m", "l")
TOKENS_OF_TURN = 6  # what a chat template puts around a message
SEED = 0


@dataclass(frozen=True)
class Mix:
    """How long the documents of a corpus are: lognormal, cut at both ends, in tokens."""

    mean: float
    sigma: float
    shortest: int
    longest: int

    def lengths(self, count: int, seed: int = SEED) -> list[int]:
        """Evenly spaced quantiles in random order, so that few documents are as long on average as many."""
        normal = NormalDist(math.log(self.mean) - self.sigma**2 / 2, self.sigma)
        exact = [math.exp(normal.inv_cdf((index + 0.5) / count)) for index in range(count)]
        lengths = [round(min(max(length, self.shortest), self.longest)) for length in exact]
        random.Random(seed).shuffle(lengths)
        return lengths


MIXES = {
    "sft": Mix(mean=350, sigma=0.8, shortest=24, longest=6_000),
    "chat": Mix(mean=80, sigma=0.7, shortest=16, longest=1_000),
    "long": Mix(mean=2_200, sigma=0.8, shortest=200, longest=6_000),
    "350": Mix(mean=350, sigma=1e-9, shortest=350, longest=350),
}


@cache
def words() -> tuple[list[str], list[float]]:
    """The words, common ones first and short, and how often each and all before it come, added up."""
    rng = random.Random(SEED)
    made: dict[str, None] = {}
    while len(made) < NUM_WORDS:
        syllables = 1 + bisect((60, 2_500, 12_000), len(made))
        word = "".join(rng.choice(ONSETS) + rng.choice(VOWELS) for _ in range(syllables)) + rng.choice(CODAS)
        made.setdefault(word)
    return list(made), list(accumulate(1 / (rank + 2.7) for rank in range(NUM_WORDS)))


def text(rng: random.Random, num_words: int) -> str:
    """Sentences and paragraphs of that many words, with numbers among them."""
    known, frequencies = words()
    chosen = rng.choices(known, cum_weights=frequencies, k=num_words)
    for index in range(rng.randrange(60), num_words, 60):
        chosen[index] = str(rng.randrange(3_000))
    sentences = []
    while chosen:
        length = rng.randrange(5, 20)
        sentences.append(" ".join(chosen[:length]).capitalize() + rng.choice(".........?!"))
        chosen = chosen[length:]
    return "".join(sentence + rng.choice("     \n") for sentence in sentences).strip()


def conversations(count: int, mix: str, tokens_per_word: float, seed: int = SEED) -> Iterator[Conversation]:
    """Conversations of one to three exchanges.

    Args:
        count: how many.
        mix: a name in `MIXES`.
        tokens_per_word: what the tokenizer makes of a word of ours on average.
        seed: which ones.
    """
    rng = random.Random(seed)
    for length in MIXES[mix].lengths(count, seed):
        exchanges = rng.choice((1, 1, 1, 2, 3)) if length > 100 else 1
        num_words = max(2, round((length - 2 * exchanges * TOKENS_OF_TURN) / tokens_per_word))
        asked = max(1, num_words // (8 * exchanges))
        answered = max(1, num_words // exchanges - asked)
        yield [
            {"role": role, "content": text(rng, number)}
            for _ in range(exchanges)
            for role, number in (("user", asked), ("assistant", answered))
        ]


def tokens_per_word(tokenizer: "PreTrainedTokenizerBase") -> float:
    """How many tokens a tokenizer makes of a word of ours on average."""
    count = 5_000
    return (
        len(tokenizer(text(random.Random(1), count), add_special_tokens=False, truncation=False)["input_ids"]) / count
    )


def write(path: Path, documents: Iterator[Conversation]) -> Path:
    """Write conversations as JSONL with an id."""
    with path.open("w", encoding="utf-8") as file:
        for index, messages in enumerate(documents):
            file.write(json.dumps({"id": str(index), "messages": messages}, ensure_ascii=False) + "\n")
    return path


def read(path: Path) -> list[Conversation]:
    """The conversations of a file that `write` wrote."""
    with path.open(encoding="utf-8") as file:
        return [json.loads(line)["messages"] for line in file]
