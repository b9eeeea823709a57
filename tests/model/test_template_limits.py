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
    "calls without loops": (
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}{{ messages }}"
    ),
    "macros over text": (
        "{% macro d(t) %}{{ t }}{{ t }}{% endmacro %}{% set n = namespace(t='ab') %}"
        "{% for a in range(50) %}{% set n.t = d(n.t) %}{% endfor %}{{ messages }}"
    ),
    "blocks of text": (
        "{% set n = namespace(t='ab') %}{% for a in range(50) %}{% set t %}{{ n.t }}{{ n.t }}{% endset %}"
        "{% set n.t = t %}{% endfor %}{{ messages }}"
    ),
    "replacing": (
        "{% set n = namespace(t='aa') %}{% for a in range(50) %}{% set n.t = n.t | replace('a', 'aa') %}{% endfor %}"
        "{{ messages }}"
    ),
    "replacing by a method": (
        "{% set n = namespace(t='aa') %}{% for a in range(50) %}{% set n.t = n.t.replace('a', 'aa') %}{% endfor %}"
        "{{ messages }}"
    ),
    "joining": (
        "{% set n = namespace(t='aa') %}{% for a in range(50) %}{% set n.t = [n.t, n.t] | join %}{% endfor %}"
        "{{ messages }}"
    ),
    "joining by a method": (
        "{% set n = namespace(t='aa') %}{% for a in range(50) %}{% set n.t = '-'.join([n.t, n.t] | map('trim')) %}"
        "{% endfor %}{{ messages }}"
    ),
    "lists in lists": (
        "{% set n = namespace(t=['a']) %}{% for a in range(50) %}{% set n.t = [n.t, n.t] %}{% endfor %}{{ n.t }}"
        "{{ messages }}"
    ),
    "lists in lists as JSON": (
        "{% set n = namespace(t=['a']) %}{% for a in range(50) %}{% set n.t = [n.t, n.t] %}{% endfor %}"
        "{{ n.t | tojson }}{{ messages }}"
    ),
    "lists in lists compared": (
        "{% set n = namespace(t=['a'], u=['a']) %}{% for a in range(50) %}{% set n.t = [n.t, n.t] %}"
        "{% set n.u = [n.u, n.u] %}{% endfor %}{{ n.t == n.u }}{{ messages }}"
    ),
    "lists in lists compared by a test": (
        "{% set n = namespace(t=['a'], u=['a']) %}{% for a in range(50) %}{% set n.t = [n.t, n.t] %}"
        "{% set n.u = [n.u, n.u] %}{% endfor %}{{ n.t is eq n.u }}{{ messages }}"
    ),
    "lists in lists sorted": (
        "{% set n = namespace(t=['a'], u=['a']) %}{% for a in range(50) %}{% set n.t = [n.t, n.t] %}"
        "{% set n.u = [n.u, n.u] %}{% endfor %}{{ [n.t, n.u] | sort }}{{ messages }}"
    ),
    "lists in lists looked for": (
        "{% set n = namespace(t=['a'], u=['a']) %}{% for a in range(50) %}{% set n.t = [n.t, n.t] %}"
        "{% set n.u = [n.u, n.u] %}{% endfor %}{{ [n.t].count(n.u) }}{{ messages }}"
    ),
    "a long text read again and again": (
        "{% set t = 'x' * 60000 %}{% for a in range(900) %}{% set b = 'y' in t %}{% endfor %}{{ messages }}"
    ),
    "a long list copied again and again": (
        "{% set t = [1] * 60000 %}{% for a in range(900) %}{% set b = t[1:] %}{% endfor %}{{ messages }}"
    ),
    "large numbers": (
        "{% set n = namespace(x=99) %}{% for a in range(99) %}{% set n.x = n.x ** 900 %}{% endfor %}{{ messages }}"
    ),
    "a wide field": "{{ messages[0].content | center(messages | length * 5000000000) }}{{ messages }}",
    "a wide field by a method": "{{ messages[0].content.ljust(messages | length * 5000000000) }}{{ messages }}",
    "a wide field by a format": "{{ '%5000000000s' % messages[0].content }}{{ messages }}",
    "a wide field by another format": "{{ '{:>{}}'.format(messages[0].content, 5000000000) }}{{ messages }}",
    "a product of constants": "{{ 'x' * 5000000000 }}{{ messages }}",
    "a filter of constants": "{% if 'x' | center(5000000000) == 'x' %}{% endif %}{{ messages }}",
    "a format of constants": "{% set x = '%5000000000s' % 'x' %}{{ messages }}",
    "a power of constants": "{{ 9 ** 999999999 }}{{ messages }}",
    "a rounding of constants": "{{ 1 | round(5000000000, 'ceil') }}{{ messages }}",
    "a long product": "{{ 'x' * (messages | length * 5000000000) }}{{ messages }}",
    "a long list": "{{ ([1] * (messages | length * 5000000000)) | length }}{{ messages }}",
    "megabytes for a message": "{% for m in messages * 100 %}{{ m.content }}{{ 'x' * 10000 }}{% endfor %}",
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


EXPRESSIONS = (
    "messages[0].content | center(9)",
    "messages[0].content.center(9, '.') ~ messages[0].content.zfill(8)",
    "messages | map(attribute='content') | join(', ')",
    "messages | join('; ', attribute='role')",
    "', '.join(messages | map(attribute='content'))",
    "[1, none, missing, 2.5] | join('|')",
    "'a\tb'.expandtabs(4) | replace('a', 'bb') | indent(3, true)",
    "'abc'.replace('b', 'xyz', 1) ~ 1 ~ none ~ missing",
    "'%s is %5.1f%%' % ('x', 2.25)",
    "'%s' | format(messages[0].role)",
    "'{0:>{1}}|{name}'.format('a', 5, name='b')",
    "'{a}'.format_map({'a': 'z'})",
    "[1, 2, 3, 4, 5] | batch(2, 'x') | list",
    "[1, 2, 3] | slice(2) | list",
    "2.675 | round(2) ~ 7 % 4 ~ 2 ** 10 ~ (2 ** 0.5 > 1) ~ 3 * 'ab' ~ [1] * 2",
    "messages[::-1][0].role ~ ('user' in messages[0].role) ~ (messages == messages[:]) ~ (1 in [1, 2])",
    "messages[0] | dictsort ~ (messages | selectattr('role', 'in', ['user']) | list | length)",
    "'a b' | wordwrap(1) | title | upper | tojson",
    "messages | groupby('role') | map(attribute='grouper') | list",
    "'ab'.translate({97: 'xyz'}) ~ 'x'.encode().hex() ~ messages[0].items() | list",
)


@pytest.mark.parametrize("case", ENDLESS)
def test_a_template_without_end_is_the_conversations_error(monkeypatch, case):
    """The limits are of steps and characters, so that every machine gives the same verdict."""
    monkeypatch.setattr(template_limits, "MAX_STEPS", 20_000)
    monkeypatch.setattr(template_limits, "MAX_CHARACTERS", 2**16)
    renderer = Renderer(chatml_tokenizer(), 100, ENDLESS[case], True, None)
    found = renderer.render(TURNS)
    assert isinstance(found, Unscorable) and found.reason == "template_error"
    assert "steps for this" in str(found) or "characters for this" in str(found)
    with pytest.raises(ValueError, match="for 4 short messages it"):
        renderer.require_template()


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


def test_filters_and_methods_give_what_they_gave():
    """Those that are measured before they make a text, with values in all places."""
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    template = " ".join(f"{{{{ {expression} }}}}" for expression in EXPRESSIONS)
    expected = ImmutableSandboxedEnvironment().from_string(template).render(messages=TURNS)
    assert Renderer(chatml_tokenizer(), 100, template, True, None)._apply_template(TURNS, {}) == expected


def test_one_template_of_several_is_limited_for_itself():
    """A tokenizer with templates by name has one for conversations with tools."""
    tokenizer = chatml_tokenizer()
    tokenizer.chat_template = {"default": CHATML, "tool_use": ENDLESS["a product of constants"]}
    renderer = Renderer(tokenizer, 100)
    assert "Olá!" in renderer._apply_template(TURNS, {})
    with pytest.raises(Unscorable, match="characters for this"):
        renderer._apply_template(TURNS, {"tools": [{"type": "function", "function": {"name": "f"}}]})


def test_a_long_conversation_is_within_the_limits():
    """As many messages as fit; each conversation is counted for itself."""
    renderer = Renderer(chatml_tokenizer(), 100, CHATML, True, None)
    long = TURNS * 50_000
    for _ in range(3):
        assert len(renderer.render(long)) > 2_000_000
    big = [{"role": "user", "content": "x" * 20_000_000}]
    assert len(renderer.render(big)) > 20_000_000
