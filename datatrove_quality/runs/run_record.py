"""What a run into an output folder was asked to do, kept in its `logs/run.json`, so that two runs never mix there."""

import json
from typing import Any

from datatrove.io import DataFolder


RECORD = "logs/run.json"
# Of curate_conversations.py, which writes it when all stages are done.
TABLE = "logs/counts/table.txt"
# Files that are being written, and what killed tasks left of theirs.
UNFINISHED = "logs/unfinished"

# All that a run may write, beside what DataTrove rewrites in `logs`. What marks tasks as done is deleted first: a run
# that is killed meanwhile must not look finished.
ROW_FOLDERS = ("kept", "excluded", "scores")
WRITTEN = (
    *("logs/completions", "logs/stages", "logs/stats", "logs/logs", UNFINISHED, "logs/intermediate"),
    *("logs/counts", "logs/statistics", *ROW_FOLDERS),
)


def claim_output(output: DataFolder, asked: dict[str, Any], overwrite: bool) -> bool:
    """Make an output folder this run's own.

    Args:
        output: the run's folder.
        asked: all that decides what the run writes; JSON values only. Under "scorer" what makes its scores, see
            `Scorer.describe`; None: it is not known.
        overwrite: delete what another run of this script wrote there.

    Returns:
        Whether an earlier run was asked the same, so that this one goes on where that one stopped.

    Raises:
        ValueError: as `require_claimable`.
    """
    require_claimable(output, asked, overwrite)
    if output.isfile(RECORD) and not overwrite:
        return True
    for name in _taken(output):
        output.rm(name, recursive=True)
    with output.open(RECORD, "w") as file:
        json.dump(asked, file, indent=2, ensure_ascii=False)
    return False


def require_claimable(output: DataFolder, asked: dict[str, Any], overwrite: bool) -> None:
    """Refuse an output folder that `claim_output` would refuse, and change nothing.

    Args:
        output: the run's folder.
        asked: all that decides what the run writes; JSON values only.
        overwrite: whether another run's output may be deleted.

    Raises:
        ValueError: the folder holds a run that was asked something else, or files that no run recorded.
    """
    taken, recorded = _taken(output), output.isfile(RECORD)
    if taken and not recorded:
        raise ValueError(
            f"--output {output.path}: {', '.join(taken)} holds files that no run of this script recorded. "
            "Give another folder, or move them away."
        )
    if recorded and not overwrite:
        _require_same(output, json.loads(json.dumps(asked)))  # as it was read back


def _taken(output: DataFolder) -> list[str]:
    return [name for name in WRITTEN if output.isdir(name) and output.list_files(name)]


def read_json(folder: DataFolder, path: str) -> Any:
    """The first JSON value in a file. DataTrove writes in place, and two copies of a task at once one over the other.

    Args:
        folder: where the file is.
        path: of the file in it.

    Raises:
        ValueError: there is no whole value.
    """
    with folder.open(path, "r") as file:
        text = file.read()
    try:
        return json.JSONDecoder().raw_decode(text)[0]
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{folder.resolve_paths(path)} is damaged: {error}. If it is a task's, delete it and the file of the "
            "task's number in the folder completions, and run the same command again."
        ) from error


def recorded_run(folder: DataFolder) -> dict[str, Any] | None:
    """What the run that wrote a folder was asked to do, and what made its scores; None: no run recorded it.

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


def _require_same(output: DataFolder, asked: dict[str, Any]) -> None:
    try:
        recorded = recorded_run(output) or {}
    except ValueError as error:
        raise ValueError(f"--output {error} Give another folder, or --overwrite to start anew.") from error
    was, now = _decisive(recorded), _decisive(asked)
    differences = [
        f"  {name}: was {_shown(was.get(name))}, is now {_shown(now.get(name))}"
        for name in {**was, **now}
        if was.get(name) != now.get(name)
    ]
    if differences:
        raise ValueError(
            f"--output {output.path} holds a run that was asked something else:\n" + "\n".join(differences) + "\n"
            "Give another folder, or --overwrite to delete that run's output and start anew."
        )


def _decisive(run: dict[str, Any]) -> dict[str, Any]:
    """What two runs into a folder must share, by name; not the versions of libraries, nor a model's name alone."""
    scorer = run.get("scorer") or {}
    shared = {name: value for name, value in run.items() if name != "scorer"}
    return shared | scorer.get("parts", {}) | ({"scale": scorer["scale"]} if scorer.get("scale") else {})


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 120 else text[:117] + "..."
