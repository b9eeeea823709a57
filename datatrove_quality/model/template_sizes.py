"""How long a text would become that a template makes with an operator, a filter or a method, told before it is made.

Each measure takes first the length beyond which the exact value does not matter, then the operation's arguments.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any


Measure = Callable[..., int]

# Of a whole number that arithmetic gives; Python writes none with more than 4,300 digits.
MAX_BITS = 2**16
_NUMBER = re.compile(r"\d+")
_NESTED = re.compile(r"\*|\{[^{}]*\{")


def length_of(enough: int, value: Any, *_: Any, **__: Any) -> int:
    """About as many characters as a value has as a text; of what is longer than `enough`, any number above it.

    Lists that hold one list many times over are short in memory and endless as a text.
    """
    if isinstance(value, str | bytes):
        return len(value)
    total, waiting = 0, [value]
    while waiting and total <= enough:
        item = waiting.pop()
        total += len(item) + 2 if isinstance(item, str | bytes) else 2
        if isinstance(item, dict):
            waiting += [*item, *item.values()]
        elif isinstance(item, list | tuple | set | frozenset):
            waiting += item
    return total


def _padded(enough: int, value: Any, width: Any = 80, *_: Any, **__: Any) -> int:
    return max(length_of(enough, value), _whole(width))


def _indented(enough: int, value: Any, width: Any = 4, *_: Any, **__: Any) -> int:
    lines = value.count("\n") + 1 if isinstance(value, str) else length_of(enough, value)
    return length_of(enough, value) + lines * (_whole(width) or length_of(enough, width))


def _wrapped(enough: int, value: Any, width: Any = 79, _: Any = True, wrapstring: Any = None, __: Any = True) -> int:
    return length_of(enough, value) * (1 + len(wrapstring or "\n"))


def _replaced(enough: int, value: Any, old: Any, new: Any, *_: Any, **__: Any) -> int:
    if not all(isinstance(part, str | bytes) for part in (value, old, new)):
        return length_of(enough, value) * (1 + length_of(enough, new))
    longer = len(new) - len(old)
    return len(value) + value.count(old) * longer if longer > 0 else len(value)


def _expanded(enough: int, value: Any, tabsize: Any = 8) -> int:
    tab = "\t" if isinstance(value, str) else b"\t"
    return len(value) + value.count(tab) * _whole(tabsize)


def _joined(enough: int, separator: Any, items: Any) -> int:
    return length_of(enough, items) + len(items) * len(separator) if hasattr(items, "__len__") else 0


def _translated(enough: int, value: Any, table: Any, *_: Any) -> int:
    longest = max((length_of(enough, item) for item in table.values()), default=1) if isinstance(table, dict) else 1
    return len(value) * max(1, longest)


def formatted(enough: int, value: Any, *arguments: Any, **named: Any) -> int:
    """At most what `%` and `format` give: all widths, and in each field all arguments."""
    text = value.decode("latin-1") if isinstance(value, bytes) else str(value)
    fields = text.count("%") + text.count("{")
    given = length_of(enough, [arguments, named])
    widths = sum(int(number[:12]) for number in _NUMBER.findall(text))
    if _NESTED.search(text):  # a width may be an argument
        widths += fields * max(map(_whole, _flat([*arguments, *named.values()])), default=0)
    return len(text) + widths + fields * given


def _as_json(enough: int, value: Any, *arguments: Any, indent: Any = None, **_: Any) -> int:
    step = _whole(indent) or len(indent or "")
    if not step:
        return length_of(enough, value)
    total, waiting = 0, [(value, 1)]
    while waiting and total <= enough:
        item, depth = waiting.pop()
        total += depth * step + (len(item) if isinstance(item, str) else 2)
        inner = [*item, *item.values()] if isinstance(item, dict) else item if isinstance(item, list | tuple) else ()
        waiting += [(one, depth + 1) for one in inner]
    return total


def _printed(enough: int, value: Any, *_: Any, **__: Any) -> int:
    return 80 * length_of(enough, value)  # an item a line, under the bracket that it belongs to


def _divided(enough: int, value: Any, count: Any = 1, *_: Any, **__: Any) -> int:
    return _whole(count)


def _rounded(enough: int, value: Any, precision: Any = 0, *_: Any, **__: Any) -> int:
    return _whole(precision) * 2**14  # ten to the power of a thousand is enough


_AS_TEXT = (
    *("capitalize", "e", "escape", "forceescape", "lower", "safe", "string", "striptags", "title", "trim"),
    *("truncate", "upper", "urlencode", "urlize", "wordcount", "xmlattr"),
)
_COMPARING = ("sort", "min", "max", "dictsort", "groupby", "unique")  # a list may hold one list many times over
FILTERS: dict[str, Measure] = {
    **dict.fromkeys((*_AS_TEXT, *_COMPARING), length_of),
    "center": _padded,
    "pprint": _printed,
    "indent": _indented,
    "wordwrap": _wrapped,
    "replace": _replaced,
    "format": formatted,
    "tojson": _as_json,
    "batch": _divided,
    "slice": _divided,
    "round": _rounded,
}
"""Of Jinja's filters, by their arguments."""

METHODS: dict[str, Measure] = {
    **dict.fromkeys(("center", "ljust", "rjust", "zfill"), _padded),
    "expandtabs": _expanded,
    "replace": _replaced,
    "join": _joined,
    "translate": _translated,
    "format": formatted,
    "format_map": formatted,
}
"""Of texts and bytes."""


def _whole(value: Any) -> int:
    return abs(value) if isinstance(value, int) else 0


def _flat(values: Iterable[Any]) -> Iterable[Any]:
    for value in values:
        if isinstance(value, list | tuple):
            yield from value
        elif isinstance(value, Mapping):
            yield from value.values()
        else:
            yield value
