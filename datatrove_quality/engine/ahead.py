"""An iterator that runs ahead in a thread of its own."""

import contextvars
import queue
import threading
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar


T = TypeVar("T")


class Ahead(Generic[T]):
    """Runs an iterator in a thread of its own, a few items ahead of the consumer of this one.

    An error of the iterator is raised in the consumer, with its own traceback.

    Args:
        items: closed in that thread when it ends, or when this is closed.
        limit: gives the number of items that may wait.
        name: of the thread.
    """

    def __init__(self, items: Iterator[T], limit: Callable[[], int], name: str):
        self._items = items
        self._limit = limit
        self._queue: queue.Queue[T | _End] = queue.Queue(limit())
        self._closed = threading.Event()
        context = contextvars.copy_context()
        self.thread = threading.Thread(target=context.run, args=(self._produce,), name=name, daemon=True)

    def start(self) -> None:
        """Begin to run ahead."""
        self.thread.start()

    def __iter__(self) -> Iterator[T]:
        while not isinstance(item := self._queue.get(), _End):
            yield item
        try:
            if item.error is not None:
                raise item.error
        finally:
            del item  # the error's traceback has this frame

    def close(self, timeout: float) -> bool:
        """End the thread; False if it still runs after so many seconds."""
        self._closed.set()
        # The thread looks after each item whether this is closed, so it waits for room at most once.
        while not self._queue.empty():
            self._queue.get_nowait()
        if self.thread.ident is not None and self.thread is not threading.current_thread():
            self.thread.join(timeout)
        return not self.thread.is_alive()

    def _produce(self) -> None:
        error = None
        try:
            for item in self._items:
                self._queue.maxsize = self._limit()
                self._queue.put(item)
                if self._closed.is_set():
                    break
        except BaseException as caught:
            error = caught
        finally:
            if isinstance(self._items, Generator):
                self._items.close()
            if not self._closed.is_set():
                self._queue.put(_End(error))


@dataclass(frozen=True, slots=True)
class _End:
    """Follows the last item, with the error that made it the last."""

    error: BaseException | None
