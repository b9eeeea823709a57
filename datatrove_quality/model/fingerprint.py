"""The cache key of scores: everything that affects a logit, and nothing else."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datatrove_quality.config import ScorerConfig
from datatrove_quality.model.digests import THREADS, blob_digests, cached_digest, json_digest
from datatrove_quality.model.hub import fetch_weights
from datatrove_quality.model.weights import model_files, weight_files


if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from datatrove_quality.model.found_model import FoundModel


# Libraries whose versions may move a score a little; whether they did is judged by the self-check's probes.
LIBRARIES = ("torch", "transformers", "tokenizers", "datatrove-quality")
# What a model gives on these probes: the number of tokens of each, and its logits.
ProbeLogits = list[tuple[int, list[float]]]
# The part that is there where the chat template writes the date.
DATE = "template_date"
# Keys of config.json that affect no logit, or that the fingerprint holds in a part of its own.
IRRELEVANT_KEYS = (
    "_name_or_path",
    "architectures",
    "dtype",
    "id2label",
    "label2id",
    "problem_type",
    "score_max_tokens",
    "score_scale",
    "torch_dtype",
    "transformers_version",
    "use_cache",
)


@dataclass(frozen=True)
class Fingerprint:
    """The cache key: everything that affects a classifier's logits.

    Not in it: the scale, the batch, the device, the place of the model's files.

    Args:
        parts: by name; JSON values. Texts and files are digests.
    """

    parts: dict[str, Any]

    @property
    def digest(self) -> str:
        """Sixteen hexadecimal digits that identify all the parts."""
        return json_digest(self.parts, size=8)

    @property
    def store_digest(self) -> str:
        """As `digest`, without the date that a chat template writes: stores find logits by the text, which has it."""
        return json_digest({name: part for name, part in self.parts.items() if name != DATE}, size=8)

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
    """The fingerprint of a classifier. Of weights that no hub names it reads every byte, once: digests are cached.

    Args:
        config: which classifier, and how.
        found: what `find_model` gave for the config.
        dtype: what it computes in, such as "float32".
    """
    renderer = found.renderer
    template = renderer.chat_template or renderer.tokenizer.chat_template
    return Fingerprint(
        _of_files(config, found)
        | ({"adapter": "merged"} if found.adapter else {})
        | dict(found.tokenizing)
        | ({DATE: renderer.date} if renderer.writes_date else {})
        | {
            "chat_template": json_digest(template),
            "dtype": dtype,
            "max_tokens": renderer.max_tokens,
            "add_special_tokens": renderer.add_special_tokens,
        }
    )


def library_versions() -> dict[str, str]:
    """The versions of what may move a score; without the build, such as "+cpu", so that scores move between nodes."""
    return {name: version(name).partition("+")[0] for name in LIBRARIES}


def _of_files(config: ScorerConfig, found: "FoundModel") -> dict[str, str]:
    """The commit, which identifies all the files of a repository; and digests of what it is not known to be of.

    In the hub's cache a file is a link to a blob, which is compared with its name before it is used. Copied without
    links, or edited there, files may be others.
    """
    if found.commit is None:
        return _digests(config, found)
    of_commit = {"commit": found.commit}
    if all(blob_digests(path) for path in model_files(found.folder)):
        return of_commit
    fetch_weights(config, found.commit, found.folder)
    return of_commit | _digests(config, found)


def _digests(config: ScorerConfig, found: "FoundModel") -> dict[str, str]:
    folder = found.folder
    files = weight_files(folder) + (sorted(folder.glob("*.py")) if config.trust_remote_code else [])
    with ThreadPoolExecutor(THREADS) as pool:
        digests = dict(zip((path.name for path in files), pool.map(_hex_digest, files), strict=True))
    return {
        "config": json_digest(decisive_values(folder)),
        "tokenizer": tokenizer_digest(folder, found.renderer.tokenizer),
        "weights": json_digest(digests),
    }


def decisive_values(folder: Path) -> dict[str, Any]:
    """What of a model's config.json affects its logits."""
    values = json.loads((folder / "config.json").read_bytes())
    return {key: value for key, value in values.items() if key not in IRRELEVANT_KEYS}


def tokenizer_digest(folder: Path, tokenizer: "PreTrainedTokenizerBase") -> str:
    """Of the tokenizer as it was loaded, from whichever files; how it cuts and pads is state of ours."""
    state: dict[str, Any] = {"special": {name: str(token) for name, token in tokenizer.special_tokens_map.items()}}
    if tokenizer.is_fast:
        state |= json.loads(tokenizer.backend_tokenizer.to_str())
        state |= {"truncation": None, "padding": None}
    else:
        paths = (folder / name for name in sorted(tokenizer.vocab_files_names.values()))
        state |= {"vocabulary": tokenizer.get_vocab()}
        state |= {path.name: _hex_digest(path) for path in paths if path.is_file()}
    return json_digest(state)


def _hex_digest(path: Path) -> str:
    return cached_digest(path).partition(":")[2]
