"""Folders without weights that can be read."""

import torch
from safetensors.torch import load_file
from scorers import config_of, edited, loaded, refused


def test_only_pickled_weights(model_folder, tmp_path):
    """Pickled weights can run code and are not read; the error says how to convert them."""
    folder = edited(model_folder("qwen3"), tmp_path / "m")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    refused(config_of(folder), "no safetensors.*convert", load=loaded)


def test_no_weights_at_all(model_folder, tmp_path):
    """A folder whose weights were not copied says so."""
    folder = edited(model_folder("qwen3"), tmp_path / "m")
    (folder / "model.safetensors").unlink()
    refused(config_of(folder), "safetensors", load=loaded)
