"""Each answer of a row with several has the score that it has in a row of its own."""

import pyarrow as pa
import pytest
from datatrove.data import Document
from datatrove.pipeline.formatters.base import BaseFormatter
from datatrove.pipeline.writers import ParquetWriter
from samples import read_rows, words, write_rows

from datatrove_quality import ConversationAdapter, QualityFilter, Run, ScoresAdapter, score_schema
from datatrove_quality.rows.per_message import PerMessage


LISTS = ("quality_scores", "quality_int_scores", "quality_token_counts", "quality_truncations", "quality_errors")


def answers(number, count):
    return [words(10 * number + place, 3 + 7 * place) for place in range(count)]


def preferences(count):
    """Rows with one chosen answer and, but for each fifth, one that was rejected."""
    made = []
    for number in range(count):
        chosen, rejected = answers(number, 2)
        row = {"id": f"p{number}", "prompt": f"Pergunta {number}", "chosen": chosen, "rejected": rejected}
        made.append(row if number % 5 else row | {"rejected": None})
    return made


def run(folder, model, steps=(), name="out", writer=None, **options):
    started = Run(folder / "in", folder / name)
    step = QualityFilter(model, checkpoints_dir=started.checkpoints, all_answers=True, **options)
    last = started.writer("scores", writer) if writer else started.writer("kept")
    started([started.reader(ConversationAdapter(all_answers=True)), *steps, step, last])
    return read_rows(folder / name / ("scores" if writer else "kept"))


def scores_alone(folder, model, prompts_and_answers):
    """The score of each pair in a row of its own."""
    rows = [{"id": str(i), "prompt": p, "response": a} for i, (p, a) in enumerate(prompts_and_answers)]
    write_rows(folder / "alone/0.jsonl", rows)
    started = Run(folder / "alone", folder / "alone-out")
    started([started.reader(ConversationAdapter()), QualityFilter(model), started.writer("kept")])
    return [row["quality_score"] for row in read_rows(folder / "alone-out/kept")]


@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
def test_preferences(tmp_path, model, ending):
    """Lists of all, chosen first; the document's own score is the chosen answer's; the source's columns come back."""
    source = preferences(12)
    write_rows(tmp_path / f"in/0{ending}", source)
    kept = run(tmp_path, model)
    pairs = [(row["prompt"], row[name]) for row in source for name in ("chosen", "rejected") if row[name]]
    alone = iter(scores_alone(tmp_path, model, pairs))
    assert [row["id"] for row in kept] == [row["id"] for row in source]
    for row, before in zip(kept, source, strict=True):
        expected = [next(alone) for name in ("chosen", "rejected") if before[name]]
        assert row["quality_scores"] == pytest.approx(expected, abs=1e-4)
        assert row["quality_score"] == row["quality_scores"][0]
        assert row["quality_int_score"] == row["quality_int_scores"][0]
        assert row["quality_tokens"] == row["quality_token_counts"][0]
        assert row["quality_truncations"] == [False] * len(expected) and row["quality_errors"] == [None] * len(
            expected
        )
        assert {name: row[name] for name in before} == before
        assert "_answers" not in row and len(set(row["quality_scores"])) == len(expected)


def test_many_answers_some_of_which_cannot_be_scored(tmp_path, model):
    """A place in the lists for each; a bad one costs none of the others; an error row has null in them."""
    texts = answers(1, 3)
    bad = {"id": "a", "prompt": "Pergunta", "completions": [texts[0], 3, texts[1], {"text": texts[2]}]}
    write_rows(tmp_path / "in/0.jsonl", [bad, {"id": "b", "prompt": "Pergunta"}])
    first, second = run(tmp_path, model)
    alone = scores_alone(tmp_path, model, [("Pergunta", text) for text in texts])
    found = first["quality_scores"]
    assert [found[0], *found[2:]] == pytest.approx(alone, abs=1e-4)
    assert found[1] is None and first["quality_errors"][1].startswith("invalid_content")
    assert second["quality_error"].startswith("missing_column")
    assert second["quality_scores"] == [None] and second["quality_errors"] == [second["quality_error"]]


def test_a_sidecar_and_a_threshold(tmp_path, model):
    """The sidecar has the lists; a threshold goes by the chosen answer."""
    source = preferences(12)
    write_rows(tmp_path / "in/0.jsonl", source)
    sidecar = run(tmp_path, model, name="sidecar", writer=ScoresAdapter("quality"))
    assert all(name in row for row in sidecar for name in LISTS)
    bound = sorted(row["quality_score"] for row in sidecar)[6]
    kept = run(tmp_path, model, name="kept", min_score=bound)
    assert [row["id"] for row in kept] == [row["id"] for row in sidecar if row["quality_scores"][0] >= bound]


def test_lists_of_an_earlier_run_do_not_stay(tmp_path, model):
    """They would stand beside the scores of another model; a source's own column of such a name does."""
    write_rows(tmp_path / "in/0.jsonl", preferences(2))
    first = run(tmp_path, model)
    write_rows(tmp_path / "again/0.jsonl", [*first, preferences(3)[2] | {"quality_scores": "own"}])
    started = Run(tmp_path / "again", tmp_path / "again-out")
    started([started.reader(ConversationAdapter()), QualityFilter(model), started.writer("kept")])
    *scored, own = read_rows(tmp_path / "again-out/kept")
    assert all(name not in row for row in scored for name in LISTS)
    assert own["quality_scores"] == "own"


def test_edited_conversations_are_an_error(tmp_path, model):
    """The other answers were not edited: they would be scored and written as they were."""

    class Shout(BaseFormatter):
        def format(self, text):
            return text.upper()

    adapter = ConversationAdapter(all_answers=True)
    made = Document(**adapter(None, preferences(2)[1], "f", 0))
    (edited,) = PerMessage(Shout()).run([made])
    with pytest.raises(ValueError, match=r"'p1'.*edited its conversation.*omit all_answers"):
        list(QualityFilter(model, all_answers=True).run([edited]))


def test_what_does_not_go_together(tmp_path):
    for options in ({"reuse_scores": True}, {"messages_key": None}, {"messages_key": "chat"}):
        with pytest.raises(ValueError, match="all_answers=True goes with neither"):
            QualityFilter("m", all_answers=True, **options)
    with pytest.raises(ValueError, match="all_answers=True does nothing with scorer=None"):
        QualityFilter(None, all_answers=True)


def test_a_schema_that_would_lose_the_lists_is_refused(tmp_path, model):
    """As one that would lose scores."""
    source = pa.Table.from_pylist(preferences(1)).schema
    document = Document(**ConversationAdapter(all_answers=True)(None, preferences(2)[1], "f", 0))
    narrow = ParquetWriter(str(tmp_path / "narrow"), schema=score_schema(source))
    with pytest.raises(ValueError, match=r"its schema has no quality_scores.*all_answers=True"):
        list(QualityFilter(model, all_answers=True, exclusion_writer=narrow, min_score=99).run([document]))
    wide = score_schema(source, all_answers=True)
    assert wide.field("quality_scores").type == pa.list_(pa.float64())
