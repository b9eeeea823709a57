"""What a random part of the documents that a proxy decides says of a cascade while it runs."""

import json
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

from datatrove.io import get_datafolder
from loguru import logger

from datatrove_quality.atomic_write import write_json
from datatrove_quality.cascade.values import Cascade, Certificate, Kind
from datatrove_quality.rows.column_values import OTHER_VALUES, value_text


# Tasks tell each other what they have counted at most so often, whatever it is: were it told after errors only, the
# correct decisions since a task's last error would be missing, and the pooled rate of errors would be too high.
SECONDS_BETWEEN_EXCHANGES = 30.0
# Of more sources, those that come later are one.
MAX_SOURCES = 100

# Of each source, how many documents the proxy and the classifier have decided in which way, how many of the proxy's
# decisions were audited, and how many of these the classifier has changed.
Counts = Counter[str]


class BrokenPromise(RuntimeError):
    """The audit shows that a certificate's promise does not hold for the documents that are being filtered."""


@dataclass(frozen=True)
class Finding:
    """What the audit says of one share that was promised.

    Args:
        source: of the documents; None: of all.
        kind: of the changed decisions.
        promised: the share that the certificate allows.
        estimate: of the share.
        lower: a lower confidence bound on it, which holds at any time of looking.
    """

    source: str | None
    kind: Kind
    promised: float
    estimate: float
    lower: float

    @property
    def is_broken(self) -> bool:
        """Whether the promise is broken, by more than chance explains."""
        return self.lower > self.promised

    def __str__(self) -> str:
        """One line for a person."""
        where = "" if self.source is None else f" in source {self.source!r}"
        return (
            f"{self.kind.replace('_', ' ')}{where}: {self.estimate:.2%} by the audit, at least {self.lower:.2%}; "
            f"promised: at most {self.promised:.2%}"
        )


class Audit:
    """Counts the decisions of one task, pools them with those of the run's others, and says when a promise is broken.

    The chance of a false alarm is that of the run, though each task looks. The bound holds along one path: the counts
    that are published, as they grow. When a task publishes depends on the clock, not on what it has found, and every
    look is at a point of this path, so that more tasks see more points of one path, and need no correction. That is
    why a task never looks at what it has not published, and why files appear whole: a part of the files would be
    another path.

    Two cases are not exact. Files are read one after another, so that two tasks that read at once may each lack what
    the other has: at most what is published during one reading. A task that starts again replaces its file by a
    shorter count of the same documents, which begins another path.

    Args:
        cascade: what is audited.
        rank: which task this is.
        folder: shared by the tasks of a run, each of which has a file there. None: this task alone, at each error; the
            chance of a false alarm is then the task's.
    """

    def __init__(self, cascade: Cascade, rank: int, folder: str | None):
        self._cascade = cascade
        self._rank = rank
        self._folder = folder
        self._counts: dict[str, Counts] = {}
        self._due = 0.0
        self._said: set[tuple[str | None, Kind]] = set()

    def add(self, source: object, keep: bool | None, audited: bool, kept: bool | None) -> None:
        """Count a document; with a folder, look if that is due, without one after each changed decision.

        Args:
            source: what its metadata hold for the cascade's `audit_by`.
            keep: what the proxy decided. None: it was for the classifier to decide.
            audited: whether the classifier has scored it although the proxy decided.
            kept: what the classifier says, where it has scored it. None: it has no score.

        Raises:
            BrokenPromise: with `strict_audit`, a promise is broken.
        """
        changed = self._count(self._counts_of(value_text(source)), keep, audited, kept)
        if changed or self._folder is not None:
            self.look()

    def _count(self, counts: Counts, keep: bool | None, audited: bool, kept: bool | None) -> bool:
        """Gives whether the classifier has changed the proxy's decision."""
        if keep is None:
            if kept is not None:
                counts["classifier_kept" if kept else "classifier_dropped"] += 1
            return False
        outcome = "kept" if keep else "dropped"
        counts[f"proxy_{outcome}"] += 1
        if not audited:
            return False
        counts[f"audited_{outcome}"] += 1
        if kept is not keep:
            counts[f"wrongly_{outcome}"] += 1
        return kept is not keep

    def _counts_of(self, source: str) -> Counts:
        if source not in self._counts and len(self._counts) >= MAX_SOURCES:
            source = OTHER_VALUES
        return self._counts.setdefault(source, Counter())

    def look(self, at_the_end: bool = False) -> None:
        """Compare what was counted with what was promised. With a folder: if it is time to publish, and what is there.

        Args:
            at_the_end: publish now, whenever the last time was.

        Raises:
            BrokenPromise: with `strict_audit`, a promise is broken.
        """
        if self._folder is None:
            self._compare(self._counts)
        elif at_the_end or time.monotonic() >= self._due:
            self._due = time.monotonic() + SECONDS_BETWEEN_EXCHANGES
            try:
                published = self._exchanged(self._folder)
            except OSError as error:
                logger.warning(
                    f"The audit's counts cannot be exchanged in {self._folder}, so that the cascade's promise is not "
                    f"checked this time: {error}"
                )
            else:
                self._compare(published)

    def _exchanged(self, folder: str) -> dict[str, Counts]:
        """Publish this task's counts; gives what all tasks have published."""
        data = get_datafolder(folder)
        name = f"{self._rank:05d}.json"
        if data.is_local():
            data.makedirs("", exist_ok=True)
            write_json(os.path.join(data.path, name), self._counts, indent=None)
        else:  # an object appears whole
            with data.open(name, "w") as file:
                json.dump(self._counts, file)
        return added([self._counts, read_counts(folder, but=self._rank)])

    def _compare(self, counts: Mapping[str, Counts]) -> None:
        if self._cascade.certificate is None:
            return
        for finding in findings(counts, self._cascade.certificate):
            if not finding.is_broken or (finding.source, finding.kind) in self._said:
                continue
            self._said.add((finding.source, finding.kind))
            message = f"The cascade's promise is broken: {finding}. Calibrate on a sample of this corpus."
            if self._cascade.strict_audit:
                raise BrokenPromise(message)
            logger.warning(message)


def read_counts(folder: str, but: int | None = None) -> dict[str, Counts]:
    """What the tasks of a run have counted, by source.

    Args:
        folder: shared by the tasks.
        but: leave out the task of this rank.
    """
    data = get_datafolder(folder)
    found = []
    for path in data.list_files("") if data.isdir("") else ():
        if not path.endswith(".json") or path == f"{but if but is not None else -1:05d}.json":
            continue
        with suppress(ValueError), data.open(path, "r") as file:  # a damaged file
            found.append({source: Counter(counts) for source, counts in json.load(file).items()})
    return added(found)


def added(parts: Iterable[Mapping[str, Counts]]) -> dict[str, Counts]:
    """The counts of several tasks together."""
    total: dict[str, Counts] = {}
    for part in parts:
        for source, counts in part.items():
            total.setdefault(source, Counter()).update(counts)
    return total


def findings(counts: Mapping[str, Counts], certificate: Certificate) -> Iterator[Finding]:
    """What has been counted so far says of each promise: for all documents, and for each source.

    Half of the chance of a false alarm is that of all documents. With s sources each has 1 / ((s + 1) (s + 2)) of it:
    however many come, and however often one looks, that is at most half in all.

    Args:
        counts: by source.
        certificate: with the promises.
    """
    alpha = (1 - certificate.confidence) / len(certificate.bounds)
    groups: list[tuple[str | None, Counts, float]] = [(None, sum(counts.values(), Counter()), alpha / 2)]
    if len(counts) > 1:
        share = alpha / ((len(counts) + 1) * (len(counts) + 2))
        groups += [(source, counts[source], share) for source in sorted(counts)]
    for source, group, chance in groups:
        for bound in certificate.bounds:
            estimate, lower = share_changed(bound.kind, group, chance)
            yield Finding(source, bound.kind, bound.promised, estimate, lower)


def share_changed(kind: Kind, counts: Counts, alpha: float) -> tuple[float, float]:
    """The share of changed decisions of a kind: an estimate, and a lower confidence bound at any time of looking.

    The rate among the audited documents is that of the documents that the proxy decides. Of the documents that the
    classifier would keep, those are known that it has kept; of the proxy's, all are taken for right, which makes the
    bound lower.

    Args:
        kind: of the changed decisions.
        counts: of documents.
        alpha: the chance that the bound is ever above the share.
    """
    from datatrove_quality.cascade.bounds import lower_bound_at_any_time

    sides = ("dropped", "kept") if kind == "disagreement" else (kind.removeprefix("wrongly_"),)
    decided, audited, wrong = (
        sum(counts[f"{what}_{side}"] for side in sides) for what in ("proxy", "audited", "wrongly")
    )
    if not audited:
        return 0.0, 0.0
    if kind == "disagreement":
        others = decided + counts["classifier_kept"] + counts["classifier_dropped"]
        return wrong / audited * decided / others, lower_bound_at_any_time(wrong, audited, alpha) * decided / others
    other = "kept" if kind == "wrongly_dropped" else "dropped"
    right = counts[f"classifier_{other}"] + counts[f"proxy_{other}"]

    def of_those(rate: float) -> float:
        return rate * decided / max(1, right + rate * decided)

    return of_those(wrong / audited), of_those(lower_bound_at_any_time(wrong, audited, alpha))
