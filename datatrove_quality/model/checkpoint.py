"""What a checkpoint stores beside or in the place of what its model expects: refused where it would change a score."""

import json
from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loguru import logger

from datatrove_quality.config import ScorerConfig
from datatrove_quality.model.weights import ADAPTER_WEIGHTS, INDEX, safetensors_header


if TYPE_CHECKING:
    from transformers import PreTrainedModel


# What older versions of transformers stored and newer ones compute.
_COMPUTED = ("position_ids", "inv_freq", "token_type_ids", "num_batches_tracked")
# Parts of PEFT's names; nothing else is called so.
_ADAPTERS = ("lora_", "ia3_l", "adapter_", "modules_to_save", "base_layer", "prompt_encoder", "trainable_tokens")
# Names that wrappers put before a model's own.
_WRAPPERS = ("base_model.model.", "_orig_mod.", "module.")
_SHOWN = 5
# Of a parameter that is stored as one tensor.
_WHOLE = ""


def require_all_used(config: ScorerConfig, model: "PreTrainedModel", names: Iterable[str]) -> None:
    """Refuse stored tensors that the model does not use although they belong to it; list those that may be ignored.

    Heads for other tasks, such as `lm_head.weight`, and what transformers computes itself pass.

    Args:
        config: which classifier; its `allow_unexpected` lets further names pass.
        model: with its weights.
        names: of the tensors that transformers did not expect.

    Raises:
        ValueError: names the tensors.
    """
    unused = sorted(names)
    allowed = [name for name in unused if any(fnmatchcase(name, glob) for glob in config.allow_unexpected)]
    refused = [name for name in unused if name not in allowed and _changes_scores(model, name)]
    if refused:
        raise ValueError(
            f"model={config.model!r} stores tensors that {type(model).__name__} does not use: {_first(refused)}. Its "
            "scores would not be those that it was trained to give: the config.json belongs to another model, or an "
            "adapter was not merged. Correct the folder; if you know that they do not matter, name them in "
            f"allow_unexpected=({refused[0]!r},) (--allow-unexpected {refused[0]!r})."
        )
    if unused:
        logger.warning(f"{config.model}: {type(model).__name__} does not use these of its tensors: {_first(unused)}")


def _changes_scores(model: "PreTrainedModel", name: str) -> bool:
    """Whether a tensor that is not used is a part of what computes the score: of a loaded module, or an adapter."""
    parts = name.split(".")
    if any(part.startswith(_ADAPTERS) for part in parts):
        return True
    if parts[-1] in _COMPUTED:
        return False
    for wrapper in _WRAPPERS:
        name = name.removeprefix(wrapper)
    base = model.base_model_prefix
    modules = {module for module, _ in model.named_modules()} - {"", base}
    # Stored by the base model alone, names lack its prefix.
    for full in (name, f"{base}.{name}"):
        ancestors = full.split(".")[:-1]
        if any(".".join(ancestors[:count]) in modules for count in range(1, len(ancestors) + 1)):
            return True
    inside = name.removeprefix(f"{base}.")
    # A module that the base model has not at all: a pooler is a head, anything else is a part of its computation.
    return inside != name and not inside.startswith("pooler.")


def require_no_integers(config: ScorerConfig, model: "PreTrainedModel", files: Iterable[Path]) -> None:
    """Refuse weights stored as whole numbers, which are nothing without the scales of a quantization.

    Args:
        config: which classifier.
        model: with its weights.
        files: of weights.

    Raises:
        ValueError: names the tensors.
    """
    if getattr(model.config, "quantization_config", None) is not None:
        return
    buffers = {name.rpartition(".")[2] for name, _ in model.named_buffers()} | set(_COMPUTED)
    whole = [
        f"{name}: {tensor['dtype']}"
        for name, tensor in stored_tensors(files).items()
        if tensor["dtype"].startswith(("I", "U", "BOOL")) and name.rpartition(".")[2] not in buffers
    ]
    if whole:
        raise ValueError(
            f"model={config.model!r} stores weights as whole numbers ({_first(whole)}) and its config.json has no "
            "quantization_config: save it again in float32 or bfloat16."
        )


def stored_tensors(files: Iterable[Path]) -> dict[str, dict[str, Any]]:
    """Name, dtype and shape of the tensors in safetensors files, from their headers."""
    found: dict[str, dict[str, Any]] = {}
    for path in files:
        found |= _header(path)
    return found


def _header(path: Path) -> dict[str, dict[str, Any]]:
    return safetensors_header(path) if path.suffix == ".safetensors" else {}


def require_one_tensor_each(config: ScorerConfig, model: "PreTrainedModel", files: Iterable[Path]) -> None:
    """Refuse different tensors that are stored for one parameter, of which transformers takes the last without a word.

    An interrupted or mixed copy leaves them: one name in two files, or in another file than the index says, or two
    names that transformers makes one: with the base model's prefix and without it, an older name and a newer one, all
    experts of a layer and each of them. Two of the same values pass.

    Args:
        config: which classifier.
        model: its class, without an adapter; weights are not needed.
        files: of weights.

    Raises:
        ValueError: names the tensors and their files.
    """
    shards = {path: _header(path) for path in files if path.name != ADAPTER_WEIGHTS}
    becomes = _becomes(model)
    parts: dict[str, dict[str, list[tuple[str, Path]]]] = {}
    for path, stored in shards.items():
        for name in stored:
            for parameter, part in becomes(name):
                parts.setdefault(parameter, {}).setdefault(part, []).append((name, path))
    doubtful = [
        " and ".join(f"{name} in {path.name}" for name, path in found)
        for of_one in parts.values()
        for found in _rivals(of_one)
    ]
    index = next((path for path in shards if path.name == INDEX), None)
    for name, shard in json.loads(index.read_bytes())["weight_map"].items() if index else ():
        having = [path for path, stored in shards.items() if name in stored]
        if index and having and index.parent / shard not in having:
            doubtful.append(f"{name} in {having[0].name}, which {INDEX} has in {shard}")
    if doubtful:
        raise ValueError(
            f"model={config.model!r}: it is not clear which tensors are its weights: {_first(doubtful)}. Its files "
            "are of several models or copies: fetch all again, into an empty folder."
        )


def _becomes(model: "PreTrainedModel") -> Callable[[str], list[tuple[str, str]]]:
    """What a stored tensor becomes, by transformers' own rules: parameters, and which part of them.

    The part is "" for the whole; the tensor's own name is given for one that becomes nothing.
    """
    try:
        from transformers.conversion_mapping import get_model_conversion_mapping
        from transformers.core_model_loading import WeightConverter, rename_source_key
    except ImportError:  # a version that keeps them elsewhere: a name in two files is found still
        return lambda name: [(name, _WHOLE)]
    rules: list[Any] = get_model_conversion_mapping(model)
    converters = [rule for rule in rules if isinstance(rule, WeightConverter)]
    renamings = [rule for rule in rules if not isinstance(rule, WeightConverter)]
    targets = {pattern: rule.target_patterns for rule in converters for pattern in rule.source_patterns}
    parameters, prefix = model.state_dict(), model.base_model_prefix

    def becomes(name: str) -> list[tuple[str, str]]:
        for applied in ((renamings, converters), ([], [])):
            parameter, pattern = rename_source_key(name, applied[0], applied[1], prefix, parameters)
            if parameter in parameters:
                break
        else:
            return [(name, _WHOLE)]
        if pattern is None:
            return [(parameter, _WHOLE)]
        part = rename_source_key(name, renamings, [])[0].removeprefix(f"{prefix}.")
        first = targets[pattern][0]
        return [(one, part) for one in dict.fromkeys(parameter.replace(first, other) for other in targets[pattern])]

    return becomes


def _rivals(parts: dict[str, list[tuple[str, Path]]]) -> Iterator[list[tuple[str, Path]]]:
    """Of the stored tensors of a parameter, by part: those of which only one can be meant."""
    if _WHOLE in parts and len(parts) > 1:
        yield [parts[_WHOLE][0], next(found[0] for part, found in parts.items() if part != _WHOLE)]
    for part, found in parts.items():
        # Two of the same part would be put together as if they were two parts.
        if len(found) > 1 and (part != _WHOLE or not _are_equal(found)):
            yield found


def _are_equal(stored: list[tuple[str, Path]]) -> bool:
    """Whether tensors, each named with its file, have the same bytes."""
    import torch
    from safetensors import safe_open

    values = []
    for name, path in stored:
        with safe_open(path, framework="pt") as file:
            values.append(file.get_tensor(name))
    first, *others = [(one.dtype, one.shape, one.reshape(-1).view(torch.uint8)) for one in values]
    return all(one[:2] == first[:2] and torch.equal(one[2], first[2]) for one in others)


def require_whole_base(config: ScorerConfig, model: "PreTrainedModel", files: Iterable[Path]) -> None:
    """Under an adapter, transformers tells only of the adapter's tensors: check that the base model's are all there.

    Args:
        config: which classifier.
        model: with its weights and an adapter.
        files: of weights.

    Raises:
        ValueError: names what is missing or not used.
    """
    stored = set(stored_tensors(path for path in files if path.name != ADAPTER_WEIGHTS))
    own = (name for name in model.state_dict() if ".modules_to_save." not in name and ".lora_" not in name)
    expected = {name.replace(".base_layer.", ".").replace(".original_module.", ".") for name in own}
    expected -= (getattr(model, "all_tied_weights_keys", None) or {}).keys()
    if missing := sorted(expected - stored):
        raise ValueError(
            f"model={config.model!r} has an adapter, and beside it there is no {_first(missing)}: merge the adapter "
            "into the model that it was trained on (merge_and_unload) and save that."
        )
    require_all_used(config, model, stored - expected)


def _first(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
