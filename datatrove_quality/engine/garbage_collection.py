"""Python's garbage collector, kept from what does not go.

It looks through all objects again and again, in a run every 7,000 documents or so. The 400,000 of torch, transformers
and their likes take it some 150 ms each time, a tenth of all that Python does for a document, and none ever goes.
"""

import contextlib
import gc
from collections.abc import Iterator


# How often the objects that have lived for long are left alone before they are looked through; Python's own is 10.
RARELY = 100


@contextlib.contextmanager
def rare_full_collections() -> Iterator[None]:
    """A block in which the collector seldom looks through the objects that have lived for long.

    Not `gc.freeze()`: that holds what the program has dropped too, such as a run that it has broken off.
    """
    young, middle, old = gc.get_threshold()
    if old >= RARELY:  # the program's own doing, or another filter's
        yield
        return
    gc.set_threshold(young, middle, RARELY)
    try:
        yield
    finally:
        gc.set_threshold(young, middle, old)
