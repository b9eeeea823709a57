"""A judge's answer about a row: repeats requests that failed, and says to the judge what was wrong with its answer."""

import asyncio
import hashlib
import json
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from loguru import logger

from datatrove_quality.annotation.answers import answer_schema, expected_level, read_answer
from datatrove_quality.annotation.config import Connection, JudgeConfig
from datatrove_quality.annotation.endpoint import (
    Completion,
    Endpoint,
    EndpointUnusable,
    PassingFailure,
    RequestRefused,
)
from datatrove_quality.annotation.pace import Pace
from datatrove_quality.config import Unscorable


MAX_BACKOFF = 60.0
TOP_LOGPROBS = 20
CORRECTION = {
    "pt": "Essa resposta não pode ser usada: {error}. Responda de novo, com um único objeto JSON e nada mais.",
    "en": "That answer cannot be used: {error}. Answer again, with one JSON object and nothing else.",
}


@dataclass(frozen=True)
class Answer:
    """The answer to one prompt: a level, or why there is no level.

    Args:
        text: the last answer as it came; "" where none came.
        model: that the endpoint says it served.
        level: None: the answer cannot be used.
        score: the level, or the mean level by probabilities.
        reason: the judge's.
        error: `"reason: message"` where there is no level.
        repaired: whether the answer had to be mended.
        is_final: whether the same request later would give the same.
    """

    text: str = ""
    model: str = ""
    level: int | None = None
    score: float | None = None
    reason: str = ""
    error: str | None = None
    repaired: bool = False
    is_final: bool = True

    def to_json(self) -> str:
        """The answer on one line."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> "Answer":
        """What `to_json` gave this text for."""
        return cls(**json.loads(text))


@dataclass(frozen=True)
class Judgement:
    """What a row gets.

    Args:
        answers: one per sample.
    """

    answers: tuple[Answer, ...]

    @property
    def error(self) -> str | None:
        """Why the row has no label: any sample that failed, for the mean of the others would not be the same thing."""
        errors = [answer.error for answer in self.answers if answer.error is not None]
        if len(errors) < 2:
            return errors[0] if errors else None
        return f"{errors[0]} (and {len(errors) - 1} more of {len(self.answers)} answers)"

    @property
    def scores(self) -> list[float]:
        """Of each answer that has one."""
        return [answer.score for answer in self.answers if answer.score is not None]

    @property
    def spread(self) -> float | None:
        """The standard deviation of the answers' scores; None where there is one answer."""
        return statistics.pstdev(self.scores) if len(self.scores) > 1 else None


@dataclass
class Judge:
    """Asks an endpoint; lives in one event loop.

    Args:
        config: who judges, and how.
        connection: how the endpoint is reached.
        endpoint: an open one.
        count: told of each request, failure and token, by name.
    """

    config: JudgeConfig
    connection: Connection
    endpoint: Endpoint
    count: Callable[[str, int], None]
    pace: Pace = field(init=False)
    # Whether requests ask for an answer of the schema; an endpoint that does not know that says so.
    structured: bool = field(init=False, default=True)
    last_answer: float = field(init=False)

    def __post_init__(self) -> None:
        self.pace = Pace(self.connection.concurrency)
        self.last_answer = time.monotonic()

    async def ask(self, prompt: str) -> Answer:
        """Ask once, and again where the answer cannot be used.

        Args:
            prompt: the user's turn.

        Raises:
            EndpointUnusable: the endpoint answers no request.
        """
        turns = [{"role": "user", "content": prompt}]
        for left in range(self.config.retries, -1, -1):
            try:
                completion = await self._complete(turns)
            except RequestRefused as error:
                return Answer(error=error.to_text())
            except PassingFailure as failure:
                return Answer(error=f"{failure.reason}: {failure}", is_final=False)
            try:
                return self._read(completion)
            except Unscorable as error:
                answer = Answer(completion.text, completion.model, error=error.to_text())
                self.count("unusable_answers", 1)
                correction = CORRECTION.get(self.config.rubric.language, CORRECTION["en"]).format(error=error)
                turns = turns[:1]
                if completion.text and left:
                    turns += [
                        {"role": "assistant", "content": completion.text},
                        {"role": "user", "content": correction},
                    ]
        return answer

    def _read(self, completion: Completion) -> Answer:
        if completion.finish_reason == "length":
            raise Unscorable("answer_cut", "the answer was cut at max_tokens of the rubric's sampling")
        if completion.finish_reason == "content_filter":
            raise Unscorable("content_filter", "the endpoint filtered the answer")
        rubric, text = self.config.rubric, completion.text
        verdict = read_answer(text, rubric)
        score: float = verdict.level
        if self.config.logprobs:
            score = expected_level(completion.logprobs, text, rubric)
        return Answer(text, completion.model, verdict.level, score, verdict.reason, repaired=verdict.repaired)

    async def _complete(self, turns: list[dict[str, str]]) -> Completion:
        """A completion; tries again what may pass.

        Raises:
            RequestRefused: the endpoint refuses it.
            PassingFailure: it failed each time, though the endpoint answers others.
            EndpointUnusable: the endpoint answers no request.
        """
        failures = waits = 0
        while True:
            was_structured = self.structured
            try:
                async with self.pace:
                    self.count("requests", 1)
                    completion = await self.endpoint.complete(self._payload(turns))
            except RequestRefused as error:
                if not (was_structured and _is_about_schema(str(error))):
                    raise
                self._go_without_schema(error)
            except PassingFailure as failure:
                self.count(f"failed_requests_{failure.reason}", 1)
                failures += not failure.overloaded
                if not failure.overloaded and failures <= self.config.retries:
                    await asyncio.sleep(_backoff(failures))
                    continue
                if not failure.overloaded and await self.endpoint.is_alive():
                    raise  # so it is this request that cannot be answered
                waits += 1
                self._wait(failure, waits)
            else:
                self._count_answer(completion)
                return completion

    def _count_answer(self, completion: Completion) -> None:
        self.last_answer = time.monotonic()
        self.pace.answered()
        self.count("tokens", completion.prompt_tokens + completion.completion_tokens)
        self.count("prompt_tokens", completion.prompt_tokens)
        self.count("completion_tokens", completion.completion_tokens)

    def _wait(self, failure: PassingFailure, waits: int) -> None:
        """Let no request in for a time, as an overloaded endpoint asks, or until one that is down may be back.

        Raises:
            EndpointUnusable: that would take longer than patience.
        """
        seconds = _backoff(waits) if failure.wait is None else failure.wait
        if time.monotonic() + seconds - self.last_answer > self.connection.patience:
            raise EndpointUnusable(
                f"endpoint {self.connection.endpoint} has answered no request for {self.connection.patience:g} s, or "
                f"asks to wait that long: {failure}. Start the same command again when it answers: it goes on where "
                "it stopped."
            )
        self.pace.slow_down(seconds)

    def _go_without_schema(self, error: RequestRefused) -> None:
        if self.structured:
            self.structured = False
            logger.warning(f"The endpoint takes no JSON schema ({error}): answers are parsed without one.")

    def _payload(self, turns: list[dict[str, str]]) -> dict[str, Any]:
        payload = request(self.config, turns)
        if self.structured:
            payload["response_format"] = response_format(self.config)
        return payload


def request(config: JudgeConfig, turns: list[dict[str, str]]) -> dict[str, Any]:
    """The request for an answer, without what only some endpoints take.

    Args:
        config: who judges.
        turns: of the conversation with the judge.
    """
    payload: dict[str, Any] = {"model": config.model, "messages": turns, **config.rubric.sampling}
    if config.rubric.thinking != "server":
        payload["chat_template_kwargs"] = {"enable_thinking": config.rubric.thinking == "on"}
    if config.logprobs:
        payload |= {"logprobs": True, "top_logprobs": TOP_LOGPROBS}
    return payload


def response_format(config: JudgeConfig) -> dict[str, Any]:
    """What asks for an answer of the rubric's schema, where the endpoint takes it."""
    schema = {"name": "verdict", "strict": True, "schema": answer_schema(config.rubric)}
    return {"type": "json_schema", "json_schema": schema}


def answer_key(config: JudgeConfig, prompt: str, sample: int) -> bytes:
    """The cache key of an answer: everything that affects it.

    Args:
        config: who judges.
        prompt: the user's turn.
        sample: the number of the sample.
    """
    decisive = [request(config, [{"role": "user", "content": prompt}]), config.rubric.identity, config.retries, sample]
    return hashlib.blake2b(json.dumps(decisive, sort_keys=True).encode(), digest_size=16).digest()


def _is_about_schema(message: str) -> bool:
    words = ("response_format", "json_schema", "guided", "structured", "grammar")
    return any(word in message.lower() for word in words)


def _backoff(tries: int) -> float:
    """Seconds to wait, twice as many each time, and not the same for all."""
    return float(min(MAX_BACKOFF, 2.0 ** (tries - 1)) * random.uniform(0.25, 0.5))
