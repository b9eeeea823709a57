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
    with pytest.raises(RuntimeError, match="damaged after 5 documents"):
        list(load.run(None, rank=3))


@pytest.mark.parametrize("is_plain", [True, False])
def test_damage_is_an_error_and_never_another_document(tmp_path, is_plain):
    """A byte anywhere, of what is compressed or of the file: all documents before it are as they were."""
    made = [Document(words(seed), str(seed), metadata={"n": seed}) for seed in range(3)]
    list(SaveDocuments(str(tmp_path / "docs"), str(tmp_path / "unfinished")).run(iter(made)))
    path = tmp_path / "docs/00000.documents"
    whole = path.read_bytes()
    plain = zstandard.ZstdDecompressor().decompressobj().decompress(whole)
    content = plain if is_plain else whole
    for at in range(0, len(content), 7):
        damaged = content[:at] + bytes([content[at] ^ 64]) + content[at + 1 :]
        path.write_bytes(zstandard.compress(damaged) if is_plain else damaged)
        found = []
        try:
            found.extend(LoadDocuments(str(tmp_path / "docs")).run())
            assert not is_plain  # a byte of zstd's own header may say nothing that matters
        except RuntimeError as error:
            assert f"is damaged after {len(found)} documents" in str(error)
        assert found == made[: len(found)]
