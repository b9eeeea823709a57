# ruff: noqa: E501
"""Rows as published data sets and trainers' formats have them: what they say, or why they are refused."""

import json
from typing import Any


S, U1, A1, U2, A2, C, T = "SISTEMA-7", "PERGUNTA-1", "RESPOSTA-1", "PERGUNTA-2", "RESPOSTA-2", "CONTEXTO-5", "TOOL-3"
OTHER = "OUTRA-9"
HH = f"\n\nHuman: {U1}\n\nAssistant: {A1}\n\nHuman: {U2}\n\nAssistant: {A2}"


def user(text: Any) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def system(text: str) -> dict[str, Any]:
    return {"role": "system", "content": text}


def human(text: str) -> dict[str, Any]:
    return {"from": "human", "value": text}


def gpt(text: str) -> dict[str, Any]:
    return {"from": "gpt", "value": text}


ONE = [user(U1), assistant(A1)]
TWO = [user(U1), assistant(A1), user(U2), assistant(A2)]
WITH_SYSTEM = [system(S), user(U1), assistant(A1)]
WITH_CONTEXT = [user(f"{U1}\n\n{C}"), assistant(A1)]
CALL = {"type": "function", "function": {"name": "soma", "arguments": {"a": 1}}}
CALLED = [user(U1), assistant("") | {"tool_calls": [CALL]}, {"role": "tool", "content": T}, assistant(A1)]

READ: list[tuple[str, dict[str, Any], list[dict[str, Any]]]] = [
    # An answer in another column.
    ("empty names beside the filled one", {"messages": [
        user([{"type": "text", "text": "", "content": U1}]) | {"from": "human", "value": ""}, assistant(A1)]},
     [user(U1) | {"from": "human", "value": ""}, assistant(A1)]),
    ("an answer that the last turn ends with", {"messages": [user(U1), assistant("São \\boxed{42}")], "answer": "42"},
     [user(U1), assistant("São \\boxed{42}")]),
    ("a call in a request's reply", {"body": {"messages": [user(U1)]},
                                     "response": {"choices": [{"message": assistant("") | {"tool_calls": [CALL]}}]}},
     [user(U1), assistant("") | {"tool_calls": [CALL]}]),
    ("an input that is a word of the prompt", {"prompt": "Traduza a palavra", "input": "a", "response": A1},
     [user("Traduza a palavra\n\na"), assistant(A1)]),
    ("messages + chosen text", {"messages": [user(U1)], "chosen": A1, "rejected": OTHER}, ONE),
    ("messages + chosen message", {"messages": [user(U1)], "chosen": assistant(A1), "rejected": assistant(OTHER)}, ONE),
    ("messages + chosen list", {"messages": [user(U1)], "chosen": [assistant(A1)], "rejected": []}, ONE),
    ("messages + whole chosen", {"messages": [user(U1)], "chosen": ONE, "rejected": [user(U1), assistant(OTHER)]}, ONE),
    ("messages + completion", {"messages": [user(U1)], "completion": A1}, ONE),
    ("messages + response", {"messages": [system(S), user(U1)], "response": A1}, WITH_SYSTEM),
    ("messages + output", {"messages": [user(U1)], "output": A1}, ONE),
    ("messages + answer", {"messages": [user(U1)], "answer": A1}, ONE),
    ("messages + choices", {"messages": [user(U1)], "choices": [{"index": 0, "message": assistant(A1)}]}, ONE),
    ("messages + choices of texts", {"messages": [user(U1)], "choices": [{"text": A1}]}, ONE),
    ("messages + response object", {"messages": [user(U1)], "response": {"choices": [{"message": assistant(A1)}]}}, ONE),
    ("LLaMA-Factory preferences", {"conversations": [human(U1)], "chosen": gpt(A1), "rejected": gpt(OTHER)}, ONE),
    ("conversations + output", {"conversations": [human(U1)], "output": A1}, ONE),
    ("ends with the user", {"messages": [*ONE, user(U2)]}, [*ONE, user(U2)]),
    ("the answer twice", {"messages": ONE, "chosen": ONE, "response": A1, "rejected": [assistant(OTHER)]}, ONE),
    # System prompts.
    ("system text", {"messages": ONE, "system": S}, WITH_SYSTEM),
    ("system_prompt text", {"messages": ONE, "system_prompt": S}, WITH_SYSTEM),
    ("system list of messages", {"messages": ONE, "system": [system(S), system(C)]}, [system(f"{S}\n\n{C}"), *ONE]),
    ("system list of texts", {"messages": ONE, "system": [S, C]}, [system(f"{S}\n\n{C}"), *ONE]),
    ("system list of parts", {"messages": ONE, "system": [{"type": "text", "text": S}]}, WITH_SYSTEM),
    ("system of Bedrock", {"messages": [user(U1) | {"content": [{"text": U1}]}, assistant(A1)], "system": [{"text": S}]},
     WITH_SYSTEM),
    ("system message", {"messages": ONE, "system": system(S)}, WITH_SYSTEM),
    ("system beside prompt", {"prompt": U1, "response": A1, "system_prompt": S}, WITH_SYSTEM),
    ("system beside alpaca", {"instruction": U1, "output": A1, "system": S}, WITH_SYSTEM),
    ("system in the prompt only", {"prompt": [system(S), user(U1)], "chosen": ONE}, WITH_SYSTEM),
    ("system in the prompt, answer only", {"prompt": [system(S), user(U1)], "chosen": [assistant(A1)]}, WITH_SYSTEM),
    # Earlier turns.
    ("LLaMA-Factory history", {"instruction": U2, "input": "", "output": A2, "history": [[U1, A1]]}, TWO),
    ("history with prompt", {"prompt": U2, "response": A2, "history": [[U1, A1]]}, TWO),
    ("history with system", {"prompt": U2, "response": A2, "history": [[U1, A1]], "system": S}, [system(S), *TWO]),
    ("history of messages", {"prompt": U2, "response": A2, "history": ONE}, TWO),
    ("history as JSON", {"prompt": U2, "response": A2, "history": json.dumps([[U1, A1]])}, TWO),
    ("empty history", {"prompt": U1, "response": A1, "history": []}, ONE),
    ("prompt that chosen repeats in part", {"prompt": TWO[:3], "chosen": TWO[2:]}, TWO),
    ("prompt that chosen goes on", {"prompt": TWO[:3], "chosen": [TWO[3]]}, TWO),
    ("prompt that chosen repeats", {"prompt": TWO[:3], "chosen": TWO}, TWO),
    # Context.
    ("Dolly", {"instruction": U1, "context": C, "response": A1, "category": "qa"}, WITH_CONTEXT),
    ("alpaca", {"instruction": U1, "input": C, "output": A1, "text": "Below is an instruction"}, WITH_CONTEXT),
    ("context with instruction and output", {"instruction": U1, "context": C, "output": A1}, WITH_CONTEXT),
    ("context with prompt", {"prompt": U1, "context": C, "response": A1}, WITH_CONTEXT),
    ("input with prompt", {"prompt": U1, "input": C, "completion": A1}, WITH_CONTEXT),
    ("context with question", {"question": U1, "context": C, "answer": A1}, WITH_CONTEXT),
    # Which column is the answer.
    ("chosen before answer", {"prompt": U1, "answer": OTHER, "chosen": A1}, ONE),
    ("an empty response", {"prompt": U1, "response": "", "completion": A1}, ONE),
    ("a blank response", {"prompt": U1, "response": " \n", "output": A1}, ONE),
    ("equal answers", {"prompt": U1, "response": A1, "completion": A1}, ONE),
    ("alpaca preferences", {"instruction": U1, "input": "", "chosen": A1, "rejected": OTHER}, ONE),
    # The metadata column.
    ("metadata with another conversation", {"prompt": U1, "response": A1, "metadata": {"messages": [user(OTHER)]}}, ONE),
    ("metadata with a system prompt", {"messages": ONE, "metadata": {"system": OTHER, "input": OTHER}}, ONE),
    ("metadata with a history", {"prompt": U1, "response": A1, "metadata": {"history": [[OTHER, OTHER]]}}, ONE),
    ("a DataTrove writer's row", {"text": "t", "id": "i", "metadata": {"messages": ONE}}, ONE),
    ("a DataTrove writer's alpaca", {"text": "t", "metadata": {"instruction": U1, "input": "", "output": A1}}, ONE),
    # More layouts.
    ("OpenOrca", {"id": "1", "system_prompt": S, "question": U1, "response": A1}, WITH_SYSTEM),
    ("OpenOrca without system", {"id": "1", "system_prompt": "", "question": U1, "response": A1}, ONE),
    ("Orca preferences", {"system": S, "question": U1, "chosen": A1, "rejected": OTHER}, WITH_SYSTEM),
    ("GSM8K", {"question": U1, "answer": A1}, ONE),
    ("MetaMath", {"type": "t", "query": U1, "original_question": U1, "response": A1}, ONE),
    ("Aya", {"inputs": U1, "targets": A1, "language": "por"}, ONE),
    ("Numina", {"source": "s", "problem": U1, "solution": A1, "messages": ONE}, ONE),
    ("problem and solution", {"problem": U1, "solution": A1}, ONE),
    ("a solution that holds the answer", {"problem": U1, "solution": f"{A1}, 42", "answer": "42"}, None),
    ("input and output", {"input": U1, "output": A1}, ONE),
    ("input list", {"input": [system(S), user(U1)], "output": A1}, WITH_SYSTEM),
    ("distilabel", {"input": U1, "system": S, "chosen": A1, "rejected": OTHER}, WITH_SYSTEM),
    ("UltraChat", {"id": "1", "data": [U1, A1, U2, A2]}, TWO),
    ("UltraChat 200k", {"prompt": U1, "prompt_id": "x", "messages": TWO}, TWO),
    ("human/assistant pairs", {"conversation": [{"human": U1, "assistant": A1}, {"human": U2, "assistant": A2}]}, TWO),
    ("Capybara", {"conversation": [{"input": U1, "output": A1}, {"input": U2, "output": A2}], "source": "s"}, TWO),
    ("pairs with system", {"conversation": [{"system": S, "input": U1, "output": A1}]}, WITH_SYSTEM),
    ("HH-RLHF", {"chosen": HH, "rejected": HH + OTHER}, TWO),
    ("HH prompt", {"prompt": f"\n\nHuman: {U1}\n\nAssistant:", "chosen": A1, "rejected": OTHER}, ONE),
    ("HH prompt and whole chosen", {"prompt": f"\n\nHuman: {U1}\n\nAssistant:", "chosen": HH[: HH.index(U2) - 9]}, ONE),
    ("Anthropic completions", {"prompt": f"\n\nHuman: {U1}\n\nAssistant:", "completion": f" {A1}"}, None),
    ("Gemini", {"contents": [{"role": "user", "parts": [{"text": U1}]}, {"role": "model", "parts": [{"text": A1}]}],
                "systemInstruction": {"role": "system", "parts": [{"text": S}]}},
     [system(S), user(U1), {"role": "model", "content": A1}]),
    ("Gemini batch", {"request": {"contents": [{"role": "user", "parts": [{"text": U1}]}]},
                      "response": {"candidates": [{"content": {"role": "model", "parts": [{"text": A1}]}}]}},
     [user(U1), {"role": "model", "content": A1}]),
    ("Gemini tuning", {"text_input": U1, "output": A1}, ONE),
    ("OpenAI batch output", {"id": "b", "custom_id": "1", "error": None,
                             "response": {"status_code": 200, "body": {"choices": [{"message": assistant(A1)}]}}},
     [assistant(A1)]),
    ("OpenAI batch both", {"custom_id": "1", "body": {"model": "m", "messages": [system(S), user(U1)]},
                           "response": {"status_code": 200, "body": {"choices": [{"message": assistant(A1)}]}}},
     WITH_SYSTEM),
    ("Anthropic batch", {"custom_id": "1", "params": {"system": S, "messages": [user(U1)]},
                         "result": {"type": "succeeded", "message": {"role": "assistant", "type": "message",
                                                                     "content": [{"type": "text", "text": A1}]}}},
     WITH_SYSTEM),
    ("Responses", {"instructions": S, "input": U1, "output": [
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": A1}]}]},
     None),
    ("Responses items", {"input": [user(U1), {"type": "function_call", "call_id": "c", "name": "soma",
                                              "arguments": '{"a": 1}'},
                                   {"type": "function_call_output", "call_id": "c", "output": T}],
                         "output": [{"type": "message", "role": "assistant",
                                     "content": [{"type": "output_text", "text": A1}]}]}, None),
    ("Responses reasoning", {"messages": [user(U1), {"type": "reasoning", "summary": [{"text": C}]},
                                          {"type": "message", "role": "assistant", "content": A1}]}, None),
    ("OpenAI preferences", {"input": {"messages": [system(S), user(U1)], "tools": []},
                            "preferred_output": [assistant(A1)], "non_preferred_output": [assistant(OTHER)]}, WITH_SYSTEM),
    ("Anthropic blocks", {"messages": [user(U1), assistant("") | {"content": [
        {"type": "tool_use", "id": "t", "name": "soma", "input": {"a": 1}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": T}]}, assistant(A1)]},
     [user(U1), assistant("") | {"tool_calls": [{"id": "t"} | CALL]},
      {"role": "tool", "content": T, "tool_call_id": "t"}, assistant(A1)]),
    ("Anthropic thinking", {"messages": [user(U1), assistant("") | {"content": [
        {"type": "thinking", "thinking": C}, {"type": "text", "text": A1}]}]},
     [user(U1), assistant(A1) | {"reasoning_content": C}]),
    ("parts with value", {"messages": [user("") | {"content": [{"type": "text", "value": U1}]}, assistant(A1)]}, ONE),
    ("function_call", {"messages": [user(U1), {"role": "assistant", "content": None, "function_call": CALL["function"]},
                                    {"role": "tool", "content": T}, assistant(A1)]}, CALLED),
    ("function_calls", {"messages": [user(U1), {"role": "assistant", "function_calls": [CALL["function"]]},
                                     {"role": "tool", "content": T}, assistant(A1)]}, CALLED),
    ("tool calls as JSON", {"messages": [user(U1), {"role": "assistant", "tool_calls": [json.dumps(CALL)]},
                                         {"role": "tool", "content": T}, assistant(A1)]}, CALLED),
    ("no tool calls", {"messages": [user(U1), assistant(A1) | {"tool_calls": []}]}, ONE),
    ("messages whose items are JSON", {"messages": [json.dumps(message) for message in ONE]}, ONE),
    ("role and text", {"messages": [{"role": "user", "text": U1}, {"role": "assistant", "text": A1}]}, ONE),
    ("whole chosen without prompt", {"chosen": ONE, "rejected": [user(U1), assistant(OTHER)]}, ONE),
    ("TRL prompt only", {"prompt": [user(U1)]}, [user(U1)]),
    ("gold and images", {"messages": ONE, "gold": OTHER, "images": [OTHER], "source": OTHER}, ONE),
    ("tools", {"messages": ONE, "tools": [{"name": OTHER}]}, ONE),
    ("a reply as JSON", {"messages": [user(U1)], "response": json.dumps({"choices": [{"message": assistant(A1)}]})}, ONE),
    ("a system message as JSON", {"messages": ONE, "system": json.dumps(system(S))}, WITH_SYSTEM),
    ("system texts as JSON", {"messages": ONE, "system": json.dumps([{"type": "text", "text": S}])}, WITH_SYSTEM),
    ("an answer in JSON", {"prompt": U1, "response": '{"text": "a"}'}, [user(U1), assistant('{"text": "a"}')]),
    ("a list in a prompt", {"prompt": "[1, 2]", "response": A1}, [user("[1, 2]"), assistant(A1)]),
    ("LIMA", {"conversations": [U1, A1, U2, A2], "source": "s"}, TWO),
    ("stored completions", {"request": {"messages": [system(S), user(U1)]}, "choices": [{"message": assistant(A1)}]},
     WITH_SYSTEM),
    ("an empty list beside a prompt", {"messages": [], "prompt": U1, "response": A1}, ONE),
    ("a history that the answer repeats", {"prompt": [system(S), user(U2)], "history": [[U1, A1]],
                                           "response": [system(S), *TWO]}, [system(S), *TWO]),
    ("an empty content beside a value", {"messages": [{"role": "user", "content": "", "value": U1}, assistant(A1)]}, ONE),
    ("Magpie", {"instruction": U1, "response": A1, "conversations": [human(U1), gpt(A1)]}, ONE),
]  # fmt: skip

REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("two answers", {"prompt": U1, "response": A1, "completion": A2}, "ambiguous_answer"),
    ("answer and output", {"instruction": U1, "output": A1, "answer": A2}, "ambiguous_answer"),
    ("many choices", {"messages": [user(U1)], "choices": [{"message": assistant(A1)}, {"message": assistant(A2)}]},
     "ambiguous_answer"),
    ("a complete list and another answer", {"messages": ONE, "response": A2}, "ambiguous_answer"),
    ("a complete list and another chosen", {"messages": ONE, "chosen": [user(U1), assistant(A2)]}, "ambiguous_answer"),
    ("a complete list and another prompt", {"messages": ONE, "prompt": U2}, "unused_column"),
    ("a complete list and a context", {"messages": ONE, "context": C}, "unused_column"),
    ("two lists", {"messages": ONE, "conversations": [human(U2), gpt(A2)]}, "unused_column"),
    ("two system prompts", {"messages": [system(S), *ONE], "system": C}, "unused_column"),
    ("two system columns", {"messages": ONE, "system": S, "system_prompt": C}, "unused_column"),
    ("a chosen conversation without the prompt", {"prompt": U2, "chosen": ONE}, "unused_column"),
    ("instruction before conversations", {"instruction": S, "conversations": [human(U1), gpt(A1)]}, "unused_column"),
    ("chat_history", {"prompt": U1, "response": A1, "chat_history": [user(U2)]}, "unused_column"),
    ("reasoning", {"prompt": U1, "response": A1, "reasoning": C}, "unused_column"),
    ("documents", {"messages": ONE, "documents": [{"title": C, "text": C}]}, "unused_column"),
    ("natural instructions", {"definition": C, "inputs": U1, "targets": A1}, "unused_column"),
    ("history as text", {"prompt": U1, "response": A1, "history": C}, "invalid_json"),
    ("a context that is a list", {"prompt": U1, "response": A1, "context": [C]}, "invalid_content"),
    ("a problem with another answer", {"problem": U1, "solution": A1, "answer": A2}, "ambiguous_answer"),
    ("completions", {"prompt": U1, "completions": [A1, A2], "labels": [True, False]}, "missing_column"),
    ("metadata of a whole row with a system", {"metadata": {"messages": ONE, "system": S}}, "unused_column"),
    ("metadata of a whole row with an input", {"metadata": {"instruction": U1, "input": C, "output": A1}},
     "unused_column"),
    ("system beside metadata", {"system": S, "metadata": {"messages": ONE}}, "unused_column"),
    ("chosen and rejected texts", {"chosen": A1, "rejected": A2}, "missing_column"),
    ("Nectar", {"prompt": U1, "answers": [{"answer": A1}]}, "missing_column"),
    ("Glaive", {"system": S, "chat": f"USER: {U1} ASSISTANT: {A1}"}, "missing_column"),
    ("OASST", {"text": U1, "role": "prompter", "message_id": "x"}, "missing_column"),
    ("multiple choice", {"question": U1, "choices": ["a", "b"], "answer": 1}, "invalid_content"),
    ("SQuAD", {"context": C, "question": U1, "answers": {"text": [A1]}}, "missing_column"),
    ("ARC", {"question": U1, "choices": {"text": [A1, A2], "label": ["A", "B"]}, "answerKey": "A"}, "invalid_content"),
    ("a data set as one object", {"version": 1, "data": [{"question": U1, "answer": A1}, {"question": U2, "answer": A2}]},
     "missing_column"),
    ("RACE", {"article": C, "question": U1, "options": [A1, A2], "answer": A1}, "unused_column"),
    ("BoolQ", {"passage": C, "question": U1, "answer": A1}, "unused_column"),
    ("ChatQA", {"messages": [*ONE, user(U2)], "answers": [A2], "document": C}, "unused_column"),
    ("a text beside the content", {"messages": [user(U1) | {"text": C}, assistant(A1)]}, "unused_column"),
    ("a message with a context", {"messages": [user(U1) | {"context": C}, assistant(A1)]}, "unused_column"),
    ("a message with an attached file", {"messages": [user(U1) | {"attachments": [{"url": C}]}, assistant(A1)]},
     "unused_column"),
    ("a question of turns and a context", {"prompt": f"\n\nHuman: {U1}\n\nAssistant:", "context": C, "response": A1},
     "unused_column"),
    ("a role and a sender that differ", {"messages": [user(U1) | {"from": "gpt"}, assistant(A1)]}, "invalid_role"),
    ("a part of two texts", {"messages": [user([{"type": "text", "text": U1, "content": C}]), assistant(A1)]},
     "unused_column"),
    ("a part of a text and a call", {"contents": [{"role": "user", "parts": [{"text": U1}]}, {"role": "model", "parts": [
        {"text": A1, "functionCall": {"name": "soma", "args": {}}}]}]}, "unused_column"),
    ("a thought of two texts", {"messages": [user(U1), assistant([{"type": "thinking", "thinking": C, "text": T},
                                                                  {"type": "text", "text": A1}])]}, "unused_column"),
    ("a call of two arguments", {"messages": [user(U1), assistant([
        {"type": "tool_use", "name": "soma", "input": {"a": 1}, "arguments": {"a": 2}}]), user(U2), assistant(A1)]},
     "unused_column"),
    ("two thoughts", {"messages": [user(U1), assistant(A1) | {"thinking": C, "reasoning_content": T}]}, "unused_column"),
    ("a thought that is no text", {"messages": [user(U1), assistant(A1) | {"thinking": [{"text": C}]}]},
     "unused_column"),
    ("a message with an input", {"messages": [user(U1) | {"input": C}, assistant(A1)]}, "unused_column"),
    ("a message with a rationale", {"messages": [user(U1), assistant(A1) | {"rationale": C}]}, "unused_column"),
    ("a system prompt of two texts", {"messages": ONE, "system": {"content": S, "text": C}}, "unused_column"),
    ("answers of a request and beside it", {"body": {"messages": [user(U1)], "response": A1}, "response": A2},
     "ambiguous_answer"),
    ("an answer beside the metadata's", {"response": A2, "metadata": {"prompt": U1, "response": A1}},
     "ambiguous_answer"),
    ("an answer that an earlier turn says", {"messages": [user(U1), assistant("e a"), user(U2)], "solution": "e"},
     "ambiguous_answer"),
    ("an answer that the question says", {"messages": [*ONE, user("Sim ou não")], "output_text": "não"},
     "ambiguous_answer"),
    ("a request with a system prompt in the question", {"input": {"messages": [user(U1)], "system": S}, "output": A1},
     "unused_column"),
    ("arguments in metadata as text", {"metadata": json.dumps({"messages": ONE, "chat_template_kwargs":
                                                               {"custom_instructions": S}})}, "unused_column"),
    ("a refusal beside the answer", {"messages": [user(U1), assistant(A1) | {"refusal": C}]}, "unused_column"),
    ("a reply of two answers", {"messages": [user(U1)], "response": {"message": assistant(A1),
                                                                     "choices": [{"message": assistant(A2)}]}},
     "ambiguous_answer"),
    ("two requests", {"body": {"messages": [user(U1)]}, "params": {"messages": [user(U2)]}, "response": A1},
     "unused_column"),
    ("an image in a text part", {"contents": [{"role": "user", "parts": [{"text": U1, "inlineData": {"data": "x"}}]},
                                              {"role": "model", "parts": [{"text": A1}]}]}, "unsupported_content"),
    ("a ChatGPT export of parts and a text", {"messages": [user({"parts": [U1], "text": C}), assistant(A1)]},
     "unused_column"),
    ("a system prompt that the answer says", {"messages": [user(U1), assistant("a")], "instructions": "a"},
     "unused_column"),
    ("a call in a column that is not read", {"messages": [user(U1)], "targets": assistant("") | {"tool_calls": [CALL]}},
     "ambiguous_answer"),
    ("a context that is a word of a turn", {"messages": [user("Traduza a palavra"), assistant(A1)], "context": "a"},
     "unused_column"),
    ("an answer that is in a word", {"messages": [user(U1), assistant("42")], "answer": "4"}, "ambiguous_answer"),
    ("image part", {"messages": [user("") | {"content": [{"type": "image"}, {"type": "text", "text": U1}]}]},
     "unsupported_content"),
    ("Gemini image", {"contents": [{"role": "user", "parts": [{"inlineData": {"data": "x"}}]}]}, "unsupported_content"),
    ("columns of lists", {"messages": {"role": ["user"], "content": [U1]}}, "not_a_list"),
    ("unknown template argument", {"messages": ONE, "chat_template_kwargs": {"chat_template": "x"}},
     "unknown_template_argument"),
    ("tokenize", {"messages": ONE, "chat_template_kwargs": {"tokenize": True}}, "unknown_template_argument"),
]  # fmt: skip
