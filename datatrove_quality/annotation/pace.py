"""How many requests are in flight: as many as the endpoint takes."""

import asyncio
import time
from collections import deque


SHRINK_SECONDS = 1.0


class Pace:
    """Lets requests in, at most as many at a time as the endpoint has shown that it takes.

    When the endpoint says that it is overloaded, half as many are let in, at most once a second, and none before the
    time that it asks for. Each answer then allows for a little more, up to the limit: additive increase,
    multiplicative decrease, as in TCP.

    Args:
        limit: requests in flight, at most.
    """

    def __init__(self, limit: int):
        self._limit = limit
        self._allowed = float(limit)
        self._in_flight = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._not_before = 0.0
        self._shrunk = 0.0

    @property
    def allowed(self) -> int:
        """Requests that may be in flight now."""
        return max(1, int(self._allowed))

    async def __aenter__(self) -> None:
        if self._in_flight >= self.allowed or self._waiting:
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._leave()
                raise
        else:
            self._in_flight += 1
        try:
            while (wait := self._not_before - time.monotonic()) > 0:
                await asyncio.sleep(wait)
        except BaseException:
            self._leave()
            raise

    async def __aexit__(self, *error: object) -> None:
        self._leave()

    def slow_down(self, seconds: float) -> None:
        """The endpoint is overloaded: fewer requests, and none for some seconds."""
        now = time.monotonic()
        self._not_before = max(self._not_before, now + seconds)
        if now - self._shrunk >= SHRINK_SECONDS:
            self._shrunk = now
            self._allowed = max(1.0, self._allowed / 2)

    def answered(self) -> None:
        """The endpoint has answered: a little more."""
        self._allowed = min(self._limit, self._allowed + 1 / self._allowed)

    def _leave(self) -> None:
        self._in_flight -= 1
        while self._waiting and self._in_flight < self.allowed:
            turn = self._waiting.popleft()
            if not turn.done():
                self._in_flight += 1
                turn.set_result(None)
