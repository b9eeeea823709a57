"""Documents between two stages come back as they were."""

import datetime
import decimal

import pytest
import zstandard
from datatrove.data import Document
from samples import words

from datatrove_quality.runs.handover import LoadDocuments, SaveDocuments


def test_documents_come_back_as_they_were_and_a_cut_file_is_an_error(tmp_path):
    """Any value; and a file that was cut off by a dying disk is not taken for a shorter one."""
    values = {"when": datetime.date(2026, 1, 1), "none": None, "price": decimal.Decimal("1.10"), "deep": [{"a": (1,)}]}
    documents = [Document(words(seed), str(seed), metadata={**values}) for seed in range(5)]
    save = SaveDocuments(str(tmp_path / "docs"), str(tmp_path / "unfinished"))
    assert list(save.run(iter(documents), rank=3)) == documents
    load = LoadDocuments(str(tmp_path / "docs"))
    assert list(load.run(None, rank=3)) == documents
    with pytest.raises(FileNotFoundError):
        list(load.run(None, rank=2))
    path = tmp_path / "docs/00003.documents"
    path.write_bytes(
        zstandard.compress(zstandard.ZstdDecompressor().decompressobj().decompress(path.read_bytes())[:-4])
    )
    with pytest.raises(RuntimeError, match="damaged"):
        list(load.run(None, rank=3))
