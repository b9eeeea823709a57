"""An iterator that runs ahead in a thread of its own: bounded, in order, to a clean end."""

import random
import time
from contextlib import suppress
from itertools import islice

from datatrove_quality.engine.ahead import Ahead


def test_ahead_is_a_queue_of_bounded_length():
    """No more items wait than the limit, whichever side is slow, and they come in order."""
    made = []
    ahead = Ahead((made.append(index) or index for index in range(100)), limit=lambda: 3, name="reading ahead")
    ahead.start()
    deadline = time.monotonic() + 20
    while len(made) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)
    assert len(made) == 4
    assert list(ahead) == list(range(100))
    assert ahead.close(timeout=10)


def test_ahead_survives_any_interleaving():
    """Closed at any moment, with a producer that is fast, slow, ending or raising, its thread ends."""
    rng = random.Random(0)

    def items(count, error):
        for index in range(count):
            if rng.random() < 0.2:
                time.sleep(0.0005)
            yield index
        if error:
            raise ValueError("cut")

    for _ in range(300):
        made = items(rng.randrange(12), rng.random() < 0.3)
        ahead = Ahead(made, limit=lambda: rng.randrange(1, 4), name="reading ahead")
        ahead.start()
        with suppress(ValueError):
            for _ in islice(ahead, rng.randrange(4)):
                time.sleep(rng.choice([0, 0, 0.0005]))
        assert ahead.close(timeout=10)
