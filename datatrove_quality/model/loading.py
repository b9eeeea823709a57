"""A classifier's weights, in the dtype that is computed in, on a device."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from loguru import logger

from datatrove_quality.config import QUANTIZED, ScorerConfig
from datatrove_quality.model.checkpoint import (
    require_all_used,
    require_no_integers,
    require_one_tensor_each,
    require_whole_base,
    stored_tensors,
)
from datatrove_quality.model.devices import is_native_dtype
from datatrove_quality.model.digests import cached_digest, forget, hub_digests, stamps, wrong_files
from datatrove_quality.model.found_model import FoundModel, skeleton
from datatrove_quality.model.hub import fetch_weights
from datatrove_quality.model.load_errors import explained
from datatrove_quality.model.staging import copied_digests, staged
from datatrove_quality.model.weights import require_safetensors, require_weights, weight_files


if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


# Parameters that a model may have beyond twice those that are stored; with fewer, transformers tells what is missing.
MAX_UNSTORED = 100_000_000


def load_weights(config: ScorerConfig, found: FoundModel, device: "torch.device") -> "PreTrainedModel":
    """The classifier with all its weights, in the configured dtype, on the device, for inference only.

    Of a dtype of products alone, it is what all else is computed in: `quantized.quantize` comes later.

    Before they are loaded the weights are read once and hashed, by which they come into the page cache; from there
    transformers loads them.

    Args:
        config: which classifier, and how.
        found: what `find_model` gave for the config.
        device: where it computes.

    Raises:
        ValueError: weights are missing, are no safetensors, do not fit, are not those that the fingerprint names, or
            are more than the model uses.
    """
    from datatrove_quality.model.forward import keep_head_in_float32

    if found.commit:
        fetch_weights(config, found.commit, found.folder)
    require_weights(config, found.folder)
    folder = staged(found.folder)
    model = _verified(config, found, folder)
    require_no_integers(config, model, weight_files(folder))
    if config.dtype == "auto" and not is_native_dtype(device, model.dtype):
        logger.warning(
            f"{device} does not compute in {model.dtype} natively: using float32. Set dtype to choose yourself."
        )
        model = model.float()
    if found.adapter:
        with explained(config, _advice_on_weights):
            _merge_adapter(model)
    model.config.use_cache = False
    keep_head_in_float32(model)
    return cast("Any", model).to(device).eval().requires_grad_(False)


def _verified(config: ScorerConfig, found: FoundModel, folder: Path) -> "PreTrainedModel":
    """The model from files that are what they should be, and that did not change while they were read."""
    files = weight_files(folder)
    before = stamps(files)
    _require_right(config, found, folder)
    require_safetensors(config, found.folder)
    with explained(config, _advice_on_weights):
        empty = skeleton(config, found.config, folder)
    _require_enough(config, empty, files)
    require_one_tensor_each(config, empty, files)
    model = _load(config, found, folder)
    if stamps(files) != before:
        raise ValueError(f"model={config.model!r}: its weights in {folder} changed during loading: start again.")
    if found.adapter:
        require_whole_base(config, model, files)
    return model


def _merge_adapter(model: "PreTrainedModel") -> None:
    """Add an adapter to the weights that it changes, in the dtype that computes, and leave none of peft's modules.

    Raises:
        ValueError: the merged weights would not be finite.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils import ModulesToSaveWrapper

    for name, module in list(model.named_modules()):
        if isinstance(module, BaseTunerLayer):
            module.merge(safe_merge=True)
            model.set_submodule(name, module.get_base_layer())
        elif isinstance(module, ModulesToSaveWrapper):
            model.set_submodule(name, module.modules_to_save[module.active_adapters[0]])


def require_right_weights(config: ScorerConfig, found: FoundModel) -> None:
    """The weights are there, in the model's own folder, and are those that the fingerprint names.

    Args:
        config: which classifier, and how.
        found: what `find_model` gave for the config.

    Raises:
        ValueError: they are not; names the files.
    """
    if found.commit:
        fetch_weights(config, found.commit, found.folder)
    require_weights(config, found.folder)
    _require_right(config, found, found.folder)


def _require_right(config: ScorerConfig, found: FoundModel, folder: Path) -> None:
    """The weights are those of the commit or, where no hub says which, those that were hashed for the fingerprint.

    Raises:
        ValueError: names the files that are not.
    """
    files = weight_files(found.folder)
    of_hub = hub_digests(found.folder, files, found.told) if found.commit else {}
    if unknown := [path.name for path, digests in of_hub.items() if not digests]:
        logger.warning(
            f"{config.model}: {', '.join(unknown)} in {found.folder}: not links to blobs that are named by their "
            "digests, as the hub's cache has them, and the hub has not told their digests. Whether their bytes are "
            "those of the commit is not known; the fingerprint has their digests, so their scores mix with no others. "
            f"To check them: `hf cache verify {config.model} --revision {found.commit}`."
        )
    expected = {path: of_hub.get(path) or [cached_digest(path)] for path in files}
    if folder == found.folder:
        wrong = wrong_files(expected)
    else:
        # `staged` has just compared the copy with what it has copied. One made before the hub could be asked has
        # digests of another kind.
        named = copied_digests(folder)
        copied = {path: named.get(str(path.relative_to(found.folder))) for path in expected}
        unlike = {path: digests for path, digests in expected.items() if copied[path] not in digests}
        wrong = [path for path in unlike if copied[path] != cached_digest(path)] or wrong_files(unlike)
    if not wrong:
        return
    for path in wrong:
        forget(path)
    raise ValueError(
        f"model={config.model!r}: {', '.join(str(path.resolve()) for path in wrong)}: the bytes are not those that "
        f"{'the hub names' if any(of_hub.get(path) for path in wrong) else 'were there before'}. "
        f"{'Delete them and fetch the model' if found.commit else 'Copy them'} again; the disk may be failing."
    )


@contextmanager
def _without_bars() -> Iterator[None]:
    """Without transformers' bars of weights, which in a log or beside our own bar are noise."""
    from transformers.utils import logging

    were_enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if were_enabled:
            logging.enable_progress_bar()


def _require_enough(config: ScorerConfig, empty: "PreTrainedModel", files: list[Path]) -> None:
    """Refuse a config.json of a far larger model than is stored: transformers would take memory for all of it first.

    Raises:
        ValueError: names both numbers of parameters.
    """
    if getattr(empty.config, "quantization_config", None) is not None:  # several weights are stored in one number
        return
    described = sum(weight.numel() for weight in empty.parameters())
    stored = sum(math.prod(tensor["shape"]) for tensor in stored_tensors(files).values())
    if described > 2 * stored + MAX_UNSTORED:
        raise ValueError(
            f"model={config.model!r}: its config.json describes a model of {described:,} parameters, and {stored:,} "
            "are stored: fetch both from the same place."
        )


def _load(config: ScorerConfig, found: FoundModel, folder: Path) -> "PreTrainedModel":
    from transformers import AutoModelForSequenceClassification

    with explained(config, _advice_on_weights), _without_bars():
        model, report = AutoModelForSequenceClassification.from_pretrained(
            folder,
            config=found.config,
            dtype=QUANTIZED.get(config.dtype, config.dtype),
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are in the report
            trust_remote_code=config.trust_remote_code,
        )
    model.name_or_path = config.model
    _require_all(config, report)
    require_all_used(config, model, report["unexpected_keys"])
    return model


def _require_all(config: ScorerConfig, report: dict[str, Any]) -> None:
    """Refuse a model of which some weights are random: transformers makes up what it does not find or cannot use."""
    if mismatched := sorted(report["mismatched_keys"]):
        name, stored, expected = mismatched[0]
        raise ValueError(
            f"model={config.model!r} cannot be loaded. Its weights have other shapes than its config.json says: "
            f"{name} has {tuple(stored)} in place of {tuple(expected)}. Fetch both from the same place."
        )
    if missing := sorted(report["missing_keys"]):
        if of_adapter := [name for name in missing if ".lora_" in name or ".modules_to_save." in name]:
            raise ValueError(
                f"model={config.model!r} has an adapter that cannot be applied: it lacks {', '.join(of_adapter[:3])}. "
                "Merge it into its model (merge_and_unload) and save the result."
            )
        raise ValueError(
            f"model={config.model!r} lacks the weights {', '.join(missing[:5])}: it has no trained score head, or is "
            "another kind of model. Give the folder or hub id of the trained classifier."
        )


def _advice_on_weights(error: BaseException) -> str | None:
    from safetensors import SafetensorError

    if isinstance(error, SafetensorError):
        return "A file of its weights is damaged, or is no safetensors file: fetch it again."
    return None
