"""Each extra brings what the code imports of it, and its error names it."""

import importlib.metadata
import re
import tomllib
from pathlib import Path

import pytest

from datatrove_quality.extras import EXTRAS, require_extra


ROOT = Path(__file__).resolve().parents[1]


def test_extras_are_those_of_the_project():
    """The modules that a command looks for are brought by the extra that its error names."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    brought = importlib.metadata.packages_distributions()
    for extra, modules in EXTRAS.items():
        declared = {re.match(r"[\w-]+", requirement)[0] for requirement in extras[extra]}
        for module in modules:
            if module in brought:  # an extra that is not installed here cannot be looked into
                assert declared & set(brought[module]), (extra, module)


def test_a_missing_extra_is_named(monkeypatch):
    """The error says what to install, and what is missing of it."""
    monkeypatch.setitem(EXTRAS, "train", ("accelerate", "no_such_module", "neither_this"))
    with pytest.raises(ImportError) as found:
        require_extra("train", "datatrove-quality train")
    assert str(found.value) == (
        "datatrove-quality train needs datatrove-quality[train]: pip install 'datatrove-quality[train]' "
        "(no_such_module, neither_this are not installed)"
    )
