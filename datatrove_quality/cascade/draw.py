"""Random numbers of documents by their places: the same in each run, whatever the documents hold."""

import hashlib
from itertools import count


class PlaceDraw:
    """A number from 0 to 1 for each place.

    Not for each text, else copies of a text would all be drawn or none.

    Args:
        salt: two draws with different salts are independent.
    """

    def __init__(self, salt: str):
        self._key = hashlib.blake2b(salt.encode(), digest_size=16).digest()

    def __call__(self, place: str) -> float:
        """The number of a place."""
        digest = hashlib.blake2b(place.encode("utf-8", "surrogatepass"), key=self._key, digest_size=8).digest()
        return int.from_bytes(digest, "big") / 2**64


class Draw:
    """A number from 0 to 1 for each document of a task, in their order.

    Args:
        salt: see `PlaceDraw`.
        rank: which task this is.
    """

    def __init__(self, salt: str, rank: int = 0):
        self._draw = PlaceDraw(salt)
        self._rank = rank
        self._places = count()

    def __call__(self) -> float:
        """The number of the next document."""
        return self._draw(f"{self._rank} {next(self._places)}")
