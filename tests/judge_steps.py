"""Documents and an LLMJudge that asks the toy judge about them; shared by the tests of annotation."""

from datatrove.data import Document
from judges import CountingJudge
from samples import turns
from toy_judge import rate

from datatrove_quality.annotation.config import Connection, JudgeConfig
from datatrove_quality.annotation.rubric import load_rubric
from datatrove_quality.annotation.step import LLMJudge


RUBRIC = load_rubric("instruct-quality-pt")


def documents(count):
    """Documents whose level, by the toy judge's rules, depends on their number."""
    answers = ("Não sei, talvez, kkk", "A capital é Roma.", "A capital é Roma. Fica no Lácio. É antiga.", "Xis.")
    return [
        Document(text="-", id=str(n), metadata={"messages": turns(f"Diga a capital {n}", answers[n % 4])})
        for n in range(count)
    ]


def expected(document):
    question, answer = (message["content"] for message in document.metadata["messages"])
    return rate(question, answer)[0]


def step(address, checkpoints_dir=None, max_failures=0.2, connection=None, **judge):
    config = JudgeConfig(model="toy-judge", rubric=RUBRIC, **judge)
    made = Connection(address, **{"concurrency": 8, **(connection or {})})
    return LLMJudge(config, made, checkpoints_dir=checkpoints_dir, max_failures=max_failures, progress=False)


def stats(step):
    return {name: int(stat.total) for name, stat in step.stats.stats.items()}


class Answers(CountingJudge):
    """Gives the same replies to each request in turn."""

    def __init__(self, *replies):
        super().__init__()
        self.replies = list(replies)

    async def answer(self, request):
        return self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
