"""What a template leaves out without a trace: an argument of a call, a message whose words are elsewhere."""

import pytest
from tiny_models import chatml_tokenizer

from datatrove_quality.config import Unscorable
from datatrove_quality.model import template_checks
from datatrove_quality.model.rendering import Renderer


TURNS = "{% for m in messages %}{% if KEEP %}<{{ m.role }}>{{ m.content }}</s>{{ CALLS }}{% endif %}{% endfor %}"
QUESTION = {"role": "user", "content": "Qual a previsão?"}


def renderer(keep="true", calls=""):
    template = TURNS.replace("KEEP", keep).replace("{{ CALLS }}", calls)
    return Renderer(chatml_tokenizer(), 4_000, chat_template=template)


def with_calls(body):
    """A template that writes each call so."""
    return renderer(calls="{% for c in m.tool_calls or [] %}" + body + "{% endfor %}")


def called(arguments, content="", name="previsao", **more):
    calls = [{"id": "a1", "type": "function", "function": {"name": name, "arguments": arguments, **more}}]
    return [QUESTION, {"role": "assistant", "content": content, "tool_calls": calls}]


def said(*texts):
    return [{"role": ("user", "assistant")[number % 2], "content": text} for number, text in enumerate(texts)]


def outcome(one, conversation):
    """The reason why it has no score, or whether something is counted as left out."""
    text, left_out = one.render_checked(conversation)
    return text.reason if isinstance(text, Unscorable) else left_out


NAME_ONLY = "[call {{ c.function.name }}]"
WHOLE = "[call {{ c.function.name }} {{ c.function.arguments | tojson }}]"
EACH = "[{{ c.function.name }}{% for k, v in c.function.arguments.items() %} {{ k }}={{ v }}{% endfor %}]"
VALUES = "[{{ c.function.name }}{% for v in c.function.arguments.values() %} {{ v }}{% endfor %}]"
BY_NAME = "[{{ c.function.name }}: {{ c.function.arguments.cidade }}]"
FIRST = "{% if loop.first %}" + WHOLE + "{% endif %}"
TEXT_ONLY = "[{{ c.function.name + c.function.arguments }}]"


@pytest.mark.parametrize(
    ("body", "arguments", "expected"),
    [
        (NAME_ONLY, {"cidade": "Recife"}, "role_not_rendered"),
        (NAME_ONLY, {"dia": 3}, "role_not_rendered"),
        (NAME_ONLY, {"horas": True}, "role_not_rendered"),
        (NAME_ONLY, {"onde": [{"lat": 1.5}]}, "role_not_rendered"),
        (NAME_ONLY, '{"cidade": "previsao"}', "role_not_rendered"),
        (NAME_ONLY, {}, False),
        (WHOLE, {"cidade": 'São "Paulo"\n', "dia": 3, "horas": True, "onde": [{"lat": 1.5}, "a"]}, False),
        (WHOLE, '{"cidade": "Recife"}', False),
        (EACH, {"cidade": "Recife", "dia": 3, "horas": False}, False),
        (VALUES, {"cidade": "Recife"}, "role_not_rendered"),
        (BY_NAME, {"cidade": "Recife"}, False),
        (BY_NAME, {"cidade": "Recife", "dia": "3"}, "role_not_rendered"),
        (TEXT_ONLY, '{"cidade": "Recife"}', False),
        (TEXT_ONLY, {"cidade": "Recife"}, "template_error"),
    ],
)
def test_arguments_of_a_call(body, arguments, expected):
    """A call that is all of a message is written with its arguments, their names too, or the row is refused."""
    assert outcome(with_calls(body), called(arguments)) == expected


def test_a_call_beside_a_content():
    """What is lost is a part of a message, which is counted."""
    assert outcome(with_calls(NAME_ONLY), called({"dia": 3}, "Vejo o dia 3")) is True
    assert outcome(with_calls(WHOLE), called({"dia": 3}, "Vejo o dia 3")) is False


def test_a_second_call_and_a_second_name_of_the_arguments():
    """Each call is looked for, and each thing that it says, once where it says it twice."""
    two = called({"dia": 3})
    two[1]["tool_calls"] *= 2
    assert outcome(with_calls(WHOLE), two) is False
    assert outcome(with_calls(FIRST), two) == "role_not_rendered"
    assert outcome(with_calls(WHOLE), called({"dia": 3}, parameters={"dia": 3})) is False
    assert outcome(with_calls(WHOLE), called({"dia": 3}, parameters={"dia": 4})) == "role_not_rendered"


@pytest.mark.parametrize("keep", ["loop.revindex <= 4", "loop.index0 != 1 or messages | length < 5"])
def test_a_message_that_is_left_out_where_it_is(keep):
    """Also where another message says the same words; the same template renders shorter conversations."""
    one = renderer(keep)
    assert outcome(one, said("Oi", "ok", "Tudo ok?", "ok, Oi", "Oi", "Tudo ok")) == "role_not_rendered"
    assert outcome(one, said("Oi", "ok", "Tudo ok?", "ok, Oi")) is False


@pytest.mark.parametrize(
    "texts", [("Oi", "ok", "Tudo ok?", "Sim, ok"), ("ok", "Bem ok"), ("Olá", "user"), ("a", "s", "ok", "ok", "Bem")]
)
def test_a_message_that_is_left_out_for_what_it_says(texts):
    """Its words in other messages, or in what the template writes itself, do not hide it."""
    assert outcome(renderer("m.content | length > 2 and m.content != 'user'"), said(*texts)) is True
    assert outcome(renderer(), said(*texts)) is False


def test_repeated_messages():
    """Of two equal messages one is left out."""
    unlike = renderer("loop.first or messages[loop.index0 - 1].content != m.content")
    assert outcome(unlike, said("Oi", "Oi", "E?", "Bem")) is True
    assert outcome(unlike, said("Oi", "Olá", "Oi", "Olá")) is False


@pytest.mark.parametrize(
    ("content", "written"),
    [
        ("m.content | trim", False),
        ("m.content | tojson", False),
        ("m.content.split('</think>')[-1].lstrip()", False),
        ("m.content ~ ' ' ~ m.content", False),
        ("'Nota: ' ~ m.content if 'x' in m.content else m.content", False),
        ("m.content[:48]", True),
        ("m.content | replace('ex', '')", True),
    ],
)
def test_contents_that_are_written_otherwise(content, written):
    """Trimmed, as JSON, twice, with more for some contents: all is there. Cut or changed: it is not."""
    one = Renderer(chatml_tokenizer(), 4_000, chat_template=TURNS.replace("m.content }}", content + " }}")
                   .replace("KEEP", "true").replace("CALLS", "''"))  # fmt: skip
    conversation = said(
        " Explique: e por que ninguém lê um texto longo até o fim\n",
        "<think>\nhum\n</think>\n\nexato",
        "e x",
        "<think>\n\n</think>\n\nde novo",
    )
    assert outcome(one, conversation) is written


def test_the_last_thoughts():
    """Thoughts of earlier turns are left out on purpose; those of the last answer are looked for."""
    one = renderer()
    thinks = {"role": "assistant", "content": "Sim", "reasoning_content": "Penso que sim"}
    assert outcome(one, [QUESTION, thinks, QUESTION, {"role": "assistant", "content": "Sim"}]) is False
    assert outcome(one, [QUESTION, thinks]) is True
    written = renderer(calls="{{ m.reasoning_content or '' }}")
    assert outcome(written, [QUESTION, thinks]) is False


def test_what_a_template_writes_of_other_keys():
    """The number of a call is not that of another conversation's, whose digits a short answer may have."""
    one = with_calls(WHOLE + "({{ c.id }})")
    for number in ("4444", "1234", "9999"):
        asks = called({"dia": 3})
        asks[1]["tool_calls"][0]["id"] = number
        told = [{"role": "tool", "content": "\n4"}, {"role": "assistant", "content": "4 "}]
        assert outcome(one, asks + told) is False


UNLESS_ANALYSIS = "m.channel != 'analysis'"
FUNCTIONS = "{% if c.type == 'function' %}" + WHOLE + "{% endif %}"


@pytest.mark.parametrize(
    ("one", "lost", "whole"),
    [
        (
            lambda: renderer(UNLESS_ANALYSIS),
            [QUESTION, {"role": "assistant", "content": "hm", "channel": "analysis"}, *said("E?", "hm")],
            [QUESTION, {"role": "assistant", "content": "hm", "channel": "final"}, *said("E?", "hm")],
        ),
        (
            lambda: with_calls(FUNCTIONS),
            [QUESTION, called({"dia": 3})[1] | {"tool_calls": [{"type": "x", "name": "f", "arguments": {}}]}],
            [QUESTION, called({"dia": 3})[1] | {"tool_calls": [{"type": "function", "name": "f", "arguments": {}}]}],
        ),
        (
            lambda: with_calls(WHOLE),
            called({"dia": "3"}, parameters={"dia": "4"}),
            called({"dia": "3"}, parameters={"dia": "3"}),
        ),
    ],
)
def test_the_outcome_of_a_row_is_its_own(one, lost, whole):
    """Rows of the same shape, of which one is refused for what only it has, in any order."""
    for call in lost[1].get("tool_calls", []) + whole[1].get("tool_calls", []):
        call.setdefault("function", {"name": "f", "arguments": {"dia": 3}})
    alone = [outcome(one(), lost), outcome(one(), whole)]
    assert alone == ["role_not_rendered", False]
    for rows in ([lost, whole, lost], [whole, lost, whole]):
        in_turn = one()
        assert [outcome(in_turn, row) for row in rows] == [alone[row is whole] for row in rows]


@pytest.mark.parametrize("thinking", [True, 3, " ", None, ["Penso"], {"a": "b"}])
def test_thoughts_that_are_no_text(thinking):
    """They are no thoughts, and no run ends at them, whatever the rows before have said."""
    one = renderer(calls="{{ m.reasoning_content or '' }}")
    thinks = {"role": "assistant", "content": "Sim", "reasoning_content": "Penso que sim"}
    rows = [[QUESTION, thinks | {"thinking": thought}, *said("E?", "Bem")] for thought in ("Penso que sim", thinking)]
    rows += [[QUESTION, {"role": "assistant", "content": "Sim", "thinking": thinking}, *said("E?", "Bem")]]
    assert [outcome(one, row) for row in rows + rows[::-1]] == [False] * 6


def test_a_check_that_fails_ends_no_run(monkeypatch):
    """The row is scored, and counted where nothing shows that all is there."""

    def fails(*_):
        raise IndexError

    for name in ("shape_of", "skeleton_of", "is_whole", "leaves_out"):
        with monkeypatch.context() as patched:
            patched.setattr(template_checks, name, fails)
            one = renderer()
            assert outcome(one, said("Oi", "Olá")) is (name == "leaves_out")
            assert outcome(one, said("Oi", "Olá")) is False


def test_few_shapes_are_kept(monkeypatch):
    """Those used last; what they take has a bound, too."""
    monkeypatch.setattr(template_checks, "MAX_SHAPES", 3)
    one = renderer()
    for turns in (2, 4, 6, 2, 8):
        assert outcome(one, said(*map(str, range(turns)))) is False
    kept = one.template._skeletons
    assert [len(shape) for shape in kept._skeletons] == [6, 2, 8]
    monkeypatch.setattr(template_checks, "MAX_BYTES", 3_000)
    assert outcome(one, said(*map(str, range(10)))) is False
    assert [len(shape) for shape in kept._skeletons] == [10]


def test_an_escaped_quote():
    """As LFM2's template writes it."""
    written = """'{{ v | replace("'", "\\\\'") }}'"""
    body = "[{{ c.function.name }}{% for k, v in c.function.arguments.items() %} {{ k }}=" + written + "{% endfor %}]"
    assert outcome(with_calls(body), called({"cidade": "it's"})) is False


def test_thoughts_that_another_message_says():
    """Thoughts of an earlier turn are not looked for, also where a later text has the same words."""
    thinks = {"role": "assistant", "content": "Sim", "reasoning_content": "Oi"}
    assert outcome(renderer(), [QUESTION, thinks, *said(" Oi", "Bem \n")]) is False


def test_a_text_in_two_forms():
    """As it is in one message, as JSON in another."""
    one = renderer(keep="m.role == 'user'", calls="{% else %}{{ m.content | tojson }}")
    assert outcome(one, said('a "b"', 'a "b"', "b", "Bem")) is False


def test_far_too_many_things():
    """What would take minutes to compare is counted, since nothing shows that it is all there."""
    arguments = {f"k{number}": number for number in range(10_000)}
    assert outcome(with_calls(WHOLE), called(arguments)) is False
    assert outcome(with_calls(WHOLE), called(arguments | {"k": '"'})) is True


@pytest.mark.parametrize("error", [MemoryError, OSError])
def test_what_may_pass_is_an_error_and_no_outcome_that_is_kept(error, monkeypatch):
    """The same conversation is refused as soon as there is memory, or the file, again."""
    one, conversation = with_calls(NAME_ONLY), called({"cidade": "Recife"})
    outcome(one, said("Olá", "Oi"))

    def fails(*arguments):
        raise error

    with monkeypatch.context() as short:
        short.setattr(template_checks, "skeleton_of", fails)
        with pytest.raises(error):
            one.render_checked(conversation)
    assert outcome(one, conversation) == "role_not_rendered"
    with monkeypatch.context() as short:
        short.setattr(template_checks, "leaves_out", fails)
        with pytest.raises(error):
            with_calls(WHOLE).render_checked(called({"cidade": "Recife"}))
