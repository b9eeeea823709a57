"""Limits to what a chat template may do for one conversation: steps of its loops, characters of its output, its date.

Templates run in transformers' sandbox, in which a loop within a loop may still run for days, and a few lines may write
gigabytes, some of them while the template is compiled. Therefore the template is compiled here: with counters in its
loops and calls, and with operators, filters and methods that measure a text before they make it. transformers has
it in the place of one that it compiles and keeps, and renders it as ever. What a template calls now is the date that
is given, not the clock's.
"""

import functools
import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, NamedTuple, cast

from jinja2 import Environment, Template, nodes, pass_environment
from jinja2.exceptions import TemplateRuntimeError
from jinja2.filters import make_attrgetter
from jinja2.visitor import NodeTransformer

from datatrove_quality.model.template_sizes import FILTERS, MAX_BITS, METHODS, Measure, formatted, length_of
from datatrove_quality.rows.json_values import texts_in


# A conversation of a million messages takes a few million.
MAX_STEPS = 20_000_000
# Beside eight times the conversation's own characters.
MAX_CHARACTERS = 16 * 2**20
# Of a text, as many characters cost as much as a step of a loop; of a list, as many items.
STEP_CHARACTERS, STEP_ITEMS = 2**10, 2**4

# Filters of ours, by names that no template can write.
_COUNTED, _CONCATENATED, _READ = "limits: counted", "limits: concatenated", "limits: read"

# Tests that compare values, of which a list may hold one list many times over.
_COMPARING = frozenset(
    ("in", "eq", "equalto", "==", "ne", "!=", "lt", "lessthan", "<", "le", "<=", "gt", "greaterthan", ">", "ge", ">=")
)

# What Jinja gives to each call beside the template's own arguments.
_JINJAS = ("_loop_vars", "_block_vars")

_now = threading.local()


class TemplateLimitExceeded(TemplateRuntimeError):
    """A template does more for a conversation than any should."""


class LimitedTemplate(NamedTuple):
    """A template with limits.

    Args:
        name: what `apply_chat_template` takes for it. Without the limits, it is a template that raises.
        template: what renders.
    """

    name: str
    template: Template


def limit_template(source: Any) -> LimitedTemplate | None:
    """Compile a template with limits; the next times nothing is left to do.

    Args:
        source: the text of the template.

    Returns:
        None: it is no text, or this version of transformers keeps its templates elsewhere.

    Raises:
        TemplateSyntaxError: it is no Jinja template.
    """
    try:
        from transformers.utils.chat_template_utils import _compile_jinja_template
    except ImportError:
        return None
    if not isinstance(source, str):
        return None
    name = _stand_in(source)
    template: Template = _compile_jinja_template(name)
    if not getattr(template, "is_limited", False):
        _compile(template, source)
    return LimitedTemplate(name, template)


@functools.lru_cache
def _stand_in(source: str) -> str:
    digest = hashlib.blake2b(source.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
    return f"{{{{ raise_exception('a template without its limits') }}}}{{# {digest} #}}"


@contextmanager
def at_date(date: datetime) -> Iterator[None]:
    """While the block runs, this thread's templates take a date for now."""
    before = getattr(_now, "date", None)
    _now.date = date
    try:
        yield
    finally:
        _now.date = before


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


def _compile(template: Template, source: str) -> None:
    """Compile a text into a template that transformers keeps, with limits."""
    environment = template.environment
    _limit_environment(environment)
    tree = environment.parse(source)
    _Limiting().visit(tree)
    tree.set_environment(environment)
    _begin(None)  # for what is computed now: expressions of constants
    namespace: dict[str, Any] = {"environment": environment, "__file__": "<template>"}
    exec(environment.compile(tree, filename="<template>"), namespace)
    root = namespace["root"]

    def render(context: Any) -> Iterator[str]:
        _begin(context.get("messages"))
        return _written(root(context))

    template.root_render_func = render
    template.blocks = {name: _written_by(block) for name, block in namespace["blocks"].items()}
    template.globals = dict(template.globals) | {"range": _range_of(environment), "strftime_now": _strftime_now}
    template.is_limited = True  # type: ignore[attr-defined]


def _limit_environment(environment: Any) -> None:
    environment.intercepted_binops = frozenset({"*", "**", "+", "%"})
    environment.call_binop = _operate
    environment.call = _call_of(environment.call)
    environment.concat = _concatenate
    environment.finalize = _as_output
    own = {_COUNTED: _Counted, _CONCATENATED: _concatenated, _READ: _read, "join": _join}
    environment.filters = {name: _limited(name, found) for name, found in environment.filters.items()} | own
    comparing = {name: _reading(test) for name, test in environment.tests.items() if name in _COMPARING}
    environment.tests = dict(environment.tests) | comparing
    environment.globals.pop("lipsum", None)  # writes texts by chance, as many as it is told


class _Limiting(NodeTransformer):
    """Puts our filters where a template takes time or makes texts without calling anything."""

    def visit(self, node: Any, *_: Any, **__: Any) -> nodes.Node:
        """A node in whose children the filters are already."""
        self.generic_visit(node)
        if isinstance(node, nodes.For):
            node.iter = _filter(_COUNTED, node.iter)
        elif isinstance(node, nodes.Concat):
            return _filter(_CONCATENATED, *node.nodes)
        elif isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Slice):
            node.node = _filter(_READ, node.node)
        elif isinstance(node, nodes.Compare):
            _read_sides(node)
        return cast("nodes.Node", node)


def _read_sides(comparison: nodes.Compare) -> None:
    for side in comparison.ops:
        if side.op in ("in", "notin"):
            side.expr = _filter(_READ, side.expr)
    sides: list[Any] = [comparison, *comparison.ops]
    # Comparing with a constant takes no time.
    if not any(isinstance(side.expr, nodes.Const) for side in sides):
        for side in sides:
            side.expr = _filter(_READ, side.expr)


def _filter(name: str, value: Any, *arguments: nodes.Expr) -> nodes.Filter:
    return nodes.Filter(value, name, list(arguments), [], None, None, lineno=value.lineno)


def _begin(messages: Any) -> None:
    """Set the counters of this thread to nothing, for one conversation."""
    _now.steps = 0
    _now.characters = None
    _now.messages = messages


def _written_by(render: Callable[[Any], Iterator[str]]) -> Callable[[Any], Iterator[str]]:
    return lambda context: _written(render(context))


def _written(pieces: Iterable[str]) -> Iterator[str]:
    written = 0
    for piece in pieces:
        written += len(piece)
        if written > MAX_CHARACTERS:
            _require_length(written)
        yield piece


def _call_of(call: Callable[..., Any]) -> Callable[..., Any]:
    """The sandbox's way to call what a template calls: functions, macros, methods."""

    def limited(context: Any, function: Any, /, *arguments: Any, **named: Any) -> Any:
        _count(1)
        method = getattr(function, "__wrapped__", function)  # the sandbox wraps `format`
        owner = getattr(method, "__self__", None)
        if isinstance(owner, str | bytes | int):
            name = getattr(method, "__name__", "")
            if name == "join" and arguments:
                arguments = (list(arguments[0]), *arguments[1:])
            own = {key: value for key, value in named.items() if key not in _JINJAS}
            if measure := METHODS.get(name):
                _allow(measure, owner, *arguments, **own)
            elif any(isinstance(value, int) and value > MAX_CHARACTERS for value in (*arguments, *own.values())):
                _require_length(2**63)
            _count_reading(owner)
        elif isinstance(owner, list | tuple):
            _read(owner)
        return call(context, function, *arguments, **named)

    return limited


def _limited(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that counts what it reads, and measures what it makes where that may be much."""
    measure = FILTERS.get(name)
    has_context = hasattr(function, "jinja_pass_arg")

    def limited(*arguments: Any, **named: Any) -> Any:
        given = arguments[1:] if has_context else arguments
        for value in given:
            _count_reading(value)
        if measure is not None and given and not (measure is length_of and type(given[0]) is str):
            _allow(measure, *given, **named)
        return function(*arguments, **named)

    for attribute in ("jinja_pass_arg", "jinja_async_variant"):
        if hasattr(function, attribute):
            setattr(limited, attribute, getattr(function, attribute))
    return limited


def _reading(test: Callable[..., bool]) -> Callable[..., bool]:
    return lambda *values: test(*map(_read, values))


def _concatenated(*parts: Any) -> str:
    """What `~` makes of its operands."""
    return _concatenate([part if isinstance(part, str) else _text(part) for part in parts])


def _concatenate(parts: Iterable[str]) -> str:
    """What Jinja puts blocks and macros together with."""
    texts = list(parts)
    total = sum(map(len, texts))
    if total > STEP_CHARACTERS:
        _count(total // STEP_CHARACTERS)
        if total > MAX_CHARACTERS:
            _require_length(total)
    return "".join(texts)


@pass_environment
def _join(environment: Environment, value: Iterable[Any], d: Any = "", attribute: Any = None) -> str:
    """Jinja's filter, which takes its items one by one."""
    items = value if attribute is None else map(make_attrgetter(environment, attribute), value)
    separator = str(d)
    total, texts = 0, []
    for item in items:
        text = item if isinstance(item, str) else _text(item)
        total += len(text) + len(separator)
        if total > MAX_CHARACTERS:
            _require_length(total)
        texts.append(text)
    _count(len(texts) // STEP_ITEMS + total // STEP_CHARACTERS)
    return separator.join(texts)


def _as_output(value: Any) -> Any:
    """What is written, before it becomes a text."""
    if not isinstance(value, str):
        _allow(length_of, value)
    return value


def _text(value: Any) -> str:
    _allow(length_of, value)
    return str(value)


def _read(value: Any) -> Any:
    """The value itself, which is about to be searched, compared or copied."""
    _count_reading(value)
    if isinstance(value, list | tuple | dict):
        _allow(length_of, value)
    return value


def _count_reading(value: Any) -> None:
    if isinstance(value, str | bytes):
        if len(value) > STEP_CHARACTERS:
            _count(len(value) // STEP_CHARACTERS)
    elif isinstance(value, list | tuple | dict):
        _count(len(value) // STEP_ITEMS)


def _allow(measure: Measure, *arguments: Any, **named: Any) -> None:
    """Refuse what would make too long a text."""
    characters = measure(MAX_CHARACTERS, *arguments, **named)
    if characters > MAX_CHARACTERS:
        characters = measure(_limit(), *arguments, **named)
        _require_length(characters)
    if characters > STEP_CHARACTERS:
        _count(characters // (STEP_CHARACTERS if isinstance(arguments[0], str) else STEP_ITEMS))


def _strftime_now(form: str) -> str:
    date: datetime = getattr(_now, "date", None) or datetime.now()
    return date.strftime(form)


def _count(steps: int) -> None:
    _now.steps = getattr(_now, "steps", 0) + steps
    if _now.steps > MAX_STEPS:
        raise TemplateLimitExceeded(f"its loops take more than {MAX_STEPS:,} steps for this conversation")


def _limit() -> int:
    if getattr(_now, "characters", None) is None:
        _now.characters = MAX_CHARACTERS + 8 * sum(map(len, texts_in(getattr(_now, "messages", None), keys=True)))
    return int(_now.characters)


def _require_length(characters: int) -> None:
    if characters > _limit():
        raise TemplateLimitExceeded(f"it writes more than {_limit():,} characters for this conversation")


def _operate(context: Any, operator: str, left: Any, right: Any) -> Any:
    """The binary operators by which texts, lists and numbers grow, in the place of the sandbox's own."""
    if operator == "+":
        if type(left) is type(right) is str:  # nearly all there are
            total = len(left) + len(right)
        else:
            parts = (left, right)
            total = sum(map(len, parts)) if all(isinstance(part, str | list | tuple) for part in parts) else 0
        if total > STEP_CHARACTERS:
            _grow(total, left)
        return left + right
    if operator == "%":
        if isinstance(left, str | bytes):
            _allow(formatted, left, right)
        return left % right
    if isinstance(left, int) and isinstance(right, int):
        bits = left.bit_length()
        if (bits + right.bit_length() if operator == "*" else bits * abs(right)) > MAX_BITS:
            _require_length(2**63)
    if operator == "**":
        return left**right
    if isinstance(left, int) and hasattr(right, "__len__"):
        left, right = right, left
    if hasattr(left, "__len__") and isinstance(right, int):
        _grow(len(left) * right, left)
    return left * right


def _grow(length: int, value: Any) -> None:
    """Count and limit what an operator makes of a text or a list."""
    if length > MAX_CHARACTERS:
        _require_length(length)
    _count(max(0, length) // (STEP_CHARACTERS if isinstance(value, str) else STEP_ITEMS))


def _range_of(environment: Environment) -> Callable[..., range]:
    """The sandbox's `range`, whose numbers count as steps: filters run over them without a loop."""
    sandboxed: Any = environment.globals["range"]

    def counting(*arguments: int) -> range:
        numbers: range = sandboxed(*arguments)
        _count(len(numbers))
        return numbers

    return counting
