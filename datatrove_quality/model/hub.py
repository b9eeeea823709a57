"""Where a classifier comes from: a local folder or the Hugging Face hub; and errors that say what to do.

Nothing is imported at the top that takes long, so that a command can check a model's name before it does anything.
"""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from datatrove_quality.config import ScorerConfig
from datatrove_quality.model.devices import is_out_of_memory
from datatrove_quality.model.weights import MODEL_FILES


# What to do about an error, where its stage of loading knows; None: it does not.
Advice = Callable[[BaseException], str | None]


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


def fetch(config: ScorerConfig, commit: str) -> None:
    """Download a classifier's files at one commit into the hub's cache."""
    from huggingface_hub import is_offline_mode, snapshot_download

    patterns = [f"*{ending}" for ending in MODEL_FILES]
    with explained(config):
        # Offline, huggingface_hub 1.33 asks the hub for a commit's files even where the cache has them all.
        snapshot_download(config.model, revision=commit, allow_patterns=patterns, local_files_only=is_offline_mode())


def fetch_command(config: ScorerConfig, commit: str | None) -> str:
    """The command that fetches a classifier, for an error message."""
    revision = f" --revision {commit or config.revision}" if commit or config.revision else ""
    return f"Run `hf download {config.model}{revision}` on a node that reaches the hub, or give a local folder."


def resolve_commit(config: ScorerConfig) -> str | None:
    """The commit that a hub model's revision points to now, so that all its files come from the same one.

    Returns:
        Forty hexadecimal digits; None: the model is a local folder.

    Raises:
        ValueError: there is neither such a folder nor such a repository, or the hub cannot be reached.
    """
    from transformers.utils.hub import cached_file

    require_folder(config.model)
    if os.path.isdir(config.model):
        return None
    with explained(config):
        path = cached_file(config.model, "config.json", revision=config.revision or "main")
        if path is None:
            raise ValueError("The repository has no config.json.")
        commit = re.search(r"/snapshots/([0-9a-f]{40})/", str(path).replace(os.sep, "/"))
        if commit is None:
            raise ValueError(f"Its files lie at {path}, which names no commit.")
    return commit.group(1)


def source(config: ScorerConfig, commit: str | None) -> dict[str, Any]:
    """The arguments by which transformers' loaders find one revision of a classifier."""
    return {"revision": commit or config.revision or "main", "trust_remote_code": config.trust_remote_code}


@contextmanager
def explained(config: ScorerConfig, advice: Advice = lambda error: None) -> Iterator[None]:
    """Turn what transformers raises while loading into an error that says what to do.

    Args:
        config: which classifier, and how.
        advice: what this stage of loading knows about an error. Errors of the hub are known here.
    """
    from safetensors import SafetensorError

    # TypeError: of transformers before 5.22, for a config.json that holds a list.
    wrong_files = (OSError, ValueError, KeyError, TypeError, SafetensorError)
    try:
        yield
    except (*wrong_files, ImportError, RuntimeError, MemoryError) as error:
        todo = _hub_advice(config, error) or advice(error) or _general_advice(config, error)
        raise ValueError(f"model={config.model!r} cannot be loaded. {todo}\n{error}") from error


def _hub_advice(config: ScorerConfig, error: BaseException) -> str | None:
    """What to do about an error of the hub, by its type; None: it is another error."""
    from huggingface_hub import errors

    if os.path.isdir(config.model):
        return None
    causes = list(_causes(error))

    def caused_by(*types: type[BaseException]) -> bool:
        return any(isinstance(cause, types) for cause in causes)

    neither = f"There is no folder {os.path.abspath(config.model)} either."
    refused = {cause.response.status_code for cause in causes if isinstance(cause, errors.HfHubHTTPError)} & {401, 403}
    if caused_by(errors.GatedRepoError) or (refused and not caused_by(errors.RepositoryNotFoundError)):
        return "Ask for access on its hub page, then run `hf auth login` where the weights are fetched."
    if caused_by(errors.RevisionNotFoundError):
        return f"revision={config.revision!r}: its hub page has no such branch, tag or commit."
    if caused_by(errors.RepositoryNotFoundError):
        return f"The hub has no such model, or a private one: check the name, or run `hf auth login`. {neither}"
    if caused_by(errors.HFValidationError):
        return f"It is no hub id 'org/name'. {neither}"
    if caused_by(errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled, ConnectionError, TimeoutError):
        return f"The hub cannot be reached from here. {fetch_command(config, None)} {neither}"
    return None


def _general_advice(config: ScorerConfig, error: BaseException) -> str:
    if is_out_of_memory(error):
        return "There is not enough memory for it."
    if os.path.isdir(config.model):
        return (
            "The folder is not a whole classifier: it needs config.json, model.safetensors and the tokenizer's files."
        )
    return "Check the name and the revision on the hub."


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error, what caused it, and so on."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
