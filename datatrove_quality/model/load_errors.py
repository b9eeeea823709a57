"""Errors of the hub and of transformers while a classifier is found and loaded, in a sentence that says what to do."""

import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from datatrove_quality.config import ScorerConfig
from datatrove_quality.model.devices import is_out_of_memory


# What to do about an error, where its stage of loading knows; None: it does not.
Advice = Callable[[BaseException], str | None]

# Of config.json: whole numbers from 1; tokens, which the vocabulary must have; and what is no number.
_SIZES = re.compile(r"num_.*|n_(layer|head|embd|positions)|.*_(size|heads|layers|dim)|max_position_embeddings")
_COUNTS = re.compile(r"num_.*|n_(layer|head)|.*_(layers|heads)")
# Beyond what any classifier has: its modules, or the lists that transformers makes of them, would fill the memory.
MAX_LAYERS, MAX_COUNT, MAX_WIDTH = 2_000, 1_000_000, 2**31
_TOKENS = re.compile(r".*_token_id")
_TYPES = {"architectures": list, "id2label": dict, "dtype": str, "model_type": str, "hidden_act": str}


@contextmanager
def explained(config: ScorerConfig, advice: Advice = lambda error: None) -> Iterator[None]:
    """Turn what libraries raise while loading into an error that says what to do.

    Args:
        config: which classifier, and how.
        advice: what this stage of loading knows about an error. Errors of the hub are known here.

    Raises:
        ValueError: in the place of any other error.
    """
    try:
        yield
    except Exception as error:  # of a value in a file that is nonsense, libraries raise whatever comes of it
        todo = _hub_advice(config, error) or advice(error) or _general_advice(config, error)
        said = str(error) if isinstance(error, ValueError | OSError) else f"{type(error).__name__}: {error}"
        raise ValueError(f"model={config.model!r} cannot be loaded. {todo}\n{said}") from error


def fetch_command(config: ScorerConfig, commit: str | None) -> str:
    """The command that fetches a classifier, for an error message."""
    revision = f" --revision {commit or config.revision}" if commit or config.revision else ""
    return f"Run `hf download {config.model}{revision}` on a node that reaches the hub, or give a local folder."


def advice_on_download(error: BaseException) -> str:
    """What to do where a file of the hub's did not come, or not whole."""
    return "Its files could not be fetched whole: start again; what has come is not fetched again."


def advice_on_config(folder: Path, error: BaseException) -> str | None:
    """What to do where transformers makes no model of a config.json: names the values that may be the reason."""
    if _is_passing(error):
        return None
    try:
        values = json.loads((folder / "config.json").read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        values = None
    if not isinstance(values, dict):
        return f"{folder / 'config.json'} is not a JSON object: copy it again."
    what = ", ".join(_wrong(values, error)) or "the value that the message names"
    return f"Of its config.json no model can be made: correct {what}."


def _wrong(values: dict[str, Any], error: BaseException, inside: str = "") -> Iterator[str]:
    """The values that may be the reason of an error, also those in objects, such as rope_parameters.rope_type."""
    for key, value in values.items():
        is_named = isinstance(value, str) and value and repr(value) in repr(error.args)
        # An object inside may leave any value to its default.
        if is_named or (_is_nonsense(key, value, values) and not (inside and value is None)):
            yield f"{inside}{key}={value!r}"
        elif isinstance(value, dict):
            yield from _wrong(value, error, f"{inside}{key}.")


def require_possible_sizes(config: ScorerConfig, folder: Path) -> None:
    """Refuse a config.json of which a model would take all memory, before transformers looks at it.

    Args:
        config: which classifier.
        folder: of its files; one without a config.json that can be read is left to transformers.

    Raises:
        ValueError: names the values.
    """
    try:
        values = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError):
        return
    if wrong := list(_enormous(values)):
        raise ValueError(
            f"model={config.model!r}: {', '.join(wrong)} in its config.json: no classifier is that large; correct it."
        )


def _enormous(values: Any) -> Iterator[str]:
    for key, value in values.items() if isinstance(values, dict) else ():
        if isinstance(value, dict):
            yield from _enormous(value)
        elif isinstance(value, int | float) and _SIZES.fullmatch(key):
            limit = MAX_LAYERS if "layer" in key else MAX_COUNT if _COUNTS.fullmatch(key) else MAX_WIDTH
            if value > limit:
                yield f"{key}={value!r} (at most {limit:,})"


def advice_on_tokenizer(folder: Path, error: BaseException) -> str | None:
    """What to do where transformers makes no tokenizer of a folder's files."""
    if _is_passing(error) or not (folder / "tokenizer_config.json").is_file():
        return None
    return "Of its tokenizer.json and tokenizer_config.json no tokenizer can be made: copy them again."


def _is_nonsense(key: str, value: Any, values: dict[str, Any]) -> bool:
    if key == "quantization_config":
        return not isinstance(value, dict | None)
    if key in _TYPES:
        return not isinstance(value, _TYPES[key]) or not value
    if value is None or isinstance(value, list | dict):
        return False
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    if _SIZES.fullmatch(key):
        return not is_whole or value < 1
    if _TOKENS.fullmatch(key):
        size = values.get("vocab_size")
        return not is_whole or value < 0 or (isinstance(size, int) and value >= size)
    return False


def _is_passing(error: BaseException) -> bool:
    """Whether an error says nothing about the files' content."""
    return is_out_of_memory(error) or isinstance(error, ImportError) or getattr(error, "errno", None) is not None


def _hub_advice(config: ScorerConfig, error: BaseException) -> str | None:
    """What to do about a refusal of the hub, by its type; None: it is another error."""
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
    return None


def _general_advice(config: ScorerConfig, error: BaseException) -> str:
    if is_out_of_memory(error):
        return "There is not enough memory for it."
    if isinstance(error, ConnectionError):
        neither = f"There is no folder {os.path.abspath(config.model)} either."
        return f"The hub cannot be reached from here. {fetch_command(config, None)} {neither}"
    if isinstance(error, ImportError):
        return "It needs a package that is not installed."
    if getattr(error, "errno", None) is not None:
        return "A file cannot be read or written: start again when that is mended."
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
