"""What a run's filters did: DataTrove's statistics of all its tasks, added up, and as a short table."""

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from datatrove.io import DataFolder

from datatrove_quality.cascade.summary import about_cascade
from datatrove_quality.filter import QualityFilter
from datatrove_quality.runs.run_record import read_json, recorded_run


BAR_WIDTH = 20
COUNT_ENDS = 46
"""The column in which counts end; names may be long."""
NOTED = {
    "ends_with_user": "with the user's turn at the end",
    "empty_answer": "with an empty answer at the end",
    "template_left_out": "cut by the template",
    "changed_white_space": "with another white space in text",
    "changed_text": "with a changed text, not scored",
}
"""Statistics that most runs do not have, and what they count."""


def step_counts(output: DataFolder, name: str) -> list[Counter[str]]:
    """Add up what the tasks left in `logs/stats` about each step of a name, in the order of the pipeline.

    Args:
        output: the run's folder.
        name: of the steps; DataTrove keeps their type before it.
    """
    totals: list[Counter[str]] = []
    for path in output.list_files("logs/stats"):
        found = [step["stats"] for step in read_json(output, path) if step.get("name", "").endswith(name)]
        totals += [Counter() for _ in found[len(totals) :]]
        for counts, stats in zip(totals, found, strict=True):
            for key, stat in stats.items():
                counts[key] += stat["total"] if isinstance(stat, dict) else stat
    return totals


@dataclass(frozen=True)
class StepSummary:
    """The counts of a step over all tasks of a run, and the lines of its table.

    Args:
        counts: the totals of the step's statistics, by name.
    """

    counts: Counter[str]

    def named(self, prefix: str) -> list[tuple[str, int]]:
        """The counts whose names begin alike, by the rest of their names."""
        names = sorted(name for name in self.counts if name.startswith(prefix))
        return [(name.removeprefix(prefix), int(self.counts[name])) for name in names]

    def line(self, name: str, count: float) -> str:
        """A count and its share of the documents that came in."""
        share = f"{count / self.counts['total']:.1%}" if self.counts["total"] else ""
        return f"{name}{f' {count:,}':>{max(0, COUNT_ENDS - len(name))}}{share:>9}"

    def bars(self, prefix: str, label: str) -> list[str]:
        """Lines with a bar for each level, of the counts whose names begin alike."""
        levels = sorted((int(level), count) for level, count in self.named(prefix))
        most = max((count for _, count in levels), default=1)
        return [self.line(f"{label}{level}  {'█' * max(1, round(BAR_WIDTH * n / most))}", n) for level, n in levels]


@dataclass(frozen=True)
class FilterSummary(StepSummary):
    """The counts of a `QualityFilter` over all tasks of a run.

    Args:
        prefix: of the filter. "": not known.
    """

    prefix: str = ""

    @classmethod
    def of_run(cls, output: DataFolder) -> "list[FilterSummary]":
        """The counts of each `QualityFilter`, in the order of the pipeline.

        Args:
            output: the run's folder.
        """
        totals = step_counts(output, QualityFilter.name)
        filters = (recorded_run(output) or {}).get("filters") or [{}] * len(totals)
        return [cls(counts, described.get("prefix", "")) for counts, described in zip(totals, filters, strict=True)]

    @property
    def documents(self) -> int:
        """Documents that came in."""
        return self.counts["total"]

    @property
    def scored(self) -> int:
        """Documents that have a score, or that a cascade's proxy has decided."""
        return self.counts["scored"] + self.counts["scored_by_proxy"]

    def commonest_reason(self) -> str:
        """Why most of the documents without a score have none."""
        reason, count = max(self.named("unscorable_"), key=lambda named: named[1])
        return f"{count:,} of {self.documents:,} documents: {reason}; see their error column for the details."

    def table(self, seconds: float | None) -> str:
        """The counts as a table of text.

        Args:
            seconds: how long the run's tasks took. None: not known, or an earlier run
                had done a part, so that documents per second would say nothing.
        """
        counts, tokens = self.counts, int(self.counts["tokens"])
        lines = [
            self.line("documents in", self.documents),
            *self._outcomes(),
            "",
            *self.bars("int_score_", "int_score "),
            "",
        ]
        lines.append(f"{'tokens':<34}{tokens:>12,}")
        if counts["shared_tokens"] and tokens:
            shared = int(counts["shared_tokens"])
            lines.append(f"{'  not computed: texts begin alike':<34}{shared:>12,}{shared / tokens:>9.1%}")
        lines.append(self.line("documents cut at max_tokens", counts["truncated"]))
        if counts["special_tokens"] or not counts["reused"]:  # scores that were there say nothing of them
            lines.append(self.line("with control tokens spelled out", counts["special_tokens"]))
        for name, what in NOTED.items():
            if counts[name]:
                lines.append(self.line(what, counts[name]))
        if counts["scored_by_proxy"]:
            lines.append(self.line("decided by the proxy", counts["scored_by_proxy"]))
        if counts["audited"]:
            lines.append(self.line("scored as well, for the audit", counts["audited"]))
        if changed := counts["audit_wrongly_dropped"] + counts["audit_wrongly_kept"]:
            lines.append(self.line("  of these decided otherwise", changed))
        if counts["from_store"]:
            lines.append(self.line("known from checkpoints or repeats", counts["from_store"]))
        if counts["reused"]:
            lines.append(self.line("scores that were there already", counts["reused"]))
        if seconds:
            speed = f"{self.documents / seconds:,.0f} documents/s, {tokens / seconds:,.0f} tokens/s"
            lines.append(f"{seconds:.1f} s for the tasks, loading of weights included: {speed}")
        return "\n".join(["", *lines, ""])

    def _outcomes(self) -> list[str]:
        """Where the documents went, by reason."""
        counts = self.counts
        lines = [self.line("kept", counts["forwarded"])]
        kept = [(reason, n) for reason, n in self.named("unscorable_") if not counts[f"dropped_unscorable_{reason}"]]
        lines += [self.line(f"  no score: {reason}", count) for reason, count in kept]
        lines.append(self.line("dropped", counts["dropped"]))
        return lines + [self.line(f"  {reason}", count) for reason, count in self.named("dropped_")]


def about_run(filters: Sequence[QualityFilter], folders: Sequence[str], logs: str, output: str) -> dict[str, str]:
    """What is said at the end of a run beside its counts, by name.

    Args:
        filters: of its pipeline.
        folders: of rows that it wrote.
        logs: the path of its logs.
        output: the run's folder as the user gave it.
    """
    about: dict[str, str] = {}
    several = len({step.prefix for step in filters}) > 1
    for step in filters:
        before = f"{step.prefix} " * several
        if step.scorer is not None or f"{before}model" not in about:
            about[f"{before}model"] = step.scorer.model if step.scorer else "the scores that the rows have"
        bounds = {"at or above": step.min_score, "at or below": step.max_score}
        kept = " and ".join(f"{words} {value:g}" for words, value in bounds.items() if value is not None)
        if kept or f"{before}threshold" not in about:
            about[f"{before}threshold"] = f"scores {kept} are kept" if kept else "none: rows are annotated"
        if step.cascade is not None:
            cascade = about_cascade(step.cascade, step.audit_folder)
            about |= {f"{before}{name}": line for name, line in cascade.items()}
    about |= {"rows": ", ".join(folders), "logs": logs}
    if filters:
        # The page is written to this machine.
        page = "report" if "://" in output else shlex.quote(f"{output.rstrip('/')}-report")
        about["next"] = f"datatrove-quality report {shlex.quote(output)} --output {page}"
    return about
