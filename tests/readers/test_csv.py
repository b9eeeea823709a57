"""Tables: fields in quotes, separators, bad rows."""

import gzip
import json
import random
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


def test_a_stray_quote_swallows_no_row(tmp_path: Path) -> None:
    """In TSV a quote that closes nothing is text; in CSV its line is a bad row; each other row is there."""
    adapter = ConversationAdapter(prompt_key="p", answer_key="r")
    answers = [f"resposta {n}" for n in range(100)]
    answers[20], answers[60], answers[80] = '"começa assim', '"e assim', '"mil" vezes'
    raw = "".join(f"{p}\t{r}\n" for p, r in [("p", "r"), *((f"pergunta {n}", r) for n, r in enumerate(answers))])
    documents = read(tmp_path, raw.encode(), "in.tsv", ConversationCsvReader, adapter=adapter)
    assert [document.metadata["messages"][1]["content"] for document in documents] == answers
    lines = raw.replace("\t", ",").splitlines()
    lines[41] = 'pergunta 40,"a, ""b""\nc"'
    table = "\r\n".join(lines).encode()
    documents = read(tmp_path, table, "in.csv", ConversationCsvReader, adapter=adapter)
    assert {n: reason for n, reason in enumerate(reasons(documents)) if reason} == dict.fromkeys(
        (20, 60, 80), "invalid_csv"
    )
    assert documents[20].text == 'pergunta 20,"começa assim'
    assert "line 22" in documents[20].metadata[CONVERSATION_ERROR]
    assert "line 63" in documents[60].metadata[CONVERSATION_ERROR]  # one row before it has two lines
    assert documents[40].metadata["messages"][1]["content"] == 'a, "b"\nc'
    assert documents[99].metadata["messages"][1]["content"] == answers[99]


def test_cut_tables(tmp_path: Path) -> None:
    """The row in which a damaged file ends is no row, whatever its fields are."""
    lines = [f'{n},"uma\n{random.Random(n).random()}, outra"\n' for n in range(5_000)]
    raw = "texto,n\n" + "".join(lines)
    cut = gzip.compress(raw.encode())[:-30_000]
    *documents, last = read(tmp_path, cut, "in.csv.gz", ConversationCsvReader, adapter=TextAdapter("texto"))
    assert len(documents) > 1_000
    assert reasons([last]) == ["truncated_file"]
    assert not any(reasons(documents))
    assert [document.text for document in documents] == [str(n) for n in range(len(documents))]
    assert lines[len(documents)].startswith(last.text) or last.text.startswith("the compressed")
