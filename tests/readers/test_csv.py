"""Tables: fields in quotes, separators, bad rows."""

import gzip
import json
from pathlib import Path

from adapted_rows import reasons
from file_forms import read, rows_of

from datatrove_quality.readers.csv import ConversationCsvReader
from datatrove_quality.rows.to_document import ConversationAdapter, TextAdapter
from datatrove_quality.rows.types import CONVERSATION_ERROR


def test_tables(tmp_path: Path) -> None:
    """CSV and TSV with quotes, line breaks in fields, and any line ends."""
    adapter = ConversationAdapter(prompt_key="pergunta", answer_key="resposta")
    raw = 'id,pergunta,resposta\r\n1,"a, ""b""\nc",d\r\n2,e,f\r\n'.encode("utf-8-sig")
    documents = read(tmp_path, raw, "in.csv", ConversationCsvReader, adapter=adapter)
    assert [document.metadata["messages"][0]["content"] for document in documents] == ['a, "b"\nc', "e"]
    assert rows_of(documents)[1] == {"id": "2", "pergunta": "e", "resposta": "f"}
    (document,) = read(tmp_path, b"texto\tn\nA\tB\n", "in.tsv", ConversationCsvReader, adapter=TextAdapter("texto"))
    assert (document.text, document.metadata["n"]) == ("A", "B")
    packed = gzip.compress(b"texto,n\nA,B\n")
    (document,) = read(tmp_path, packed, "in.csv.gz", ConversationCsvReader, adapter=TextAdapter("texto"))
    assert document.text == "A"
    long = b"texto\n" + b"x" * 500_000 + b"\n"
    assert len(read(tmp_path, long, "in.csv", ConversationCsvReader, adapter=TextAdapter("texto"))[0].text) == 500_000


def test_bad_rows_of_tables(tmp_path: Path) -> None:
    """Too many or too few fields, and bytes that are no UTF-8, are bad rows and stop nothing."""
    raw = b"texto,n\nA,B\nA\nA,B,C\n\xff,B\n\nA,B\n"
    documents = read(tmp_path, raw, "in.csv", ConversationCsvReader, adapter=TextAdapter("texto"))
    assert reasons(documents) == [None, "invalid_csv", "invalid_csv", "invalid_utf8", None]
    assert json.loads(documents[2].text) == ["A", "B", "C"]
    twice = read(tmp_path, b"a,a\n1,2\n", "in.csv", ConversationCsvReader, adapter=TextAdapter("a"))
    assert reasons(twice) == ["invalid_csv"]
    assert "'a'" in twice[0].metadata[CONVERSATION_ERROR]
