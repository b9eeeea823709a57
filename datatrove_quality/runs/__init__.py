"""Running pipelines: files in, a folder out, on this machine, SLURM or Ray; stopped and started again."""

from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from datatrove_quality.runs.cluster import Cluster
    from datatrove_quality.runs.run import Run
    from datatrove_quality.runs.stages import Stage

__all__ = ["Cluster", "Run", "Stage"]


def __getattr__(name: str) -> Any:
    """The public names, imported at their first use: DataTrove takes half a second."""
    import datatrove_quality

    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(datatrove_quality, name)
