"""A judge in an event loop of its own, for callers without one."""

import asyncio
import threading
from collections import Counter
from concurrent.futures import Future
from typing import Any

from datatrove_quality.annotation.answer_store import AnswerStore
from datatrove_quality.annotation.config import Connection, JudgeConfig
from datatrove_quality.annotation.endpoint import Endpoint
from datatrove_quality.annotation.judge import Answer, Judge, Judgement, answer_key


CLOSE_SECONDS = 30.0


def require_endpoint(connection: Connection, model: str) -> None:
    """Refuse an endpoint that is down, refuses the key, or does not serve a model, within five seconds.

    Args:
        connection: how it is reached.
        model: the name of the judge.

    Raises:
        EndpointUnusable: says what is wrong.
    """

    async def require() -> None:
        async with Endpoint(connection) as endpoint:
            await endpoint.require_model(model)

    asyncio.run(require())


class BackgroundJudge:
    """Asks a judge about prompts from a thread of its own, many at a time; a context.

    The endpoint is opened and checked at the first prompt whose answers are not stored.

    Args:
        config: who judges, and how.
        connection: how the endpoint is reached.
        store: of earlier answers. None: none are kept.
    """

    def __init__(self, config: JudgeConfig, connection: Connection, store: AnswerStore | None):
        self._config = config
        self._connection = connection
        self._store = store
        self._counts: Counter[str] = Counter()
        self._counting = threading.Lock()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="judge", daemon=True)
        self._judge: Judge | None = None

    def __enter__(self) -> "BackgroundJudge":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(CLOSE_SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CLOSE_SECONDS)
        if not self._thread.is_alive():
            self._loop.close()

    def ask(self, prompt: str) -> "Future[Judgement] | Judgement":
        """Ask about a row.

        Args:
            prompt: the user's turn.

        Returns:
            The judgement, where its answers are stored; or what gives it when they have come.

        Raises:
            EndpointUnusable: at the first prompt, the endpoint cannot be used.
        """
        keys = [answer_key(self._config, prompt, sample) for sample in range(self._config.samples)]
        known = [self._store.get(key) if self._store else None for key in keys]
        if all(known):
            return Judgement(tuple(answer for answer in known if answer))
        if self._judge is None:
            self._judge = asyncio.run_coroutine_threadsafe(self._open(), self._loop).result()
        return asyncio.run_coroutine_threadsafe(self._judgement(self._judge, prompt, keys, known), self._loop)

    def take_counts(self) -> Counter[str]:
        """Requests and tokens by name, since this was called last."""
        with self._counting:
            counts, self._counts = self._counts, Counter()
        return counts

    def _count(self, name: str, number: int) -> None:
        with self._counting:
            self._counts[name] += number

    async def _open(self) -> Judge:
        endpoint = await Endpoint(self._connection).__aenter__()
        judge = Judge(self._config, self._connection, endpoint, self._count)
        try:
            await endpoint.require_model(self._config.model)
        except BaseException:
            await endpoint.__aexit__()
            raise
        return judge

    async def _judgement(self, judge: Judge, prompt: str, keys: list[bytes], known: list[Answer | None]) -> Judgement:
        async with asyncio.TaskGroup() as group:
            pending: Any = [
                group.create_task(self._answer(judge, prompt, key)) if answer is None else answer
                for key, answer in zip(keys, known, strict=True)
            ]
        return Judgement(tuple(one if isinstance(one, Answer) else one.result() for one in pending))

    async def _answer(self, judge: Judge, prompt: str, key: bytes) -> Answer:
        answer = await judge.ask(prompt)
        if self._store is not None and answer.is_final:
            self._store.add(key, answer)
        return answer

    async def _close(self) -> None:
        """Cancel the requests in flight, and close the connections."""
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        if self._judge is not None:
            await self._judge.endpoint.__aexit__()
