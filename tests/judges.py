"""Judges for tests: the toy judge in a thread of this process, and one that fails in every way that servers do."""

import asyncio
import random
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from toy_judge import Reply, ToyJudge, completion, serve


FAULTS = ("429", "500", "broken JSON", "no completion", "empty", "out of range", "half", "closed", "hangs")


class CountingJudge(ToyJudge):
    """The toy judge, which notes what it is asked.

    Args:
        seconds: that each answer takes.
    """

    def __init__(self, seconds: float = 0.0):
        self.requests: list[dict[str, Any]] = []
        self.answered: Counter[str] = Counter()
        self.seconds = seconds
        self.in_flight = self.most_in_flight = 0

    async def complete(self, request: dict[str, Any]) -> Reply:
        self.requests.append(request)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await asyncio.sleep(self.seconds)
            return await self.answer(request)
        finally:
            self.in_flight -= 1

    async def answer(self, request: dict[str, Any]) -> Reply:
        """What is answered."""
        self.answered[request["messages"][0]["content"]] += 1
        return await super().complete(request)


class FaultyJudge(CountingJudge):
    """Fails at random; asked often enough, it answers.

    Args:
        share: of the requests that fail.
        seed: of the faults.
        hang: seconds of a request that is not answered in time.
        seconds: that each answer takes.
    """

    def __init__(self, share: float, seed: int = 0, hang: float = 1.0, seconds: float = 0.0):
        super().__init__(seconds)
        self.share = share
        self.choose = random.Random(seed)
        self.hang = hang
        self.faults: Counter[str] = Counter()

    async def answer(self, request: dict[str, Any]) -> Reply:
        if self.choose.random() >= self.share:
            return await super().answer(request)
        fault = self.choose.choice(FAULTS)
        self.faults[fault] += 1
        if fault == "hangs":
            await asyncio.sleep(self.hang)
        replies = {
            "429": Reply({"error": {"message": "too many"}}, 429, (("Retry-After", "0.05"),)),
            "500": Reply({"error": {"message": "out of order"}}, 500),
            "broken JSON": completion('{"reason": "uma resposta'),
            "no completion": Reply(b"<html>"),
            "empty": completion(""),
            "out of range": completion('{"reason": "", "score": 9}'),
            "half": Half(completion('{"reason": "", "score": 1}').body, closes=True),
            "closed": Closed(None, closes=True),
            "hangs": Closed(None, closes=True),
        }
        return replies[fault]


class Half(Reply):
    """The first half of a reply; then the connection is closed."""

    def to_bytes(self) -> bytes:
        whole = super().to_bytes()
        return whole[: len(whole) - 40]


class Closed(Reply):
    """No reply at all."""

    def to_bytes(self) -> bytes:
        return b""


@contextmanager
def serving(judge: ToyJudge) -> Iterator[str]:
    """Serve in a thread of this process; gives the address."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    server = asyncio.run_coroutine_threadsafe(serve(judge, "127.0.0.1", 0), loop).result(10)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    finally:
        asyncio.run_coroutine_threadsafe(_close(server), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


async def _close(server: asyncio.Server) -> None:
    server.close()
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
