"""What DataTrove's steps of one stage hand to those of the next is as it was written, or the task ends."""

import copy
import random
import shutil

import dill
import pytest
from datatrove.data import Document
from datatrove.pipeline.dedup import ExactDedupSignature, ExactFindDedups
from samples import words

from datatrove_quality.curation.deduplication import DropExactDuplicates, exact_config
from datatrove_quality.runs.outputs import WholeOutput
from datatrove_quality.runs.sealed_folder import SealedFolder


TASKS, FINDERS, ROWS = 3, 2, 20


def documents(rank):
    """Of all 60 texts 17 differ."""
    said = [[{"role": "user", "content": words(row % 17)}] for row in range(rank * ROWS, (rank + 1) * ROWS)]
    return [Document("", f"{rank}-{row}", metadata={"messages": turns}) for row, turns in enumerate(said)]


class Dedup:
    """The three stages of the search for exact duplicates, each step a copy as an executor makes it."""

    def __init__(self, folder):
        self.unfinished = str(folder / "unfinished")
        self.signatures = SealedFolder(str(folder / "between/signatures"))
        self.duplicates = SealedFolder(str(folder / "between/duplicates"))

    def whole(self, step, data, rank, tasks):
        list(copy.deepcopy(WholeOutput(step, self.unfinished)).run(data, rank, tasks))

    def sign(self):
        for rank in range(TASKS):
            step = ExactDedupSignature(self.signatures, exact_config(), FINDERS)
            self.whole(step, iter(documents(rank)), rank, TASKS)

    def find(self):
        for rank in range(FINDERS):
            step = ExactFindDedups(self.signatures, self.duplicates, exact_config())
            self.whole(step, None, rank, FINDERS)

    def kept(self):
        step = DropExactDuplicates(self.duplicates, exact_config())
        return [
            document.id
            for rank in range(TASKS)
            for document in dill.loads(dill.dumps(step)).run(iter(documents(rank)), rank, TASKS)
        ]


@pytest.fixture
def dedup(tmp_path):
    made = Dedup(tmp_path)
    made.sign()
    made.find()
    assert len(made.kept()) == 17
    return made


def damaged_files(folder):
    """The folder's files one after the other, each with a byte changed, cut, gone, or another's; and as it was."""
    choose = random.Random(7)
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    for path in files:
        whole = path.read_bytes()
        at = choose.randrange(len(whole))
        other = choose.choice([file for file in files if file.read_bytes() != whole]).read_bytes()
        for content in (whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :], whole[:at], other, None):
            path.unlink() if content is None else path.write_bytes(content)
            yield path
        path.write_bytes(whole)


@pytest.mark.parametrize("handed_on", ["signatures", "duplicates"])
def test_damage_of_a_file_or_of_its_digest_ends_the_task(dedup, tmp_path, handed_on):
    """Never another document dropped; an unchanged folder is read."""
    expected = dedup.kept()
    places = [tmp_path / "between" / handed_on, tmp_path / "between/seals" / handed_on]
    tries = 0
    for place in places:
        for path in damaged_files(place):
            tries += 1
            with pytest.raises(RuntimeError, match=r"(is damaged|is gone), since an earlier stage wrote it") as error:
                if handed_on == "signatures":
                    dedup.find()
                dedup.kept()
            assert "--overwrite" in str(error.value) and (place == places[1] or path.name in str(error.value))
    assert tries >= 4 * (FINDERS + TASKS)
    dedup.find()
    assert dedup.kept() == expected


def test_a_task_that_runs_again_replaces_its_files_and_their_digests(dedup):
    """As after a kill, or on a second node."""
    expected = dedup.kept()
    dedup.sign()
    dedup.find()
    assert dedup.kept() == expected


def test_files_of_other_writers_are_read_as_they_are(dedup, tmp_path):
    """A step of the user's own that writes into such a folder has no digests."""
    expected = dedup.kept()
    shutil.rmtree(tmp_path / "between/seals")
    dedup.find()
    shutil.rmtree(tmp_path / "between/seals")
    assert dedup.kept() == expected
