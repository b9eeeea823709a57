"""A template that does not end, or writes without end, makes its conversation unscorable; others render as ever."""

import pytest
from tiny_models import CHATML, LLAMA, chatml_tokenizer, conversations

from datatrove_quality.config import Unscorable
from datatrove_quality.model import template_limits
from datatrove_quality.model.rendering import Renderer


TURNS = [{"role": "user", "content": "Oi?"}, {"role": "assistant", "content": "Olá!"}]
ENDLESS = {
    "loops in loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}{{ messages }}",
    "filters in loops": "{% for a in range(99999) %}{% set x = range(99999) | sum %}{% endfor %}{{ messages }}",
    "loops over text": (
        "{% set n = namespace(t='ab') %}{% for a in range(50) %}{% set n.t = n.t ~ n.t %}{% endfor %}{{ messages }}"
    ),
    "sums of texts": (
        "{% set n = namespace(t='ab') %}{% for a in range(50) %}{% set n.t = n.t + n.t %}{% endfor %}{{ messages }}"
    ),
    "a long product": "{{ 'x' * (messages | length * 5000000000) }}{{ messages }}",
    "a long list": "{{ ([1] * (messages | length * 5000000000)) | length }}{{ messages }}",
    "megabytes for a message": "{% for m in messages * 100 %}{{ m.content }}{{ 'x' * 1000000 }}{% endfor %}",
}
# What templates do with loops, which must go on as it was.
FORMS = {
    "chatml": CHATML,
    "llama": LLAMA.replace("bos_token", "'<s>'").replace("eos_token", "'</s>'"),
    "loop variables": (
        "{% for m in messages %}{{ loop.index }}/{{ loop.length }}{% if loop.last %}!{% endif %}"
        "{% if loop.previtem is defined %}{{ loop.previtem.role }}{% endif %}{{ m.content ~ '|' ~ loop.revindex }}"
        "{% else %}none{% endfor %}"
    ),
    "generators and conditions": (
        "{% for m in messages | selectattr('role', 'equalto', 'user') if m.content %}{{ m.content }}{% endfor %}"
        "{% for i in range(3) %}{{ i * 2 + 1 }}{{ '-' * i }}{% endfor %}"
        "{% for k, v in messages[0].items() %}{{ k }}{{ v }}{% endfor %}"
    ),
    "macros and recursion": (
        "{% macro show(m) %}{% for c in m.content %}{{ c }}.{% endfor %}{% endmacro %}"
        "{% for m in messages recursive %}{{ show(m) }}{% if m.none %}{{ loop(m.none) }}{% endif %}{% endfor %}"
    ),
}


@pytest.mark.parametrize("case", ENDLESS)
def test_a_template_without_end_is_the_conversations_error(monkeypatch, case):
    """The limits are of steps and characters, so that every machine gives the same verdict."""
    monkeypatch.setattr(template_limits, "MAX_STEPS", 1_000_000)
    renderer = Renderer(chatml_tokenizer(), 100, ENDLESS[case], True, None)
    found = renderer.render(TURNS)
    assert isinstance(found, Unscorable) and found.reason == "template_error"
    assert "steps for this" in str(found) or "characters for this" in str(found)


@pytest.mark.parametrize("form", FORMS)
def test_other_templates_render_as_they_did(form):
    """Character for character as Jinja's sandbox does without the limits."""
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.globals["raise_exception"] = None
    plain = environment.from_string(FORMS[form])
    renderer = Renderer(chatml_tokenizer(), 100, FORMS[form], True, None)
    for conversation in [TURNS, *conversations(20)]:
        expected = plain.render(messages=conversation)
        assert renderer._apply_template(conversation, {}) == expected


def test_a_long_conversation_is_within_the_limits():
    """As many messages as fit; each conversation is counted for itself."""
    renderer = Renderer(chatml_tokenizer(), 100, CHATML, True, None)
    long = TURNS * 50_000
    for _ in range(3):
        assert len(renderer.render(long)) > 2_000_000
    big = [{"role": "user", "content": "x" * 20_000_000}]
    assert len(renderer.render(big)) > 20_000_000
