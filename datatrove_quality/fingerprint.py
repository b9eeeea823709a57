"""What decides a logit, and nothing else: under its digest scores are kept, and by it they are told apart."""

import hashlib
import json
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datatrove_quality.config import ScorerConfig


if TYPE_CHECKING:
    from datatrove_quality.loading import FoundModel


# Libraries whose versions may move a score a little; whether they did is judged by the self-check's probes.
LIBRARIES = ("torch", "transformers", "tokenizers", "datatrove-quality")

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
# What these files hold beside what decides a logit, or what stands in the fingerprint by itself.
IRRELEVANT_KEYS = {
    "config.json": (
        "_name_or_path",
        "architectures",
        "dtype",
        "id2label",
        "label2id",
        "score_scale",
        "torch_dtype",
        "transformers_version",
        "use_cache",
    ),
    "tokenizer_config.json": ("chat_template", "model_max_length", "name_or_path", "transformers_version"),
}
CHUNK = 2**22


@dataclass(frozen=True)
class Fingerprint:
    """All that decides a classifier's logits: not the scale, the batch, the device or where the model lies.

    Args:
        parts: by name; JSON values. Texts and files stand as digests.
    """

    parts: dict[str, Any]

    @property
    def digest(self) -> str:
        """Sixteen hexadecimal digits that stand for all the parts."""
        return _digest(json.dumps(self.parts, sort_keys=True).encode(), size=8)

    def describe(self) -> dict[str, Any]:
        """What is written beside scores, so that it can be known later where they came from; JSON values."""
        return {"fingerprint": self.digest, "parts": self.parts, "versions": library_versions()}

    def differences(self, other: dict[str, Any]) -> list[str]:
        """The parts in which another fingerprint differs, each as "name was ..., is now ..."."""
        return [
            f"{name} was {other.get(name)}, is now {value}"
            for name, value in self.parts.items()
            if other.get(name) != value
        ]


def fingerprint(config: ScorerConfig, found: "FoundModel", dtype: str) -> Fingerprint:
    """The fingerprint of a classifier. Of local weights it reads every byte, once: digests are cached.

    Args:
        config: which classifier, and how.
        found: what `find_model` gave for the config.
        dtype: what it computes in, such as "float32".
    """
    renderer = found.renderer
    template = renderer.chat_template or renderer.tokenizer.chat_template
    parts = _local_parts(Path(config.model), config, found) if os.path.isdir(config.model) else _hub_parts(found)
    return Fingerprint(
        parts
        | {
            "chat_template": _digest(json.dumps(template).encode()),
            "dtype": dtype,
            "max_tokens": renderer.max_tokens,
            "add_special_tokens": renderer.add_special_tokens,
        }
    )


def library_versions() -> dict[str, str]:
    """The versions of what may move a score; without the build, such as "+cpu", so that scores move between nodes."""
    return {name: version(name).partition("+")[0] for name in LIBRARIES}


def _hub_parts(found: "FoundModel") -> dict[str, str]:
    """A commit stands for all files of a repository."""
    return {"commit": str(getattr(found.config, "_commit_hash", None))}


def _local_parts(folder: Path, config: ScorerConfig, found: "FoundModel") -> dict[str, str]:
    names = {*TOKENIZER_FILES, *found.renderer.tokenizer.vocab_files_names.values()}
    weights = sorted(folder.glob("*.safetensors"))
    if config.trust_remote_code:
        weights += sorted(folder.glob("*.py"))
    with ThreadPoolExecutor(8) as pool:
        digests = list(pool.map(_cached_digest, weights))
    return {
        "config": _files_digest([folder / "config.json"]),
        "tokenizer": _files_digest(folder / name for name in sorted(names)),
        "weights": _digest("".join(digests).encode()),
    }


def _files_digest(paths: Iterable[Path]) -> str:
    """The digest of those of some small files that there are, without what decides nothing."""
    return _digest(b"".join(path.name.encode() + _relevant(path) for path in paths if path.is_file()))


def _relevant(path: Path) -> bytes:
    data = path.read_bytes()
    if path.name not in IRRELEVANT_KEYS:
        return data
    values = {key: value for key, value in json.loads(data).items() if key not in IRRELEVANT_KEYS[path.name]}
    return json.dumps(values, sort_keys=True).encode()


def _cached_digest(path: Path) -> str:
    """A file's digest; that of a large file is read from the user's cache where the file has not changed since."""
    stat = path.stat()
    key = _digest(f"{path.resolve()} {stat.st_size} {stat.st_mtime_ns}".encode())
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    cached = Path(root, "datatrove-quality", "digests", key)
    with suppress(OSError):
        known = cached.read_text()
        if len(known) == len(key):
            return known
    hashed = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            hashed.update(chunk)
    # A cache that cannot be written to costs the time of the next reading.
    with suppress(OSError):
        cached.parent.mkdir(parents=True, exist_ok=True)
        unfinished = cached.with_suffix(f".{os.getpid()}")
        unfinished.write_text(hashed.hexdigest())
        unfinished.replace(cached)
    return hashed.hexdigest()


def _digest(data: bytes, size: int = 16) -> str:
    return hashlib.blake2b(data, digest_size=size).hexdigest()
