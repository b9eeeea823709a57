"""Classifiers that differ in their heads alone: the trunk is loaded and computed once for all of them.

A further head is a classifier without its trunk. Where the trunk would be it has a module that gives what the first
classifier's trunk has given in the same forward pass, so that all else is the model's own code.
"""

import struct
from collections.abc import Iterable, Iterator, Sequence
from contextvars import ContextVar
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from datatrove_quality.config import QUANTIZED, ScorerConfig
from datatrove_quality.model.checkpoint import stored_tensors
from datatrove_quality.model.fingerprint import decisive_values, fingerprint, tokenizer_digest
from datatrove_quality.model.weights import weight_files


if TYPE_CHECKING:
    from datatrove_quality.model.found_model import FoundModel

CHUNK = 2**22
# Parts of a fingerprint that may differ, since what they are of is compared tensor by tensor and value by value.
OF_ONE_MODEL = ("commit", "config", "weights")
# What a config.json says of the head alone, or of the score.
HEADS_VALUES = ("classifier_", "score_")
# Fields of a config by which the trunk is computed; the fingerprint has what they say of texts.
OF_TRUNK = ("device", "tokens_per_batch", "compile", "fused", "trust_remote_code", "self_check")
# What the trunk of the first classifier gives, while a forward pass wants it for further heads.
_noted: ContextVar[list[Any] | None] = ContextVar("trunk", default=None)


class Apart(Exception):
    """Two classifiers cannot share a trunk; says why."""


class Classifier(NamedTuple):
    """A classifier that may share its trunk.

    Args:
        config: which, and how.
        found: what `find_model` gave for the config.
    """

    config: ScorerConfig
    found: "FoundModel"


def head_on_trunk(first: Classifier, model: PreTrainedModel, other: Classifier) -> PreTrainedModel:
    """The head of a classifier whose trunk is another's, on the CPU.

    Args:
        first: the classifier whose trunk is shared.
        model: the same, with its weights.
        other: the classifier of the head. Its files have the digests that they should have.

    Raises:
        Apart: the two differ in more than their heads, or the head cannot be loaded alone.
    """
    _require_same_texts(first, other, model)
    heads = {name for name, child in model.named_children() if child is not model.base_model}
    if model.base_model is model or model.config.is_encoder_decoder:
        raise Apart(f"{type(model).__name__} has no trunk of its own")
    folders = (first.found.folder, other.found.folder)
    tensors = [{tensor.name: tensor for tensor in _tensors(weight_files(folder))} for folder in folders]
    for name in sorted(tensors[0].keys() | tensors[1].keys()):
        if name.partition(".")[0] not in heads and not _same(tensors[0].get(name), tensors[1].get(name)):
            raise Apart(f"their trunks differ in {name}")
    return _load_head(model, other, [tensor for name, tensor in tensors[1].items() if name.partition(".")[0] in heads])


def all_logits(model: PreTrainedModel, heads: Sequence[PreTrainedModel], **inputs: Any) -> Tensor:
    """A classifier's own forward pass, and its trunk's output through further heads.

    Args:
        model: with its trunk; `note_trunk` was applied if there are heads.
        heads: of `head_on_trunk`, on the model's device.
        inputs: the model's own arguments.

    Returns:
        Logits, shape (sequences, outputs of all).
    """
    if not heads:
        return model(**inputs).logits
    token = _noted.set([])
    try:
        return torch.cat([one(**inputs).logits.float() for one in (model, *heads)], -1)
    finally:
        _noted.reset(token)


def note_trunk(model: PreTrainedModel) -> None:
    """Have a classifier's trunk note its output for further heads, in `all_logits` alone."""
    model.base_model.register_forward_hook(_note)


def _note(module: nn.Module, args: Any, output: Any) -> None:
    noted = _noted.get()
    if noted is not None:
        noted[:] = [output]


class _GivenTrunk(nn.Module):
    """Takes the place of a further head's trunk."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        noted = _noted.get()
        if not noted:
            raise RuntimeError("a head was computed without the trunk that it belongs to")
        return noted[0]


def _require_same_texts(first: Classifier, other: Classifier, model: PreTrainedModel) -> None:
    """Both see the same tokens of a text, and compute alike."""
    from datatrove_quality.model.found_model import computing_dtype

    for classifier in (first, other):
        if classifier.found.adapter:
            raise Apart(f"{classifier.config.model} has an adapter")
        if getattr(classifier.found.config, "quantization_config", None) is not None:
            raise Apart(f"{classifier.config.model} is quantized")
        if classifier.config.dtype in QUANTIZED:
            raise Apart(f"one multiplies in {classifier.config.dtype}")
    dtype = str(model.dtype).removeprefix("torch.")
    here = _of_texts(first, dtype)
    there = _of_texts(other, computing_dtype(other.config, other.found, model.device) or dtype)
    for name in sorted(here.keys() | there.keys()):
        if here.get(name) != there.get(name):
            raise Apart(f"they differ in {name}")


def _of_texts(classifier: Classifier, dtype: str) -> dict[str, Any]:
    """Everything that affects what a classifier's trunk computes of a text, but for its weights; by name."""
    config, found = classifier
    parts = fingerprint(config, found, dtype).parts
    parts = {name: part for name, part in parts.items() if name not in OF_ONE_MODEL}
    values = decisive_values(found.folder)
    of_trunk = {f"config.json: {name}": value for name, value in values.items() if not name.startswith(HEADS_VALUES)}
    of_all = {name: getattr(config, name) for name in OF_TRUNK}
    tokenizer = tokenizer_digest(found.folder, found.renderer.tokenizer)
    return of_all | parts | of_trunk | {"known_tokens": found.renderer.known_tokens, "tokenizer": tokenizer}


class _Tensor(NamedTuple):
    """A tensor in a safetensors file.

    Args:
        name: as stored.
        kind: its dtype and shape.
        path: of the file.
        start: of its bytes in the file.
        size: in bytes.
    """

    name: str
    kind: tuple[str, tuple[int, ...]]
    path: Path
    start: int
    size: int


def _tensors(files: Iterable[Path]) -> Iterator[_Tensor]:
    for path in files:
        if path.suffix != ".safetensors":
            continue
        with path.open("rb") as file:
            (header,) = struct.unpack("<Q", file.read(8))
        for name, one in stored_tensors([path]).items():
            start, end = one["data_offsets"]
            yield _Tensor(name, (one["dtype"], tuple(one["shape"])), path, 8 + header + start, end - start)


def _same(one: _Tensor | None, other: _Tensor | None) -> bool:
    """Whether two tensors have the same dtype, shape and bytes."""
    if one is None or other is None or one.kind != other.kind or one.size != other.size:
        return False
    if one.path.resolve() == other.path.resolve() and one.start == other.start:
        return True
    with one.path.open("rb") as first, other.path.open("rb") as second:
        if not one.size:
            return True
        here, there = (mmap(file.fileno(), 0, access=ACCESS_READ) for file in (first, second))
        with here, there:
            return all(
                here[one.start + done : one.start + min(done + CHUNK, one.size)]
                == there[other.start + done : other.start + min(done + CHUNK, other.size)]
                for done in range(0, one.size, CHUNK)
            )


def _load_head(model: PreTrainedModel, other: Classifier, tensors: Sequence[_Tensor]) -> PreTrainedModel:
    from safetensors import safe_open

    from datatrove_quality.model.forward import keep_head_in_float32
    from datatrove_quality.model.found_model import skeleton

    head = skeleton(other.config, other.found.config, other.found.folder)
    if type(head) is not type(model):
        raise Apart(f"one is a {type(model).__name__}, the other a {type(head).__name__}")
    setattr(head, head.base_model_prefix, _GivenTrunk())
    if list(head.buffers()):
        raise Apart("their heads have buffers")
    weights = {}
    for tensor in tensors:
        with safe_open(tensor.path, framework="pt") as file:
            weights[tensor.name] = file.get_tensor(tensor.name)
    dtypes = {name: weight.dtype for name, weight in model.named_parameters()}
    head.to_empty(device="cpu")
    try:
        head.load_state_dict(weights, strict=True)
    except RuntimeError as error:  # names of an older version, or weights that do not fit
        raise Apart(f"the head of {other.config.model} cannot be loaded alone: {error!s:.300}") from error
    for name, weight in head.named_parameters():
        weight.data = weight.data.to(dtypes.get(name, model.dtype))
    keep_head_in_float32(head)
    return head.eval().requires_grad_(False)
