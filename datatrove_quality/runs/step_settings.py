"""Everything that affects a step's output, read from the step itself as JSON values, so that two runs can be compared.

A step is its class and its attributes. Functions and classes of the user's own files become digests of their code, and
what they use; those of installed packages become their names. What cannot be described is told in the log.
"""

import argparse
import dataclasses
import dis
import functools
import hashlib
import importlib
import importlib.util
import logging
import re
import sys
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import suppress
from os import PathLike
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType, SimpleNamespace
from typing import Any

import numpy as np
from datatrove.io import DataFolder
from loguru import logger


# Attributes of these classes that affect what is seen of a run, or that it sets itself; not what it writes.
FREE: dict[str, frozenset[str]] = {
    name: frozenset(attributes.split())
    for name, attributes in {
        "datatrove.pipeline.base.PipelineStep": "stats",
        "datatrove.pipeline.readers.base.BaseReader": "_empty_warning",
        "datatrove.pipeline.readers.base.BaseDiskReader": "paths_file file_progress doc_progress",
        "datatrove.pipeline.readers.huggingface.HuggingFaceDatasetReader": "doc_progress",
        "datatrove.pipeline.writers.disk_base.DiskWriter": "file_id_counter output_mg unfinished claim",
        "datatrove_quality.annotation.step.LLMJudge": (
            "progress documents_per_task checkpoints_dir connection max_failures"
        ),
        "datatrove_quality.curation.rule_filter.ConversationRules": "_guard",
        "datatrove_quality.filter.QualityFilter": (
            "progress documents_per_task checkpoints_dir expected_scorer expected_proxy audit_folder _running"
        ),
    }.items()
}
# Of the standard library: what its text says whole.
_IN_WORDS = {"datetime", "decimal", "fractions", "uuid", "ipaddress"}
# A seed that was not given has 128 random bits.
_SEED_BITS = 96
# Deeper than any setting; what is below is some library's inner state.
MAX_DEPTH = 8


def step_settings(step: Any, root: str) -> dict[str, Any]:
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
        self.is_users = False  # whether what is described is held by the user's own code

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
        if isinstance(value, MethodType | BuiltinFunctionType | FunctionType | functools.partial):
            return self.callable(value)
        if isinstance(value, type):
            return {"class": _name_of(value)} | self.own_class(value) if _is_own(value.__module__) else _name_of(value)
        if isinstance(value, ModuleType):
            return value.__name__
        if isinstance(value, re.Pattern):
            return {"pattern": value.pattern, "flags": value.flags}
        if isinstance(value, Mapping):
            described = {key if isinstance(key, str) else str(self.of(key)): self.of(value[key]) for key in value}
            return dict(sorted(described.items()))
        if isinstance(value, Set):
            return sorted(map(self.of, value), key=str)
        if isinstance(value, bytes):
            return _digest(value)
        if isinstance(value, range):
            return str(value)
        if isinstance(value, Sequence):
            return [self.of(item) for item in value]
        if hasattr(value, "tobytes"):  # arrays of numbers
            return _digest(value.tobytes())
        if _root(type(value)) == "pyarrow":
            return re.sub(r"\n-- schema metadata --[\s\S]*", "", str(value))  # which holds versions of libraries
        return self.object(value)

    def callable(self, value: Any) -> Any:
        """A function, or one with some of its arguments: those, too."""
        if isinstance(value, functools.partial):
            parts = {"args": value.args, "keywords": value.keywords}
            return {"function": self.of(value.func)} | {name: self.of(part) for name, part in parts.items() if part}
        if isinstance(value, FunctionType):
            return self.function(value)
        owner = getattr(value, "__self__", None)
        function = self.of(value.__func__) if isinstance(value, MethodType) else _name_of(value)
        if owner is None or isinstance(owner, ModuleType) or id(owner) in self.inside:
            return function
        return {"function": function, "self": self.of(owner)}

    def object(self, value: Any) -> dict[str, Any]:
        """An object: its class and its attributes."""
        cls = type(value)
        described: dict[str, Any] = {"class": _name_of(cls)}
        if cls.__module__ in _IN_WORDS:
            return described | {"value": str(value)}
        if isinstance(value, np.random.Generator):
            seed = getattr(value.bit_generator.seed_seq, "entropy", None)
            return described | {"seed": seed if isinstance(seed, int) and seed < 1 << _SEED_BITS else "random"}
        if _is_own(cls.__module__):
            described |= self.own_class(cls)
        attributes = _attributes(value)
        if attributes is None:
            if self.is_users:
                _tell_unknown(_name_of(cls))
            return described
        free = frozenset[str]().union(*(FREE.get(_name_of(base), frozenset()) for base in cls.__mro__))
        compared = {name: item for name, item in attributes.items() if name not in free}
        return described | self.held(compared, _is_own(cls.__module__))

    def held(self, values: Mapping[str, Any], is_users: bool) -> dict[str, Any]:
        """What an object or a function holds, by name."""
        before, self.is_users = self.is_users, is_users
        try:
            return {name: self.of(value) for name, value in values.items()}
        finally:
            self.is_users = before

    def own_class(self, cls: type) -> dict[str, Any]:
        """What the user's files say in a class and its bases: their functions and values."""
        described: dict[str, Any] = {}
        for base in (base for base in cls.__mro__ if _is_own(base.__module__)):
            prefix = "class" if base is cls else base.__qualname__
            for name, item in vars(base).items():
                function = _function_in(item)
                if function is not None or not (name.startswith(("__", "_abc_")) or hasattr(item, "__get__")):
                    described[f"{prefix}.{name}"] = self.of(item if function is None else function)
        return described

    def function(self, function: FunctionType) -> Any:
        """A function of an installed package: its name; any other: a digest of its code, and what it uses."""
        if _is_importable(function) and not _is_own(function.__module__):
            return _name_of(function)
        closure = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
        used: dict[str, Any] = {name: _content(cell) for name, cell in closure.items()}
        used |= dict(_globals_in(function))
        defaults = [function.__defaults__, function.__kwdefaults__]
        return {
            "function": function.__qualname__,
            "code": _digest(_code(function.__code__)),
            **({"defaults": self.of(defaults)} if any(defaults) else {}),
            **self.held(used, is_users=True),
        }


@functools.cache
def _tell_unknown(name: str) -> None:
    logger.warning(
        f"Objects of {name} in a step are not compared with those of a run that is continued: after you have "
        "changed one, start with overwrite=True."
    )


@functools.cache
def _is_own(module: str | None) -> bool:
    """Whether a module is the user's: a script, or a file that belongs to no installed package."""
    if module == "__main__":
        return True
    if module is None or module.partition(".")[0] in {"datatrove", "datatrove_quality", *sys.stdlib_module_names}:
        return False
    place = getattr(sys.modules.get(module), "__file__", None)
    if place is None:
        with suppress(ImportError, ValueError):
            place = getattr(importlib.util.find_spec(module), "origin", None)
    return place is not None and not {"site-packages", "dist-packages"}.intersection(Path(place).parts)


def _root(cls: type) -> str:
    return cls.__module__.partition(".")[0]


def _attributes(value: Any) -> dict[str, Any] | None:
    """The attributes of an object, or what pickle would keep of one that has none; None: that is not known."""
    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name, None) for field in dataclasses.fields(value)}
    slots = [name for base in type(value).__mro__ for name in _slots(base) if hasattr(value, name)]
    found = {name: getattr(value, name) for name in slots} | getattr(value, "__dict__", {})
    if found or hasattr(value, "__dict__"):
        return found
    if not (_is_own(type(value).__module__) or _root(type(value)) in {"numpy", *sys.stdlib_module_names}):
        return None  # a library's compiled object: pickle tells of spaCy's what differs between processes
    try:
        reduced = value.__reduce_ex__(4)
    except Exception:  # a lock, an open file
        return None
    parts = reduced[1:3] if isinstance(reduced, tuple) else (reduced,)
    return {f"state.{number}": part for number, part in enumerate(parts) if part is not None}


def _slots(cls: type) -> tuple[str, ...]:
    slots = vars(cls).get("__slots__", ())
    return tuple(name for name in ((slots,) if isinstance(slots, str) else slots) if not name.startswith("__"))


def _function_in(item: Any) -> Any:
    """The function of a class's method or property; None: it is none."""
    if isinstance(item, property):
        return item.fget
    if isinstance(item, functools.cached_property):
        return item.func
    found = getattr(item, "__wrapped__", getattr(item, "__func__", item))
    return found if isinstance(found, FunctionType) else None


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet
        return None


def _globals_in(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """What a function uses of its file, and of the user's other files: names and values."""
    names = _names_in(function.__code__)
    imported = {name: _imported(name) for name in names["IMPORT_NAME"]}
    values = {name: function.__globals__[name] for name in names["LOAD_GLOBAL"] if name in function.__globals__}
    for name, value in (imported | values).items():
        if isinstance(value, ModuleType | argparse.Namespace | SimpleNamespace):
            # Of a module or a script's options the function uses some.
            if not isinstance(value, ModuleType) or _is_own(value.__name__):
                yield from ((f"{name}.{one}", vars(value)[one]) for one in names["ATTRIBUTE"] if one in vars(value))
        elif name not in imported and not isinstance(value, logging.Logger) and _root(type(value)) != "loguru":
            yield name, value


def _imported(name: str) -> ModuleType | None:
    """A module of the user's that a function imports."""
    try:
        return importlib.import_module(name) if _is_own(name) else None
    except ImportError:
        return None


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


def _names_in(code: CodeType) -> dict[str, dict[str, None]]:
    """The names that a function's code looks up, by the kind of instruction, also within functions in it."""
    found: dict[str, dict[str, None]] = {"LOAD_GLOBAL": {}, "IMPORT_NAME": {}, "ATTRIBUTE": {}}
    for instruction in dis.get_instructions(code):
        if instruction.opcode in dis.hasname:
            kind = "LOAD_GLOBAL" if instruction.opname == "LOAD_NAME" else instruction.opname  # in a class body
            found.get(kind, found["ATTRIBUTE"])[instruction.argval] = None
    for part in (constant for constant in code.co_consts if isinstance(constant, CodeType)):
        for kind, names in _names_in(part).items():
            found[kind] |= names
    return found


def _code(code: CodeType) -> bytes:
    """A function's code without its place in the file."""
    constants = [_code(item) if isinstance(item, CodeType) else _constant(item) for item in code.co_consts]
    return b"\0".join([code.co_code, *constants, " ".join(code.co_names).encode()])


def _constant(value: Any) -> bytes:
    """A constant in a function's code; the order in a set differs between processes."""
    return repr(sorted(map(repr, value)) if isinstance(value, frozenset) else value).encode()


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=8).hexdigest()
