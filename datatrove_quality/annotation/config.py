"""The settings of a judge, validated; imports nothing heavy."""

from dataclasses import dataclass
from urllib.parse import urlsplit

from datatrove_quality.annotation.rubric import Rubric


@dataclass(frozen=True)
class Connection:
    """How an endpoint is reached. Nothing of it decides what a row gets.

    Args:
        endpoint: the address up to and including `/v1`.
        api_key_env: the name of the environment variable that holds the API key; it may be unset.
        concurrency: requests in flight per task, at most.
        timeout: seconds that a request may take.
        patience: seconds without a single answer, after which the task ends, to be started again later.

    Raises:
        ValueError: a value is not one of those above; names the field, the value and the fix.
    """

    endpoint: str
    api_key_env: str = "OPENAI_API_KEY"
    concurrency: int = 64
    timeout: float = 300.0
    patience: float = 600.0

    def __post_init__(self) -> None:
        address = urlsplit(self.endpoint) if isinstance(self.endpoint, str) else urlsplit("")
        if address.scheme not in ("http", "https") or not address.hostname:
            raise ValueError(f"endpoint={self.endpoint!r}: give an address such as http://localhost:8000/v1.")
        if address.username or address.password or address.query:
            raise ValueError(
                "endpoint: the address has a user, password or query in it, which logs would show; put the key into "
                f"the environment variable {self.api_key_env}."
            )
        if not isinstance(self.api_key_env, str) or not self.api_key_env.strip():
            raise ValueError(f"api_key_env={self.api_key_env!r}: give the name of an environment variable.")
        if isinstance(self.concurrency, bool) or not isinstance(self.concurrency, int) or self.concurrency < 1:
            raise ValueError(f"concurrency={self.concurrency!r}: give a whole number from 1.")
        for name in ("timeout", "patience"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
                raise ValueError(f"{name}={value!r}: give a number of seconds above 0.")


@dataclass(frozen=True)
class JudgeConfig:
    """Who judges, and how. All of it decides what rows get.

    Args:
        model: the name under which the endpoint serves the judge.
        rubric: the task and the levels.
        samples: answers per row, which are averaged.
        logprobs: take the mean level over the probabilities of the level tokens instead of the level itself.
        retries: how often a request is repeated that failed or whose answer cannot be used.
        tokenizer: hub id or folder of the judge's tokenizer, by which conversations are cut. None: by characters.

    Raises:
        ValueError: a value is not one of those above; names the field, the value and the fix.
    """

    model: str
    rubric: Rubric
    samples: int = 1
    logprobs: bool = False
    retries: int = 3
    tokenizer: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.model, str) or not self.model.strip():
            raise ValueError(f"model={self.model!r}: give the name under which the endpoint serves the judge.")
        if not isinstance(self.rubric, Rubric):
            raise ValueError(f"rubric={self.rubric!r:.80}: give load_rubric(name).")
        for name, least in (("samples", 1), ("retries", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{name}={value!r}: give a whole number from {least}.")
        if self.logprobs and not all(0 <= value <= 9 for value in self.rubric.values):
            raise ValueError("logprobs: a level must be one digit for its token to be found; omit it.")
