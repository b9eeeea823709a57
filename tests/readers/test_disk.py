"""Tests of what the readers of files share."""

from datatrove.pipeline.readers import JsonlReader

from datatrove_quality import ConversationJsonlReader
from tests.samples import rows, write_rows


def test_each_document_has_the_path_of_its_file(tmp_path) -> None:
    """As DataTrove's own reader writes it, whichever file comes next."""
    for name in "ab":
        write_rows(tmp_path / f"{name}.jsonl", [row | {"text": "t"} for row in rows(2, name)])
    ours, theirs = (
        [document.metadata["file_path"] for document in reader(str(tmp_path)).run()]
        for reader in (ConversationJsonlReader, JsonlReader)
    )
    assert ours == theirs
    assert ours == [str(tmp_path / f"{name}.jsonl") for name in "aabb"]
    assert all(
        "file_path" not in one.metadata for one in ConversationJsonlReader(str(tmp_path), add_file_path=False)()
    )
