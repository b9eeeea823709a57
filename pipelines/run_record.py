"""What a run into an output folder was asked to do, kept in its `logs/run.json`, so that two runs never mix there."""

import json
from typing import Any

from datatrove.io import DataFolder


RECORD = "logs/run.json"

# All that a run may write, beside what DataTrove rewrites in `logs`. What marks tasks as done is deleted first: a run
# that is killed meanwhile must not look finished.
WRITTEN = (
    *("logs/completions", "logs/stages", "logs/stats", "logs/logs", "logs/unfinished", "logs/intermediate"),
    *("logs/counts", "logs/statistics", "kept", "excluded", "scores"),
)


def claim_output(output: DataFolder, asked: dict[str, Any], overwrite: bool) -> bool:
    """Make an output folder this run's own.

    Args:
        output: the run's folder.
        asked: all that decides what the run writes; JSON values only.
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


def _require_same(output: DataFolder, asked: dict[str, Any]) -> None:
    try:
        with output.open(RECORD, "r") as file:
            recorded = dict(json.load(file))
    except (json.JSONDecodeError, TypeError) as error:
        raise ValueError(
            f"--output {output.path}: its {RECORD} is damaged. Give another folder, or --overwrite to start anew."
        ) from error
    differences = [
        f"  {name}: was {_shown(recorded.get(name))}, is now {_shown(asked.get(name))}"
        for name in {**recorded, **asked}
        if recorded.get(name) != asked.get(name)
    ]
    if differences:
        raise ValueError(
            f"--output {output.path} holds a run that was asked something else:\n" + "\n".join(differences) + "\n"
            "Give another folder, or --overwrite to delete that run's output and start anew."
        )


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 120 else text[:117] + "..."
