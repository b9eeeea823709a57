"""One run owns a folder: a run that lost it publishes nothing more."""

import errno
import fcntl
import json
import os
import threading
import time

import pytest
from datatrove.io import get_datafolder
from fsspec.implementations.local import LocalFileSystem
from kept_rows import Keep, expected, kept, run, second_run_at, write_files

from datatrove_quality.runs import run_record
from datatrove_quality.runs.claim import LostOutput
from datatrove_quality.runs.completed_tasks import IncompleteRun


@pytest.fixture
def source(tmp_path):
    return write_files(tmp_path / "in")


@pytest.fixture
def without_locks(monkeypatch):
    """As on a network file system that has none: elsewhere a second run waits until the first has taken the folder."""

    def refused(*arguments):
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(fcntl, "flock", refused)


@pytest.mark.parametrize("at", ["0-0", "0-7", "1-3", "2-7"])
def test_a_slow_run_whose_folder_was_taken_publishes_nothing(source, tmp_path, at):
    """The second run's rows are all there, and only they; the first ends with an error that names the second."""
    output = tmp_path / "out"

    def second():
        (output / "logs" / "active.json").unlink()  # as of a machine that cannot be asked
        run(source, output, Keep(5), overwrite=True)

    with pytest.raises(LostOutput, match=rf"belongs to another run now \(process {os.getpid()} on "):
        run(source, output, Keep(2, second, at))
    assert kept(output) == expected(5)
    completions = sorted(path.name for path in (output / "logs" / "completions").iterdir())
    assert completions == ["00000", "00001", "00002"]
    assert run(source, output, Keep(5)) is not None
    assert kept(output) == expected(5)


def test_a_folder_that_was_deleted_is_not_published_into(source, tmp_path):
    """Nor a folder whose record is gone."""
    output = tmp_path / "out"
    with pytest.raises(LostOutput, match=r"run\.json is gone"):
        run(source, output, Keep(2, lambda: (output / "logs" / "run.json").unlink(), "1-3"))
    assert kept(output) == ["0-2", "0-3", "0-4", "0-5", "0-6", "0-7"]


def test_a_file_that_was_moved_too_late_is_removed(source, tmp_path, monkeypatch):
    """The folder is taken between the look and the move: the moved file is removed again."""

    output = tmp_path / "out"

    def taken_before_move(self, source, place, real=LocalFileSystem.mv, **options):
        if place.endswith("00001.jsonl"):
            record = json.loads((output / "logs" / "run.json").read_text())
            (output / "logs" / "run.json").write_text(json.dumps(record | {"claim": {"id": "other", "pid": 1}}))
        real(self, source, place, **options)

    monkeypatch.setattr(LocalFileSystem, "mv", taken_before_move)
    with pytest.raises(LostOutput):
        run(source, output, Keep(2))
    assert sorted(path.name for path in (output / "kept").iterdir()) == ["00000.jsonl"]


@pytest.mark.parametrize("at", [1, 2, 4])
def test_a_run_that_was_stopped_before_a_move_replaces_no_file_of_the_next(source, tmp_path, monkeypatch, at):
    """It has looked, and when it goes on, the second run has ended, which has deleted the unfinished file."""
    output = tmp_path / "out"
    second_run_at(monkeypatch, LocalFileSystem, "mv", source, output, at)
    with pytest.raises(LostOutput, match="belongs to another run now"):
        run(source, output, Keep(2))
    assert kept(output) == expected(5)


@pytest.mark.parametrize("file", ["inputs.txt", "00001.jsonl"])
def test_a_file_that_the_new_run_deleted_tells_of_the_new_run(source, tmp_path, monkeypatch, file):
    """In a task, and before the first of them: not of a file that is missing."""
    from datatrove_quality.runs import outputs

    output = tmp_path / "out"

    def taken_before_move(folder, path, target, name, claim=None, move=outputs._move):
        if name.endswith(file):
            record = json.loads((output / "logs" / "run.json").read_text())
            (output / "logs" / "run.json").write_text(json.dumps(record | {"claim": {"id": "other", "pid": 1}}))
            folder.rm(path)
        move(folder, path, target, name, claim)

    monkeypatch.setattr(outputs, "_move", taken_before_move)
    with pytest.raises(LostOutput, match=r"belongs to another run now \(process 1 on"):
        run(source, output, Keep(2))
    assert not (output / "logs" / "completions" / "00001").exists()


@pytest.mark.usefixtures("without_locks")
@pytest.mark.parametrize("at", [1, 2])
def test_a_run_that_was_stopped_while_it_took_the_folder_deletes_nothing_of_the_next(
    source, tmp_path, monkeypatch, at
):
    """Its claim was written, and a part of the earlier run deleted; the third run has ended when it goes on."""
    output = tmp_path / "out"
    run(source, output, Keep(3))
    second_run_at(monkeypatch, run_record, "_is_claimed", source, output, at)
    with pytest.raises(LostOutput, match="belongs to another run now"):
        run(source, output, Keep(2), overwrite=True)
    assert kept(output) == expected(5)
    assert not list((output / "logs").glob("deleted-*"))
    run(source, output, Keep(5))
    assert kept(output) == expected(5)


@pytest.mark.usefixtures("without_locks")
def test_a_run_that_was_stopped_before_it_took_the_folder_keeps_nothing_of_the_other(source, tmp_path, monkeypatch):
    """Its record comes after that of a run that has completed all tasks: none of them is taken for its own."""
    output = tmp_path / "out"
    run(source, output, Keep(3))
    second_run_at(monkeypatch, run_record, "_write", source, output)
    run(source, output, Keep(2), overwrite=True)
    assert kept(output) == expected(2)


def test_a_run_waits_for_one_that_is_taking_the_folder(source, tmp_path, monkeypatch, log):
    """Neither overwrites. The first has looked and not written yet: it would delete what the second has by then."""
    output, refused, real = tmp_path / "out", [], run_record._write

    def second(record):
        record = record | {"input": "another", "claim": {"id": "second"}}
        try:
            run_record.claim_output(get_datafolder(str(output)), record, overwrite=False)
        except ValueError as error:
            refused.append(str(error))

    def write(folder, record):
        monkeypatch.setattr(run_record, "_write", real)
        others.append(threading.Thread(target=second, args=[record]))
        others[0].start()
        while others[0].is_alive() and not any("waiting for another run" in line for line in log):
            time.sleep(0.01)
        assert not (output / "logs/run.json").exists()
        real(folder, record)

    others = []
    monkeypatch.setattr(run_record, "_write", write)
    try:
        run(source, output, Keep(2))
    except LostOutput:
        others[0].join()
        assert not refused and kept(output) == []
    else:
        others[0].join()
        assert "different settings" in refused[0] and kept(output) == expected(2)


def test_whatever_ends_a_run_that_has_lost_its_folder_it_names_the_next_one(source, tmp_path):
    """Its marks are gone, or a folder that it lists: such errors would say to start it again."""
    output = tmp_path / "out"

    def second():
        (output / "logs" / "active.json").unlink()
        run(source, output, Keep(5), overwrite=True)
        raise IncompleteRun("3 of 3 tasks failed")

    with pytest.raises(LostOutput, match="belongs to another run now"):
        run(source, output, Keep(2, second, "1-3"))


def test_an_overwrite_that_was_killed_is_finished(source, tmp_path, monkeypatch):
    """The claim is written first, the earlier files are deleted next: what a kill leaves belongs to no run."""
    output = tmp_path / "out"
    run(source, output, Keep(2))
    monkeypatch.setattr(run_record, "_deletions", lambda output, name: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(source, output, Keep(5), overwrite=True)
    monkeypatch.undo()
    run(source, output, Keep(5))
    assert kept(output) == expected(5)
