"""Fail, shorten, delay or corrupt one file access of a run, for many seeds: it ends right, or with an error.

    python tests/faults/inject.py --seeds 300

A process is forked for each run. In it, `open` and what it gives, `os.write`, `os.fsync` and the renaming calls are
wrapped for the files of the run: inputs, model, staged copy, checkpoints, output. One call, chosen by the seed, fails,
is cut short (where a caller must expect that) or comes late. Or bytes are corrupted where a digest can tell: in the
staged copy, the hub's cache, the score store, and the documents, signatures and duplicates that one stage hands to the
next. A run that ends without an error has the rows of an undisturbed one; after an error, the same run started again
has them.
"""

import argparse
import builtins
import errno
import io
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any


os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
from datatrove.pipeline.dedup import ExactDedupSignature, ExactFindDedups
from datatrove.utils.stats import MetricStats  # noqa: F401  # imported once, before the forks
from hub_cache import lay_out_cache
from loguru import logger
from samples import rows_by_id
from tiny_models import DECODER, chatml_tokenizer, conversations, save_model
from transformers import AutoModelForSequenceClassification  # noqa: F401

from datatrove_quality import ConversationAdapter, QualityFilter, Run, ScorerConfig, Stage
from datatrove_quality.curation.deduplication import DropExactDuplicates, exact_config
from datatrove_quality.model.staging import STAGE_VARIABLE


ROWS, TWICE, FILES, MIN_SCORE = 60, 20, 2, 1.0
NOISE = 5e-5
DUPLICATE = -100.0
"""In the place of the score that a dropped duplicate has not."""
ERRORS = (errno.EIO, errno.ENOSPC, errno.ENOENT, errno.EMFILE, errno.ESTALE)
CORRUPTED = ("stage", "blobs", "checkpoints", "handed on")
# Of the stages behind the first: without them their tasks run again.
LATER_LOGS = [f"logs/stages/{stage}/{name}" for stage in ("2-find", "3-score") for name in ("completions", "stats")]
# Ends of runs, as the process's exit status.
WELL, REFUSED = 0, 3


class Injector:
    """Counts the accesses to the files below a folder, and disturbs one of them.

    Args:
        folder: of the run.
        kind: of the access that is disturbed; "": none is.
        at: which one of its kind, from 1.
        action: "fail", "short" or "delay".
        code: of the error.
    """

    def __init__(self, folder: Path, kind: str = "", at: int = 0, action: str = "fail", code: int = errno.EIO):
        self.folder = str(folder)
        self.kind, self.at, self.action, self.code = kind, at, action, code
        self.counts: Counter[str] = Counter()

    def touches(self, path: Any) -> bool:
        """Whether a path is one of the run's."""
        return isinstance(path, str | os.PathLike) and os.fspath(path).startswith(self.folder)

    def disturbs(self, kind: str) -> bool:
        """Count an access; whether it is to be cut short. It fails or waits in here.

        Raises:
            OSError: this is the access that fails.
        """
        self.counts[kind] += 1
        if kind != self.kind or self.counts[kind] != self.at:
            return False
        if self.action == "fail":
            raise OSError(self.code, os.strerror(self.code))
        if self.action == "delay":
            time.sleep(0.3)
        return self.action == "short"

    def install(self) -> None:
        """Wrap the functions, in this process."""
        real_open, real_write = builtins.open, os.write

        def opened(path: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
            if not self.touches(path):
                return real_open(path, mode, *arguments, **options)
            self.disturbs("open")
            file = real_open(path, mode, *arguments, **options)
            return DisturbedFile(file, self) if "b" in mode else file

        def written(descriptor: int, data: bytes) -> int:
            short = self.disturbs("os.write")
            return real_write(descriptor, data[: max(1, len(data) // 2)] if short else data)

        builtins.open = io.open = opened  # type: ignore[assignment]
        os.write = written  # type: ignore[assignment]
        for name in ("rename", "replace", "fsync", "unlink"):
            setattr(os, name, self._around(getattr(os, name), name))

    def _around(self, function: Callable, name: str) -> Callable:
        def called(target: Any, *arguments: Any, **options: Any) -> Any:
            if name == "fsync" or self.touches(target):
                self.disturbs(name)
            return function(target, *arguments, **options)

        return called


class DisturbedFile:
    """A binary file whose reading and writing are counted."""

    def __init__(self, file: Any, injector: Injector):
        self._file, self._injector = file, injector

    def read(self, size: int = -1) -> bytes:
        """As the file's; a call with a size may give less, though not nothing, before the end."""
        if self._injector.disturbs("read") and size is not None and size > 1:
            size = size // 2
        return self._file.read(size)

    def write(self, data: Any) -> int:
        """As the file's."""
        self._injector.disturbs("write")
        return self._file.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> "DisturbedFile":
        return self

    def __exit__(self, *error: object) -> None:
        self._file.__exit__(*error)

    def __iter__(self) -> Any:
        return iter(self._file)


def prepare(folder: Path) -> None:
    """Inputs, and a model in a hub's cache, for all runs."""
    save_model(folder / "model", "qwen3", chatml_tokenizer(), **DECODER)
    lay_out_cache(folder / "model", folder / "hub")
    (folder / "in").mkdir()
    turns = conversations(ROWS)
    made = [json.dumps({"id": str(index), "messages": found}) for index, found in enumerate([*turns, *turns[:TWICE]])]
    for part in range(FILES):
        (folder / "in" / f"{part}.jsonl").write_text("\n".join(made[part::FILES]) + "\n", encoding="utf-8")


def run(folder: Path, injector: Injector, counts: Path | None = None) -> int:
    """Fork a process that runs the pipeline to its end; gives how it ended."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    status = 1
    try:
        logger.remove()
        if os.environ.get("SHOW") is None:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            os.dup2(2, 1)
        from huggingface_hub import constants

        constants.HF_HUB_CACHE = str(folder / "hub")
        os.environ |= {STAGE_VARIABLE: str(folder / "stage"), "XDG_CACHE_HOME": str(folder / "cache")}
        injector.install()
        try:
            score(folder)
            status = WELL
        except Exception as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
            status = REFUSED
        if counts:
            counts.write_text(json.dumps(injector.counts))
    finally:
        os._exit(status)


def score(folder: Path) -> None:
    """The run: three of curation's stages, of two tasks each, one after the other."""
    made = Run(folder / "in", folder / "out", tasks=FILES)
    signatures, duplicates, config = made.between("signatures"), made.between("duplicates"), exact_config()
    scorer = ScorerConfig(model="org/classifier", dtype="float32", device="cpu", tokens_per_batch=1_000)
    excluded = made.writer("excluded/score")
    step = QualityFilter(
        scorer, min_score=MIN_SCORE, exclusion_writer=excluded, checkpoints_dir=made.checkpoints, progress=False
    )
    sign = ExactDedupSignature(signatures, config, FILES)
    drop = DropExactDuplicates(duplicates, config, made.writer("excluded/duplicates"))
    made(
        Stage("read", [made.reader(ConversationAdapter()), made.save("documents"), made.whole(sign)]),
        Stage("find", [made.whole(ExactFindDedups(signatures, duplicates, config))]),
        Stage("score", [made.load("documents"), drop, step, made.writer("kept")]),
    )


def outcomes(folder: Path) -> dict[str, tuple[str, float]]:
    """Folder and score of each row that a run wrote, by its id."""
    found = rows_by_id(folder / "out")
    return {name: (row["folder"], row.get("quality_score", DUPLICATE)) for name, row in found.items()}


def is_same(found: dict[str, tuple[str, float]], expected: dict[str, tuple[str, float]]) -> bool:
    """Whether all rows are there, in the same folders, with the same scores but for noise."""
    return found.keys() == expected.keys() and all(
        found[name][0] == where and abs(found[name][1] - score) <= NOISE for name, (where, score) in expected.items()
    )


def corrupt(folder: Path, choose: random.Random) -> str:
    """Turn some bytes of one file that has a digest into zeros, without another size or time."""
    place = choose.choice(CORRUPTED)
    roots = {"stage": folder / "stage", "blobs": folder / "hub", "checkpoints": folder / "out/logs/checkpoints"}
    roots["handed on"] = folder / "out/logs/intermediate"
    files = [path for path in sorted(roots[place].rglob("*")) if path.is_file() and not path.is_symlink()]
    small = place == "handed on"  # a duplicate has four bytes, and what has digests there may be JSON
    files = [path for path in files if small or (path.stat().st_size > 64 and path.suffix not in (".json", ".lock"))]
    if not files:
        return ""
    path = choose.choice(files)
    before = path.stat()
    count = min(choose.choice((1, 40, 4_000)), before.st_size)
    with path.open("r+b") as file:
        file.seek(choose.randrange(before.st_size - count + 1))
        file.write(bytes(count))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    return f"{count} zeros in {path.relative_to(folder)}"


def one_seed(seed: int, template: Path, folder: Path, expected: dict, counts: dict[str, int]) -> str:
    """One disturbed run, and the runs that follow it.

    Raises:
        SystemExit: a run ended without an error, and its rows are not those of an undisturbed one.
    """
    choose = random.Random(seed)
    for name in ("in", "hub"):
        shutil.copytree(template / name, folder / name, symlinks=True)
    kind = choose.choice(sorted(counts))
    action = choose.choice(("fail", "fail", "short", "delay"))
    injector = Injector(folder, kind, choose.randint(1, counts[kind]), action, choose.choice(ERRORS))
    what = f"seed {seed}: {action} {kind} {injector.at} of {counts[kind]}"
    ends = [run(folder, injector)]
    require_right(ends[-1], folder, expected, what)
    if ends[-1] == WELL and choose.random() < 0.7:
        # What the run stands on is damaged, and its rows are deleted: it makes them again.
        damage = corrupt(folder, choose)
        kept = () if "checkpoints" in damage else ("logs/checkpoints",)  # the weights are to be read again
        for name in ("kept", "excluded", *LATER_LOGS, *kept):
            shutil.rmtree(folder / "out" / name, ignore_errors=True)
        ends.append(run(folder, Injector(folder)))
        require_right(ends[-1], folder, expected, f"{what}; {damage}")
        if ends[-1] == REFUSED and "hub" not in damage and "intermediate" not in damage:
            raise SystemExit(f"FAILED: {what}; {damage}: the run did not go on")
    elif ends[-1] != WELL:
        (folder / "out/logs/active.json").unlink(missing_ok=True)
        ends.append(run(folder, Injector(folder)))
        require_right(ends[-1], folder, expected, f"{what}, then again")
        if ends[-1] != WELL:
            raise SystemExit(f"FAILED: {what}: started again it did not end well")
    return "-".join({WELL: "right", REFUSED: "error"}[end] for end in ends)


def require_right(end: int, folder: Path, expected: dict, what: str) -> None:
    """Refuse a run that ended well with other rows, or that crashed."""
    if end not in (WELL, REFUSED):
        raise SystemExit(f"FAILED: {what}: the process ended with {end}")
    if end == WELL and not is_same(outcomes(folder), expected):
        raise SystemExit(f"FAILED: {what}: the run ended without an error, and its rows are not right")


def inject(seeds: int, first: int, folder: Path) -> Counter[str]:
    """Disturb as many runs; gives how many ended in which way."""
    template = folder / "template"
    template.mkdir()
    prepare(template)
    if run(template, Injector(template), folder / "counts.json") != WELL:
        raise SystemExit("FAILED: the undisturbed run did not end well")
    expected = outcomes(template)
    counts = Counter("duplicate" if score == DUPLICATE else where for where, score in expected.values())
    if counts.pop("duplicate", 0) != TWICE or counts.total() != ROWS or len(counts) != 2:
        raise SystemExit(f"FAILED: the undisturbed run wrote {len(expected)} rows")
    accesses = json.loads((folder / "counts.json").read_text())
    shutil.rmtree(template / "out")
    ends: Counter[str] = Counter()
    for seed in range(first, first + seeds):
        (folder / "run").mkdir()
        ends[one_seed(seed, template, folder / "run", expected, accesses)] += 1
        shutil.rmtree(folder / "run")
    return ends


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=300)
    parser.add_argument("--first", type=int, default=0)
    options = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        found = inject(options.seeds, options.first, Path(temporary))
    for how, count in sorted(found.items()):
        print(f"{how:<20}{count:>6}")
    print(f"{options.seeds} seeds, none wrong without an error, in {time.monotonic() - started:.0f} s")
