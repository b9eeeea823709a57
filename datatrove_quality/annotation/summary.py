"""What a run of annotation did: the statistics of all its tasks, added up, and as a short table."""

from collections import Counter
from dataclasses import dataclass

from datatrove.io import DataFolder

from datatrove_quality.annotation.step import LLMJudge
from datatrove_quality.runs.summary import StepSummary, step_counts


@dataclass(frozen=True)
class AnnotationSummary(StepSummary):
    """The counts of an `LLMJudge` over all tasks of a run."""

    @classmethod
    def of_run(cls, output: DataFolder) -> "AnnotationSummary":
        """Add up what the tasks left.

        Args:
            output: the run's folder.
        """
        totals = sum(step_counts(output, LLMJudge.name), Counter())
        return cls(Counter({name: int(total) for name, total in totals.items()}))

    def problem(self) -> str | None:
        """Why the output must not be taken for annotations; None: it may."""
        if not self.counts["total"] or self.counts["labelled"]:
            return None
        reason, count = max(self.named("failed_"), key=lambda named: named[1])
        return f"No row has a label. {count:,} of {self.counts['total']:,} rows: {reason}; see judge_error."

    def table(self, seconds: float | None, prices: tuple[float, float] | None) -> str:
        """The counts as a table of text.

        Args:
            seconds: how long the run took. None: not known, or an earlier run had done a part.
            prices: of a million prompt and answer tokens. None: not known.
        """
        counts = self.counts
        lines = [self.line("rows in", counts["total"]), self.line("with a label", counts["labelled"])]
        lines += self.bars("level_", "  ")
        lines.append(self.line("without a label", counts["failed"]))
        lines += [self.line(f"  {name}", count) for name, count in self.named("failed_") if self._is_reason(name)]
        lines += [self.line(name, counts[key]) for name, key in NOTED.items() if counts[key]]
        lines += ["", f"{'requests':<34}{counts['requests']:>12,}"]
        lines += [f"{'  ' + name:<34}{count:>12,}" for name, count in self.named("failed_requests_")]
        lines += [f"{name:<34}{counts[key]:>12,}" for name, key in TOKENS.items()]
        if prices:
            cost = sum(price * counts[key] / 1e6 for price, key in zip(prices, TOKENS.values(), strict=True))
            lines.append(f"{'cost of these requests':<34}{cost:>12,.2f}")
        if seconds:
            lines.append(f"{seconds:.1f} s, {counts['total'] / seconds:,.1f} rows/s")
        return "\n".join(["", *lines, ""])

    def _is_reason(self, name: str) -> bool:
        return name != "answers" and not name.startswith("requests_")


NOTED = {"cut for the judge": "truncated", "mended answers": "repaired"}
TOKENS = {"prompt tokens": "prompt_tokens", "answer tokens": "completion_tokens"}
