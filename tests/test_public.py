"""The public surface: what can be imported, what it costs, and that it is explained."""

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import datatrove_quality


def test_public_names():
    """A name is added or removed on purpose only."""
    assert datatrove_quality.__all__ == [
        "AnswerFilter",
        "Cascade",
        "Cluster",
        "Connection",
        "ConversationAdapter",
        "ConversationJsonlReader",
        "ConversationParquetReader",
        "ConversationRules",
        "Evaluation",
        "InvalidConversation",
        "JudgeConfig",
        "LLMJudge",
        "MaskPII",
        "PerMessage",
        "QualityFilter",
        "QualityStats",
        "RowAdapter",
        "Run",
        "Score",
        "ScoreScale",
        "ScorerConfig",
        "ScoresAdapter",
        "Stage",
        "TextAdapter",
        "calibrate_cascade",
        "evaluate_scores",
        "load_rubric",
        "load_scorer",
        "parse_conversation",
        "score_schema",
    ]
    assert all(hasattr(datatrove_quality, name) for name in datatrove_quality.__all__)


def test_every_public_name_is_explained():
    """Each public name, and each public method that is its own, has a docstring."""
    for name in datatrove_quality.__all__:
        value = getattr(datatrove_quality, name)
        assert inspect.getdoc(value), name
        methods = {} if inspect.isfunction(value) else vars(value)
        for method_name, method in methods.items():
            if inspect.isfunction(method) and not method_name.startswith("_"):
                assert inspect.getdoc(method), f"{name}.{method_name}"


def test_every_module_is_explained():
    """Each module says what it is for, whether anything has imported it or not."""
    folder = Path(datatrove_quality.__file__).parent
    modules = {
        path.relative_to(folder): ast.get_docstring(ast.parse(path.read_bytes())) for path in folder.rglob("*.py")
    }
    assert {Path("__init__.py"), Path("model/attention.py"), Path("cli/main.py")} <= modules.keys()
    assert [str(path) for path, text in modules.items() if not text] == []


@pytest.mark.parametrize("name", ["QualityFilter", "ScorerConfig"])
def test_the_table_of_parameters_is_whole_and_true(name):
    """Each parameter with its default, none that is gone."""
    page = Path(__file__).parents[1] / "docs" / "parameters.md"
    section = page.read_text().partition(f"## `{name}(")[2].partition("\n## ")[0]
    told: dict[str, str] = {}
    for line in section.splitlines():
        names, default = ([*line.split(" | "), ""])[:2]
        if line.startswith("| `"):
            told |= dict.fromkeys(re.findall(r"`(\w+)`", names), default.strip())
    parameters = dict(inspect.signature(getattr(datatrove_quality, name)).parameters)
    parameters.pop("scorer", None)
    assert told.keys() == parameters.keys()
    assert {name: default for name, default in told.items() if default.startswith("`")} == {
        name: f"`{one.default!r}`".replace("'", '"')
        for name, one in parameters.items()
        if name not in ("model", "revision", "unscorable")
    }


def test_import_is_light():
    """Importing the package, and building a step, loads neither torch nor transformers."""
    code = (
        "import sys, datatrove_quality as q\n"
        "q.QualityFilter(q.ScorerConfig(model='org/name'), min_score=3)\n"
        "from datatrove_quality.engine.scorer import _found\n"
        "assert not _found\n"
        "print([name for name in ('torch', 'transformers', 'tokenizers', 'pandas') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_public_names_need_no_extra():
    """All of them can be imported where no extra is installed; the step that needs one names it."""
    code = (
        "import sys\n"
        "extras = ('aiohttp', 'json_repair', 'spacy', 'matplotlib', 'sklearn', 'accelerate', 'ray', 'shtab')\n"
        "class Missing:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name.partition('.')[0] in extras: raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Missing())\n"
        "from datatrove_quality import *\n"
        "print(sorted(name for name in extras if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
