"""Columns that an adapter names: refused where no file has them."""

import json
import re

import pytest

from datatrove_quality.filter import QualityFilter
from datatrove_quality.rows.to_document import ConversationAdapter, TextAdapter
from datatrove_quality.runs.inputs import find_inputs
from datatrove_quality.runs.named_columns import require_named_columns
from datatrove_quality.runs.run import Run


PAIR = {"sistema": "Seja breve.", "pergunta": "Quanto é 2 + 2?", "resposta": "4.", "n": 1}
NAMED = {"prompt_key": "pergunta", "answer_key": "resposta"}


def corpus(tmp_path, **files):
    """A folder of files of rows."""
    folder = tmp_path / "in"
    folder.mkdir()
    for name, rows in files.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.mark.parametrize(
    "misspelt",
    [
        {"system_key": "sistem"},
        {"history_key": "ante"},
        {"id_key": "m"},
        {"ignored_columns": ("note",)},
        {"answer_key": "respost"},
        {"prompt_key": "pergunt"},
    ],
)
def test_a_misspelt_column_is_refused(tmp_path, misspelt):
    """It is named with its parameter, beside the columns that there are."""
    folder = corpus(tmp_path, a=[PAIR, {"conversation_error": 3}, 5], b=[PAIR])
    ((name, value),) = misspelt.items()
    message = (
        f"{name}={value!r}: none of the first 3 rows has such a column; there are 'sistema', 'pergunta', 'resposta'"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        require_named_columns(find_inputs(str(folder)), ConversationAdapter(**NAMED | misspelt))


def test_names_with_commas_between_them_are_refused(tmp_path):
    """One name with a comma in it is what they are."""
    folder = corpus(tmp_path, a=[PAIR])
    with pytest.raises(ValueError, match="one by one, without commas"):
        require_named_columns(find_inputs(str(folder)), ConversationAdapter(ignored_columns=("pergunta,resposta",)))


def test_a_column_that_some_rows_have_is_not_missing(tmp_path):
    """In a later file, in metadata, as a key of messages; and defaults are not sought."""
    nested = {"metadata": json.dumps({"antes": []}), "messages": json.dumps([{"role": "user", "nota": "x"}])}
    folder = corpus(tmp_path, a=[PAIR], b=[{"contexto": 1}], c=[nested])
    inputs = find_inputs(str(folder))
    named = {"system_key": "contexto", "history_key": "antes", "ignored_columns": ("nota", "n")}
    require_named_columns(inputs, ConversationAdapter(**NAMED | named))
    require_named_columns(inputs, ConversationAdapter())
    require_named_columns(inputs, TextAdapter("pergunta", id_key="n"))
    require_named_columns(inputs, lambda reader, row, path, number: row)


def test_a_column_that_few_rows_have_is_not_missing(tmp_path):
    """One conversation in thousands may have a system prompt."""
    rare = {"pergunta": "Oi?", "resposta": "Oi."}
    folder = corpus(tmp_path, a=[*[rare] * 5_000, PAIR])
    require_named_columns(find_inputs(str(folder)), ConversationAdapter(**NAMED, system_key="sistema"))


@pytest.mark.parametrize("scorer", ["there is no such model", None])
def test_a_run_with_a_misspelt_column_leaves_nothing(tmp_path, scorer):
    """Also where scores are only read; before the model is looked for."""
    folder = corpus(tmp_path, a=[PAIR | {"quality_score": 3.0}])
    run = Run(folder, tmp_path / "out")
    adapter = ConversationAdapter(**NAMED, id_key="ident")
    with pytest.raises(ValueError, match="id_key='ident': none of the first 1 rows"):
        run([run.reader(adapter), QualityFilter(scorer, min_score=2), run.writer("kept")])
    assert not (tmp_path / "out").exists()


def test_empty_paths_and_flags_that_are_texts_are_refused(tmp_path):
    """An unset variable is no folder, and "no" is not False."""
    folder = corpus(tmp_path, a=[PAIR])
    with pytest.raises(ValueError, match="input='': give a folder"):
        Run("", tmp_path / "out")
    with pytest.raises(ValueError, match="output='': give a folder"):
        Run(folder, "")
    with pytest.raises(ValueError, match="overwrite='no': give True or False"):
        Run(folder, tmp_path / "out", overwrite="no")
    with pytest.raises(ValueError, match="checkpoints_dir='': give a folder"):
        QualityFilter("model", checkpoints_dir="")
