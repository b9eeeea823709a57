"""What a chat template leaves out is found: at the start, for each role that occurs, and in each message."""

import pytest
from tiny_models import chatml_tokenizer

from datatrove_quality.config import Unscorable
from datatrove_quality.model.rendering import Renderer
from datatrove_quality.model.template_checks import TemplateChecks
from datatrove_quality.rows.types import ConversationWithArguments


# As Qwen3's: knows four roles and leaves out others without a word; strips thoughts of earlier turns.
SILENT = """
{%- for m in messages %}
{%- if m.role == 'system' and loop.first %}{{ '<|im_start|>system\n' + m.content + '<|im_end|>\n' }}
{%- elif m.role == 'user' %}{{ '<|im_start|>user\n' + m.content + '<|im_end|>\n' }}
{%- elif m.role == 'assistant' %}
{{- '<|im_start|>assistant\n' + (m.content if loop.last else m.content.split('</think>')[-1].lstrip('\n')) }}
{%- for call in m.tool_calls or [] %}{{ '<tool_call>' + call.function|tojson + '</tool_call>' }}{% endfor %}
{{- '<|im_end|>\n' }}
{%- elif m.role == 'tool' %}{{ '<tool_response>' + m.content + '</tool_response>' }}
{%- endif %}
{%- endfor %}"""
# As Llama 3.1's: an answer beside a call is left out.
CALLS_ONLY = """
{%- for m in messages %}
{%- if m.tool_calls is defined %}{{ '[' + m.tool_calls[0].function|tojson + ']' }}
{%- else %}{{ '[' + m.role + '] ' + m.content }}{% endif %}
{%- endfor %}"""
DEVELOPER = """
{%- for m in messages %}
{%- if m.role in ('developer', 'user', 'assistant') %}{{ '[' + m.role + '] ' + m.content }}
{%- else %}{{ raise_exception('unknown role ' + m.role) }}{% endif %}
{%- endfor %}"""
# As Gemma 3's: each second message is the user's, whatever the others are called; a system prompt goes first.
ALTERNATING = """
{%- set turns = messages[1:] if messages[0].role == 'system' else messages %}
{%- if messages[0].role == 'system' %}{{ '[system] ' + messages[0].content }}{% endif %}
{%- for m in turns %}
{%- if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}
{{- '[' + ('model' if m.role == 'assistant' else m.role) + '] ' + m.content }}
{%- endfor %}"""
THINKING = """
{%- for m in messages %}{{ '[' + m.role + '] ' }}
{%- if m.reasoning_content is string %}{{ '<think>' + m.reasoning_content + '</think>' }}{% endif %}
{{- m.content }}{% endfor %}"""
CALL = {"type": "function", "function": {"name": "soma", "arguments": {"a": 1}}}


def user(text):
    return {"role": "user", "content": text}


def assistant(text, **more):
    return {"role": "assistant", "content": text, **more}


def renderer(template):
    return Renderer(chatml_tokenizer(), 100, chat_template=template)


def reason(result):
    assert isinstance(result, Unscorable)
    return result.reason


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ messages[0].content }}", r"message 2 \(the assistant's\)"),
        ("{{ messages[-1].content }}", r"message 1 \(the user's\)"),
        ("{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% endif %}{% endfor %}", "message 2"),
        ("{{ messages[0].content }}{{ messages[1].content }}", r"message 3 \(the user's\)"),
        ("fixo", "renders all messages alike"),
    ],
)
def test_a_template_that_leaves_out_messages_is_refused(template, message):
    """Each message is varied by itself: one that is left out is named."""
    with pytest.raises(ValueError, match=message):
        renderer(template).require_template()


@pytest.mark.parametrize("name", ["model", "bot", "ai", "gpt", "ASSISTANT", " assistente ", "assistant"])
@pytest.mark.parametrize("template", [None, SILENT])
def test_names_that_the_template_does_not_know(name, template):
    """A known name becomes the role that it stands for, whether the template raises or is silent."""
    one = renderer(template)
    assert one.render([user("Oi"), {"role": name, "content": "Olá"}]) == one.render([user("Oi"), assistant("Olá")])


def test_names_that_the_template_knows():
    """A role that the template renders itself keeps its name; one that it does not becomes what it stands for."""
    own = renderer(DEVELOPER)
    assert own.render([{"role": "developer", "content": "S"}, user("Oi")]) == "[developer] S[user] Oi"
    assert reason(own.render([{"role": "system", "content": "S"}, user("Oi")])) == "template_error"
    other = renderer(None)
    turns = [{"role": "developer", "content": "S"}, user("Oi")]
    assert other.render(turns) == other.render([turns[0] | {"role": "system"}, turns[1]])


def test_names_that_only_seem_to_be_known():
    """A template that renders any name in the place of another role does not know it."""
    one = renderer(ALTERNATING)
    turns = [{"role": "human", "content": "Oi"}, {"role": "gpt", "content": "Olá"}] * 2
    both = "[user] Oi[gpt] Olá"
    assert one.render([{"role": "sistema", "content": "S"}, *turns]) == f"[system] S{both}{both}"
    assert one.render([{"role": "developer", "content": "S"}, user("Oi")]) == "[system] S[user] Oi"


def test_roles_that_are_left_out():
    """A role without a branch in the template, and a second system turn, are no silent loss."""
    one = renderer(SILENT)
    result = one.render([user("Oi"), {"role": "narrador", "content": "Era uma vez"}, assistant("Olá")])
    assert reason(result) == "role_not_rendered"
    assert "'narrador'" in str(result) and "message 2" in str(result)
    late = [user("Oi"), assistant("Olá"), {"role": "system", "content": "S"}, user("E?"), assistant("Bem")]
    assert reason(one.render(late)) == "role_not_rendered"
    assert isinstance(one.render([{"role": "system", "content": "S"}, user("Oi"), assistant("Olá")]), str)
    assert "12" in one.render([user("Oi"), assistant("", tool_calls=[CALL]), {"role": "tool", "content": "12"}])


def test_calls_and_thoughts():
    """With a call, an answer may be left out; thoughts alone may be no text at all."""
    calls = renderer(CALLS_ONLY)
    assert "soma" in calls.render([user("Oi"), assistant("", tool_calls=[CALL])])
    assert reason(calls.render([user("Oi"), assistant("Vou somar", tool_calls=[CALL])])) == "role_not_rendered"
    silent = renderer(SILENT)
    assert reason(silent.render([user("Oi"), assistant("", reasoning_content="Penso")])) == "role_not_rendered"
    plain = renderer(None)
    assert plain.render_checked([user("Oi"), assistant("Um momento", tool_calls=[CALL])])[1]
    assert not calls.render_checked([user("Oi"), assistant("", tool_calls=[CALL])])[1]
    assert reason(plain.render([user("Oi"), assistant("", tool_calls=[CALL])])) == "role_not_rendered"


def test_thoughts_that_say_nothing_are_of_another_shape():
    """A blank thought, or a switch in its place, after a thought of a conversation that is otherwise the same."""
    one = renderer(THINKING)
    for thought, text in [("Penso", "<think>Penso</think>"), ("\n", "<think>\n</think>"), ("", "<think></think>"),
                          (True, ""), ("Hum", "<think>Hum</think>")]:  # fmt: skip
        turns = [user("Oi"), assistant("Olá", reasoning_content=thought), user("E?"), assistant("Bem")]
        assert one.render_checked(turns) == (f"[user] Oi[assistant] {text}Olá[user] E?[assistant] Bem", False)


def test_each_kind_is_probed_once():
    """The probe is cached: a corpus of a million rows has a few kinds of messages and shapes of conversations."""
    render, probes = renderer(SILENT)._apply_template, []
    checks = TemplateChecks(lambda conversation, arguments: probes.append(1) or render(conversation, arguments))
    turns = [user("Oi"), assistant("Olá"), user("E?"), assistant("Bem")]
    checks.rendered(turns, {})
    probed = len(probes)
    for _ in range(10):
        checks.rendered(turns, {})
    assert len(probes) == probed + 10


@pytest.mark.parametrize(
    ("content", "left_out"),
    [
        ("Olá", False),
        ("  Olá \n", False),
        ("<think>\nhum\n</think>\n\nOlá", False),
        ("Em HTML, </think> fecha a marca", True),
    ],
)
def test_what_is_left_out_of_a_message(content, left_out):
    """Thoughts of an earlier turn go on purpose; an answer that mentions the mark in prose loses what is before it."""
    turns = [user("Oi"), assistant(content), user("E?"), assistant("Bem")]
    text, found = renderer(SILENT).render_checked(turns)
    assert isinstance(text, str)
    assert found == left_out


def test_arguments():
    """What a row gives to the template is in the text, or the row is refused."""
    template = "{{ custom_instructions or '' }}{% for m in messages %}{{ m.content }}{% endfor %}{{ tools or '' }}"
    turns = [user("Oi"), assistant("Olá")]
    given = ConversationWithArguments(turns, {"custom_instructions": "Seja breve."})
    assert renderer(template).render(given) == "Seja breve.OiOlá"
    assert reason(renderer(None).render(given)) == "argument_not_rendered"
    tools = ConversationWithArguments(turns, {"tools": [CALL]})
    assert "soma" in renderer(template).render(tools)
    assert reason(renderer(None).render(tools)) == "argument_not_rendered"
    flag = ConversationWithArguments(turns, {"enable_thinking": False, "xml_tools": []})
    assert renderer(None).render(flag) == renderer(None).render(turns)
