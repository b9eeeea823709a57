"""Options made from a dataclass's fields: name, type, default and help text are written once, in the dataclass."""

import argparse
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, fields
from types import UnionType
from typing import Any, TypeAlias, TypeVar, get_args, get_origin, get_type_hints

from datatrove_quality.cli.option_types import number, scale, whole
from datatrove_quality.config import ScoreScale


T = TypeVar("T")

# What reads an option's value, and the value's placeholder in help.
Reader: TypeAlias = tuple[Callable[[str], Any], str | None]

_READERS: dict[type, Reader] = {
    int: (whole, "N"),
    float: (number, "X"),
    ScoreScale: (scale, "OFFSET,LOW,HIGH"),
    str: (str, None),
}


def add_fields(
    group: argparse._ArgumentGroup,
    kind: type,
    names: Iterable[str],
    choices: Mapping[str, Iterable[str]] | None = None,
    readers: Mapping[str, Reader] | None = None,
) -> None:
    """Add an option for each of some fields of a dataclass, `--max-tokens` for `max_tokens`.

    A truth value is a flag; where it may be None, it is two: `--add-bos-token` and `--no-add-bos-token`.

    Args:
        group: to which the options are added.
        kind: a dataclass whose docstring has an `Args:` section, which becomes the help.
        names: of the fields.
        choices: the values that a field can have, by its name.
        readers: what reads a field's value, and the placeholder, where its type does not say.
    """
    texts, types = described(kind), get_type_hints(kind)
    by_name = {field.name: field for field in fields(kind)}
    for name in names:
        field = by_name[name]
        default = field.default if field.default_factory is MISSING else field.default_factory()
        flag = f"--{name.replace('_', '-')}"
        text = _with_default(texts[name], default)
        kind_of_value = _without_none(types[name])
        if kind_of_value is bool:
            is_open = default is None
            action = argparse.BooleanOptionalAction if is_open else "store_true"
            group.add_argument(flag, action=action, default=None if is_open else False, help=text)
            continue
        is_repeated = get_origin(kind_of_value) is tuple
        read, placeholder = (readers or {}).get(name) or _READERS[_of_items(kind_of_value)]
        group.add_argument(
            flag,
            action="append" if is_repeated else "store",
            type=read,
            choices=(choices or {}).get(name),
            default=None if default is MISSING or is_repeated else default,
            required=default is MISSING,
            metavar=None if name in (choices or {}) else placeholder or name.rpartition("_")[2].upper(),
            help=f"{text}; may be given several times" if is_repeated else text,
        )


def filled(kind: type[T], options: argparse.Namespace) -> T:
    """A dataclass with the options of its fields' names; what is not given keeps the field's default.

    Args:
        kind: the dataclass.
        options: the command line.

    Raises:
        ValueError: as the dataclass does.
    """
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    given = {name: getattr(options, name, None) for name in names}
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    return kind(**{name: value for name, value in values.items() if value is not None})


def described(kind: type) -> dict[str, str]:
    """What a dataclass's docstring says of each field, by its name."""
    block = (inspect.getdoc(kind) or "").partition("\nArgs:\n")[2].partition("\n\n")[0]
    parts = re.split(r"^    (\w+): ", block, flags=re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in zip(parts[1::2], parts[2::2], strict=True)}


def _with_default(text: str, default: Any) -> str:
    """A help text, for argparse, with the default where it is a value."""
    text = text.rstrip(".").replace("None: ", "default: ").replace("%", "%%")
    if default is MISSING or default in (None, ()) or isinstance(default, bool):
        return text
    shown = f"{default.offset:g},{default.low},{default.high}" if isinstance(default, ScoreScale) else str(default)
    return f"{text} (default: {shown})"


def _without_none(hint: Any) -> type:
    """The type of a field's values other than None."""
    if not isinstance(hint, UnionType):
        return hint
    return next(part for part in get_args(hint) if part is not type(None))


def _of_items(kind: type) -> type:
    """The type of a tuple's items; of another type, itself."""
    return get_args(kind)[0] if get_origin(kind) is tuple else kind
