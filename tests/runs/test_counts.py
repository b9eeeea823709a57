"""Exact counts of what each step drops."""

import pytest
from datatrove.data import Document
from datatrove.io import get_datafolder
from datatrove.pipeline.filters import LambdaFilter
from datatrove.pipeline.writers import JsonlWriter

from datatrove_quality.runs.counts import counted, total_counts


def test_counts_do_not_carry_over_from_one_task_to_the_next(tmp_path):
    """SLURM's tasks_per_job runs several tasks with the same steps, whose statistics DataTrove never resets."""
    steps = filter_steps(tmp_path)
    for rank, size in enumerate((4, 7, 2)):
        data = [Document("x", str(number)) for number in range(size)]
        for step in counted(steps, str(tmp_path / "counts"), str(tmp_path / "unfinished")):
            data = step(data, rank, 3)
    [count] = total_counts([get_datafolder(str(tmp_path / "counts"))], 3)
    assert (count.came, count.left, count.dropped) == (13, 7, {"odd": 6})
    assert steps[0].stats["total"].total == 2


def test_a_document_that_is_lost_between_two_steps_stops_the_task(tmp_path):
    """DataTrove's filters lose documents silently if a batch comes back short: such a task must not look finished."""

    def losing(data, rank, world_size):
        yield from list(data)[1:]

    [first] = filter_steps(tmp_path)
    [second] = filter_steps(tmp_path / "b")
    data = [Document("x", str(number)) for number in range(4)]
    with pytest.raises(RuntimeError, match=r"lost or doubled .* or dropped by a function"):
        for step in counted([first, losing, second], str(tmp_path / "counts"), str(tmp_path / "unfinished")):
            data = step(data, 0, 1)
    assert not (tmp_path / "counts").exists()


def test_a_filter_without_a_writer_of_what_it_drops_is_counted_by_its_class(tmp_path):
    """Such filters are DataTrove's usual ones; what a function drops is counted nowhere, and the error says so."""
    keeping = LambdaFilter(lambda document: int(document.id) % 3 == 0)
    data = [Document("x", str(number)) for number in range(9)]
    for step in counted([keeping], str(tmp_path / "counts"), str(tmp_path / "unfinished")):
        data = step(data, 0, 1)
    [count] = total_counts([get_datafolder(str(tmp_path / "counts"))], 1)
    assert (count.name, count.came, count.left, sum(count.dropped.values())) == ("LambdaFilter", 9, 3, 6)


def filter_steps(folder):
    """A filter that keeps even ids, with a writer of what it drops."""
    writer = JsonlWriter(str(folder / "odd"), compression=None)
    return [LambdaFilter(lambda document: int(document.id) % 2 == 0, exclusion_writer=writer)]
