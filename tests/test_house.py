"""The measures of the code: short files and functions, imports from where a thing is defined, tests that mirror it."""

import ast
import re
import statistics
import tomllib
from pathlib import Path


ROOT = Path(__file__).resolve().parents[1]
FILES = sorted(path for folder in ("datatrove_quality", "pipelines") for path in (ROOT / folder).rglob("*.py"))
# Parts of another module, with whose tests they are tested.
TESTED_IN = {
    "annotation/answer_store": "annotation/test_step",
    "annotation/background_judge": "annotation/test_step",
    "annotation/canary": "cli/test_annotate_command",
    "annotation/columns": "annotation/test_step",
    "annotation/config": "annotation/test_step",
    "annotation/estimate": "cli/test_annotate_command",
    "annotation/injections": "cli/test_agree_command",
    "annotation/near_duplicates": "annotation/test_sampling",
    "annotation/pace": "annotation/test_step",
    "annotation/select_rows": "annotation/test_sampling",
    "annotation/summary": "cli/test_annotate_command",
    "cascade/summary": "cascade/test_cascade_runs",
    "cli/completion": "cli/test_main",
    "cli/option_types": "cli/test_early_refusal",
    "cli/options": "cli/test_filter_command",
    "cli/running": "cli/test_filter_command",
    "curation/deduplication": "curation/test_stages",
    "curation/rule_filter": "curation/test_stages",
    "engine/store_files": "engine/test_store",
    "evaluation/agreement_text": "cli/test_agree_command",
    "evaluation/rated_rows": "cli/test_agree_command",
    "evaluation/sample_weights": "cli/test_agree_command",
    "model/c_library": "model/test_cpu_kernels",
    "model/load_errors": "model/test_found_model",
    "model/triton_kernels": "model/test_fused",
    "model/trunk": "engine/test_shared_trunk",
    "proxies/curve": "cli/test_calibrate_command",
    "proxies/scores": "cli/test_calibrate_command",
    "reading": "filter/test_parsing",
    "report/agreement": "cli/test_agree_command",
    "report/columns": "report/test_scored_rows",
    "report/contents": "report/test_build",
    "report/figures": "report/test_aggregate",
    "report/file_rows": "report/test_scored_rows",
    "report/findings": "report/test_scored_rows",
    "report/notes": "report/test_build",
    "report/sums": "report/test_groups",
    "rows/answers": "runs/test_all_answers",
    "rows/arrow_values": "readers/test_parquet_types",
    "rows/column_values": "test_stats",
    "rows/layouts/answers": "rows/layouts/test_read_published",
    "rows/layouts/arguments": "rows/test_per_message",
    "rows/layouts/detection": "rows/layouts/test_read",
    "rows/layouts/messages": "rows/layouts/test_read_published",
    "rows/layouts/slots": "rows/test_edits",
    "rows/scored_conversation": "filter/test_parsing",
    "rows/score_columns": "filter/test_recorded_scores",
    "tally": "filter/test_statistics",
    "training/hf_trainer": "training/test_trainer",
}
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


def test_what_refuses_is_called_require():
    """A function that raises unless something holds has one name for that: require_..., never refuse_ or check_."""
    names = [function.rpartition(" ")[2] for path in FILES for function, _ in functions(path)]
    assert [name for name in names if re.match(r"_?(check|refuse|ensure|validate)(_|$)", name)] == []


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


def has_tests_of_its_own(module):
    """Whether the mirrored folder has test_<module>.py, test_<module>_<subject>.py, or a folder of that name."""
    folder, name = ROOT / "tests" / module.parent, module.name
    return (folder / name).is_dir() or any(
        path.stem == f"test_{name}" or path.stem.startswith(f"test_{name}_") for path in folder.glob("test_*.py")
    )


def test_tests_mirror_the_packages():
    """Who changes a module knows which tests are its own; a module without any does not go unnoticed."""
    package = ROOT / "datatrove_quality"
    modules = {
        str(path.relative_to(package).with_suffix("")): path.relative_to(package).with_suffix("")
        for path in package.rglob("*.py")
        if not path.stem.startswith("__")
    }
    assert len(modules) > 100
    without = {name for name, path in modules.items() if not has_tests_of_its_own(path)}
    assert sorted(without - TESTED_IN.keys()) == [], "add a test file in the mirrored folder, or a line to TESTED_IN"
    assert sorted(TESTED_IN.keys() - without) == [], "these are gone, or have tests of their own"
    assert [test for test in TESTED_IN.values() if not (ROOT / "tests" / f"{test}.py").is_file()] == []


def test_the_contract_names_every_package():
    """A reader of docs/design.md finds each package and module of the top level, and the layers that are checked."""
    text = (ROOT / "docs/design.md").read_text(encoding="utf-8")
    tree = text.partition("    datatrove_quality/\n")[2].partition("    pipelines/")[0]
    named = set(re.findall(r"^ {6}((?:\w+/?, )*\w+/?)  ", tree, re.MULTILINE))
    named = {name.strip(" /") for names in named for name in names.split(",")}
    package = ROOT / "datatrove_quality"
    present = {path.stem for path in package.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    assert named == present - {"__main__"}
    layers = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]["layers"]
    written = text.partition("**Layers**")[2].partition("import-linter):")[2].partition(".")[0]
    assert [sorted(re.findall(r"\w+", part)) for part in written.split(";")] == [
        sorted(re.findall(r"\w+", layer)) for layer in layers if layer != "__main__"
    ]
