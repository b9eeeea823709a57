"""Files appear whole: what was there before stays until the new file is complete."""

import json
import math
import os

import pytest

from datatrove_quality.atomic_write import atomic_file, write_atomic, write_json


def test_text_bytes_and_json_are_written_as_they_are(tmp_path):
    write_atomic(tmp_path / "a.txt", "ação\r\nfim\n")
    assert (tmp_path / "a.txt").read_bytes() == "ação\r\nfim\n".encode()
    write_atomic(str(tmp_path / "b"), b"\x00\xff")
    assert (tmp_path / "b").read_bytes() == b"\x00\xff"
    write_json(tmp_path / "c.json", {"ç": [1, None]})
    assert (tmp_path / "c.json").read_text(encoding="utf-8") == '{\n  "ç": [\n    1,\n    null\n  ]\n}\n'
    write_json(tmp_path / "c.json", [1, 2], indent=None)
    assert (tmp_path / "c.json").read_text(encoding="utf-8") == "[1, 2]\n"
    assert sorted(os.listdir(tmp_path)) == ["a.txt", "b", "c.json"]


def test_the_path_may_have_no_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_atomic("a.txt", "a")
    assert (tmp_path / "a.txt").read_text() == "a"


def test_the_old_file_stays_until_the_block_ends(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("old")
    with atomic_file(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_text() == "old"
    assert path.read_text() == "new"


def test_the_bytes_are_on_the_disk_before_the_name_is_given(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda number: (calls.append(os.fstat(number).st_size), fsync(number)))
    monkeypatch.setattr(os, "replace", lambda source, target: (calls.append("replace"), replace(source, target)))
    write_atomic(tmp_path / "a", b"12345")
    assert calls == [5, "replace"]


@pytest.mark.parametrize("error", [OSError("full"), KeyboardInterrupt()])
def test_after_an_error_the_old_file_stays_and_no_other_is_left(tmp_path, error):
    path = tmp_path / "a"
    path.write_text("old")
    with pytest.raises(type(error)), atomic_file(path) as file:
        file.write(b"half")
        raise error
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize(
    ("value", "error"), [(math.nan, ValueError), ({"a": math.inf}, ValueError), ({1j}, TypeError)]
)
def test_what_json_cannot_hold_changes_nothing(tmp_path, value, error):
    write_json(tmp_path / "a.json", 1)
    with pytest.raises(error):
        write_json(tmp_path / "a.json", value)
    assert json.loads((tmp_path / "a.json").read_text()) == 1


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        write_atomic(tmp_path / "nowhere" / "a", "a")


def test_the_file_has_the_rights_that_any_new_file_has(tmp_path):
    (tmp_path / "plain").write_text("a")
    write_atomic(tmp_path / "ours", "a")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode
