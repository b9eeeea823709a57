"""How far a task is: a bar on a terminal, and a line a minute in the log."""

import re
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, ClassVar, TypeVar

from datatrove.utils.stats import Stats
from loguru import logger
from tqdm import tqdm


T = TypeVar("T")

BAR_SECONDS = 0.3
LINE_SECONDS = 60.0
# Speeds are those of the last minute: neither of the model's loading, nor of the last window of documents alone.
SPEED_SECONDS = 60.0
REASONS_SHOWN = 2


class Progress:
    """Shows a filter's statistics while they grow.

    Per document it costs a look at the clock. The bar belongs to one worker, DataTrove's first on this machine, and
    gives way to its log lines. `TQDM_DISABLE=1` in the environment takes it away, as any of tqdm's. Of several filters
    in a pipeline the last one shows its statistics: DataTrove starts at the end.

    Args:
        stats: the statistics of a filter that counts as `QualityFilter` does.
        shown: None: a bar if there is a terminal, and lines; True: a bar in any case, and lines; False: neither.
        label: the text before the bar.
        expected: documents to come. None: not known.
        describe: says what became of the documents, from the counts by name. None: as `QualityFilter` counts.
    """

    _showing: ClassVar["Progress | None"] = None

    def __init__(
        self,
        stats: Stats,
        shown: bool | None,
        label: str,
        expected: int | None,
        describe: Callable[[dict[str, int]], list[str]] | None = None,
    ):
        self._stats = stats
        self._shown = shown
        self._label = label
        self._expected = expected
        self._describe = describe
        self._bar: tqdm | None = None

    def __enter__(self) -> "Progress":
        now = time.monotonic()
        self._line_due = now + LINE_SECONDS
        self._marks = deque([(now, 0, 0)])
        if self._shown is False or Progress._showing is not None:
            return self
        Progress._showing = self
        if (self._shown or sys.stderr.isatty()) and _is_first_worker():
            self._bar = tqdm(
                total=self._expected,
                desc=self._label,
                unit="doc",
                miniters=1,
                delay=BAR_SECONDS,
                dynamic_ncols=True,
                file=sys.stderr,
            )
            # A log line takes the bar's place on the screen; the bar comes again below it.
            logger.configure(patcher=self._clear)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if Progress._showing is self:
            Progress._showing = None
        if self._bar is not None:
            self._show_bar(time.monotonic())
            self._bar.close()
            logger.configure(patcher=lambda record: None)

    def following(self, items: Iterable[T]) -> Iterator[T]:
        """The items as they are, with the progress shown as they go by."""
        if Progress._showing is not self:
            yield from items
            return
        due = 0.0
        for item in items:
            yield item
            now = time.monotonic()
            if now >= due:
                due = self._show(now)

    def _show(self, now: float) -> float:
        """Show what is due, and say when something will be."""
        if self._bar is not None:
            self._show_bar(now)
        if now >= self._line_due:
            self._line_due = now + LINE_SECONDS
            logger.info(self._line(now))
        return self._line_due if self._bar is None else now + BAR_SECONDS

    def _show_bar(self, now: float) -> None:
        assert self._bar is not None
        _, tokens = self._speeds(now)
        self._bar.set_postfix_str(", ".join([f"{tokens:,.0f} tokens/s", *self._outcomes()]), refresh=False)
        if self._bar.update(self._count("total") - self._bar.n):
            # Another process's line takes the bar's place too, and this one does not know of it.
            sys.stderr.write("\r")

    def _line(self, now: float) -> str:
        documents = self._count("total")
        speed, tokens = self._speeds(now)
        done = f"{documents:,} documents"
        if self._expected is not None and speed:
            left = tqdm.format_interval(max(0, self._expected - documents) / speed)
            done = f"{documents:,} of {self._expected:,} documents, {left} left"
        return ", ".join([done, f"{speed:,.0f} documents/s", f"{tokens:,.0f} tokens/s", *self._outcomes()])

    def _speeds(self, now: float) -> tuple[float, float]:
        """Documents and tokens per second."""
        self._marks.append((now, self._count("total"), self._count("tokens")))
        while len(self._marks) > 2 and now - self._marks[1][0] >= SPEED_SECONDS:
            self._marks.popleft()
        (start, *before), (_, *after) = self._marks[0], self._marks[-1]
        seconds = max(now - start, 1e-9)
        documents, tokens = ((new - old) / seconds for old, new in zip(before, after, strict=True))
        return documents, tokens

    def _outcomes(self) -> list[str]:
        """The share that is kept, and why most of the others are not; or what the caller says instead."""
        if self._describe is not None:
            return self._describe({name: self._count(name) for name in self._stats.stats})
        drops = {name.removeprefix("dropped_"): self._count(name) for name in self._stats.stats if "dropped_" in name}
        commonest = sorted(drops.items(), key=lambda drop: -drop[1])[:REASONS_SHOWN]
        share = self._count("forwarded") / max(1, self._count("total"))
        return [f"{share:.1%} kept", *(f"{reason} {count:,}" for reason, count in commonest)]

    def _count(self, name: str) -> int:
        # Asked for by `[]`, a count that is not there would come to be.
        return int(self._stats.stats[name].total) if name in self._stats.stats else 0

    def _clear(self, record: Any) -> None:
        if self._bar is not None:
            self._bar.clear()


def _is_first_worker() -> bool:
    """DataTrove's first local worker logs to the console from INFO on, the others errors only; nothing else tells."""
    levels = re.findall(r"level=(\d+), sink=<stderr>", repr(logger))
    return all(int(level) <= logger.level("INFO").no for level in levels)
