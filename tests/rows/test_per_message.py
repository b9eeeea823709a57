"""Formatters on each message: what is scored is what is written, and a text that was edited alone is an error."""

import math
import pickle
from pathlib import Path
from typing import Any

import dill
import orjson
import pytest
from adapted_rows import adapt
from datatrove.data import Document
from datatrove.pipeline.filters import LambdaFilter
from datatrove.pipeline.formatters import FTFYFormatter, PIIFormatter, SymbolLinesFormatter
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import JsonlWriter
from filters import statistics
from layout_rows import A1, ONE, U1, assistant, gpt, human, user

from datatrove_quality import PerMessage, QualityFilter, RowAdapter, ScorerConfig, TextAdapter


MAIL, MASKED = "Escreva a ana@empresa.com.br", "Escreva a email@example.com"
MASK = PIIFormatter(email_replacement="email@example.com")


def through(row: Any, formatter: Any) -> Document:
    (document,) = PerMessage(formatter).run([adapt(row)])
    return document


ROWS = [
    ({"messages": [user("Oi"), assistant(MAIL)]}, {"messages": [user("Oi"), assistant(MASKED)]}),
    ({"conversations": [human("Oi"), gpt(MAIL)]}, {"conversations": [human("Oi"), gpt(MASKED)]}),
    ({"prompt": MAIL, "response": MAIL}, {"prompt": MASKED, "response": MASKED}),
    ({"instruction": "Oi", "input": MAIL, "output": A1}, {"instruction": "Oi", "input": MASKED, "output": A1}),
    (
        {"messages": [user("Oi"), assistant(A1, ) | {"reasoning_content": MAIL}]},
        {"messages": [user("Oi"), assistant(A1) | {"reasoning_content": MASKED}]},
    ),
]  # fmt: skip


@pytest.mark.parametrize(("row", "expected"), ROWS)
def test_pii(row: dict[str, Any], expected: dict[str, Any]) -> None:
    """Addresses are masked in every message, in the text, and in the columns that are written."""
    document = through(row, MASK)
    assert "ana@empresa" not in str(document.metadata["messages"]) + document.text
    assert RowAdapter()(None, document) == expected
    assert RowAdapter()(None, Document(**orjson.loads(orjson.dumps(document)))) == expected


def test_other_formatters() -> None:
    """FTFY mends each message, and lines of symbols go from the message that has them."""
    row = {"messages": [user("codificaÃ§Ã£o"), assistant("antes\n|||\ndepois")]}
    assert RowAdapter()(None, through(row, FTFYFormatter()))["messages"][0]["content"] == "codificação"
    lines = through(row, SymbolLinesFormatter(symbols_to_remove=["|"]))
    assert RowAdapter()(None, lines) == {"messages": [row["messages"][0], assistant("antes\ndepois")]}


def test_what_is_no_conversation_passes() -> None:
    """An error document stays the row that it was; filters are refused; the step pickles."""
    row = {"messages": [], "x": MAIL}
    assert RowAdapter()(None, through(row, MASK)) == row
    with pytest.raises(ValueError, match="formatter is of type LambdaFilter: give a DataTrove formatter"):
        PerMessage(LambdaFilter(lambda doc: True))  # type: ignore[arg-type]
    assert type(pickle.loads(dill.dumps(PerMessage(MASK))).formatter) is PIIFormatter


# --- a text that was edited alone ------------------------------------------------------------------------------------


def scored(config: ScorerConfig, document: Document, **options: Any) -> tuple[float, dict[str, float]]:
    step = QualityFilter(config, **options)
    (out,) = step.run([document])
    return out.metadata["quality_score"], statistics(step)


@pytest.mark.parametrize("row", [{"prompt": U1, "response": MAIL}, {"messages": [user(U1), assistant(MAIL)]}])
def test_an_edited_text_is_an_error(config: ScorerConfig, row: dict[str, Any]) -> None:
    """PIIFormatter before the filter changes neither what is scored nor what is written: an error says so."""
    (document,) = MASK.run([adapt(row)])
    with pytest.raises(ValueError, match=r"'file.jsonl/7'.*PIIFormatter.*PerMessage.*accept_changed_text=True"):
        scored(config, document)
    score, counts = scored(config, document, accept_changed_text=True)
    assert score == scored(config, adapt(row))[0]
    assert counts["changed_text"] == 1
    masked = through(row, MASK)
    assert scored(config, masked)[0] != score
    (again,) = MASK.run([masked])
    assert "changed_text" not in scored(config, again)[1]


def test_an_edit_after_per_message_is_an_error_too(config: ScorerConfig) -> None:
    """PerMessage says what the text is; a step behind it that edits the text alone is found as well."""
    document = through({"prompt": U1, "response": MAIL}, MASK)
    document.text = document.text.replace("Escreva", "")
    with pytest.raises(ValueError, match="PerMessage"):
        scored(config, document)


def test_white_space_is_counted(config: ScorerConfig) -> None:
    """A step that only moves white space stops nothing, and is counted."""
    document = adapt({"prompt": U1, "response": A1})
    document.text = document.text.replace("\n\n", "\n")
    assert scored(config, document)[1]["changed_white_space"] == 1
    assert "changed_white_space" not in scored(config, adapt({"prompt": U1, "response": A1}))[1]


def test_edited_messages_are_scored_as_edited(config: ScorerConfig) -> None:
    """A step that edits the conversation needs not edit the text; documents of other adapters are not looked at."""
    document = adapt({"prompt": U1, "response": A1})
    document.metadata["messages"][1]["content"] = "outra"
    expected = scored(config, adapt({"prompt": U1, "response": "outra"}))[0]
    assert scored(config, document)[0] == expected
    other = Document(text="qualquer", id="a", metadata={"messages": [user(U1), assistant("outra")]})
    assert scored(config, other)[0] == expected


def test_a_masked_text_is_scored_and_written(config: ScorerConfig, tmp_path: Path) -> None:
    """With TextAdapter the formatter's text is what is scored, and what is written into the column."""
    (tmp_path / "a.jsonl").write_bytes(orjson.dumps({"content": MAIL}) + b"\n")
    documents = MASK.run(JsonlReader(str(tmp_path), adapter=TextAdapter("content")).run())
    step = QualityFilter(config, messages_key=None)
    writer = JsonlWriter(str(tmp_path / "out"), adapter=RowAdapter(), compression=None)
    (document,) = writer.run(step.run(documents))
    assert orjson.loads((tmp_path / "out" / "00000.jsonl").read_bytes())["content"] == MASKED
    assert document.text == MASKED


# --- answers ---------------------------------------------------------------------------------------------------------


def test_no_answer(config: ScorerConfig) -> None:
    """A conversation without any turn of the assistant has no score, unless prompts are what is rated."""
    document = adapt({"messages": [user(U1)], "resposta": A1})
    step = QualityFilter(config)
    (out,) = step.run([document])
    assert out.metadata["quality_error"].startswith("no_answer: ")
    assert "--answer-key" in out.metadata["quality_error"]
    _, counts = scored(config, adapt({"messages": [user(U1)]}), allow_no_answer=True)
    assert counts["ends_with_user"] == 1
    calls = {"messages": [user(U1), assistant("") | {"reasoning_content": "hum"}, user(U1)]}
    assert next(QualityFilter(config).run([adapt(calls)])).metadata["quality_error"].startswith("role_not_rendered")
    assert scored(config, adapt({"messages": [*ONE, user(U1)]}))[1]["ends_with_user"] == 1
    assert not {"ends_with_user", "empty_answer"} & scored(config, adapt({"messages": ONE}))[1].keys()


def test_an_empty_answer_is_scored_and_counted(config: ScorerConfig) -> None:
    """It is there, and bad; a column that lost its answers must not pass unseen."""
    for text in ("", " \n"):
        score, counts = scored(config, adapt({"prompt": U1, "response": text}))
        assert math.isfinite(score) and counts["empty_answer"] == counts["scored"] == 1


def test_tools_and_template_arguments(config: ScorerConfig, log: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Tools are rendered only where asked for; arguments of the template always, or the row has no score."""
    template = "{% if tools %}{{ tools[0].function.name }}{% endif %}{{ custom_instructions or '' }}"
    template += "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
    own = ScorerConfig(model=config.model, dtype="float32", device="cpu", chat_template=template)
    plain, tools = adapt({"messages": ONE}), [{"name": "soma", "description": "d", "parameters": {}}]
    monkeypatch.setattr("datatrove_quality.rows.layouts.arguments._said", set())
    for value in (tools, orjson.dumps(tools).decode()):
        document = adapt({"messages": ONE, "tools": value})
        assert scored(own, document)[0] == scored(own, plain)[0]
        assert scored(own, document, render_tools=True)[0] != scored(own, plain)[0]
    for value in ({"custom_instructions": "Breve."}, '{"custom_instructions": "Breve."}'):
        document = adapt({"messages": ONE, "chat_template_kwargs": value})
        assert scored(own, document)[0] != scored(own, plain)[0]
        (out,) = QualityFilter(config).run([adapt({"messages": ONE, "chat_template_kwargs": value})])
        assert out.metadata["quality_error"].startswith("argument_not_rendered")
    assert len([line for line in log if "render_tools=True" in line]) == 1
    nested = adapt({"messages": ONE, "metadata": {"chat_template_kwargs": {"custom_instructions": "x"}}})
    assert scored(own, nested)[0] == scored(own, plain)[0]
