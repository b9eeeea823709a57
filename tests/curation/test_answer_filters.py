"""DataTrove's filters on the answers of a chat, with limits for them."""

import pytest
from datatrove.data import Document
from datatrove.pipeline.dedup import MinhashDedupSignature
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import dialogue, words


pytest.importorskip("spacy", reason="the extra curate is not installed: pip install 'datatrove-quality[curate]'")

from datatrove_quality import AnswerFilter, ConversationRules
from datatrove_quality.curation.answer_filters import length_filter, repetition_filter, symbol_filter
from datatrove_quality.curation.deduplication import minhash_config


LANGUAGE = "eng"
SIGNATURE = MinhashDedupSignature("/nowhere", minhash_config(), LANGUAGE)


@pytest.mark.parametrize(
    "answer",
    [
        "Sim.",
        "42",
        "👍 Claro!",
        "# Título\n\n## Parte\n\n- um\n- dois\n- três\n" + words(1),
        "\n".join(f"| {n} | {n * n} | {words(n, 2)} |" for n in range(30)),
        "```python\n"
        + "\n".join(f"def f{n}(x):\n    if x > {n}:\n        return x\n    return {n}\n" for n in range(9))
        + "```",
        "\n".join(f"{n}. {words(n, 6)}" for n in range(20)),
        "今日はとても良い天気ですね。散歩に行きましょう。" * 1 + "東京の桜は三月の終わりに咲きます。" + words(3),
    ],
)
def test_answers_that_a_chat_may_well_have_are_kept(answer):
    """Short, numeric, Markdown, tables, code, lists, other scripts: DataTrove's own limits drop most of them."""
    document = Document("", "", metadata={"messages": dialogue("Pergunta?", answer)})
    for judge, from_chars in ((length_filter, 1), (symbol_filter, 200), (repetition_filter, 200)):
        assert AnswerFilter(judge(LANGUAGE), from_chars=from_chars).filter(document) is True
    assert ConversationRules().filter(document) is True


@settings(max_examples=150, deadline=None)
@given(st.lists(st.text(), min_size=1, max_size=4).map(lambda parts: "".join(parts * 9)))
def test_no_text_stops_a_filter_or_a_signature(answer):
    """Whatever an answer holds, it is judged: a task of a week does not end at one document."""
    messages = dialogue("Pergunta?", answer)
    document = Document(answer, "", metadata={"messages": messages})
    ConversationRules().filter(document)
    if answer.strip():
        for judge in (length_filter, symbol_filter, repetition_filter):
            AnswerFilter(judge(LANGUAGE)).filter(document)
    SIGNATURE.get_shingles(answer)
