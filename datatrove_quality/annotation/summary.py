"""What a run of annotation did: the statistics of all its tasks, added up, and as a short table."""

from collections import Counter
from dataclasses import dataclass

from datatrove.io import DataFolder

from datatrove_quality.annotation.step import LLMJudge
from datatrove_quality.runs.run_record import read_json


BAR_WIDTH = 20


@dataclass(frozen=True)
class AnnotationSummary:
    """The counts of an `LLMJudge` over all tasks of a run.

    Args:
        counts: the totals of its statistics, by name.
    """

    counts: Counter[str]

    @classmethod
    def of_run(cls, output: DataFolder) -> "AnnotationSummary":
        """Add up what the tasks left in `logs/stats`.

        Args:
            output: the run's folder.
        """
        counts: Counter[str] = Counter()
        for path in output.list_files("logs/stats"):
            for step in read_json(output, path):
                if step.get("name", "").endswith(LLMJudge.name):
                    for name, stat in step["stats"].items():
                        counts[name] += int(stat["total"] if isinstance(stat, dict) else stat)
        return cls(counts)

    def problem(self) -> str | None:
        """Why the output must not be taken for annotations; None: it may."""
        if not self.counts["total"] or self.counts["labelled"]:
            return None
        reason, count = max(self._named("failed_"), key=lambda named: named[1])
        return f"No row has a label. {count:,} of {self.counts['total']:,} rows: {reason}; see judge_error."

    def table(self, seconds: float | None, prices: tuple[float, float] | None) -> str:
        """The counts as a table of text.

        Args:
            seconds: how long the run took. None: not known, or an earlier run had done a part.
            prices: of a million prompt and answer tokens. None: not known.
        """
        counts = self.counts
        lines = [self._line("rows in", counts["total"]), self._line("with a label", counts["labelled"])]
        lines += self._histogram()
        lines.append(self._line("without a label", counts["failed"]))
        lines += [self._line(f"  {name}", count) for name, count in self._named("failed_") if self._is_reason(name)]
        lines += [self._line(name, counts[key]) for name, key in NOTED.items() if counts[key]]
        lines += ["", f"{'requests':<34}{counts['requests']:>12,}"]
        lines += [f"{'  ' + name:<34}{count:>12,}" for name, count in self._named("failed_requests_")]
        lines += [f"{name:<34}{counts[key]:>12,}" for name, key in TOKENS.items()]
        if prices:
            cost = sum(price * counts[key] / 1e6 for price, key in zip(prices, TOKENS.values(), strict=True))
            lines.append(f"{'cost of these requests':<34}{cost:>12,.2f}")
        if seconds:
            lines.append(f"{seconds:.1f} s, {counts['total'] / seconds:,.1f} rows/s")
        return "\n".join(["", *lines, ""])

    def _is_reason(self, name: str) -> bool:
        return name != "answers" and not name.startswith("requests_")

    def _histogram(self) -> list[str]:
        levels = sorted((int(level), count) for level, count in self._named("level_"))
        most = max((count for _, count in levels), default=1)
        return [self._line(f"  {level}  {'█' * max(1, round(BAR_WIDTH * n / most))}", n) for level, n in levels]

    def _named(self, prefix: str) -> list[tuple[str, int]]:
        names = sorted(name for name in self.counts if name.startswith(prefix))
        return [(name.removeprefix(prefix), self.counts[name]) for name in names]

    def _line(self, name: str, count: int) -> str:
        share = f"{count / self.counts['total']:.1%}" if self.counts["total"] else ""
        return f"{name:<34}{count:>12,}{share:>9}"


NOTED = {"cut for the judge": "truncated", "mended answers": "repaired"}
TOKENS = {"prompt tokens": "prompt_tokens", "answer tokens": "completion_tokens"}
