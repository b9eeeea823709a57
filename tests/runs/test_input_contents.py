"""Inputs do not change under a run, nor between two tasks of one."""

import os
from contextvars import ContextVar

import pytest
from kept_rows import FILES, Keep, expected, kept, run, write_files

from datatrove_quality.runs.completed_tasks import IncompleteRun


@pytest.fixture
def source(tmp_path):
    return write_files(tmp_path / "in")


def interrupted(source, output):
    """A run of which the last task failed."""

    def fail():
        raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError, match="interrupted"):
        run(source, output, Failing(fail))
    return output


# What the next run does in its last task; a step's settings do not tell of such an object.
NOW = ContextVar("NOW", default=None)


class Failing(Keep):
    """`Keep(0)` in its settings, so that the next run continues it."""

    def __init__(self, before=None):
        super().__init__(0)
        if before:
            NOW.set(before)

    def __call__(self, data, rank, world_size):
        for document in data:
            if (before := NOW.get()) and document.id == "2-3":
                NOW.set(None)
                before()
            yield document


@pytest.mark.parametrize("keeps_time", [True, False])
@pytest.mark.parametrize("number", [0, 2])
def test_an_input_of_the_same_size_with_other_content_is_refused(source, tmp_path, number, keeps_time):
    """Between start and resume, whether its task was done or not; the file is named."""
    output = interrupted(source, tmp_path / "out")
    path = source / f"{number}.jsonl"
    before = path.stat()
    path.write_text(path.read_text().replace("Oi?", "Oi!"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + (1 if keeps_time else 10**9)))
    with pytest.raises(ValueError, match=rf"{number}\.jsonl: the content has changed since this run started"):
        run(source, output, Failing())
    run(source, output, Failing(), overwrite=True)
    assert kept(output) == expected(0)


def test_inputs_that_were_only_touched_are_read_on(source, tmp_path):
    """People touch files on scratch file systems, which delete what is old."""
    output = interrupted(source, tmp_path / "out")
    for path in source.iterdir():
        os.utime(path)
    run(source, output, Failing())
    assert kept(output) == expected(0)


@pytest.mark.parametrize(
    ("change", "is_refused"), [("append", True), ("replace", True), ("touch", False)], ids=lambda case: str(case)
)
def test_an_input_that_changes_during_the_run_ends_it(source, tmp_path, change, is_refused):
    """Also where no task was reading it in that moment: rows of both contents would mix."""
    path = source / "1.jsonl"

    def at_work():
        if change == "append":
            path.open("a").write(path.read_text().splitlines()[0].replace("1-0", "1-99") + "\n")
        elif change == "replace":
            path.write_text(path.read_text().replace("Oi?", "Oi!"))
        else:
            os.utime(path, (1, 1))

    if is_refused:
        with pytest.raises(IncompleteRun, match=r"1\.jsonl: the content has changed since this run started"):
            run(source, tmp_path / "out", Keep(0, at_work, "0-3"))
    else:
        run(source, tmp_path / "out", Keep(0, at_work, "0-3"))
        assert kept(tmp_path / "out") == expected(0)


def test_of_large_inputs_blocks_are_compared(source, tmp_path, monkeypatch, log):
    """The first and the last bytes are always among them; what was not compared is said."""
    from datatrove_quality.runs import input_contents

    monkeypatch.setattr(input_contents, "MAX_DIGESTED", 100)
    monkeypatch.setattr(input_contents, "BLOCK", 20)
    output = interrupted(source, tmp_path / "out")
    for path in source.iterdir():
        os.utime(path)
    run(source, output, Failing())
    assert sum("bytes are the same; the others were not compared" in line for line in log) == FILES
    text = (source / "2.jsonl").read_text()
    (source / "2.jsonl").write_text(text[:-4] + "!" + text[-3:])
    with pytest.raises(ValueError, match=r"2\.jsonl: the content has changed"):
        run(source, output, Failing())
