"""The rules about conversations: what is broken is told from what is merely unusual."""

import pytest
from datatrove.data import Document
from samples import dialogue

from datatrove_quality import ConversationRules


LONG = "A resposta tem uma frase inteira. Depois vem outra frase, que também é bem longa e que por isso conta"
CALL = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f"}}]}
TOOL = {"role": "tool", "content": "42"}


@pytest.mark.parametrize(
    ("messages", "broken"),
    [
        (dialogue("Oi", "42"), None),
        (dialogue("Oi", "Olá", system="Seja breve"), None),
        (dialogue("Oi", "Olá", "E?", "Sim"), None),
        ([*dialogue("Oi"), CALL, TOOL, TOOL, *dialogue("", "42")[1:]], None),
        ([*dialogue("Oi"), CALL], None),
        ([*dialogue("Oi", "Olá"), {"role": "critic", "content": "bom"}, *dialogue("E?", "Sim")], None),
        (dialogue("Oi"), "no_answer"),
        (dialogue("Oi", " \n"), "empty_answer"),
        (dialogue("Oi", "Olá", "E?"), "ends_without_answer"),
        (dialogue("", "Oi", "E?", "Sim")[1:], "roles_do_not_alternate"),
        ([*dialogue("Oi"), *dialogue("Oi", "Olá")], "roles_do_not_alternate"),
        ([*dialogue("Oi", "Olá"), *dialogue("", "Sim")[1:]], "roles_do_not_alternate"),
        (dialogue("Oi", "Bem. " + "de novo e " * 40), "answer_loops"),
        (dialogue("Oi", "Bem. " + "de novo e " * 40 + "de n"), "answer_loops"),
        (dialogue("Oi", "ha" * 40), None),
        (dialogue("Oi", "x" * 400), "answer_loops"),
        (dialogue("Oi", LONG), "answer_cut_off"),
        (dialogue("Oi", LONG + ","), "answer_cut_off"),
        (dialogue("Oi", LONG + "."), None),
        (dialogue("Oi", LONG + ": https://example.org/a"), None),
        (dialogue("Oi", LONG.replace(". ", " ")), None),
        (dialogue("Oi", "Uma lista. Veja:\n- " + "item " * 20 + "e fim"), None),
        (dialogue("Oi", "```python\nprint(1)\n```"), None),
        (dialogue("Oi", "Aqui está:\n```python\nprint(1)"), "answer_cut_off"),
        ([*dialogue("Oi"), {"role": "assistant", "content": "Ok.", "finish_reason": "length"}], "answer_cut_off"),
    ],
)
def test_rules_tell_broken_conversations_from_unusual_ones(messages, broken):
    result = ConversationRules().filter(Document("", "", metadata={"messages": messages}))
    assert result == (True if broken is None else (False, broken))


def test_a_rule_that_is_left_out_drops_nothing_and_an_unknown_one_is_refused():
    document = Document("", "", metadata={"messages": dialogue("Oi")})
    rules = ConversationRules(without=["no_answer", "ends_without_answer"])
    assert rules.filter(document) is True
    with pytest.raises(ValueError, match="no such rule"):
        ConversationRules(without=["no_anwser"])
