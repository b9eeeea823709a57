"""What cannot be read, or not to an end, is refused before a run starts."""

import os

import pytest

from datatrove_quality.runs.inputs import find_inputs


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"messages": []}\n')
    return tmp_path


@pytest.mark.parametrize("pattern", ["", "/*.jsonl"])
def test_a_pipe_among_the_inputs_is_refused(folder, pattern):
    """Reading it would wait for a writer."""
    os.mkfifo(folder / "b.jsonl")
    with pytest.raises(ValueError, match=r"b\.jsonl is no regular file"):
        find_inputs(f"{folder}{pattern}")


@pytest.mark.parametrize("pattern", ["", "/*.jsonl"])
def test_a_broken_link_is_named(folder, pattern):
    """With what it points to."""
    (folder / "b.jsonl").symlink_to("gone.jsonl")
    with pytest.raises(ValueError, match=r"b\.jsonl is a link to gone\.jsonl, which is not there"):
        find_inputs(f"{folder}{pattern}")


def test_a_link_to_a_file_is_read(folder, tmp_path_factory):
    """Corpora are put together of links."""
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "c.jsonl"
    elsewhere.write_text("{}\n")
    (folder / "b.jsonl").symlink_to(elsewhere)
    assert set(find_inputs(str(folder)).sizes) == {"a.jsonl", "b.jsonl"}
