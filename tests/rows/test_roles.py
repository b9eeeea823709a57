"""Names of roles in many data sets and languages."""

import pytest
from layout_rows import A1, U1, human

from datatrove_quality.rows.layouts import parse_conversation
from datatrove_quality.rows.roles import ROLES, is_answer, known_role


@pytest.mark.parametrize(
    ("name", "role"),
    [
        *(("model", "assistant"), ("bot", "assistant"), ("ai", "assistant"), ("gpt", "assistant")),
        *(("chatgpt", "assistant"), ("human", "user"), ("function", "tool"), ("ipython", "tool")),
        *(("environment", "tool"), ("observation", "tool"), ("tool_call", "assistant"), ("tool_response", "tool")),
        *(("developer", "system"), ("USER", "user"), (" Assistant ", "assistant"), ("usuário", "user")),
        *(("Usuário", "user"), ("assistente", "assistant"), ("SISTEMA", "system"), ("ferramenta", "tool")),
        *(("用户", "user"), ("usu\u0061\u0301rio", "user"), ("system prompt", "system")),
    ],
)
def test_names_of_roles(name: str, role: str) -> None:
    """Known names mean one of four roles, in any case and language, composed or not."""
    assert known_role(name) == role
    assert parse_conversation({"conversations": [human(U1), {"from": name, "value": A1}]})[1]["role"] == role


def test_unknown_names_of_roles() -> None:
    """A name that is not known stands for no role, and may be the assistant's."""
    assert known_role("narrador") is None
    assert is_answer("narrador") and is_answer("gpt") and not is_answer("developer")
    assert set(ROLES.values()) == {"user", "assistant", "system", "tool"}
