"""Limits to what a chat template may do for one conversation: steps of its loops, characters of its output, its date.

Templates run in transformers' sandbox, in which a loop within a loop may still run for days, and a few lines may write
gigabytes. transformers compiles a template once and keeps it; here the kept one is compiled again with counters in its
loops, so that it is rendered as ever. What a template calls now is the date that is given, not the clock's.
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from jinja2 import Environment, Template, nodes
from jinja2.exceptions import TemplateRuntimeError


# A conversation of a million messages takes a few million.
MAX_STEPS = 20_000_000
# Beside eight times the conversation's own characters.
MAX_CHARACTERS = 16 * 2**20

_now = threading.local()


def limit_template(source: Any) -> Template | None:
    """Set the limits for a template; the next times nothing is left to do.

    Args:
        source: the text of the template; anything else is left alone.

    Returns:
        What transformers has compiled; None: it is not known.
    """
    try:
        from transformers.utils.chat_template_utils import _compile_jinja_template
    except ImportError:  # a version that keeps its templates elsewhere
        return None
    if not isinstance(source, str):
        return None
    template: Template = _compile_jinja_template(source)
    if not getattr(template, "is_limited", False):
        _recompile(template, source)
    return template


@contextmanager
def at_date(date: datetime) -> Iterator[None]:
    """While the block runs, this thread's templates take a date for now."""
    before = getattr(_now, "date", None)
    _now.date = date
    try:
        yield
    finally:
        _now.date = before


def counted(items: Iterable[Any]) -> "_Counted":
    """What a loop runs over, counting its steps."""
    return _Counted(items)


def concatenated(*parts: Any) -> str:
    """What `~` makes of its operands, unless it is too long."""
    return _short_enough("".join(map(str, parts)))


class _Counted:
    """An iterable that counts; it has a length where the original has one, as `loop.last` asks for it."""

    def __init__(self, items: Iterable[Any]):
        self._items = items

    def __iter__(self) -> Iterator[Any]:
        for item in self._items:
            _count(1)
            yield item

    def __len__(self) -> int:
        return len(self._items)  # type: ignore[arg-type]  # a TypeError is what the loop expects


def _recompile(template: Template, source: str) -> None:
    environment = template.environment
    environment.intercepted_binops = frozenset({"*", "**", "+"})  # type: ignore[attr-defined]
    environment.call_binop = _operate  # type: ignore[attr-defined]
    tree = environment.parse(source)
    for loop in list(tree.find_all(nodes.For)):
        loop.iter = _call("counted", [loop.iter])
    _replace_concatenations(tree)
    namespace: dict[str, Any] = {"environment": environment, "__file__": "<template>"}
    exec(environment.compile(tree, filename="<template>"), namespace)
    template.root_render_func = _limited(namespace["root"])
    template.blocks = namespace["blocks"]
    template.globals = dict(template.globals) | {"range": _range_of(environment), "strftime_now": _strftime_now}
    template.is_limited = True  # type: ignore[attr-defined]


def _replace_concatenations(tree: nodes.Node) -> None:
    for node in list(tree.find_all(nodes.Node)):
        for name, value in node.iter_fields():
            if isinstance(value, nodes.Concat):
                setattr(node, name, _call("concatenated", value.nodes))
            elif isinstance(value, list):
                value[:] = [
                    _call("concatenated", item.nodes) if isinstance(item, nodes.Concat) else item for item in value
                ]


def _call(name: str, arguments: list[Any]) -> nodes.Call:
    function = nodes.ImportedName(f"{__name__}.{name}")
    call = nodes.Call(function, arguments, [], None, None)
    call.set_lineno(getattr(arguments[0], "lineno", 1) or 1)
    return call


def _limited(render: Callable[[Any], Iterator[str]]) -> Callable[[Any], Iterator[str]]:
    """Rendering with counters of its own, for one conversation."""

    def limited(context: Any) -> Iterator[str]:
        _now.steps = 0
        _now.characters = None
        _now.messages = context.get("messages")
        written = 0
        for piece in render(context):
            written += len(piece)
            if written > MAX_CHARACTERS:
                _require_length(written)
            yield piece

    return limited


def _strftime_now(form: str) -> str:
    date: datetime = getattr(_now, "date", None) or datetime.now()
    return date.strftime(form)


def _count(steps: int) -> None:
    _now.steps = getattr(_now, "steps", 0) + steps
    if _now.steps > MAX_STEPS:
        raise TemplateRuntimeError(f"its loops take more than {MAX_STEPS:,} steps for this conversation")


def _require_length(characters: int) -> None:
    if getattr(_now, "characters", None) is None:
        _now.characters = MAX_CHARACTERS + 8 * _characters_in(getattr(_now, "messages", None))
    if characters > _now.characters:
        raise TemplateRuntimeError(f"it writes more than {_now.characters:,} characters for this conversation")


def _short_enough(text: str) -> str:
    if len(text) > MAX_CHARACTERS:
        _require_length(len(text))
    return text


def _operate(context: Any, operator: str, left: Any, right: Any) -> Any:
    """The binary operators by which texts and lists grow, in the place of the sandbox's own."""
    if operator == "**":
        return left**right if abs(right) <= 1_000 else _require_length(2**63)
    if operator == "+":
        if type(left) is type(right) is str:  # nearly all there are: `_require_length_of` takes ten times as long
            if len(left) + len(right) > MAX_CHARACTERS:
                _require_length(len(left) + len(right))
        else:
            _require_length_of(left, right)
        return left + right
    if isinstance(left, int) and hasattr(right, "__len__"):
        left, right = right, left
    if hasattr(left, "__len__") and isinstance(right, int) and len(left) * right > MAX_CHARACTERS:
        _require_length(len(left) * right)
    return left * right


def _require_length_of(*parts: Any) -> None:
    if all(isinstance(part, str | list | tuple) for part in parts):
        total = sum(map(len, parts))
        if total > MAX_CHARACTERS:
            _require_length(total)


def _range_of(environment: Environment) -> Callable[..., range]:
    """The sandbox's `range`, whose numbers count as steps: filters run over them without a loop."""
    sandboxed: Any = environment.globals["range"]

    def counting(*arguments: int) -> range:
        numbers: range = sandboxed(*arguments)
        _count(len(numbers))
        return numbers

    return counting


def _characters_in(value: Any) -> int:
    total, waiting = 0, [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            total += len(item)
        elif isinstance(item, dict):
            waiting += [*item, *item.values()]
        elif isinstance(item, list | tuple):
            waiting += item
    return total
