"""Contents that are lists of parts, as Anthropic and OpenAI's Responses have them."""

from layout_rows import A1, CALL, U1, U2, C, T, assistant, user

from datatrove_quality.rows.layouts import parse_conversation


def test_anthropic_and_responses_details() -> None:
    """What APIs give in pieces of their own is one turn."""
    items = [user(U1), {"type": "reasoning", "summary": [{"type": "summary_text", "text": C}]},
             {"type": "function_call", "name": "soma", "arguments": '{"a": 1}'},
             {"type": "function_call_output", "output": T},
             {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": A1}]}]  # fmt: skip
    assert parse_conversation({"messages": items}) == [
        user(U1), assistant("") | {"reasoning_content": C, "tool_calls": [CALL]}, {"role": "tool", "content": T},
        assistant(A1),
    ]  # fmt: skip
    blocks = [{"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": T}]},
              {"type": "text", "text": U2}]  # fmt: skip
    assert parse_conversation({"messages": [user(U1), assistant(A1), {"role": "user", "content": blocks}]})[2:] == [
        {"role": "tool", "content": T, "tool_call_id": "t"},
        user(U2),
    ]
    for summary in ("um texto", 0.5, [C, None], {}):
        odd = [
            user(U1),
            {"type": "reasoning", "summary": summary},
            {"type": "message", "role": "assistant", "content": A1},
        ]
        assert parse_conversation({"messages": odd})[-1]["content"] == A1
    parts = [{"functionCall": {"name": "soma", "args": {"a": 1}}}]
    (call,) = parse_conversation({"contents": [{"role": "user", "parts": [{"text": U1}]},
                                               {"role": "model", "parts": parts}]})[1]["tool_calls"]  # fmt: skip
    assert call == CALL
