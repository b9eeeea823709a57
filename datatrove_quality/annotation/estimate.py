"""What an annotation will take, estimated from the first rows before anything is sent."""

from collections.abc import Sequence
from dataclasses import dataclass

from datatrove_quality.annotation.config import JudgeConfig
from datatrove_quality.annotation.prompt import Prompt
from datatrove_quality.runs.inputs import Inputs


SAMPLE = 500
BYTES_READ = 2**20
# Of European languages; a tokenizer (--tokenizer) counts exactly.
CHARS_PER_TOKEN = 3.5

Prices = tuple[float, float]
"""Of a million prompt tokens and of a million answer tokens, in any currency."""


@dataclass(frozen=True)
class Estimate:
    """What an annotation will take.

    Args:
        rows: that will be sent to the judge; None: not known without reading all of the input.
        samples: requests per row.
        prompt_tokens: per request, on average.
        answer_tokens: per request, at most; 0: the rubric sets no limit.
    """

    rows: int | None
    samples: int
    prompt_tokens: float
    answer_tokens: int

    @classmethod
    def of(cls, config: JudgeConfig, prompts: Sequence[Prompt], share: float, rows: int | None) -> "Estimate":
        """Estimate from the first prompts.

        Args:
            config: who judges.
            prompts: of the first rows.
            share: of the first rows that have a prompt.
            rows: of the input.
        """
        characters = sum(len(prompt.text) for prompt in prompts) / max(1, len(prompts))
        answer = config.rubric.sampling.get("max_tokens")
        return cls(
            rows=None if rows is None else round(rows * share),
            samples=config.samples,
            prompt_tokens=characters / CHARS_PER_TOKEN,
            answer_tokens=answer if isinstance(answer, int) else 0,
        )

    def text(self, prices: Prices | None) -> str:
        """The estimate in a line.

        Args:
            prices: None: not known.
        """
        if self.rows is None:
            return f"about {self.prompt_tokens:,.0f} prompt tokens a request; the number of rows is not known"
        requests = self.rows * self.samples
        prompt, answer = requests * self.prompt_tokens, requests * self.answer_tokens
        line = f"about {requests:,} requests with {prompt:,.0f} prompt tokens"
        line += f" and at most {answer:,.0f} answer tokens" if answer else ""
        if not prices:
            return line
        low, high = (prices[0] * prompt + prices[1] * tokens for tokens in (0, answer))
        return f"{line}; cost between {low / 1e6:,.2f} and {high / 1e6:,.2f}"


def rows_in(inputs: Inputs, limit: int, tasks: int) -> int | None:
    """How many rows there are: counted in Parquet, estimated by bytes of plain JSON lines; None: not known.

    Args:
        inputs: the files.
        limit: the most documents per task; -1: all.
        tasks: among which the files are dealt out.
    """
    if counted := inputs.documents_per_task(tasks, limit):
        return sum(counted)
    first = next(iter(inputs.sizes))
    if not first.endswith(".jsonl"):
        return None
    with inputs.folder.open(first, "rb") as file:
        start = file.read(BYTES_READ)
    rows = round(sum(inputs.sizes.values()) / max(1, len(start)) * max(1, start.count(b"\n")))
    return rows if limit == -1 else min(rows, limit * tasks)
