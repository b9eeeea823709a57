"""Everything that affects a step's output, read from the step itself as JSON values, so that two runs can be compared.

A step is its class and its attributes. An attribute that is a function of the user's script becomes a digest of its
code and the plain values that it uses; one that can be imported becomes its name.
"""

import dataclasses
import hashlib
import importlib
import re
from collections.abc import Mapping, Sequence, Set
from os import PathLike
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from datatrove.io import DataFolder


# Attributes that affect what is seen of a run, not what it writes.
FREE = frozenset(
    {
        *("stats", "progress", "documents_per_task", "checkpoints_dir", "file_progress", "doc_progress"),
        *("_empty_warning", "name", "output_mg", "file_id_counter", "unfinished", "paths_file", "claim"),
        *("expected_scorer", "expected_proxy", "audit_folder", "_running", "_guard", "connection", "max_failures"),
    }
)
# Deeper than any setting; what is below is some library's inner state.
MAX_DEPTH = 8


def step_settings(step: Any, root: str = "") -> dict[str, Any]:
    """The class and the settings of a step, or of any other object; JSON values.

    Args:
        step: a DataTrove step, or a function or list in the place of one.
        root: the path of the run's output folder: paths in it are described without it, for it may be moved.
    """
    found = _Description(root).of(step)
    return found if isinstance(found, dict) else {"class": type(step).__name__, "value": found}


class _Description:
    """Describes values; knows which are being described, for objects may refer to each other."""

    def __init__(self, root: str):
        self.root = root.rstrip("/") + "/" if root else ""
        self.inside: list[int] = []

    def of(self, value: Any) -> Any:
        """The value in JSON values."""
        if isinstance(value, str | PathLike):
            return self.text(str(value))
        if value is None or isinstance(value, bool | int):
            return value
        if isinstance(value, float):
            return value if value - value == 0 else repr(value)  # JSON has neither NaN nor infinity
        if id(value) in self.inside or len(self.inside) > MAX_DEPTH:
            return type(value).__name__
        self.inside.append(id(value))
        try:
            return self.composed(value)
        finally:
            self.inside.pop()

    def text(self, text: str) -> str:
        """A text; a path in the output folder without the folder."""
        return f"OUTPUT/{text.removeprefix(self.root)}" if self.root and text.startswith(self.root) else text

    def composed(self, value: Any) -> Any:
        """A value that consists of others."""
        if isinstance(value, DataFolder):
            return self.text(str(value.resolve_paths("")))
        if isinstance(value, MethodType):
            return self.of(value.__func__)
        if isinstance(value, FunctionType):
            return self.function(value)
        if isinstance(value, type | ModuleType | BuiltinFunctionType):
            return _name_of(value)
        if isinstance(value, re.Pattern):
            return {"pattern": value.pattern, "flags": value.flags}
        if isinstance(value, Mapping):
            return {str(key): self.of(item) for key, item in sorted(value.items(), key=lambda item: str(item[0]))}
        if isinstance(value, Set):
            return sorted(map(self.of, value), key=str)
        if isinstance(value, bytes):
            return _digest(value)
        if isinstance(value, Sequence):
            return [self.of(item) for item in value]
        if hasattr(value, "tobytes"):  # arrays of numbers
            return _digest(value.tobytes())
        if type(value).__module__.partition(".")[0] == "pyarrow":
            return re.sub(r"\n-- schema metadata --[\s\S]*", "", str(value))  # which holds versions of libraries
        return self.object(value)

    def object(self, value: Any) -> dict[str, Any]:
        """An object: its class and its attributes."""
        if dataclasses.is_dataclass(value):
            attributes = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        else:
            attributes = getattr(value, "__dict__", {})
        described = {"class": _name_of(type(value))}
        if type(value).__module__ == "__main__":
            described |= self.own_class(type(value))
        return described | {name: self.of(item) for name, item in attributes.items() if name not in FREE}

    def own_class(self, cls: type) -> dict[str, Any]:
        """What the user's script says in a class: its functions and values."""
        return {
            f"class.{name}": self.of(item)
            for name, item in vars(cls).items()
            if isinstance(item, FunctionType) or (not name.startswith("__") and _is_plain(item))
        }

    def function(self, function: FunctionType) -> Any:
        """A function that can be imported: its name; any other: a digest of its code, and the values it uses."""
        if _is_importable(function):
            return _name_of(function)
        closure = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
        used: dict[str, Any] = {name: cell.cell_contents for name, cell in closure.items()}
        for name in _names_in(function.__code__):
            value = function.__globals__.get(name)
            if _is_plain(value) or isinstance(value, FunctionType):
                used[name] = value
        defaults = [function.__defaults__, function.__kwdefaults__]
        return {
            "function": function.__qualname__,
            "code": _digest(_code(function.__code__)),
            **({"defaults": self.of(defaults)} if any(defaults) else {}),
            **{name: self.of(value) for name, value in used.items()},
        }


def _name_of(value: Any) -> str:
    module = getattr(value, "__module__", None)
    name = str(getattr(value, "__qualname__", getattr(value, "__name__", type(value).__name__)))
    return name if module in (None, "__main__", "builtins") else f"{module}.{name}"


def _is_importable(function: FunctionType) -> bool:
    if function.__module__ in (None, "__main__"):
        return False
    try:
        found: Any = importlib.import_module(function.__module__)
        for part in function.__qualname__.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError):
        return False
    return found is function


def _is_plain(value: Any) -> bool:
    """Whether a value is a number, a text, or a collection of such."""
    if isinstance(value, list | tuple | set | frozenset):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(_is_plain(key) and _is_plain(item) for key, item in value.items())
    return value is not None and isinstance(value, str | int | float | bool | bytes)


def _names_in(code: CodeType) -> list[str]:
    """The names that a function's code looks up, also within functions in it."""
    inner = [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    return [*code.co_names, *(name for part in inner for name in _names_in(part))]


def _code(code: CodeType) -> bytes:
    """A function's code without its place in the file."""
    constants = [_code(item) if isinstance(item, CodeType) else _constant(item) for item in code.co_consts]
    return b"\0".join([code.co_code, *constants, " ".join(code.co_names).encode()])


def _constant(value: Any) -> bytes:
    """A constant in a function's code; the order in a set differs between processes."""
    return repr(sorted(map(repr, value)) if isinstance(value, frozenset) else value).encode()


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=8).hexdigest()
