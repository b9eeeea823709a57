"""The score store: what was computed is not computed again, whatever happens to processes, files and disks."""

import errno
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import fsspec
import pytest
from scorers import score_files

from datatrove_quality import QualityFilter
from datatrove_quality.engine import store as store_module
from datatrove_quality.engine import store_files
from datatrove_quality.engine.store import Logit, ScoreStore
from datatrove_quality.model.fingerprint import Fingerprint


SCORER = Fingerprint({"weights": "w", "dtype": "float32"})
PROBES = [(9, [0.5]), (12, [1.5]), (15, [-2.0])]


def same(one, other):
    return one == other


def opened(folder, rank=0, scorer=SCORER, probes=PROBES):
    store = ScoreStore(str(folder), scorer, rank)
    store.settle(probes, same)
    return store


def fill(folder, texts, rank=0, **options):
    """Keep the length of each text as its logit."""
    with opened(folder, rank, **options) as store:
        for text in texts:
            store.add(text, Logit((len(text) / 3,), len(text), len(text) > 20))


def known(folder, texts, rank=0, **options):
    with opened(folder, rank, **options) as store:
        return store.lookup(texts)


TEXTS = [f"texto {'a' * number} ção 🙂" for number in range(50)]


# --- what is kept ----------------------------------------------------------------------------------------------------


def test_what_was_kept_comes_back_bit_for_bit(tmp_path):
    """Any float, NaN and infinity included, survives exactly."""
    values = [0.1 + 0.2, -0.0, 1e-310, float("nan"), float("inf"), 3.4028234663852886e38]
    with opened(tmp_path) as store:
        for value in values:
            store.add(repr(value), Logit((value, 2 * value), 3, True))
    found = known(tmp_path, map(repr, values))
    assert [repr(found[repr(value)].values) for value in values] == [repr((value, 2 * value)) for value in values]
    assert all(logit[1:] == (3, True, True) for logit in found.values())


def test_a_rank_reads_its_own_files_only(tmp_path):
    """Ten thousand ranks do not read each other's ten thousand files."""
    fill(tmp_path, TEXTS[:10], rank=1)
    fill(tmp_path, TEXTS[10:20], rank=12)
    fill(tmp_path, TEXTS[20:30], rank=1)
    assert set(known(tmp_path, TEXTS, rank=1)) == {*TEXTS[:10], *TEXTS[20:30]}


def test_another_scorer_finds_nothing_and_is_told_why(tmp_path, log):
    """Scores belong to a fingerprint; the part that differs is named, since a changed option may be an oversight."""
    fill(tmp_path, TEXTS)
    other = Fingerprint({"weights": "w", "dtype": "bfloat16"})
    assert not known(tmp_path, TEXTS, scorer=other)
    assert any("dtype was float32, is now bfloat16" in line for line in log)


def test_another_scorers_file_in_the_wrong_folder_is_not_taken(tmp_path):
    """A checksum starts from the fingerprint: no record passes for one of another scorer, even without its header."""
    other = Fingerprint({"weights": "v"})
    fill(tmp_path, TEXTS, scorer=other)
    (wrong,) = score_files(tmp_path)
    fill(tmp_path, ["x"])
    target = score_files(tmp_path / ".")[0].parent.parent / SCORER.digest / "00000_moved.scores"
    target.write_bytes(wrong.read_bytes())
    assert not known(tmp_path, TEXTS)
    target.write_bytes(wrong.read_bytes().split(b"\n", 1)[1])
    assert not known(tmp_path, TEXTS)


def test_files_may_be_joined(tmp_path):
    """Where inodes are scarce, `cat` makes one file of many."""
    for number in range(4):
        fill(tmp_path, TEXTS[number::4])
    joined = b"".join(path.read_bytes() for path in score_files(tmp_path))
    target = score_files(tmp_path)[0].with_name("00000_joined.scores")
    for path in score_files(tmp_path):
        path.unlink()
    target.write_bytes(joined)
    assert set(known(tmp_path, TEXTS)) == set(TEXTS)


def test_nothing_new_makes_no_file(tmp_path):
    """A rerun that computes nothing costs no inode."""
    fill(tmp_path, TEXTS)
    before = score_files(tmp_path)
    assert len(known(tmp_path, TEXTS)) == len(TEXTS)
    assert score_files(tmp_path) == before


def test_two_copies_at_once_write_two_files(tmp_path):
    """A requeue whose first copy lives on: neither waits for, or damages, the other."""
    one, other = opened(tmp_path), opened(tmp_path)
    for index, text in enumerate(TEXTS):
        (one, other)[index % 2].add(text, Logit((1.0,), 2, False))
        (one, other)[index % 2].save()
    one.close()
    other.close()
    assert len(score_files(tmp_path)) == 2
    assert set(known(tmp_path, TEXTS)) == set(TEXTS)


# --- when it is kept -------------------------------------------------------------------------------------------------


def test_a_thread_writes_while_nobody_asks(tmp_path):
    """A consumer that stalls does not keep scores in memory for more than five seconds."""
    store = opened(tmp_path)
    store.add("texto", Logit((1.0,), 2, False))
    deadline = time.monotonic() + 5
    while not score_files(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert set(known(tmp_path, ["texto"])) == {"texto"}
    store.close()


def test_saving_reaches_the_operating_system_at_once(tmp_path):
    """What the scorer has handed on is in the file, before any thread's turn."""
    store = opened(tmp_path)
    store.add("texto", Logit((1.0,), 2, False))
    store.save()
    assert b" 1.0 2 0 " in score_files(tmp_path)[0].read_bytes()
    store.close()


def test_a_store_leaves_no_thread(tmp_path):
    """Ten thousand ranks in one process do not pile up threads or open files."""
    before, descriptors = threading.active_count(), len(os.listdir("/proc/self/fd"))
    for rank in range(30):
        fill(tmp_path, ["texto"], rank=rank)
    assert threading.active_count() == before
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_a_process_that_ends_with_a_held_traceback_has_written(tmp_path):
    """At interpreter exit, a store that is still open is closed."""
    code = (
        "import sys; sys.path[:0] = sys.argv[2:]\n"
        "import test_store as t\n"
        "store = t.opened(sys.argv[1]); store.add('texto', t.Logit((1.0,), 2, False))\n"
        "raise SystemExit(3)\n"
    )
    here = str(Path(__file__).parent)
    result = subprocess.run([sys.executable, "-c", code, str(tmp_path), here], cwd=Path(here).parent, check=False)
    assert result.returncode == 3
    assert known(tmp_path, ["texto"])


def test_object_storage_gets_whole_parts():
    """What cannot be appended to gets a new object per commit, with the header in each."""
    folder = f"memory://checkpoints-{random.random()}"
    store = opened(folder)
    store.add("a", Logit((1.0,), 2, False))
    store.save()
    filesystem = fsspec.filesystem("memory")
    assert not filesystem.glob(f"{folder}/*/*.scores")  # not each window: at most every 60 s
    store._writer.write()
    store.add("b", Logit((2.0,), 2, False))
    store.close()
    assert len(filesystem.glob(f"{folder}/*/*.scores")) == 2
    assert filesystem.exists(f"{folder}/{SCORER.digest}/scorer.json")
    assert {text: logit.values for text, logit in known(folder, "ab").items()} == {"a": (1.0,), "b": (2.0,)}


# --- damage ----------------------------------------------------------------------------------------------------------


def test_a_torn_end_costs_that_record(tmp_path):
    """A process killed in the middle of a write leaves a line that is not taken for a score."""
    fill(tmp_path, TEXTS)
    (path,) = score_files(tmp_path)
    path.write_bytes(path.read_bytes()[:-5])
    assert set(known(tmp_path, TEXTS)) == set(TEXTS[:-1])


def test_random_damage_never_changes_a_score(tmp_path):
    """Bytes flipped, cut out or doubled anywhere, 200 times: what is still known is right, and little is lost."""
    fill(tmp_path, TEXTS)
    (path,) = score_files(tmp_path)
    whole, truth = path.read_bytes(), known(tmp_path, TEXTS)
    rng = random.Random(0)
    for _ in range(200):
        data = bytearray(whole)
        at, length = rng.randrange(len(data)), rng.choice([1, 1, 3, 40])
        kind = rng.choice(["flip", "cut", "double", "noise"])
        if kind == "flip":
            data[at] ^= 1 << rng.randrange(8)
        elif kind == "cut":
            del data[at : at + length]
        elif kind == "double":
            data[at:at] = data[at : at + length]
        else:
            data[at : at + length] = rng.randbytes(length)
        path.write_bytes(data)
        found = known(tmp_path, TEXTS)
        assert found.items() <= truth.items()
        assert len(found) >= len(TEXTS) - 3


def test_a_damaged_header_costs_nothing_of_ours(tmp_path):
    """Without its header a file's records still tell by their checksums whose they are."""
    fill(tmp_path, TEXTS)
    (path,) = score_files(tmp_path)
    path.write_bytes(b'{"format": 9' + path.read_bytes()[12:])
    assert len(known(tmp_path, TEXTS)) == len(TEXTS)


# --- folders that are not as they should be --------------------------------------------------------------------------


def warnings(log):
    return [line for line in log if line.startswith("WARNING") and "Checkpoints" in line]


def test_a_folder_that_cannot_be_written_is_said_once(tmp_path, log, monkeypatch):
    """Read-only: scoring goes on without saving, with one warning."""

    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(store_files, "_LocalFile", refuse)
    with opened(tmp_path) as store:
        for text in TEXTS:
            store.add(text, Logit((1.0,), 2, False))
            store.save()
        assert len(store.lookup(TEXTS)) == len(TEXTS)
    assert len(warnings(log)) == 1


@pytest.mark.parametrize("pause", [0.0, 60.0])
def test_a_disk_that_is_full_for_a_while_costs_nothing(tmp_path, log, monkeypatch, pause):
    """A write that stops in the middle is made again, in another file; half a line is taken for nothing."""
    real, full = os.write, []

    def write(descriptor, data):
        if not full:
            return real(descriptor, data)
        if full.pop() == "half":
            return real(descriptor, data[:-40])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(store_files.os, "write", write)
    monkeypatch.setattr(store_files, "SECONDS_AFTER_A_FAILURE", pause)
    with opened(tmp_path) as store:
        for index, text in enumerate(TEXTS):
            if index in ((0,) if pause else (0, 7, 20)):
                full[:] = ["none", "half"]
            store.add(text, Logit((1.0,), 2, False))
            store.save()
    assert set(known(tmp_path, TEXTS)) == set(TEXTS)
    assert len(warnings(log)) == 1


def test_a_disk_that_stays_full_does_not_fill_the_memory(tmp_path, monkeypatch):
    """What waits for room is bounded; the run goes on."""

    def refuse(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(store_files, "_LocalFile", refuse)
    monkeypatch.setattr(store_files, "SECONDS_AFTER_A_FAILURE", 0.0)
    monkeypatch.setattr(store_files, "MAX_WAITING_LINES", 10)
    with opened(tmp_path) as store:
        for text in TEXTS:
            store.add(text, Logit((1.0,), 2, False))
            store.save()
        assert len(store._writer._lines) == 10
        assert len(store.lookup(TEXTS)) == len(TEXTS)


def test_a_folder_that_is_deleted_meanwhile_is_made_again(tmp_path, monkeypatch):
    """Checkpoints may be deleted at any time: what comes later is kept in a new file."""
    monkeypatch.setattr(store_files, "SECONDS_AFTER_A_FAILURE", 0.0)
    with opened(tmp_path) as store:
        store.add("antes", Logit((1.0,), 2, False))
        store.save()
        shutil.rmtree(tmp_path / SCORER.digest)
        store._writer._sync()
        store.add("depois", Logit((2.0,), 2, False))
    assert set(known(tmp_path, ["antes", "depois"])) == {"depois"}


def test_a_part_that_arrived_although_it_seemed_not_to_is_not_written_over(monkeypatch):
    """Object storage may store an object and time out: the next part has another name, and nothing is lost."""
    folder = f"memory://checkpoints-{random.random()}"
    filesystem = fsspec.filesystem("memory")
    real, failures = filesystem.pipe_file, [True]

    def pipe_file(path, value, **options):
        real(path, value, **options)
        if path.endswith(".scores") and failures:
            failures.pop()
            raise TimeoutError("no answer")

    monkeypatch.setattr(filesystem, "pipe_file", pipe_file)
    monkeypatch.setattr(store_files, "SECONDS_AFTER_A_FAILURE", 0.0)
    with opened(folder) as store:
        for text in "abc":
            store.add(text, Logit((1.0,), 2, False))
            store._writer.write()
    assert set(known(folder, "abc")) == set("abc")


def test_a_file_in_the_place_of_the_folder(tmp_path, log):
    """Beneath a file nothing can be kept; that is said, and no more."""
    (tmp_path / "file").write_text("x")
    with opened(tmp_path / "file") as store:
        store.add("texto", Logit((1.0,), 2, False))
    assert len(warnings(log)) == 1
    assert (tmp_path / "file").read_text() == "x"


def test_files_that_cannot_be_read_are_left_out(tmp_path, log, monkeypatch):
    """An I/O error in one file costs that file, not the others and not the run."""
    fill(tmp_path, TEXTS[:25])
    bad = score_files(tmp_path)[0]
    fill(tmp_path, TEXTS[25:])
    bad.unlink()
    bad.mkdir()
    assert set(known(tmp_path, TEXTS)) == set(TEXTS[25:])
    assert len(warnings(log)) == 1


def test_a_newer_format_is_left_alone(tmp_path, log, monkeypatch):
    """A later version of this library may write otherwise: its records are not guessed at, nor touched."""
    monkeypatch.setattr(store_module, "FORMAT", 2)
    for _ in range(3):
        fill(tmp_path, TEXTS)
    monkeypatch.undo()
    before = [path.read_bytes() for path in score_files(tmp_path)]
    assert not known(tmp_path, TEXTS)
    (warning,) = warnings(log)
    assert "another version of this library" in warning
    assert [path.read_bytes() for path in score_files(tmp_path)] == before


def test_somebody_elses_files_stay(tmp_path):
    """A folder that holds other things keeps them, and they are not taken for scores."""
    folder = tmp_path / SCORER.digest
    folder.mkdir()
    (folder / "00000_notes.scores").write_bytes(os.urandom(4_000) + b"\n{}\n{\n")
    (folder / "notes.txt").write_text("x")
    fill(tmp_path, TEXTS)
    assert len(known(tmp_path, TEXTS)) == len(TEXTS)
    assert (folder / "notes.txt").read_text() == "x"


@pytest.mark.parametrize(
    ("folder", "says"),
    [
        ("", "give a folder"),
        (7, "give a folder"),
        (__file__, "is a file"),
        (f"file://{__file__}", "is a file"),
        ("s3://key:secret@bucket/x", "password"),
        ("s3://key:sec/ret@bucket/x", "password"),
        ("simplecache::s3://key:secret@bucket/x", "password"),
        ("https://secret@host/x", "password"),
        ("az://c/x?sig=secret", "password"),
        (Path("s3://bucket/x"), "lost a slash"),
        ("nowhere://x", "not there"),
    ],
)
def test_a_folder_that_cannot_be_is_refused_at_construction(folder, says):
    """Before a job is queued, and without repeating a password."""
    with pytest.raises(ValueError, match=says) as error:
        QualityFilter("m", checkpoints_dir=folder)
    assert "secret" not in str(error.value)


# --- other versions of the libraries ---------------------------------------------------------------------------------


def test_other_versions_with_the_same_probes_keep_their_scores(tmp_path, other_versions, log):
    """An upgrade that moves nothing costs nothing, and after the first start no model is asked again."""
    fill(tmp_path, TEXTS)
    other_versions("9.9")
    with ScoreStore(str(tmp_path), SCORER, 0) as store:
        assert store.undecided
        assert not store.lookup(TEXTS)
        store.settle(PROBES, same)
        assert len(store.lookup(TEXTS)) == len(TEXTS)
    with ScoreStore(str(tmp_path), SCORER, 0) as store:
        assert not store.undecided
        assert len(store.lookup(TEXTS)) == len(TEXTS)


def test_other_versions_with_other_probes_start_afresh(tmp_path, other_versions, log):
    """An upgrade that moves scores is said, and mixes nothing; the older version still finds its own."""
    fill(tmp_path, TEXTS)
    other_versions("9.9")
    moved = [(tokens, [value + 1]) for tokens, (value,) in PROBES]
    with ScoreStore(str(tmp_path), SCORER, 0) as store:
        store.settle(moved, same)
        assert not store.lookup(TEXTS)
        store.add(TEXTS[0], Logit((7.0,), 1, False))
    assert any("not used" in line and "torch" in line for line in warnings(log))
    with ScoreStore(str(tmp_path), SCORER, 0) as store:
        assert not store.undecided
        assert [logit.values for logit in store.lookup(TEXTS).values()] == [(7.0,)]
    other_versions("8.8")
    with ScoreStore(str(tmp_path), SCORER, 0) as store:
        store.settle(PROBES, same)
        assert store.lookup(TEXTS)[TEXTS[0]].values == (len(TEXTS[0]) / 3,)
