"""Random numbers of documents by their places: the same in each run, whatever the documents hold."""

import hashlib
from itertools import count


class Draw:
    """A number from 0 to 1 for each document of a task, by its place among them.

    Not by its text, else copies of a text would all be drawn or none.

    Args:
        salt: two draws with different salts are independent.
        rank: which task this is.
    """

    def __init__(self, salt: str, rank: int = 0):
        self._key = hashlib.blake2b(salt.encode(), digest_size=16).digest()
        self._rank = rank
        self._places = count()

    def __call__(self) -> float:
        """The number of the next document."""
        place = f"{self._rank} {next(self._places)}".encode()
        return int.from_bytes(hashlib.blake2b(place, key=self._key, digest_size=8).digest(), "big") / 2**64
