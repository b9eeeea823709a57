"""Links to folders in the input: rows behind them are not left out in silence."""

import os

import pytest

from datatrove_quality.runs.inputs import find_inputs


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"messages": []}\n')
    return tmp_path


@pytest.fixture
def linked(folder, tmp_path_factory):
    """The folder, with a folder and a link to one elsewhere."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    for path in (folder / "2023/b.jsonl", elsewhere / "c.jsonl", elsewhere / "deep/d.jsonl"):
        path.parent.mkdir(exist_ok=True)
        path.write_text("{}\n")
    (folder / "2024").symlink_to(elsewhere)
    return folder


@pytest.mark.parametrize("pattern", ["", "/", "/*/*.jsonl", "/20??/c.jsonl", "/**", "/**/*.jsonl", "/*/deep/*"])
def test_a_link_to_a_folder_of_rows_is_refused(linked, pattern):
    """DataTrove's search does not follow it, and a file of its name is none: its rows would be left out."""
    with pytest.raises(ValueError, match=r"/2024 is a link to a folder, .*elsewhere\d+\. .*\.jsonl would be left out"):
        find_inputs(f"{linked}{pattern}")


@pytest.mark.parametrize(
    ("pattern", "files"),
    [
        ("/*.jsonl", ["a.jsonl"]),
        ("/2023/*", ["b.jsonl"]),
        ("/*/b.jsonl", ["2023/b.jsonl"]),
        ("/2024", ["c.jsonl", "deep/d.jsonl"]),
        ("/2024/*.jsonl", ["c.jsonl"]),
        ("/2024/**", ["c.jsonl", "deep/d.jsonl"]),
    ],
)
def test_a_link_that_leaves_nothing_out_is_none_of_it(linked, pattern, files):
    """A glob that does not lead through it, or names it; it may be the input itself."""
    assert list(find_inputs(f"{linked}{pattern}").sizes) == files


def test_links_that_lead_back_or_to_no_rows(folder, tmp_path_factory):
    """What is behind them is read under its own name, or is no input: hidden, a description, of another kind."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    for name in ("picture.png", ".hidden.jsonl", "info.json"):
        (elsewhere / name).write_text("{}\n")
    (folder / "sub").mkdir()
    (elsewhere / "itself").symlink_to("itself")
    for name, target in (("me", "."), ("up", ".."), ("pictures", elsewhere)):
        (folder / "sub" / name).symlink_to(target)
    for pattern in ("", "/**/*.jsonl"):
        assert list(find_inputs(f"{folder}{pattern}").sizes) == ["a.jsonl"]


@pytest.mark.parametrize("is_linked", [False, True])
def test_a_folder_without_access_is_refused(folder, monkeypatch, is_linked):
    """A search leaves out what it cannot list; a glob, as in a shell, does so on purpose."""
    target = folder / ("2023" if not is_linked else "../other")
    for path in (target, folder / "lost+found"):
        path.mkdir()
    if is_linked:
        (folder / "2023").symlink_to(target)

    def scandir(path=".", real=os.scandir):
        if str(path).endswith(("2023", "lost+found")):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(ValueError, match=r"/2023 cannot be listed \(Permission denied\), and files in it"):
        find_inputs(str(folder))
    for pattern in ("**/*.jsonl", "*.jsonl"):
        assert list(find_inputs(f"{folder}/{pattern}").sizes) == ["a.jsonl"]
