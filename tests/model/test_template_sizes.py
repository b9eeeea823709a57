"""The length that is estimated before a text is made is never below its own; beyond a limit it is not computed."""

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from datatrove_quality.model.template_sizes import FILTERS, METHODS, formatted, length_of


ENOUGH = 10_000
FILTERED = [
    ("center", "abc", 90),
    ("indent", "a\nb\n\nc", 70),
    ("indent", "a\nb", "0123456789" * 9),
    ("wordwrap", "a b c d e f", 1, True, "0123456789"),
    ("replace", "abcabc", "b", "0123456789"),
    ("replace", "abc", "", "--"),
    ("format", "%s %20s %-*d", "a", "b", 30, 1),
    ("tojson", {"a": ["b", {"c": [1, 2]}]}),
    ("upper", ["a", "b"]),
    ("pprint", {"a": ["b"] * 20}),
]
CALLED = [
    ("expandtabs", "a\tb\t", 30),
    ("replace", "abcabc", "b", "0123456789"),
    ("join", ", ", ["a", "bb", "ccc"]),
    ("join", "0123456789", "abc"),
    ("translate", "aaa", {97: "0123456789"}),
    ("format", "{0}{0}{1:>{2}}", "abc", "d", 40),
    ("format", "{a:>50}"),
    ("format_map", "{a[1]}{a[0]}", {"a": ["xy", "z"]}),
    ("ljust", "a", 70),
    ("zfill", "7", 70),
]


@pytest.mark.parametrize("case", FILTERED, ids=str)
def test_filters_give_no_more(case):
    """As Jinja has them."""
    name, *arguments = case
    environment = ImmutableSandboxedEnvironment()
    call = f"{{{{ a[0] | {name}({', '.join(f'a[{place}]' for place in range(1, len(arguments)))}) }}}}"
    made = environment.from_string(call).render(a=arguments)
    assert len(made) <= FILTERS[name](ENOUGH, *arguments) + 20 * (name in ("tojson", "upper"))


@pytest.mark.parametrize("case", CALLED, ids=str)
def test_methods_give_no_more(case):
    """As Python has them."""
    name, text, *arguments = case
    named = {"a": "x"} if text.startswith("{a:") else {}
    made = getattr(text, name)(*arguments, **named)
    assert len(made) <= METHODS[name](ENOUGH, text, *arguments, **named)


def test_a_width_among_the_arguments_counts():
    """Of both ways to format."""
    assert formatted(ENOUGH, "%*d", (5_000_000, 1)) >= 5_000_000
    assert formatted(ENOUGH, "{:{}}", 1, 5_000_000) >= 5_000_000
    assert formatted(ENOUGH, "{:{w}}", 1, w=5_000_000) >= 5_000_000
    assert formatted(ENOUGH, "%d", 5_000_000) < 100


def test_a_list_that_holds_itself_many_times_is_not_walked_to_its_end():
    """Fifty levels of two are 10^15 texts."""
    value = ["a"]
    for _ in range(50):
        value = [value, value]
    assert ENOUGH < length_of(ENOUGH, value) < 2 * ENOUGH
    assert ENOUGH < FILTERS["tojson"](ENOUGH, value, indent=2) < 20 * ENOUGH
