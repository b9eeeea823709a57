"""The measures of the code: short files, short functions, and imports from where a thing is defined."""

import ast
import statistics
from pathlib import Path


ROOT = Path(__file__).resolve().parents[1]
FILES = sorted(path for folder in ("datatrove_quality", "pipelines") for path in (ROOT / folder).rglob("*.py"))
MAX_FILE, MAX_FUNCTION, MAX_90TH_PERCENTILE = 500, 60, 23


def functions(path):
    """Each function of a file as (its place, its number of lines)."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
            yield f"{path.relative_to(ROOT)}:{first} {node.name}", node.end_lineno - first + 1


def test_files_are_short():
    """No file is too long to be read at once."""
    assert len(FILES) > 50
    lengths = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert {name: lines for name, lines in lengths.items() if lines > MAX_FILE} == {}


def test_functions_are_short():
    """No function is too long to be understood at once, and few are near that."""
    lengths = dict(function for path in FILES for function in functions(path))
    assert len(lengths) > 300
    assert {name: lines for name, lines in lengths.items() if lines > MAX_FUNCTION} == {}
    assert statistics.quantiles(lengths.values(), n=10)[-1] <= MAX_90TH_PERCENTILE


def test_modules_import_from_where_a_thing_is_defined():
    """An import from the package itself would hide from import-linter which layer it goes to."""
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in FILES
        if path.is_relative_to(ROOT / "datatrove_quality")
        and not path.is_relative_to(ROOT / "datatrove_quality/cli")  # the highest layer
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom)
        and node.module == "datatrove_quality"
        and any(name.name != "__version__" for name in node.names)
    ]
    assert found == []
