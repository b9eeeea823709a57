"""Where a classifier comes from: a local folder or the Hugging Face hub.

Nothing is imported at the top that takes long, so that a command can check a model's name before it does anything.
"""

import json
import os
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from loguru import logger

from datatrove_quality.atomic_write import write_atomic
from datatrove_quality.config import ScorerConfig
from datatrove_quality.model.load_errors import advice_on_download, explained, fetch_command
from datatrove_quality.model.weights import (
    ADAPTER_CONFIG,
    LONE_ADAPTER,
    MODEL_FILES,
    missing_weights,
    require_whole_adapter,
)


if TYPE_CHECKING:
    from huggingface_hub import ModelInfo
    from huggingface_hub.hf_api import RepoSibling


SECONDS_TO_ANSWER = 10
THREADS = 8
# In a repository's folder in the hub's cache: for each commit, the names of the files that a model may need, with what
# the hub tells of their digests.
FETCHED = "datatrove-quality"
_COMMIT = re.compile(r"[0-9a-f]{40}")


class Fetched(NamedTuple):
    """The files of a commit in the hub's cache.

    Args:
        folder: of the commit.
        told: by their names in it the digests that the hub tells of them, such as "sha256:5f1c..."; None, or no name,
            where it tells none, or cannot be asked and has not been.
    """

    folder: Path
    told: dict[str, str | None]


def require_folder(model: str) -> None:
    """Refuse a model's name that can only be a path, where there is no folder. Takes no time.

    Args:
        model: a hub id, or a path.

    Raises:
        ValueError: there is no such folder, or it is a file.
    """
    if os.path.isfile(model):
        raise ValueError(f"model={model!r} is a file: give the folder that holds the classifier.")
    if is_path(model) and not os.path.isdir(model):
        raise ValueError(
            f"model={model!r} cannot be loaded. There is no folder {os.path.abspath(model)}: correct the path, or "
            "give a hub id 'org/name'."
        )


def is_path(model: str) -> bool:
    """Whether a model's name can only be a path: a hub id has at most one slash and begins with none."""
    return model.startswith((".", "/", "~")) or model.count("/") > 1


def resolve_commit(config: ScorerConfig) -> str | None:
    """The commit that a hub model's revision points to now, so that all its files come from the same one.

    Where the hub cannot be reached, it is the one that it pointed to when the model was fetched.

    Returns:
        Forty hexadecimal digits; None: the model is a local folder.

    Raises:
        ValueError: there is neither such a folder nor such a repository, or the hub cannot be reached and the model
            is not in its cache.
    """
    require_folder(config.model)
    if os.path.isdir(config.model):
        return None
    if _COMMIT.fullmatch(config.revision or ""):
        return config.revision
    with explained(config):
        try:
            commit = str(_told_by_hub(config, config.revision or "main").sha)
        except ConnectionError:
            if cached := _cached(config, config.revision or "main"):
                return cached.name
            raise
        _note_revision(config, commit)
    return commit


def fetch(config: ScorerConfig, commit: str) -> Fetched:
    """Have all files of a commit but its weights in the hub's cache.

    transformers takes a file that it cannot fetch for one that the repository has not: another chat template, or none
    of the tokenizer's settings. So all are fetched here, or none is used; config.json comes last.

    Args:
        config: which classifier.
        commit: of its repository.

    Raises:
        ValueError: files cannot be fetched, or the repository has no config.json, or half an adapter.
    """
    with explained(config):
        try:
            told = _told(config, commit)
        except ConnectionError:
            if cached := _cached(config, commit):
                return Fetched(cached, _require_fetched(config, cached))
            raise
        if "config.json" not in told and ADAPTER_CONFIG not in told:
            raise ValueError("The repository has no config.json.")
    if "config.json" not in told:
        raise ValueError(f"model={config.model!r} {LONE_ADAPTER}")
    require_whole_adapter(config, told)
    with explained(config, advice_on_download):
        _download(config, commit, [name for name in _needed_first(told) if name != "config.json"])
        [path] = _download(config, commit, ["config.json"])
    _note(_repository(config) / FETCHED / f"{commit}.json", json.dumps(told))
    return Fetched(path.parent, told)


def _needed_first(names: Iterable[str]) -> list[str]:
    """All files but the weights."""
    return [name for name in names if not name.endswith(".safetensors")]


def fetch_weights(config: ScorerConfig, commit: str, folder: Path) -> None:
    """Have the weights of a commit in the hub's cache, and those of an adapter.

    Args:
        config: which classifier.
        commit: of its repository.
        folder: of the commit, as `fetch` gave it.

    Raises:
        ValueError: they cannot be fetched, or the repository has no safetensors weights.
    """
    from huggingface_hub import is_offline_mode

    missing = missing_weights(folder)
    if missing is None:
        return
    if is_offline_mode():
        raise ValueError(
            f"model={config.model!r} cannot be loaded. Its weights ({missing}) are not in this machine's cache. "
            f"{fetch_command(config, commit)}"
        )
    with explained(config):
        names = _told(config, commit)
    with explained(config, advice_on_download):
        while (missing := missing_weights(folder)) and missing in names:
            _download(config, commit, [missing])


def _told(config: ScorerConfig, commit: str) -> dict[str, str | None]:
    """The files of a commit that a model may need, with the digests that the hub tells of them."""
    files = _told_by_hub(config, commit, files_metadata=True).siblings or ()
    return {file.rfilename: _digest(file) for file in files if file.rfilename.endswith(MODEL_FILES)}


def _digest(file: "RepoSibling") -> str | None:
    if file.lfs is not None:
        return f"sha256:{file.lfs.sha256}"
    return f"git-sha1:{file.blob_id}" if file.blob_id else None


def _told_by_hub(config: ScorerConfig, revision: str, files_metadata: bool = False) -> "ModelInfo":
    """What the hub says of a revision; requested once, so that a node without network is not kept waiting.

    Raises:
        ConnectionError: it cannot be reached, or is not in order.
        OSError: its answer is no.
    """
    from huggingface_hub import HfApi, errors, is_offline_mode

    if is_offline_mode():
        raise errors.OfflineModeIsEnabled("HF_HUB_OFFLINE is set.")
    with _as_connection_error():
        return HfApi().model_info(
            config.model, revision=revision, timeout=SECONDS_TO_ANSWER, files_metadata=files_metadata
        )


def _download(config: ScorerConfig, commit: str, names: Iterable[str]) -> list[Path]:
    """Have some files in the hub's cache; a file that is there is not requested."""
    from huggingface_hub import hf_hub_download

    def one(name: str) -> Path:
        with _as_connection_error():
            return Path(hf_hub_download(config.model, name, revision=commit))

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(one, names))


@contextmanager
def _as_connection_error() -> Iterator[None]:
    """An error of the connection, or of a server that is down or busy, as Python has it.

    Raises:
        ConnectionError: in the place of the HTTP client's own errors.
    """
    from huggingface_hub import errors

    try:
        yield
    except errors.HfHubHTTPError as error:
        if error.response.status_code >= 500 or error.response.status_code in (408, 429):
            raise ConnectionError(str(error)) from error
        raise
    except (OSError, ValueError, TypeError, RuntimeError):
        raise
    except Exception as error:  # the client's; which one it is depends on the version of huggingface_hub
        raise ConnectionError(f"{type(error).__name__}: {error}") from error


def _cached(config: ScorerConfig, revision: str) -> Path | None:
    """The folder of a revision in the hub's cache; None: it is not there."""
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(config.model, "config.json", revision=revision)
    return Path(path).parent if isinstance(path, str) else None


def _require_fetched(config: ScorerConfig, folder: Path) -> dict[str, str | None]:
    """Refuse a commit in the hub's cache of which only a part was fetched, by another program or long ago.

    Returns:
        What the hub told of its files when they were fetched.

    Raises:
        ConnectionError: names what is missing.
    """
    try:
        noted = json.loads((_repository(config) / FETCHED / f"{folder.name}.json").read_bytes())
        told = noted if isinstance(noted, dict) else dict.fromkeys(noted)  # before 0.1.0 it was a list of names
    except (OSError, ValueError, TypeError):
        told = {"tokenizer_config.json": None}
        logger.warning(
            f"{config.model}: another program has put its files into {folder}, and the hub cannot be reached: it is "
            f"not known whether they are all that the commit has. {fetch_command(config, folder.name)}"
        )
    if missing := [name for name in _needed_first(told) if not (folder / name).is_file()]:
        raise ConnectionError(f"Of its files {', '.join(missing)} are not in this machine's cache, {folder}.")
    return told


def _repository(config: ScorerConfig) -> Path:
    """The folder of a repository in the hub's cache."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    return Path(constants.HF_HUB_CACHE, repo_folder_name(repo_id=config.model, repo_type="model"))


def _note_revision(config: ScorerConfig, commit: str) -> None:
    """Keep in the hub's cache which commit a branch pointed to, for when the hub cannot be reached."""
    _note(_repository(config) / "refs" / (config.revision or "main"), commit)


def _note(path: Path, text: str) -> None:
    with suppress(OSError):  # a cache that others fill
        if not path.is_file() or path.read_text() != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, text)
