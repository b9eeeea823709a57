"""Which files of a model's folder are read, and which of them hold weights."""

import json
from collections.abc import Collection
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from datatrove_quality.config import ScorerConfig


# What a classifier is made of; weights in other formats are never read.
MODEL_FILES = (".safetensors", ".json", ".jinja", ".model", ".txt", ".py", ".tiktoken", ".spm", ".codes")
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
# As PEFT saves it: what is said of a model that is only that.
LONE_ADAPTER = (
    f"is an adapter ({ADAPTER_CONFIG}) without the model that it belongs to: merge it into that model "
    "(merge_and_unload) and save the result."
)
_POINTER = b"version https://git-lfs"


def model_files(folder: Path) -> list[Path]:
    """All files of a model's folder that may be read, weights in folders of their own included."""
    flat = [path for path in folder.iterdir() if path.suffix in MODEL_FILES and path.is_file()]
    return sorted({*flat, *weight_files(folder)})


def weights_size(folder: Path) -> int:
    """Bytes of the weights in a model's folder."""
    return sum(path.stat().st_size for path in weight_files(folder))


def missing_weights(folder: Path) -> str | None:
    """The name of a file of weights that a model's folder should hold and does not."""
    names = [WEIGHTS]
    if not (folder / names[0]).is_file() and (folder / INDEX).is_file():
        names = _shards(folder)
    if (folder / ADAPTER_CONFIG).is_file():
        names.append(ADAPTER_WEIGHTS)
    return next((name for name in names if not (folder / name).is_file()), None)


def require_weights(config: ScorerConfig, folder: Path) -> None:
    """Refuse a folder without the weights that would be read; of an adapter also without peft or its model.

    Args:
        config: which classifier.
        folder: of its files.

    Raises:
        ValueError: says what is missing, and what to do.
    """
    require_whole_adapter(config, [name for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS) if (folder / name).is_file()])
    has_adapter = (folder / ADAPTER_CONFIG).is_file()
    if has_adapter and find_spec("peft") is None:
        raise ValueError(
            f"model={config.model!r} has an adapter ({ADAPTER_CONFIG}), which transformers ignores without peft: "
            "`pip install peft`, or merge the adapter into the model, or delete its files."
        )
    missing = missing_weights(folder)
    if missing and has_adapter and not any((folder / name).is_file() for name in (WEIGHTS, INDEX)):
        raise ValueError(f"model={config.model!r} {LONE_ADAPTER}")
    if missing:
        raise ValueError(
            f"model={config.model!r} cannot be loaded. It has no safetensors weights ({missing}), the only kind that "
            "is read: convert it with save_pretrained()."
        )


def require_no_pointers(config: ScorerConfig, folder: Path) -> None:
    """Refuse a folder with what `git clone` leaves in the place of large files without git-lfs.

    Args:
        config: which classifier.
        folder: of its files.

    Raises:
        ValueError: names the files, and says what to do.
    """
    files = sorted(path for path in folder.iterdir() if path.suffix in MODEL_FILES and path.is_file())
    if pointers := [str(path) for path in files if _is_pointer(path)]:
        raise ValueError(
            f"model={config.model!r} cannot be loaded. {', '.join(pointers)}: a pointer of git-lfs in the place of "
            "the file. Run `git lfs pull` in its folder."
        )


def _is_pointer(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_POINTER)) == _POINTER


def require_whole_adapter(config: ScorerConfig, names: Collection[str]) -> None:
    """Refuse an adapter's weights without its configuration: transformers would leave them out without a word.

    Args:
        config: which classifier.
        names: of the files that it has.

    Raises:
        ValueError: says what to do.
    """
    if ADAPTER_WEIGHTS in names and ADAPTER_CONFIG not in names:
        raise ValueError(
            f"model={config.model!r} has an adapter's weights ({ADAPTER_WEIGHTS}) and no {ADAPTER_CONFIG}, without "
            f"which they are not applied: add {ADAPTER_CONFIG}, or merge the adapter into the model; if the scores "
            f"should be those without it, give a folder without {ADAPTER_WEIGHTS}."
        )


def require_safetensors(config: ScorerConfig, folder: Path) -> None:
    """Refuse files of weights that are empty, cut off or something else; reads their headers.

    Args:
        config: which classifier.
        folder: of its files.

    Raises:
        ValueError: names the file, and says what to do.
    """
    for path in weight_files(folder):
        if path.suffix == ".safetensors":
            try:
                safetensors_header(path)
            except ValueError as error:
                raise ValueError(f"model={config.model!r} cannot be loaded. {error}") from error


def safetensors_header(path: Path) -> dict[str, Any]:
    """Dtype, shape and place of each tensor in a safetensors file, by name.

    Args:
        path: of the file.

    Raises:
        ValueError: it is no such file, or is cut off; names the file, and says what to do.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > size - 8:
            raise ValueError(f"{path} ({size:,} bytes) is damaged, or is no safetensors file: fetch it again.")
        text = file.read(length)
    try:
        header = json.loads(text)
        header.pop("__metadata__", None)
        end = max((one["data_offsets"][1] for one in header.values()), default=0)
        is_whole = 8 + length + end <= size
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise ValueError(f"{path} is damaged, or is no safetensors file: fetch it again. {error}") from error
    if not is_whole:
        raise ValueError(f"{path} is cut off: {size:,} bytes of {8 + length + end:,}. Fetch it again.")
    return dict(header)


def weight_files(folder: Path) -> list[Path]:
    """The files that transformers reads weights from: one, or an index and what it names; and an adapter's."""
    files = [folder / WEIGHTS]
    if not files[0].is_file() and (folder / INDEX).is_file():
        files = [folder / INDEX, *(folder / name for name in _shards(folder))]
    files += [folder / ADAPTER_CONFIG, folder / ADAPTER_WEIGHTS]
    return [path for path in files if path.is_file()]


def _shards(folder: Path) -> list[str]:
    try:
        return sorted(set(json.loads((folder / INDEX).read_bytes())["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{folder / INDEX} names no files of weights: fetch it again. {error}") from error
