"""Masking of personal data: what is recognised, what is not, and that a masked text stays as it is."""

from pathlib import Path
from typing import Any

import orjson
import pytest
from commands import run_command
from datatrove.data import Document
from hypothesis import given
from hypothesis import strategies as st
from samples import read_rows, turns, words, write_rows

from datatrove_quality import ConversationAdapter, MaskPII, PerMessage, QualityFilter, RowAdapter, ScorerConfig


CPF, CNPJ, PHONE = "000.000.000-00", "00.000.000/0000-00", "(00) 00000-0000"

MASKED = {
    "Escreva a ana@empresa.com.br.": "Escreva a email@example.com.",
    "...ana.b+c@x.y.com!": "...email@example.com!",
    "<joão@exemplo.com>": "<email@example.com>",
    "https://x.com/?a=1&to=ana.b%2Bc%40x.com.br&n=2": "https://x.com/?a=1&to=email@example.com&n=2",
    "De 8.8.8.8 a 192.168.0.1": "De 0.0.0.0 a 192.168.0.1",
    "CPF:529.982.247-25, 52998224725": f"CPF:{CPF}, {CPF}",
    "1,529.982.247-25,ana": f"1,{CPF},ana",
    "11.222.333/0001-81 ou 11222333000181": f"{CNPJ} ou {CNPJ}",
    "12.ABC.345/01DE-35 ou 12ABC34501DE35": f"{CNPJ} ou {CNPJ}",
    "Ligue (11) 98765-4321.": f"Ligue {PHONE}.",
    "(11)3456-7890; 11 3456-7890; 11 98765-4321": f"{PHONE}; {PHONE}; {PHONE}",
    "11987654321; 5511987654321; 98765-4321": f"{PHONE}; {PHONE}; {PHONE}",
    "+55 (11) 98765-4321; +351 912 345 678; +14155552671": f"{PHONE}; {PHONE}; {PHONE}",
    "(11) 91234-5678; (11)911112222": f"{PHONE}; {PHONE}",
    "529 982 247 25": CPF,
    "(011) 9 8765-4321; 11 98765\u20114321": f"{PHONE}; {PHONE}",
}

LEFT = (
    *("@ana", "x @ y", "lodash@4.17.2", "ana@localhost", "versão 1.2.3.4.5", "300.1.1.1", "10.0.0.1"),
    *("529.982.247-26", "111.111.111-11", "11.222.333/0001-82", "00000000000000"),
    *("2010-2020", "CEP 01310-100", "1735689600", "3.14159265358", "0,11987654321", "1.000.000.000", "0800 123 4567"),
    *("f(11) = 98765", "x+1234567890", "10 20 30 40 50", "(10) 98765 é", "2024-11-29 10:30:00"),
)


def test_each_kind_has_one_replacement() -> None:
    """Addresses, CPF, CNPJ and phone numbers as people write them."""
    masked = {text: MaskPII().format(text) for text in MASKED}
    assert masked == MASKED


def test_other_numbers_stay() -> None:
    """Wrong check digits, years, decimals, local addresses and handles are no personal data."""
    assert [MaskPII().format(text) for text in LEFT] == list(LEFT)


def test_all_that_a_message_holds_is_masked() -> None:
    """Names, other keys, arguments as an object or as JSON text, numbers; what is no personal data stays as it is."""
    given = {"to": "ana@x.com", "phone": 11987654321, "n": [3, 0.5, True, None], "note": "\n11 98765-4321"}
    masked = {"to": "email@example.com", "phone": 0, "n": [3, 0.5, True, None], "note": f"\n{PHONE}"}
    keys, masked_keys = {"a@x.com": 1, "b@x.com": 2}, {"email@example.com": 1, "email@example.com (2)": 2}
    call = [{"id": "c1", "function": {"name": "send", "arguments": given | keys}}]
    row = {
        "messages": [
            {"role": "user", "content": "Oi", "name": "ana@x.com"},
            {"role": "assistant", "content": "", "tool_calls": call},
            {"role": "tool", "content": orjson.dumps(given, option=orjson.OPT_INDENT_2).decode()},
            {"role": "assistant", "content": "Feito.", "extra": orjson.dumps([orjson.dumps(given).decode()]).decode()},
        ]
    }
    document = Document(**ConversationAdapter()(None, row, "a.jsonl", 0))
    [edited] = PerMessage(MaskPII()).run([document])
    written = RowAdapter()(None, edited)["messages"]
    assert written == edited.metadata["messages"]
    assert written[0]["name"] == "email@example.com"
    assert written[1]["tool_calls"][0]["function"] == {"name": "send", "arguments": masked | masked_keys}
    assert written[2]["content"] == orjson.dumps(masked, option=orjson.OPT_INDENT_2).decode()
    assert orjson.loads(orjson.loads(written[3]["extra"])[0]) == masked
    assert written[3]["content"] == "Feito."


def test_masked_numbers_go_back_into_columns_of_messages() -> None:
    """As into `prompt` and `completion`, where a conversation is not one list."""
    call = {"name": "send", "arguments": {"to": "a@x.com", "phone": 11987654321, "cpf": 52998224725.0, "n": 3}}
    answer = {"role": "assistant", "content": "", "tool_calls": [{"function": call}]}
    row = {"prompt": [{"role": "user", "content": "Oi"}], "completion": [answer], "source": 11987654321}
    [edited] = PerMessage(MaskPII()).run([Document(**ConversationAdapter()(None, row, "a.jsonl", 0))])
    written = RowAdapter()(None, edited)
    masked = {"to": "email@example.com", "phone": 0, "cpf": 0.0, "n": 3}
    assert written["completion"][0]["tool_calls"][0]["function"]["arguments"] == masked
    assert (written["prompt"], written["source"]) == (row["prompt"], 11987654321)


def test_an_escaped_line_end_is_no_part_of_a_number() -> None:
    """As in source text, and in lines of JSON, which are no one JSON value."""
    assert MaskPII().format(r"Oi\n11 98765-4321\n12ABC34501DE35") == rf"Oi\n{PHONE}\n{CNPJ}"


CHARACTERS = '0123456789.,-/()+@ []{}":\\n'
PIECES = st.sampled_from([*MASKED, *LEFT, CPF, CNPJ, PHONE, *CHARACTERS, "11", "a", "com", "52998224725"])


@given(st.lists(PIECES, max_size=8).map("".join))
def test_a_masked_text_stays_as_it_is(text: str) -> None:
    """However numbers and addresses touch each other."""
    once = MaskPII().format(text)
    assert MaskPII().format(once) == once


@pytest.mark.parametrize("piece", ["aB3/+", "a.", "a@", "a%40", "%40", "98-", "1", "ABCDEFGH "])
def test_no_text_takes_for_ever(piece: str) -> None:
    """Texts without blanks, such as encoded images, end: what is square takes hours here."""
    assert MaskPII().format(piece * 100_000)


def test_a_resumed_task_finds_its_scores(config: ScorerConfig, tmp_path: Path) -> None:
    """A task that starts again behind another one makes the same texts, so that no score is computed twice."""
    rows = [{"prompt": f"Escreva a ana{i}@empresa.com, 11 98765-432{i}", "response": words(i, 5)} for i in range(4)]
    step = PerMessage(MaskPII())

    def from_store(first: int) -> float:
        made = (ConversationAdapter()(None, row, "a.jsonl", at) for at, row in enumerate(rows))
        documents = [Document(**one) for one in made][first:]
        quality = QualityFilter(config, checkpoints_dir=tmp_path / "checkpoints")
        written = [RowAdapter()(None, document) for document in quality.run(step.run(documents))]
        assert [row["prompt"] for row in written] == [f"Escreva a email@example.com, {PHONE}"] * len(written)
        return quality.stats["from_store"].total if "from_store" in quality.stats.stats else 0

    assert (from_store(1), from_store(0)) == (0, 3)


def test_curate_masks_what_it_scores_and_writes(model_folder: Any, tmp_path: Path) -> None:
    """`--mask-pii`: in what is kept and in what is dropped; two conversations that differ in an address are one."""
    pytest.importorskip("spacy", reason="the extra curate is not installed")
    rows = [
        {"id": "a", "messages": turns("Qual é o CPF de Ana?", f"529.982.247-25. {words(1)}")},
        {"id": "b", "conversations": [{"from": "human", "value": "Oi, 8.8.8.8"}, {"from": "gpt", "value": words(2)}]},
        {"id": "c", "prompt": "Escreva a ana@x.com", "response": ""},
        {"id": "d", "conversations": [{"from": "human", "value": "Oi, 8.8.4.4"}, {"from": "gpt", "value": words(2)}]},
    ]
    write_rows(tmp_path / "in" / "a.jsonl", rows)
    output = tmp_path / "out"
    arguments = ("--output", output, "--model", model_folder("qwen3"), "--mask-pii", "--no-progress")
    run_command("curate", tmp_path / "in", *arguments)
    kept, excluded = read_rows(output / "kept"), read_rows(output / "excluded")
    assert [row["id"] for row in kept] == ["a", "b"] and {row["id"] for row in excluded} == {"c", "d"}
    assert kept[0]["messages"][1]["content"] == f"{CPF}. {words(1)}"
    assert kept[1]["conversations"][0] == {"from": "human", "value": "Oi, 0.0.0.0"}
    assert excluded[1]["prompt"] == "Escreva a email@example.com"
