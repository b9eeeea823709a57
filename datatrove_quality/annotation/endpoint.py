"""An OpenAI-compatible endpoint: one request and its answer, over a pool of connections.

Errors are told apart by what they mean for a row:

    RequestRefused      the endpoint refuses this request: the row's fault
    PassingFailure      this try failed: the same request may succeed
    EndpointUnusable    no request can succeed until a person has changed something

The API key is read from the environment when the first request is made. It is no attribute of anything that is
pickled, and is removed from every text that the endpoint sends back.
"""

import asyncio
import email.utils
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from datatrove_quality.annotation.config import Connection
from datatrove_quality.config import Unscorable


if TYPE_CHECKING:
    import aiohttp

START_SECONDS = 5.0
MAX_MESSAGE = 300
OVERLOADED = (429, 503)
UNUSABLE = {401: "refuses the API key", 403: "refuses access", 404: "has no such model or path"}


class EndpointUnusable(ValueError):
    """The endpoint cannot answer any request now; says what to do."""


class RequestRefused(Unscorable):
    """The endpoint refuses one request for what is in it."""


class PassingFailure(Exception):
    """A try that failed for a reason that may pass.

    Args:
        reason: a short snake_case word.
        message: what happened.
        overloaded: whether the endpoint asks for fewer requests.
        wait: seconds that the endpoint asks to wait; None: it says nothing.
    """

    def __init__(self, reason: str, message: str, overloaded: bool = False, wait: float | None = None):
        super().__init__(message)
        self.reason = reason
        self.overloaded = overloaded
        self.wait = wait


@dataclass(frozen=True)
class Completion:
    """What the endpoint answered.

    Args:
        text: of the answer.
        finish_reason: "stop", "length" or another.
        model: that the endpoint says it served.
        prompt_tokens: as the endpoint counts them; 0 where it does not.
        completion_tokens: likewise.
        logprobs: of each token, where they were requested and given.
    """

    text: str
    finish_reason: str
    model: str
    prompt_tokens: int = 0
    completion_tokens: int = 0
    logprobs: tuple[Any, ...] = ()


class Endpoint:
    """Sends requests; to be used in one event loop, as an asynchronous context.

    Args:
        connection: how it is reached.
    """

    def __init__(self, connection: Connection):
        self._connection = connection
        self._base = connection.endpoint.rstrip("/")
        self._key = os.environ.get(connection.api_key_env, "").strip()
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> "Endpoint":
        import aiohttp

        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=self._connection.timeout),
            trust_env=True,
        )
        return self

    async def __aexit__(self, *error: object) -> None:
        assert self._session is not None
        await self._session.close()

    async def require_model(self, model: str) -> None:
        """Refuse an endpoint that is down, refuses the key, or does not serve a model, within five seconds.

        Raises:
            EndpointUnusable: says what is wrong.
        """
        status, text = await self._models()
        if status in (401, 403):
            raise self._unusable(status, text)
        served = _served(text) if status == 200 else None
        if served is not None and model not in served:
            raise EndpointUnusable(
                f"--model {model}: the endpoint {self._base} serves {', '.join(served[:10]) or 'no model'}; give one "
                "of these."
            )

    async def is_alive(self) -> bool:
        """Whether the endpoint answers anything at all, apart from saying that it cannot."""
        try:
            status, _ = await self._models()
        except EndpointUnusable:
            return False
        return status < 500

    async def complete(self, payload: Mapping[str, Any]) -> Completion:
        """Send a request for a chat completion.

        Args:
            payload: the request.

        Raises:
            RequestRefused: the endpoint refuses it; the reason is "context_too_long" or "bad_request".
            PassingFailure: this try failed.
            EndpointUnusable: the key, the model or the path is wrong.
        """
        import aiohttp

        assert self._session is not None
        try:
            async with self._session.post(f"{self._base}/chat/completions", json=payload) as response:
                body = await response.read()
                status, headers = response.status, response.headers
        except TimeoutError as error:
            raise PassingFailure("timeout", f"no answer in {self._connection.timeout:g} s") from error
        except (aiohttp.ClientError, OSError, asyncio.IncompleteReadError) as error:
            raise PassingFailure("connection_failed", self._clean(f"{type(error).__name__}: {error}")) from error
        text = body.decode("utf-8", "replace")
        if status == 200:
            return self._completion(text)
        raise self._failure(status, text, headers)

    async def _models(self) -> tuple[int, str]:
        import aiohttp

        assert self._session is not None
        try:
            limit = aiohttp.ClientTimeout(total=START_SECONDS)
            async with self._session.get(f"{self._base}/models", timeout=limit) as response:
                return response.status, (await response.read()).decode("utf-8", "replace")
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            what = f"no answer in {START_SECONDS:g} s" if isinstance(error, TimeoutError) else self._clean(str(error))
            raise EndpointUnusable(
                f"endpoint {self._base} cannot be reached: {what}. Start the server, or correct --endpoint."
            ) from error

    def _completion(self, text: str) -> Completion:
        """The completion in the body of an answer."""
        try:
            answer = json.loads(text)
            choice = answer["choices"][0]
            content = choice["message"].get("content") or ""
            usage = answer.get("usage") or {}
            logprobs = (choice.get("logprobs") or {}).get("content") or ()
            return Completion(
                text=self._clean(content, None),
                finish_reason=str(choice.get("finish_reason")),
                model=str(answer.get("model") or ""),
                prompt_tokens=int(usage.get("prompt_tokens") or 0),
                completion_tokens=int(usage.get("completion_tokens") or 0),
                logprobs=tuple(logprobs),
            )
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
            raise PassingFailure(
                "broken_response", self._clean(f"the endpoint sent no completion ({error!r:.80}): {text!r:.200}")
            ) from error

    def _failure(self, status: int, text: str, headers: Mapping[str, str]) -> Exception:
        message = f"HTTP {status}: {self._clean(_message_in(text))}"
        if status in UNUSABLE:
            return self._unusable(status, text)
        if status in OVERLOADED:
            return PassingFailure("overloaded", message, True, seconds_to_wait(headers.get("Retry-After")))
        if status >= 500 or status in (408, 409, 425):
            return PassingFailure("server_error", message)
        is_context = any(word in message.lower() for word in ("context length", "context_length", "maximum context"))
        return RequestRefused("context_too_long" if is_context else "bad_request", message)

    def _unusable(self, status: int, text: str) -> EndpointUnusable:
        key = f"{self._connection.api_key_env} is {'set' if self._key else 'not set'} in the environment"
        advice = f" ({key})" if status in (401, 403) else ""
        return EndpointUnusable(
            f"endpoint {self._base} {UNUSABLE[status]}{advice}: HTTP {status}: {self._clean(_message_in(text))}"
        )

    def _clean(self, text: str, limit: int | None = MAX_MESSAGE) -> str:
        """A text of the endpoint's without the key, on one line where it is a message."""
        text = text.encode("utf-8", "replace").decode()  # JSON can spell half of a UTF-16 pair, and no file holds it
        text = text.replace(self._key, "***") if self._key else text
        return text if limit is None else " ".join(text.split())[:limit]


def seconds_to_wait(header: str | None) -> float | None:
    """What a `Retry-After` header asks for: seconds or a date; None: nothing that can be read."""
    if header is None:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - time.time())
    except ValueError:
        return None


def _message_in(text: str) -> str:
    """The message in the body of an error."""
    try:
        found = json.loads(text)
        found = found.get("error", found)
        return str(found["message"] if isinstance(found, dict) and "message" in found else found)
    except (ValueError, AttributeError):
        return text


def _served(text: str) -> list[str] | None:
    """The models that a list of models names; None: it is no such list."""
    try:
        return [str(model["id"]) for model in json.loads(text)["data"]]
    except (ValueError, TypeError, KeyError):
        return None
