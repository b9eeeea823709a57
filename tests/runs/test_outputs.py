"""Files appear under their names when they are complete, whatever becomes of the task and of copies of it."""

import json

import pytest
from datatrove.data import Document
from datatrove.io import get_datafolder
from datatrove.pipeline.dedup import MinhashDedupSignature
from samples import read_rows, words

from datatrove_quality.curation.deduplication import minhash_config
from datatrove_quality.rows.to_row import RowAdapter
from datatrove_quality.runs.outputs import WholeOutput, WholeParquetWriter, whole_files


def test_a_file_appears_when_it_is_complete(tmp_path):
    """While a task writes, and after it fails, no reader finds a part of a file; at its end the file is there."""
    from datatrove.data import Document

    from datatrove_quality.runs.outputs import WholeJsonlWriter

    def write(name, fail=False):
        with WholeJsonlWriter(str(tmp_path / "kept"), str(tmp_path / "unfinished"), compression=None) as writer:
            writer.write(Document(text=name, id=name), 0)
            writer.output_mg.get_file("00000.jsonl").flush()
            assert len(list((tmp_path / "unfinished").iterdir())) == 1
            before = [path.read_text() for path in (tmp_path / "kept").glob("*")]
            assert not any(name in text for text in before)
            if fail:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write("failed", fail=True)
    assert not list((tmp_path / "kept").glob("*"))
    write("first")
    write("second")
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["00000.jsonl"]
    assert json.loads((tmp_path / "kept" / "00000.jsonl").read_text())["id"] == "second"
    assert not list((tmp_path / "unfinished").iterdir())


@pytest.mark.parametrize("kind", ["WholeJsonlWriter", "WholeParquetWriter"])
def test_the_first_complete_copy_wins_and_nothing_of_others_stays(tmp_path, kind):
    """A copy that another has overtaken gives way; what a killed one left goes; other tasks' files are left alone."""
    from datatrove.data import Document

    from datatrove_quality.runs import outputs

    folders = (str(tmp_path / "kept"), str(tmp_path / "unfinished"))
    slow, fast, other = (getattr(outputs, kind)(*folders, compression=None) for _ in range(3))
    ending = "jsonl" if kind == "WholeJsonlWriter" else "parquet"
    (tmp_path / "unfinished").mkdir()
    names = ["00000.jsonl", "00001.jsonl"] if ending == "jsonl" else ["000_00000.parquet", "000_00001.parquet"]
    (tmp_path / "unfinished" / f"0123abcd.{names[0]}").write_text("of a killed task")
    with other:
        other.write(Document(text="other", id="other"), 1)
        with slow:
            slow.write(Document(text="slow", id="slow"), 0)
            with fast:
                fast.write(Document(text="fast", id="fast"), 0)
            assert len(list((tmp_path / "unfinished").iterdir())) == 1
        found = read_rows(tmp_path / "kept")
        assert [row["id"] for row in found] == ["fast"]
    assert {path.name for path in (tmp_path / "kept").iterdir()} == set(names)
    assert not list((tmp_path / "unfinished").iterdir())


def test_a_step_that_is_cut_off_or_comes_late_leaves_no_file(tmp_path):
    """Half of a task's files would be read by the next stage; a late copy would put old files among new ones."""
    pytest.importorskip("spacy", reason="the extra curate is not installed")  # DataTrove's words
    target, unfinished = get_datafolder(str(tmp_path / "out")), get_datafolder(str(tmp_path / "unfinished"))
    documents = [Document("um dois três quatro cinco seis", str(number)) for number in range(3)]

    def cut_off():
        yield from documents
        raise KeyboardInterrupt

    step = WholeOutput(MinhashDedupSignature(str(tmp_path / "out"), minhash_config()), str(tmp_path / "unfinished"))
    with pytest.raises(KeyboardInterrupt):
        list(step.run(cut_off()))
    assert not target.isdir("") and not unfinished.list_files()
    with pytest.raises(FileNotFoundError, match="another run"), whole_files(target, unfinished) as private:
        unfinished.rm("", recursive=True)
    assert not private.isdir("")
    list(step.run(iter(documents)))
    assert len(target.list_files()) == 14 and not unfinished.list_files()


def test_a_late_copy_does_not_disturb_who_reads(tmp_path):
    """While a copy of a finished task computes, its files stay as they were, sorted and whole."""
    pytest.importorskip("spacy", reason="the extra curate is not installed")  # DataTrove's words
    step = WholeOutput(MinhashDedupSignature(str(tmp_path / "out"), minhash_config()), str(tmp_path / "unfinished"))
    documents = [Document(words(seed), str(seed)) for seed in range(20)]
    list(step.run(iter(documents)))
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.sig")}
    seen = []

    def looking():
        for document in documents:
            seen.append({path: path.read_bytes() for path in (tmp_path / "out").rglob("*.sig")} == before)
            yield document

    list(step.run(looking()))
    assert len(before) == 14 and seen == [True] * 20
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.sig")} == before


def test_rows_that_wait_to_be_written_are_bounded_by_bytes(tmp_path, monkeypatch):
    """A thousand rows with large columns would be held otherwise; all are written, in their order."""
    monkeypatch.setattr("datatrove_quality.runs.outputs.WAITING_BYTES", 10_000)
    with WholeParquetWriter(str(tmp_path / "kept"), str(tmp_path / "unfinished"), adapter=RowAdapter()) as writer:
        for number in range(50):
            writer.write(Document(text="x" * 1_000, id=str(number)), 0)
            assert sum(map(len, writer._batches.values())) <= 10
    (path,) = (tmp_path / "kept").iterdir()
    assert [row["id"] for row in read_rows(path)] == [str(number) for number in range(50)]
