"""Everything that affects the output of a run, kept in its `logs/run.json`, so that two runs never mix in one folder.

DataTrove skips the tasks that a folder's earlier run has completed before any step runs, whatever has changed since: a
step cannot notice. Therefore a run records its input and the settings of its steps, and refuses a folder that holds
others.
"""

import contextlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from datatrove.io import DataFolder

from datatrove_quality.atomic_write import write_json
from datatrove_quality.runs.active_run import guarded


RECORD = "logs/run.json"
# Of a run of several stages, which writes it when all of them are done.
TABLE = "logs/counts/table.txt"
# Files that are being written, and what killed tasks left of theirs.
UNFINISHED = "logs/unfinished"
# Where tasks tell each other what the audit of a cascade has counted.
AUDIT = "logs/audit"
# Of a run of several stages: what they hand to each other.
INTERMEDIATE = "logs/intermediate"

# How the names of folders begin that wait to be deleted.
ASIDE = "logs/deleted-"

# In the record: the random id of the run that owns the folder, and who it is; and what an earlier run may have left,
# which is deleted when there is a file of the claim's id in CLEARED.
CLAIM = "claim"
DELETING = "deleting"
CLEARED = "logs/cleared"

ROW_FOLDERS = ("kept", "excluded", "scores")
# All that a run may write in `logs`, but for what DataTrove rewrites. What marks tasks as done is deleted first: a run
# that is killed meanwhile must not look finished.
LOGS = (
    *("logs/completions", "logs/stages", "logs/stats", "logs/logs", UNFINISHED, INTERMEDIATE),
    *("logs/counts", "logs/statistics", AUDIT, CLEARED),
)

# That are deleted in one request, of some tens of milliseconds.
OBJECTS_AT_ONCE = 100
# Parts of the names of settings that only a model tells, or the columns that follow from it.
_OF_MODELS = frozenset({"scorer", "scores", "schema", "cascade"})
# More differences than these are counted, not listed.
MAX_DIFFERENCES = 10
# Of a file that may be in the middle of being written.
READS = 5
SECONDS_BETWEEN_READS = 0.1


def claim_output(output: DataFolder, record: dict[str, Any], overwrite: bool) -> bool:
    """Make an output folder this run's own.

    Args:
        output: the run's folder.
        record: see `require_claimable`.
        overwrite: delete what another run wrote there.

    Returns:
        Whether this run continues an earlier one.

    Raises:
        ValueError: as `require_claimable`.
    """
    # One step, where files can be locked: a process that was stopped within would delete what another run has written.
    with guarded(output):
        require_claimable(output, record, overwrite)
        continued = None if overwrite else continued_run(output, record)
        if continued is not None:
            if CLAIM not in continued and CLAIM in record:
                _write(output, continued | {CLAIM: record[CLAIM]})
            return True
        # First the claim, so that a run that is still there publishes nothing more; then what it has written. The
        # record is written once: a process that was stopped meanwhile would write it over that of the next run.
        deleted = [*_deletable(output), *readable_run(output).get(DELETING, ())]
        _write(output, record | {DELETING: list(dict.fromkeys(deleted))})
        for name in _taken(output, deleted):
            for delete in _deletions(output, name):
                if not _is_claimed(output, record):  # a third run has it now, which `Claim.hold` tells
                    return False
                with contextlib.suppress(FileNotFoundError):  # another run has deleted it
                    delete()
        with output.open(_cleared(record), "w"):
            pass
    for aside in output.glob(f"{ASIDE}*") if output.is_local() else ():
        shutil.rmtree(str(output.resolve_paths(aside)), ignore_errors=True)
    return False


def _cleared(record: dict[str, Any]) -> str:
    """The file that says that what an earlier run wrote was deleted."""
    return f"{CLEARED}/{(record.get(CLAIM) or {}).get('id')}"


def _is_claimed(output: DataFolder, record: dict[str, Any]) -> bool:
    output.fs.invalidate_cache()
    return readable_run(output).get(CLAIM) == record.get(CLAIM)


def _deletions(output: DataFolder, name: str) -> Iterator[Callable[[], None]]:
    """The steps by which a folder is deleted that another run may still write into, each to be taken after a look.

    A process that is stopped while it deletes would go on with what the run after it has written. A local folder is
    renamed in one step, before its files are deleted; of objects a few are deleted at a time, which were there before
    the first look.
    """
    if output.is_local():
        aside = str(output.resolve_paths(f"{ASIDE}{uuid.uuid4().hex}"))
        yield partial(os.rename, str(output.resolve_paths(name)), aside)
        return
    output.fs.invalidate_cache()
    objects = output.fs.find(str(output.resolve_paths(name)))
    for start in range(0, len(objects), OBJECTS_AT_ONCE):
        yield partial(output.fs.rm, objects[start : start + OBJECTS_AT_ONCE])


def _write(output: DataFolder, record: dict[str, Any]) -> None:
    if output.is_local():
        output.makedirs("logs", exist_ok=True)
        write_json(str(output.resolve_paths(RECORD)), record)
        return
    with output.open(RECORD, "w") as file:
        json.dump(record, file, indent=2, ensure_ascii=False)


def readable_run(output: DataFolder) -> dict[str, Any]:
    """As `recorded_run`; empty where the record is missing or damaged."""
    try:
        return recorded_run(output) or {}
    except ValueError:  # damaged: only overwriting is possible
        return {}


def continued_run(output: DataFolder, record: dict[str, Any]) -> dict[str, Any] | None:
    """The record of the run that this one continues; None: it starts from the start.

    Args:
        output: the run's folder, which is claimable.
        record: see `require_claimable`.
    """
    recorded = readable_run(output)
    is_cleared = DELETING not in recorded or output.isfile(_cleared(recorded))
    return recorded if recorded and is_cleared and not _differences(recorded, record) else None


def require_same_settings(output: DataFolder, record: dict[str, Any]) -> None:
    """Refuse what `require_claimable` would refuse, as far as it is known before a model is found; takes no time.

    Args:
        output: the run's folder.
        record: the run, without what its models tell.

    Raises:
        ValueError: the folder holds a run that was started with different settings.
    """
    if output.isfile(RECORD) and not _has_left_nothing(output):
        _require_same(output, record, but=_OF_MODELS)


def require_claimable(output: DataFolder, record: dict[str, Any], overwrite: bool) -> None:
    """Refuse an output folder that `claim_output` would refuse, and change nothing.

    Args:
        output: the run's folder.
        record: the run, in JSON values. Under "stages" the settings of its steps, "input" and "files" what it reads,
            "tasks" into how many parts it is divided, and "folders" the folders of rows that it writes: these must be
            the same when it is started again. Other entries are for readers of the record.
        overwrite: whether another run's output may be deleted.

    Raises:
        ValueError: the folder holds a run that was started with different settings and has completed or written
            something, or files that no run recorded.
    """
    recorded = output.isfile(RECORD)
    known = _deletable(output) if recorded else ()
    foreign = [name for name in _taken(output, [*LOGS, *ROW_FOLDERS, *record["folders"]]) if name not in known]
    if foreign:
        raise ValueError(
            f"output={output.path!r}: {', '.join(foreign)} holds files that no run recorded. Give another folder, or "
            "move them away."
        )
    if recorded and not overwrite and not _has_left_nothing(output):
        _require_same(output, record)


def _has_left_nothing(output: DataFolder) -> bool:
    """Whether the recorded run has completed no task and written no row: it failed, and another one may start."""
    if _taken(output, ["logs/completions", *(name for name in _deletable(output) if name not in LOGS)]):
        return False
    stages = output.list_files("logs/stages") if output.isdir("logs/stages") else []
    return not any("/completions/" in path for path in stages)


def _deletable(output: DataFolder) -> list[str]:
    """The folders that the recorded run wrote."""
    try:
        folders = (recorded_run(output) or {}).get("folders") or ROW_FOLDERS
    except ValueError:  # damaged
        folders = ROW_FOLDERS
    return [*LOGS, *dict.fromkeys([*ROW_FOLDERS, *folders])]


def _taken(output: DataFolder, names: Sequence[str]) -> list[str]:
    return [name for name in dict.fromkeys(names) if output.isdir(name) and output.list_files(name)]


def read_json(folder: DataFolder, path: str) -> Any:
    """The first JSON value in a file. DataTrove writes in place, and two copies of a task at once one over the other.

    Args:
        folder: where the file is.
        path: of the file in it.

    Raises:
        ValueError: there is no whole value.
    """
    for _ in range(READS - 1):
        with contextlib.suppress(json.JSONDecodeError):
            return _first_value(folder, path)
        time.sleep(SECONDS_BETWEEN_READS)  # another copy may be writing it at this moment
    try:
        return _first_value(folder, path)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{folder.resolve_paths(path)} is damaged: {error}. If it is a task's, delete it and the file of the "
            "task's number in the folder completions, and run the same command again."
        ) from error


def _first_value(folder: DataFolder, path: str) -> Any:
    with folder.open(path, "r") as file:
        return json.JSONDecoder().raw_decode(file.read())[0]


def recorded_run(folder: DataFolder) -> dict[str, Any] | None:
    """The record of the run that wrote a folder; None: no run recorded it.

    Beside what affects the output it has, for readers, "prefix", "scorer" (see `Scorer.describe`), "min_score" and
    "max_score" of its filter, "filters" (the same of each filter), "id_key",
    "messages_key" and "text" (columns of the input; None: found by the layout, or no plain text).

    Raises:
        ValueError: the record is damaged.
    """
    if not folder.isfile(RECORD):
        return None
    try:
        with folder.open(RECORD, "r") as file:
            return dict(json.load(file))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{folder.path}: its {RECORD} is damaged.") from error


def _require_same(output: DataFolder, record: dict[str, Any], but: frozenset[str] = frozenset()) -> None:
    start_again = "Give another folder, or overwrite=True (--overwrite) to delete that run's output and start again."
    try:
        recorded = recorded_run(output) or {}
    except ValueError as error:
        raise ValueError(f"output={output.path!r}: {error} {start_again}") from error
    if "stages" not in recorded:
        raise ValueError(
            f"output={output.path!r} holds a run of an earlier version of datatrove-quality, which recorded its "
            f"settings differently. {start_again}"
        )
    found = _differences(recorded, record, but)
    if found:
        lines = [f"  {name}: was {was}, is now {now}" for name, (was, now) in list(found.items())[:MAX_DIFFERENCES]]
        more = [f"  and {len(found) - MAX_DIFFERENCES} more"] if len(found) > MAX_DIFFERENCES else []
        raise ValueError(
            f"output={output.path!r} holds a run that was started with different settings:\n"
            + "\n".join([*lines, *more, start_again])
        )


def _differences(
    recorded: dict[str, Any], record: dict[str, Any], but: frozenset[str] = frozenset()
) -> dict[str, tuple[str, str]]:
    """What the runs must share and do not, by name: how it was, and how it is now.

    Args:
        recorded: as it was read.
        record: of this run.
        but: parts of names that are not compared.
    """
    if "stages" not in recorded:
        return {"stages": ("nothing", "recorded")}
    was, now = _decisive(recorded), _decisive(json.loads(json.dumps(record)))  # as it would be read
    names = [name for name in {**was, **now} if was.get(name, _NOTHING) != now.get(name, _NOTHING)]
    return {name: (_shown(was, name), _shown(now, name)) for name in names if but.isdisjoint(name.split("."))}


_NOTHING = object()


def _decisive(record: dict[str, Any]) -> dict[str, Any]:
    """What two runs into a folder must share, by name."""
    shared: dict[str, Any] = {"input": record.get("input"), "tasks": record.get("tasks")}
    shared |= {f"files: {path}": size for path, size in (record.get("files") or {}).items()}
    stages = record["stages"]
    for stage in stages:
        before = f"{stage['name']}: " if len(stages) > 1 else ""
        steps = [_step_name(step) for step in stage["steps"]]
        shared |= {f"{before}tasks": stage["tasks"], f"{before}steps": ", ".join(steps)}
        for number, (name, step) in enumerate(zip(steps, stage["steps"], strict=True), start=1):
            place = f"{before}{name}" + (f" (step {number})" if steps.count(name) > 1 else "")
            shared |= dict(_flat(step, place))
    return shared


def _step_name(step: dict[str, Any]) -> str:
    """A step's class without its module; of a wrapper's step, that one's."""
    inner = step.get("step") or step.get("judge")
    name = str(step.get("class") or step.get("function") or "step").rpartition(".")[2]
    return f"{name}({_step_name(inner)})" if isinstance(inner, dict) else name


def _flat(value: Any, place: str) -> Iterator[tuple[str, Any]]:
    """The values in nested objects, each by its place."""
    if isinstance(value, dict) and value:
        for name, item in value.items():
            yield from _flat(item, f"{place}.{name}")
    else:
        yield place, value


def _shown(values: dict[str, Any], name: str) -> str:
    if name not in values:
        return "nothing"
    text = json.dumps(values[name], ensure_ascii=False)
    return text if len(text) <= 120 else text[:117] + "..."
