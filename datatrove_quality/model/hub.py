"""The Hugging Face hub: which commit a name stands for, fetching it, and errors that say what to do."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from datatrove_quality.config import ScorerConfig
from datatrove_quality.model.weights import MODEL_FILES


if TYPE_CHECKING:
    pass


def fetch(config: ScorerConfig, commit: str) -> None:
    """Download a classifier's files at one commit into the hub's cache."""
    from huggingface_hub import snapshot_download

    with explained(config):
        snapshot_download(config.model, revision=commit, allow_patterns=[f"*{ending}" for ending in MODEL_FILES])


def fetch_command(config: ScorerConfig, commit: str | None) -> str:
    """What a person types to fetch a classifier."""
    revision = f" --revision {commit or config.revision}" if commit or config.revision else ""
    return f"Run `hf download {config.model}{revision}` on a node that reaches the hub, or give a local folder."


def resolve_commit(config: ScorerConfig) -> str | None:
    """The commit that a hub model's revision stands for now, so that all its files come from the same one."""
    from transformers.utils.hub import cached_file

    if os.path.isdir(config.model):
        return None
    with explained(config):
        path = cached_file(config.model, "config.json", revision=config.revision or "main")
        commit = re.search(r"/snapshots/([0-9a-f]{40})/", str(path).replace(os.sep, "/"))
        if commit is None:
            raise ValueError(f"its files lie at {path}, which names no commit")
    return commit.group(1)


def source(config: ScorerConfig, commit: str | None) -> dict[str, Any]:
    """The arguments by which transformers' loaders find one revision of a classifier."""
    return {"revision": commit or config.revision or "main", "trust_remote_code": config.trust_remote_code}


@contextmanager
def explained(config: ScorerConfig) -> Iterator[None]:
    """Turn what transformers raises while loading into an error that says what to do."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
        raise ValueError(
            f"model={config.model!r} cannot be loaded. {_what_to_do(config, str(error))}\n{error}"
        ) from error


def _what_to_do(config: ScorerConfig, error: str) -> str:
    from huggingface_hub import is_offline_mode

    is_path = config.model.startswith((".", "/", "~")) or config.model.count("/") > 1
    if not os.path.isdir(config.model) and (is_path or "Repo id must be" in error):
        return f"There is no folder {os.path.abspath(config.model)}: correct the path, or give a hub id 'org/name'."
    if "trust_remote_code" in error:
        return "It comes with code of its own, which is not run unless you set trust_remote_code=True."
    if ".safetensors" in error and not os.path.isdir(config.model) and is_offline_mode():
        return f"Its weights are not in this machine's cache. {fetch_command(config, None)}"
    if "model.safetensors" in error or "pytorch_model.bin" in error:
        return "It has no safetensors weights, the only kind that is read: convert it with save_pretrained()."
    if "gated" in error or "401" in error or "403" in error:
        return "Ask for access on its hub page, then run `hf auth login` where the weights are fetched."
    if "connect" in error or "offline" in error.lower() or "Name or service" in error:
        return f"The hub cannot be reached from here. {fetch_command(config, None)}"
    if "ignore_mismatched_sizes" in error:
        return "Its weights have other shapes than its config.json says: fetch both from the same place."
    if "allocate memory" in error or "out of memory" in error:
        return "There is not enough memory for its weights."
    if os.path.isdir(config.model):
        return (
            "The folder is not a whole classifier: it needs config.json, model.safetensors and the tokenizer's files."
        )
    return "Check the name and the revision on the hub."
