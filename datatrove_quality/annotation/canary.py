"""Known rows that are judged at each start of a run: how far the judge has moved since the last time.

A model behind an address can be replaced, quantized or configured otherwise without a word. `canary.jsonl` has the
rows, `canary.history.jsonl` beside it a line for each time they were judged.
"""

import hashlib
import json
import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from datatrove.data import Document

from datatrove_quality.annotation.step import LLMJudge


@dataclass(frozen=True)
class CanaryScores:
    """What a judge gave the known rows.

    Args:
        date: when.
        model: that the server says it served.
        rubric: name and digest.
        rows: a digest of the rows, which tells whether they are the same.
        scores: of each row; None: it got none.
    """

    date: str
    model: str
    rubric: str
    rows: str
    scores: tuple[float | None, ...]

    def moved_since(self, before: "CanaryScores") -> str:
        """How far the judge has moved, in a line."""
        pairs = [(one, two) for one, two in zip(before.scores, self.scores, strict=True) if None not in (one, two)]
        lost = sum(score is None for score in self.scores)
        since = f"since {before.date}" + (f" ({before.model}, now {self.model})" if before.model != self.model else "")
        if not pairs:
            return f"{since}: no row has a score both times"
        changes = [float(now or 0) - float(then or 0) for then, now in pairs]
        equal = sum(round(float(then or 0)) == round(float(now or 0)) for then, now in pairs) / len(pairs)
        return (
            f"{since}: {equal:.1%} of {len(pairs):,} rows have the same level, scores moved by "
            f"{statistics.fmean(changes):+.3f} on average ({statistics.fmean(map(abs, changes)):.3f} in size)"
            + (f"; {lost:,} rows have no score now" if lost else "")
        )


def history_of(path: Path) -> Path:
    """The file beside the rows that has what the judge gave them each time."""
    return path.with_name(f"{path.name.partition('.')[0]}.history.jsonl")


def judge_canary(step: LLMJudge, documents: Iterable[Document]) -> CanaryScores:
    """Ask about the known rows, all of them again.

    Args:
        step: the judge of the run.
        documents: the known rows.

    Raises:
        EndpointUnusable: the endpoint is down.
        ValueError: there are no rows.
    """
    judge = LLMJudge(step.judge, step.connection, step.messages_key, max_failures=1.0, progress=False)
    digest, scores, models = hashlib.blake2b(digest_size=8), [], set()
    for document in judge.run(documents):
        digest.update(f"{document.text}\0".encode("utf-8", "replace"))
        scores.append(document.metadata["judge_score"])
        models.add(document.metadata["judge_model"] or "")
    if not scores:
        raise ValueError("canary: the file has no rows.")
    return CanaryScores(
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        model=", ".join(sorted(models - {""})) or step.judge.model,
        rubric=step.judge.rubric.identity,
        rows=digest.hexdigest(),
        scores=tuple(scores),
    )


def remember(path: Path, now: CanaryScores) -> CanaryScores | None:
    """Add a line to the history; gives the last one before it about the same rows by the same rubric.

    Args:
        path: of the history.
        now: what the judge has given.

    Raises:
        ValueError: the file holds something else.
    """
    before = None
    try:
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        known = [CanaryScores(**json.loads(line)) for line in lines if line.strip()]
    except (ValueError, TypeError) as error:
        raise ValueError(f"canary: {path} is no history of a canary ({error}): move it away.") from error
    for one in known:
        if (one.rows, one.rubric) == (now.rows, now.rubric):
            before = replace(one, scores=tuple(one.scores))
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(now), ensure_ascii=False) + "\n")
    return before
