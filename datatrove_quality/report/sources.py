"""Run folders, folders, files and globs -> files of scored rows, the records of their runs, and names to show.

A report can be mailed, so files are named in it without the folders above: `shown_path` and `Sources.without_folders`.
"""

import os
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import IO, Any

from datatrove.io import DataFolder

from datatrove_quality.readers.files import folder_at
from datatrove_quality.runs.inputs import Inputs, find_inputs, path_in
from datatrove_quality.runs.run_record import RECORD, ROW_FOLDERS, TABLE, recorded_run


STATS_FOLDERS = ("stats-merged", "stats")


@dataclass(frozen=True)
class SourceFile:
    """A file of scored rows.

    Args:
        inputs: that it belongs to.
        path: in their folder.
        name: that the report shows.
    """

    inputs: Inputs
    path: str
    name: str

    @property
    def full_path(self) -> str:
        """The whole path or address."""
        return path_in(self.inputs.folder, self.path)

    def open(self) -> IO[bytes]:
        """The file, to read."""
        return self.inputs.folder.open(self.path, "rb")


@dataclass
class Sources:
    """What was found in the sources of a report.

    Args:
        names: of the sources, as the report shows them.
        files: of scored rows, in the order in which they are read.
        runs: what the `logs/run.json` of each run folder says.
        stats: the folders of a `QualityStats` in the sources.
        notes: what the reader of a report should know.
    """

    names: list[str] = field(default_factory=list)
    files: list[SourceFile] = field(default_factory=list)
    runs: list[dict[str, Any]] = field(default_factory=list)
    stats: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    _shown: dict[str, str] = field(default_factory=dict)  # names of folders and files by their whole path

    @classmethod
    def find(cls, sources: Iterable[str]) -> "Sources":
        """The files of run folders (`kept`, `excluded` or `scores` in them), folders, files or globs.

        Raises:
            ValueError: there is no file to read; a file is named twice; or a folder holds JSONL and Parquet files.
        """
        found = cls()
        for source in sources:
            found._add(source)
        twice = [path for path, count in Counter(file.full_path for file in found.files).items() if count > 1]
        if twice:
            raise ValueError(f"SCORED names {twice[0]} twice: its documents would be counted twice. Omit one.")
        return found

    def without_folders(self, text: str) -> str:
        """A text in which the sources are named as the report shows them, such as an error of the file system."""
        shown = self._shown | {f"{os.getcwd()}/": ""}
        for path in sorted(shown, key=len, reverse=True):
            text = text.replace(path, shown[path]) if path.strip("/") else text
        return text

    def proxy_keeps_above(self, prefix: str, threshold: float | None) -> float | None:
        """Above which score the proxy of the runs' cascade kept documents; None: not known, or of another threshold.

        Args:
            prefix: of the score columns.
            threshold: the lowest score that is kept.
        """
        filters = [one for run in self.runs for one in run.get("filters") or () if one.get("prefix") == prefix]
        bands = {(one["min_score"], *one["cascade"]["band"]) for one in filters if one.get("cascade")}
        if len(bands) != 1 or len(self.runs) < len(self.names):
            return None  # not the same for all, or there are files of which no record tells
        min_score, _, high = bands.pop()
        return float(high) if min_score == threshold else None  # JSON holds an infinite end as text

    def show(self, path: str) -> str:
        """The name to show for a path or address, which `without_folders` then knows too."""
        name = shown_path(path)
        if "://" not in path:
            self._shown[os.path.abspath(path)] = name
        return name

    def _add(self, source: str) -> None:
        self.names.append(self.show(source))
        is_file = source.endswith((".jsonl", ".parquet"))
        folder = None if is_file else folder_at(source.rstrip("/") or "/")
        parts = [name for name in ROW_FOLDERS if folder and folder.isdir(name) and folder.list_files(name)]
        if folder is not None:
            self._note_stats(folder, source)
        if folder is None or not (parts or folder.isfile(RECORD)):
            self._add_files(find_inputs(source), source)
            return
        self._note_run(folder)
        if not parts:
            raise ValueError(f"SCORED {source}: its folders {', '.join(ROW_FOLDERS)} hold no file yet.")
        for name in parts:
            self._add_files(find_inputs(path_in(folder, name)), source, f"{name}/")

    def _add_files(self, inputs: Inputs, source: str, part: str = "") -> None:
        """Add the files of inputs, which are a source, or a folder in it."""
        base = source if part else path_in(inputs.folder, "").rstrip("/")
        for path in inputs.sizes:
            full_path = path_in(inputs.folder, path)
            if full_path == os.path.abspath(source):
                name = self.show(full_path)
            else:
                name = f"{self.show(base)}/{part}{path}".removeprefix("./")
            self.files.append(SourceFile(inputs, path, name))

    def _note_stats(self, folder: DataFolder, source: str) -> None:
        """The statistics in a folder: merged ones, or else those of the tasks."""
        if folder.isdir("histogram") and folder.isdir("summary"):
            raise ValueError(f"SCORED {source} holds statistics, not rows: give it by --stats, and rows as SCORED.")
        found = [name for name in STATS_FOLDERS if folder.isdir(f"{name}/histogram")]
        self.stats += [path_in(folder, name) for name in found[:1]]

    def _note_run(self, folder: DataFolder) -> None:
        """What the run's record says, and whether the run is complete."""
        name = self.names[-1]
        try:
            run = recorded_run(folder)
        except ValueError:
            self.notes.append(f"{name}: its {RECORD} is damaged; threshold and prefix are not known from it.")
            return
        if run is None:
            return
        self.runs.append(run)
        done = len(folder.list_files("logs/completions")) if folder.isdir("logs/completions") else 0
        if folder.isdir("logs/stages"):  # of a curation, which writes its table at the end
            if not folder.isfile(TABLE):
                self.notes.append(f"{name}: the run is not complete; only what it has written is counted.")
        elif done < (run.get("tasks") or 0):
            self.notes.append(
                f"{name}: {done} of the run's {run['tasks']} tasks are complete; only what they wrote is counted."
            )
        if run.get("max_score") is not None:
            self.notes.append(f"{name}: the run had max_score={run['max_score']}; only min_score is marked here.")


def shown_path(path: str) -> str:
    """A path or address as a report shows it.

    Returns:
        A local path from the working directory on where it lies in it, else its last part; an address without user
        name and password.
    """
    if "://" in path and not path.startswith("file://"):
        return re.sub(r"(?<=://)[^/@]*@", "", path)
    path = os.path.abspath(path.removeprefix("file://"))
    inside = os.path.relpath(path)
    return os.path.basename(path) if inside.startswith("..") else inside
