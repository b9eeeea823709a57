"""What a terminal shows of the log, and what the log files have."""

import io
import pickle
import sys
from pathlib import Path

import pytest
from datatrove.utils.logging import setup_default_logger
from loguru import logger
from tqdm import tqdm

from datatrove_quality.model.hub import require_folder
from datatrove_quality.runs.local_pool import LocalExecutor
from datatrove_quality.runs.ray import RayExecutor
from datatrove_quality.runs.slurm import SlurmExecutor
from datatrove_quality.runs.terminal import QuietStream, is_quiet, quiet_stderr


class Stream(io.StringIO):
    """A stream that may be a terminal."""

    name = "<stderr>"

    def __init__(self, terminal):
        super().__init__()
        self.terminal = terminal

    def isatty(self):
        return self.terminal


@pytest.fixture
def logged():
    """A function that logs to a quiet stream, as loguru does, and gives what appears there."""

    def log(*, name="some.module", terminal=True, raised=None, shown=False, **messages):
        stream = Stream(terminal)
        number = logger.add(QuietStream(stream), format="{time} | {level} | {message}", level="DEBUG")
        try:
            for level, message in messages.items():
                to = logger.bind(shown=shown).patch(lambda record: record.update(name=name)).opt(exception=raised)
                to.log(level.upper(), message)
        finally:
            logger.remove(number)
        return stream.getvalue()

    return log


def test_warnings_are_one_line_and_the_rest_is_left_out(logged):
    """A line a person can read; DataTrove's statistics, pipelines and successes are for the log file."""
    shown = logged(debug="a", info="b", success="c", warning="too few rows", error="broken", critical="lost")
    assert shown == "warning: too few rows\nerror: broken\ncritical: lost\n"


def test_warnings_are_in_the_terms_of_the_user_in_workers_too(tmp_path, monkeypatch):
    """A command names the options that were typed; progress and prints are no messages about them."""
    stream = Stream(False)
    monkeypatch.setattr(sys, "stderr", stream)
    with quiet_stderr(True, str.upper):
        executor = pickle.loads(pickle.dumps(LocalExecutor([warn], logging_dir=str(tmp_path))))
        print("a print", file=sys.stderr)
    executor._run_for_rank(0)
    assert stream.getvalue().splitlines() == ["a print", "warning: TOO FEW ROWS"]
    logger.remove()


def warn(data, rank, world_size):
    logger.warning("too few rows")
    return ()


def test_a_message_that_comes_twice_is_shown_once():
    """The rows that a command looks at first are read again by its run, with the same warnings."""
    stream = Stream(True)
    quiet = QuietStream(stream)
    number = logger.add(quiet, level="DEBUG")
    try:
        for message in ("a", "a", "b", "a"):
            logger.info("between")
            logger.warning(message)
    finally:
        logger.remove(number)
    assert stream.getvalue() == "warning: a\nwarning: b\nwarning: a\n"


def test_a_task_without_near_duplicates_or_files_is_no_warning(logged):
    """DataTrove warns of it in each task of a run in which nothing is wrong, or of which `Run` has said it."""
    assert logged(name="datatrove.pipeline.readers.base", warning="No files found on data for rank=1") == ""
    name = "datatrove.pipeline.dedup.minhash"
    assert logged(name=name, warning="No .remove file for rank=0.") == ""
    assert logged(name=name, warning="Another one.") == "warning: Another one.\n"


def test_an_error_that_is_raised_is_not_told_twice(logged):
    """DataTrove logs a task's error with its traceback and raises it: the command reports it."""
    assert logged(name="datatrove.executor.base", raised=ValueError("x"), error="x") == ""
    assert logged(name="some.module", raised=ValueError("x"), error="x") == "error: x\n"


def test_without_a_terminal_progress_is_lines(logged):
    """In a file of `nohup` or a job there is no bar: a line a minute is what shows that a run lives."""
    assert logged(name="datatrove_quality.progress", terminal=False, info="5 documents") == "5 documents\n"
    assert logged(name="datatrove_quality.progress", terminal=True, info="5 documents") == ""


@pytest.mark.parametrize("terminal", [True, False])
def test_what_a_person_waits_for_is_shown(logged, terminal):
    """Of a training: what each evaluation finds, also beside the bar; where there is no bar, its losses too."""
    name = "datatrove_quality.training.hf_trainer"
    assert logged(name=name, terminal=terminal, shown=True, info="macro F1 90%") == "macro F1 90%\n"
    assert logged(name=name, terminal=terminal, info="loss 0.1") == ("" if terminal else "loss 0.1\n")


@pytest.mark.parametrize("terminal", [True, False])
def test_bars_are_for_terminals(monkeypatch, terminal):
    """DataTrove's steps draw them everywhere: in the file of a job they would be hundreds of lines."""
    stream = Stream(terminal)
    monkeypatch.setattr(sys, "stderr", stream)
    with quiet_stderr():
        for _ in tqdm(range(3), desc="Reading"):
            pass
        print("a line", file=sys.stderr)
    assert stream.getvalue().endswith("a line\n")
    assert (stream.getvalue() == "a line\n") == (not terminal)


def test_all_else_passes(monkeypatch):
    """Bars, tracebacks and prints are written as they are; the stream is a stream like the one it replaces."""
    stream = Stream(True)
    monkeypatch.setattr(sys, "stderr", stream)
    with quiet_stderr():
        print("a bar", file=sys.stderr)
        assert is_quiet() and sys.stderr.isatty() and sys.stderr.name == "<stderr>"
        with quiet_stderr():
            assert isinstance(sys.stderr, QuietStream) and sys.stderr._stream is stream
    assert stream.getvalue() == "a bar\n" and sys.stderr is stream
    with quiet_stderr(False):
        assert sys.stderr is stream


def test_the_log_of_a_script_is_quiet_meanwhile_only(monkeypatch):
    """In a script loguru writes to the standard error since it was imported; afterwards it does so again."""
    stream = Stream(True)
    monkeypatch.setattr(sys, "stderr", stream)
    logger.add(stream, format="before: {message}")
    try:
        with quiet_stderr():
            logger.info("Launching")
            logger.warning("slow")
            setup_default_logger()  # as DataTrove does after each task
            logger.success("Stats")
            logger.warning("done")
        assert stream.getvalue() == "warning: slow\nwarning: done\n"
        logger.info("my own line")
        assert "my own line" in stream.getvalue()
    finally:
        logger.remove()


def test_what_the_package_refuses_is_one_line_in_a_tasks_log(tmp_path, monkeypatch):
    """Without a traceback of three libraries; an error that does not say what to do keeps its own."""
    monkeypatch.setattr(sys, "stderr", Stream(True))

    def refuse(data, rank, world_size):
        require_folder("/nowhere")

    def fail(data, rank, world_size):
        int("four")

    def log_of(step, quiet):
        executor = LocalExecutor([step], logging_dir=str(tmp_path / f"{step.__name__}-{quiet}"))
        executor.quiet = quiet
        with pytest.raises(ValueError, match=r"no folder /nowhere|invalid literal"):
            executor._run_for_rank(0)
        return Path(executor.logging_dir.path, "logs/task_00000.log").read_text(encoding="utf-8")

    def log_of_job(executor):
        """A job's process is of its own, with the stream that SLURM or Ray gives it."""
        monkeypatch.setattr(sys, "stderr", Stream(False))
        with pytest.raises(ValueError, match="no folder /nowhere"):
            executor._run_for_rank(0)
        return Path(executor.logging_dir.path, "logs/task_00000.log").read_text(encoding="utf-8")

    of_slurm = {"memory": "1G", "exports": {}, "time": "1", "partition": None}
    for kind, own in ((SlurmExecutor, of_slurm), (RayExecutor, {})):
        monkeypatch.setattr(kind, "get_distributed_env", LocalExecutor.get_distributed_env)
        for quiet in (True, False):
            logs = str(tmp_path / f"{kind.__name__}-{quiet}")
            executor = kind([refuse], tasks=1, logging_dir=logs, **own)
            executor.quiet = quiet
            logger.configure(patcher=lambda record: None)  # a job's process has none
            assert ("Traceback" not in log_of_job(executor)) == quiet
    logger.configure(patcher=lambda record: None)
    monkeypatch.setattr(sys, "stderr", Stream(True))
    for step, quiet, is_short in ((fail, True, False), (refuse, False, False), (refuse, True, True)):
        told = log_of(step, quiet)
        assert ("Traceback" not in told) == is_short
        assert told.count("no folder /nowhere" if step is refuse else "invalid literal") == (1 if is_short else 2)
