"""One run owns a folder: a run that lost it publishes nothing more, and inputs do not change under a run."""

import json
import os

import pytest

from datatrove_quality import ConversationAdapter
from datatrove_quality.runs import Run
from datatrove_quality.runs.claim import LostOutput
from datatrove_quality.runs.local_pool import IncompleteRun


FILES, ROWS = 3, 8


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for file in range(FILES):
        rows = [{"id": f"{file}-{row}", "messages": [{"role": "user", "content": "Oi?"}]} for row in range(ROWS)]
        (folder / f"{file}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


class Keep:
    """Keeps the rows from a number on; calls a function before a row of a file."""

    def __init__(self, first, before=None, at=None):
        self.first = first
        self.before = before
        self.at = at

    def __call__(self, data, rank, world_size):
        for document in data:
            if self.before and document.id == self.at:
                self.before()
            if int(document.id.split("-")[1]) >= self.first:
                yield document


def run(source, output, keep, **options):
    made = Run(source, output, **options)
    return made.execute([made.reader(ConversationAdapter()), keep, made.writer("kept")])


def kept(output):
    return sorted(json.loads(line)["id"] for path in (output / "kept").glob("*") for line in path.open())


def expected(first):
    return [f"{file}-{row}" for file in range(FILES) for row in range(first, ROWS)]


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
    from datatrove_quality.runs import outputs

    output = tmp_path / "out"
    taken = []

    def taken_before_move(folder, path, target, name, claim=None, move=outputs._move):
        if name.endswith("00001.jsonl") and not taken:
            taken.append(name)
            mv = target.fs.mv

            def late(*arguments):
                target.fs.mv = mv
                record = json.loads((output / "logs" / "run.json").read_text())
                (output / "logs" / "run.json").write_text(json.dumps(record | {"claim": {"id": "other", "pid": 1}}))
                mv(*arguments)

            target.fs.mv = late
        move(folder, path, target, name, claim)

    monkeypatch.setattr(outputs, "_move", taken_before_move)
    with pytest.raises(LostOutput):
        run(source, output, Keep(2))
    assert sorted(path.name for path in (output / "kept").iterdir()) == ["00000.jsonl"]


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


def test_a_run_takes_a_folder_in_which_files_still_come_and_go(source, tmp_path, monkeypatch):
    """What another process moves away while it is deleted ends neither the deletion nor the run."""
    from datatrove.io import DataFolder

    output = tmp_path / "out"
    run(source, output, Keep(2))
    rm, moved = DataFolder.rm, []

    def while_files_move(self, name, **options):
        if name == "kept" and len(moved) < 3:
            moved.append(name)
            rm(self, f"kept/{len(moved) - 1:05d}.jsonl")
            raise FileNotFoundError(name)
        rm(self, name, **options)

    monkeypatch.setattr(DataFolder, "rm", while_files_move)
    run(source, output, Keep(5), overwrite=True)
    assert len(moved) == 3 and kept(output) == expected(5)


def test_an_overwrite_that_was_killed_is_finished(source, tmp_path, monkeypatch):
    """The claim is written first, the earlier files are deleted next: what a kill leaves belongs to no run."""
    from datatrove.io import DataFolder

    output = tmp_path / "out"
    run(source, output, Keep(2))
    rm = DataFolder.rm
    monkeypatch.setattr(DataFolder, "rm", lambda self, name, **more: rm(self, name) if "active" in name else 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(source, output, Keep(5), overwrite=True)
    monkeypatch.undo()
    run(source, output, Keep(5))
    assert kept(output) == expected(5)


def interrupted(source, output):
    """A run of which the last task failed."""

    def fail():
        raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError, match="interrupted"):
        run(source, output, Failing(fail))
    return output


class Failing(Keep):
    """`Keep(0)` in its settings, so that the next run continues it."""

    def __init__(self, before=None):
        super().__init__(0)
        if before:
            Failing.now = before

    now = None

    def __call__(self, data, rank, world_size):
        for document in data:
            if Failing.now and document.id == "2-3":
                before, Failing.now = Failing.now, None
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
