"""A file of given bytes, read as a run reads it; shared by the tests of readers."""

from pathlib import Path
from typing import Any

from datatrove.data import Document

from datatrove_quality.readers.jsonl import ConversationJsonlReader
from datatrove_quality.rows.to_row import RowAdapter


ROWS = [
    {"instruction": f'Pergunta {n}, [com] {{sinais}} e "aspas" \\', "input": "", "output": f"R {n}"} for n in range(5)
]


def read(
    tmp_path: Path, raw: bytes, name: str = "in.jsonl", reader: Any = ConversationJsonlReader, **options: Any
) -> list[Document]:
    folder = tmp_path / "raw"
    folder.mkdir(exist_ok=True)
    for path in folder.iterdir():
        path.unlink()
    (folder / name).write_bytes(raw)
    return list(reader(str(folder), **options).run())


def rows_of(documents: list[Document]) -> list[dict[str, Any]]:
    return [RowAdapter()(None, document) for document in documents]
