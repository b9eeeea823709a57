"""The quality filters of a run: their models, what they need of the rows, and what is recorded of them."""

import json

import pyarrow.parquet as pq
import pytest
from filter_runs import start
from samples import read_rows, rows, write_rows
from tiny_models import ENCODER, encoder_tokenizer, save_model

from datatrove_quality import ConversationAdapter, QualityFilter, Run, ScorerConfig, TextAdapter
from datatrove_quality.runs import scoring as scoring_module


def test_other_settings_are_refused_before_the_model_is_looked_for(tmp_path, model, monkeypatch):
    """What is compared without it takes no time; what only the model tells is compared later."""
    write_rows(tmp_path / "in/a.parquet", rows(3))
    start(tmp_path, model)

    def no_model(config):
        raise AssertionError

    monkeypatch.setattr(scoring_module, "find_scorer", no_model)
    with pytest.raises(
        ValueError, match=r"different settings:\n  QualityFilter\.min_score: was -1\.0, is now 2\.0\nG"
    ):
        start(tmp_path, model, 2.0)
    with pytest.raises(AssertionError):
        start(tmp_path, model)


def test_two_filters_have_columns_tables_and_records_of_their_own(tmp_path, model, capsys):
    """Of two prefixes, in Parquet: the schema has both, and each file says what made which score."""
    write_rows(tmp_path / "in/a.parquet", rows(10))
    run = Run(tmp_path / "in", tmp_path / "out")
    other = ScorerConfig(model=model, max_tokens=30)
    result = run(
        [
            run.reader(ConversationAdapter()),
            QualityFilter(model, prefix="one"),
            QualityFilter(other, prefix="two", min_score=-1, exclusion_writer=run.writer("excluded")),
            run.writer("kept"),
        ]
    )
    schema = pq.read_schema(tmp_path / "out/kept/000_00000.parquet")
    limits = {
        prefix: json.loads(schema.metadata[f"{prefix}_scorer".encode()])["parts"]["max_tokens"]
        for prefix in ("one", "two")
    }
    assert limits == {"one": 160, "two": 30}
    assert {f"{prefix}_{name}" for prefix in ("one", "two") for name in ("score", "error", "tokens")} <= set(
        schema.names
    )
    assert [found.prefix for found in result.filters] == ["one", "two"]
    assert [found.counts["scored"] for found in result.filters] == [10, 10]
    assert capsys.readouterr().out.count("documents in") == 2


def test_text_is_scored_by_an_encoder(tmp_path):
    """Plain text with `messages_key=None`: no template is needed, and the rows come back."""
    encoder = save_model(tmp_path / "encoder", "bert", encoder_tokenizer(), **ENCODER)
    items = [{"id": f"{n}", "text": f"Um texto, o {n}."} for n in range(4)]
    write_rows(tmp_path / "in/a.jsonl", [*items, {"id": "empty", "text": ""}])
    run = Run(tmp_path / "in", tmp_path / "out")
    run([run.reader(TextAdapter()), QualityFilter(str(encoder), messages_key=None, prefix="edu"), run.writer("kept")])
    found = read_rows(tmp_path / "out/kept")
    assert [row["id"] for row in found] == ["0", "1", "2", "3", "empty"]
    assert all(isinstance(row["edu_score"], float) for row in found[:4])
    assert found[4]["edu_error"].startswith("empty_text")


def test_a_corpus_without_a_score_ends_in_an_error(tmp_path, model):
    """An emptied corpus must not look like a finished job; nor does one of the wrong layout begin."""
    write_rows(tmp_path / "in/a.jsonl", [{"id": "x", "messages": []}])
    with pytest.raises(ValueError, match=r"No document could be scored\. 1 of 1 documents: no_messages"):
        start(tmp_path, model)
    write_rows(tmp_path / "in/a.jsonl", [{"id": "x", "body": "Um texto."}])
    with pytest.raises(ValueError, match="None of the first 1 rows can be scored"):
        start(tmp_path, model, overwrite=True)
