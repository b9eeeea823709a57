"""Logits already computed, kept so that no work is lost: `checkpoints_dir` of `QualityFilter`.

    checkpoints_dir/
      3f2a9c0d41e8b765/                   the scorer's fingerprint
        scorer.json                       what it is made of, to be read by people
        00007_8812.0_c41d09ae.scores      of rank 7, in job 8812 before any restart

A file belongs to one process, which only appends to it. There are no locks: those of Lustre and NFS may hold on one
node only, and two copies of a rank may live at once. A rank reads all of its files when it starts. A line is a record,

    <digest of the rendered text> <logits, with commas between> <tokens> <truncated> <checksum>

so that a torn or damaged line costs that record alone; or a header: JSON with the versions of the libraries and what
the self-check's probes gave under them. Logits by other versions count only where the probes agree. Files may be
joined with `cat` and deleted with `rm`. Object storage cannot append: there a file is a series of parts.
"""

import hashlib
import json
import os
import re
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem
from loguru import logger

from datatrove_quality.atomic_write import write_json
from datatrove_quality.engine.store_files import RankFiles, checked, unchecked
from datatrove_quality.model.fingerprint import Fingerprint, ProbeLogits, library_versions


FORMAT = 1


class Logit(NamedTuple):
    """What a classifier says of a text, before any scale.

    Args:
        values: the model's outputs; may be NaN or infinite.
        tokens: how many tokens the model saw.
        truncated: whether the text had more.
        stored: whether it was known without a forward pass.
    """

    values: tuple[float, ...]
    tokens: int
    truncated: bool
    stored: bool = False


@dataclass
class _Records:
    """The logits that were recorded under one set of library versions.

    Args:
        versions: of the libraries.
        salt: what the records' checksums start from, so that no other scorer's record passes for one of these.
        probes: what the self-check's probes gave under these versions.
        logits: tokens, truncated and values by the key of the text; plain tuples, which no garbage collection visits.
    """

    versions: dict[str, str]
    salt: int
    probes: ProbeLogits = field(default_factory=list)
    logits: dict[bytes, tuple[Any, ...]] = field(default_factory=dict)

    def read(self, line: bytes) -> bool:
        """Take in a record; False if it is damaged."""
        payload = unchecked(line, self.salt)
        if payload is None:
            return False
        key, values, tokens, truncated = payload.split(b" ")
        self.logits[bytes.fromhex(key.decode())] = (int(tokens), truncated == b"1", *map(float, values.split(b",")))
        return True


class ScoreStore:
    """The logits of one rank that are known, those of earlier processes included; new ones are kept as they come.

    Whatever goes wrong with the folder costs saved work, not the run: it is logged once. Memory: some 300 bytes for
    each distinct text of the rank.

    Args:
        folder: a path or an fsspec address.
        fingerprint: of the scorer.
        rank: which task this is.
    """

    def __init__(self, folder: str, fingerprint: Fingerprint, rank: int):
        self._fingerprint = fingerprint
        versions = library_versions()
        self._own = _Records(versions, self._salt(versions))
        self._others: dict[int, _Records] = {}
        self._verdicts: dict[int, bool] = {}
        self._warned: set[object] = set()
        self._files = RankFiles(folder, fingerprint.store_digest, rank, self._header, self._warn)
        self._fs, self._root, self._folder = self._files.fs, self._files.root, self._files.folder
        self._writer = self._files.writer
        self._read(rank)

    def __enter__(self) -> "ScoreStore":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def undecided(self) -> bool:
        """Whether there are logits by other library versions, of which the model has yet to say if they count."""
        return bool(self._others)

    def lookup(self, texts: Iterable[str]) -> dict[str, Logit]:
        """The known logits of some rendered texts."""
        found = ((text, self._own.logits.get(text_key(text))) for text in texts)
        return {text: Logit(one[2:], one[0], one[1], stored=True) for text, one in found if one is not None}

    def settle(self, probes: ProbeLogits, agree: Callable[[ProbeLogits, ProbeLogits], bool]) -> None:
        """Learn what the model gives on the self-check's probes; needed before the first `add`.

        Args:
            probes: number of tokens and logits of each.
            agree: whether two such lists are the same but for the dtype's noise.
        """
        if self._own.probes and not self._others:
            return
        self._own.probes = probes
        new = {salt: agree(probes, records.probes) for salt, records in self._others.items()}
        self._verdicts |= new
        self._judge()
        if new:
            self._writer.add(b"\n")  # the header of a file keeps the verdicts

    def add(self, text: str, logit: Logit) -> None:
        """Keep a new logit; any thread may."""
        key = text_key(text)
        values, tokens, truncated, _ = logit
        self._own.logits[key] = (tokens, truncated, *values)
        record = f"{key.hex()} {','.join(map(repr, values))} {tokens} {truncated:d}"
        self._writer.add(checked(record.encode(), self._own.salt))

    def save(self) -> None:
        """Hand what was added to the operating system, so that it outlives this process; a part waits for its time."""
        self._files.save()

    def close(self) -> None:
        """Bring what was added to the disk."""
        self._writer.close()

    def _read(self, rank: int) -> None:
        try:
            paths = self._files.paths()
        except Exception as error:  # whatever the file system of an address raises
            self._warn("read", error)
            return
        if not paths:
            self._name_other_scorers()
            return
        damaged = sum(map(self._read_file, paths))
        self._judge()
        logger.info(
            f"Checkpoints: {len(self._own.logits):,} scores of rank {rank} are known, from {len(paths)} files in "
            f"{self._folder}; {damaged} torn or damaged records were left out"
        )

    def _read_file(self, path: str) -> int:
        """Take in a file's records; gives the number of those that are damaged."""
        records: _Records | None = self._own  # where a header is damaged, a record's checksum says whether it is ours
        damaged = 0
        try:
            with self._fs.open(path, "rb") as file:
                for line in file:
                    if line.startswith(b"{"):
                        header = unchecked(line)
                        records = self._records_under(json.loads(header), path) if header else records
                        damaged += header is None
                    elif records is not None and line.strip():
                        damaged += not records.read(line)
        except Exception as error:
            self._warn("read", error)
        return damaged

    def _records_under(self, header: dict[str, Any], path: str) -> _Records | None:
        """Where the records that follow a header belong; None: they are not for us."""
        if header["format"] != FORMAT:
            self._warn("use all of", f"{path} was written by another version of this library")
            return None
        if header["fingerprint"] != self._fingerprint.store_digest:
            return None
        salt = self._salt(header["versions"])
        if salt == self._own.salt:
            self._verdicts |= {int(other): verdict for other, verdict in header["verdicts"].items()}
            return self._own
        # Before there were several outputs, a probe's logit was a number.
        probes = [(tokens, one if isinstance(one, list) else [one]) for tokens, one in header["probes"]]
        return self._others.setdefault(salt, _Records(header["versions"], salt, probes))

    def _judge(self) -> None:
        """Use or lay aside the logits by other versions of which it is known whether they count."""
        for salt in self._others.keys() & self._verdicts.keys():
            other = self._others.pop(salt)
            under = ", ".join(f"{name} {number}" for name, number in other.versions.items())
            if self._verdicts[salt]:
                self._own.logits = other.logits | self._own.logits
                logger.info(
                    f"Checkpoints: {len(other.logits):,} scores made under {under} are used: the probes agree."
                )
            else:
                logger.warning(
                    f"Checkpoints: {len(other.logits):,} scores made under {under} are not used: those that run now "
                    "give other scores on the self-check's probes. Scoring starts afresh."
                )

    def _name_other_scorers(self) -> None:
        """Say how the scorer differs from those that left scores here: a changed option may be an oversight."""
        try:
            folders = self._fs.ls(self._root, detail=False) if self._fs.exists(self._root) else []
            paths = [path for path in (f"{folder}/scorer.json" for folder in folders) if self._fs.isfile(path)]
            parts = [json.loads(self._fs.cat_file(path))["parts"] for path in paths]
            differences = min((self._fingerprint.differences(other) for other in parts), key=len, default=[])
        except Exception as error:
            self._warn("read", error)
            return
        if differences:
            logger.warning(f"Checkpoints: {self._root} has scores of another scorer only: {'; '.join(differences)}.")

    def _header(self) -> bytes:
        self._describe_scorer()
        header = {
            "format": FORMAT,
            "fingerprint": self._fingerprint.store_digest,
            "versions": self._own.versions,
            "probes": self._own.probes,
            "verdicts": self._verdicts,
        }
        return checked(json.dumps(header).encode())

    def _describe_scorer(self) -> None:
        path = f"{self._folder}/scorer.json"
        if self._fs.exists(path):
            return
        if self._files.is_local:
            write_json(path, self._fingerprint.describe())
        else:  # object storage shows a file when it is whole
            self._fs.pipe_file(path, json.dumps(self._fingerprint.describe(), indent=2).encode())

    def _salt(self, versions: dict[str, str]) -> int:
        made_by = [FORMAT, self._fingerprint.store_digest, versions]
        return zlib.crc32(json.dumps(made_by, sort_keys=True).encode())

    def _warn(self, verb: str, error: object) -> None:
        # A folder that can be neither read nor written fails twice for one reason.
        reason = getattr(error, "errno", None) or verb
        if reason not in self._warned:
            self._warned.add(reason)
            logger.warning(
                f"Checkpoints: cannot {verb} {self._folder}: {error}. Scoring goes on; what is not saved is computed "
                "again after a restart."
            )


def resolve_folder(folder: object) -> str:
    """The whole path or address of a folder of checkpoints, or an error before a run starts.

    Raises:
        ValueError: it is no path or address, is a file, needs a driver that is not there, or carries a secret, which
            executors would write to disk.
    """
    folder = os.fspath(folder) if isinstance(folder, os.PathLike) else folder
    if not isinstance(folder, str) or not folder.strip():
        raise ValueError(f"checkpoints_dir={folder!r}: give a folder or an fsspec address, or None to keep nothing.")
    if re.match(r"\w{2,}:/[^/]", folder):
        raise ValueError(f"checkpoints_dir={folder!r} is an address as a path, which has lost a slash: give a string.")
    addresses = re.split(r"://|::", folder)[1:]
    if any(re.match(r"[^/]*@|[^@]*:[^@]*@|[^?]*\?", address) for address in addresses):
        raise ValueError(
            "checkpoints_dir: the address has a password or token in it, which executors would write to disk; give it "
            "to the file system by its environment variables or configuration file."
        )
    try:
        filesystem, path = url_to_fs(os.path.expanduser(folder))
    except (ImportError, ValueError) as error:
        raise ValueError(f"checkpoints_dir={folder!r} is on a file system that is not there: {error}") from error
    if not isinstance(filesystem, LocalFileSystem):
        return folder
    if os.path.isfile(path):
        raise ValueError(f"checkpoints_dir={folder!r} is a file: give a folder, which need not be there yet.")
    return path  # whole, since the job may run elsewhere than where it is put together


def text_key(text: str) -> bytes:
    """The digest of a rendered text."""
    return hashlib.blake2b(text.encode(), digest_size=16).digest()
