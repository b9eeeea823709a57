"""Which files of a model's folder are read, and which of them hold weights."""

import json
from pathlib import Path


# What a classifier is made of; weights in other formats are never read.
MODEL_FILES = (".safetensors", ".json", ".jinja", ".model", ".txt", ".py")
ADAPTER_CONFIG = "adapter_config.json"


def model_files(folder: Path) -> list[Path]:
    """All files of a model's folder that may be read, weights in folders of their own included."""
    flat = [path for path in folder.iterdir() if path.suffix in MODEL_FILES and path.is_file()]
    return sorted({*flat, *weight_files(folder)})


def weights_size(folder: Path) -> int:
    """Bytes of the weights in a model's folder."""
    return sum(path.stat().st_size for path in weight_files(folder))


def missing_weights(folder: Path) -> str | None:
    """The name of a file of weights that a model's folder should hold and does not."""
    index = folder / "model.safetensors.index.json"
    if any((folder / name).is_file() for name in ("model.safetensors", "adapter_model.safetensors")):
        return None
    if not index.is_file():
        return "model.safetensors"
    names = sorted(set(json.loads(index.read_bytes())["weight_map"].values()))
    return next((name for name in names if not (folder / name).is_file()), None)


def weight_files(folder: Path) -> list[Path]:
    """The files that transformers reads weights from: one, or an index and what it names; and an adapter's."""
    index = folder / "model.safetensors.index.json"
    adapter = [folder / ADAPTER_CONFIG, folder / "adapter_model.safetensors"]
    files = [folder / "model.safetensors"]
    if not files[0].is_file() and index.is_file():
        names = set(json.loads(index.read_bytes())["weight_map"].values())
        files = [index, *(folder / name for name in sorted(names))]
    return [path for path in files + adapter if path.is_file()]
