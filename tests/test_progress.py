"""Live progress: one bar on a terminal, a line a minute in every log, and nothing where it is switched off."""

import contextlib
import os
import subprocess
import sys

import pytest
from datatrove.data import Document
from datatrove.utils.stats import Stats
from loguru import logger
from screens import Screen

from datatrove_quality import QualityFilter
from datatrove_quality import progress as progress_module
from datatrove_quality.progress import Progress


@pytest.fixture
def screen(monkeypatch):
    """A terminal to which DataTrove's first local worker logs, and a clock that shows everything at once."""
    screen = Screen()
    monkeypatch.setattr(progress_module, "BAR_SECONDS", 0.0)
    monkeypatch.delenv("COLUMNS", raising=False)  # its lines are as long as they are
    logger.remove()
    logger.add(screen, level="INFO", format="{level} {message}")
    yield screen
    logger.remove()
    logger.add(sys.stderr)


def scored_docs(count=50):
    return [
        Document(text="x", id=str(n), metadata={"quality_score": n % 5, "quality_tokens": 10}) for n in range(count)
    ]


def run(screen, **options):
    """A filter that drops two in five, with the screen in place of what pytest puts there."""
    with contextlib.redirect_stderr(screen):
        yield from QualityFilter(None, min_score=2, **options).run(scored_docs())


def test_the_bar_shows_documents_speed_share_and_reasons(screen):
    """What a user at a terminal wants to know, complete at the end."""
    assert len(list(run(screen, documents_per_task=[50]))) == 30
    last = screen.getvalue().split("\r")[-2:]
    assert any("task 0: 100%" in line and "50/50" in line and "tokens/s" in line for line in last), last
    assert any("60.0% kept, below_min_score 20" in line for line in last), last


@pytest.mark.parametrize(
    ("wanted", "terminal", "level", "shown"),
    [
        (None, True, "INFO", True),
        (None, True, "ERROR", False),  # DataTrove's other local workers
        (None, False, "INFO", False),
        (True, False, "INFO", True),
        (True, False, "ERROR", False),
        (False, True, "INFO", False),
    ],
)
def test_who_shows_a_bar(screen, wanted, terminal, level, shown):
    """One worker of many, on a terminal or where it is asked for."""
    screen.terminal = terminal
    logger.remove()
    logger.add(screen, level=level)
    list(run(screen, progress=wanted))
    assert ("50doc" in screen.getvalue()) == shown


@pytest.mark.parametrize("switch", ["", "1"])
def test_tqdms_own_switch(switch):
    """`TQDM_DISABLE=1` in the environment takes away this bar as it does others."""
    code = (
        "from datatrove.data import Document; from datatrove_quality import QualityFilter\n"
        "from datatrove_quality import progress; progress.BAR_SECONDS = 0\n"
        "list(QualityFilter(None, progress=True).run([Document(text='x', id='a', metadata={'quality_score': 1})]))"
    )
    environment = {**os.environ, "TQDM_DISABLE": switch} if switch else os.environ
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert ("1doc" in done.stderr) == (not switch)


def test_log_lines_stay_whole(screen):
    """A line that is logged while the bar is there begins at a line's beginning, with nothing of the bar in it."""
    for doc in run(screen):
        if doc.id == "28":
            logger.info("a line of another library")
    logger.info("a line behind the bar")
    lines = [line.rpartition("\r")[2] for line in screen.getvalue().split("\n")]
    assert "INFO a line of another library" in lines and "INFO a line behind the bar" in lines


@pytest.mark.parametrize("wanted", [None, False])
def test_a_line_a_minute_in_the_log(screen, monkeypatch, log, wanted):
    """Without a terminal the log has the same figures, unless they are not wanted; with the time left if known."""
    screen.terminal = False
    clock = iter(float(second) for second in range(0, 10_000, 7))
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: next(clock))
    with contextlib.suppress(StopIteration):
        list(run(screen, progress=wanted, documents_per_task=[100]))
    lines = [line for line in log if "documents/s" in line]
    assert len(lines) == (0 if wanted is False else 5)
    if lines:
        assert lines[-1].startswith("INFO 45 of 100 documents, 06:")
        assert "0 documents/s, 1 tokens/s, 60.0% kept, below_min_score 18" in lines[-1]


def test_speed_is_that_of_the_last_minute(monkeypatch):
    """Minutes of loading a model are not in the speed once they are a minute ago."""
    clock = [0.0]
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: clock[0])
    stats = Stats("filter")
    speeds = []
    with Progress(stats, None, "task 0", None) as progress:
        for second in range(600, 720):
            clock[0] = float(second)
            for _ in range(10):
                stats["total"].update(1)
                stats["tokens"].update(50)
            speeds.append(progress._speeds(clock[0]))
    assert speeds[0][0] < 0.1
    assert speeds[-1] == pytest.approx((10, 500))


def test_looking_adds_nothing_to_the_statistics(screen):
    """A count that a task never made does not appear in its table because it was read."""
    made = [Document(text="x", id="a", metadata={"quality_score": 3.0})]
    step = QualityFilter(None)
    with contextlib.redirect_stderr(screen):
        list(step.run(made))
    assert "1doc" in screen.getvalue()
    assert "tokens" not in step.stats.stats


def test_a_consumer_that_stops_early_takes_the_bar_away(screen):
    """What is logged after a pipeline was left is not the bar's business any more."""
    stream = run(screen)
    next(stream)
    stream.close()
    before = len(screen.getvalue())
    logger.info("after")
    assert screen.getvalue()[before:].strip("\r\n ") == "INFO after"


def test_the_last_filter_of_a_pipeline_speaks(screen):
    """Two filters in one pipeline are one bar: that of the one that decides at the end."""
    steps = QualityFilter(None), QualityFilter(None, min_score=2)
    for _ in range(2):
        with contextlib.redirect_stderr(screen):
            assert len(list(steps[1].run(steps[0].run(scored_docs())))) == 30
    bars = [line.rpartition("\r")[2] for line in screen.getvalue().split("\n")]
    assert sum(" 50doc [" in bar for bar in bars) == 2 and "100.0% kept" not in screen.getvalue()
