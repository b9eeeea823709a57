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


def test_a_pipe_by_its_own_path_is_refused_as_one(folder):
    """It is there, under any name: a shell's <(...) is a pipe too."""
    for name in ("b.jsonl", "b"):
        os.mkfifo(folder / name)
        with pytest.raises(ValueError, match=rf"/{name} is no regular file"):
            find_inputs(str(folder / name))


def test_a_broken_link_to_what_may_be_a_folder_is_named(folder):
    """Such as one on a disk that is not mounted: its rows would be left out."""
    (folder / "2024").symlink_to("/gone/2024")
    with pytest.raises(ValueError, match="2024 is a link to /gone/2024, which is not there"):
        find_inputs(str(folder))
    assert set(find_inputs(f"{folder}/*.jsonl").sizes) == {"a.jsonl"}


@pytest.mark.parametrize("pattern", ["*/*.jsonl", "20??/a.jsonl", "2024/*.jsonl", "**/*.jsonl", "2024/a.jsonl"])
def test_a_glob_that_leads_through_a_broken_link_is_refused(folder, pattern):
    """What is behind it would be left out, beside a folder of which all is read."""
    (folder / "2023").mkdir()
    (folder / "2023/a.jsonl").write_text("{}\n")
    (folder / "2024").symlink_to("/gone/2024")
    with pytest.raises(ValueError, match="2024 is a link to /gone/2024, which is not there"):
        find_inputs(f"{folder}/{pattern}")
    assert set(find_inputs(f"{folder}/2023/*.jsonl").sizes) == {"a.jsonl"}


def test_a_broken_link_by_its_own_path_is_named(folder):
    """It is there, but not what it points to."""
    (folder / "b.jsonl").symlink_to("gone.jsonl")
    with pytest.raises(ValueError, match=r"b\.jsonl is a link to gone\.jsonl, which is not there"):
        find_inputs(str(folder / "b.jsonl"))


@pytest.mark.parametrize("name", ["b.jsonl.1", "sub/b.jsonl.zip"])
def test_rows_in_a_form_that_is_not_read_are_refused_beside_others(folder, name):
    """Alone they are no input; beside one they would be left out."""
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("{}\n")
    with pytest.raises(ValueError, match=f"holds {name}, which seems to be a file of rows"):
        find_inputs(str(folder))
    assert list(find_inputs(f"{folder}/*.jsonl").sizes) == ["a.jsonl"]
