"""Folders without weights that can be read."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from scorers import config_of, edited, loaded, refused

from datatrove_quality.cli.checks import require_model_folder
from datatrove_quality.model.found_model import find_model


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


def test_weights_of_an_adapter_without_its_configuration(model_folder, tmp_path):
    """transformers leaves them out without a word: the scores would be the base model's."""
    folder = edited(model_folder("qwen3"), tmp_path / "m")
    save_file({"a": torch.ones(1)}, folder / "adapter_model.safetensors")
    refused(config_of(folder), r"adapter_model\.safetensors\) and no adapter_config\.json.*merge", load=loaded)


def _header(values):
    text = json.dumps(values).encode()
    return len(text).to_bytes(8, "little") + text


NO_SAFETENSORS = {
    "a pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "git lfs pull"),
    "empty": (b"", r"\(0 bytes\).*fetch it again"),
    "noise": (b"\xff" * 100, r"\(100 bytes\).*fetch it again"),
    "zeros": (bytes(100), "no safetensors file: fetch it again"),
    "a list": (_header([1]), "no safetensors file: fetch it again"),
    "other values": (_header({"a": 1}), "no safetensors file: fetch it again"),
    "cut off": (_header({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}), "cut off: 69 bytes of 77"),
}


@pytest.mark.parametrize("case", NO_SAFETENSORS)
def test_a_file_that_is_no_safetensors_file_is_named(model_folder, tmp_path, case):
    """Not an error of memory, nor of a whole folder; a pointer of git-lfs is what `git clone` often leaves."""
    content, says = NO_SAFETENSORS[case]
    folder = edited(model_folder("qwen3"), tmp_path / "m")
    (folder / "model.safetensors").write_bytes(content)
    refused(config_of(folder), rf"cannot be loaded.*m/model\.safetensors.*{says}", load=loaded)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"])
def test_any_file_that_is_a_pointer_is_named(model_folder, tmp_path, name):
    """The same accident, of another file; a template would be rendered as it is."""
    folder = edited(model_folder("qwen3"), tmp_path / "m")
    (folder / name).write_bytes(NO_SAFETENSORS["a pointer"][0])
    refused(config_of(folder), rf"m/{name}: a pointer.*git lfs pull", load=find_model)


@pytest.mark.parametrize("left", [(), ("tokenizer.json", "tokenizer_config.json")])
def test_a_folder_as_peft_saves_it_is_named_as_what_it_is(model_folder, tmp_path, left):
    """It has no config.json, and often a tokenizer."""
    folder = tmp_path / "m"
    folder.mkdir()
    for name in left:
        shutil.copy(model_folder("qwen3") / name, folder)
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    save_file({"a": torch.ones(1)}, folder / "adapter_model.safetensors")
    refused(
        config_of(folder),
        r"is an adapter \(adapter_config\.json\) without the model that it belongs to",
        load=find_model,
    )
    with pytest.raises(ValueError, match=r"--model .*m: is an adapter \(adapter_config\.json\) without the model"):
        require_model_folder(str(folder))
