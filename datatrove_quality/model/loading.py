"""A classifier's weights, in the dtype that is computed in, on a device."""

from typing import TYPE_CHECKING

from loguru import logger

from datatrove_quality.config import ScorerConfig
from datatrove_quality.model.devices import native_dtype
from datatrove_quality.model.files import FoundModel, model_folder
from datatrove_quality.model.hub import explained, source
from datatrove_quality.model.staging import stage_folder, staged


if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


def load_weights(config: ScorerConfig, found: FoundModel, device: "torch.device") -> "PreTrainedModel":
    """The classifier with all its weights, in the dtype asked for, on the device, for inference only.

    Args:
        config: which classifier, and how.
        found: what `find_model` gave for the config.
        device: where it computes.

    Raises:
        ValueError: weights are missing, are no safetensors, or do not fit.
    """
    import torch
    from transformers import AutoModelForSequenceClassification

    from datatrove_quality.model.forward import keep_head_in_float32

    with explained(config):
        model, report = AutoModelForSequenceClassification.from_pretrained(
            str(staged(model_folder(config, found))) if stage_folder() else config.model,
            config=found.config,
            dtype=config.dtype,
            use_safetensors=True,
            output_loading_info=True,
            **source(config, found.commit),
        )
    if missing := sorted(report["missing_keys"]):
        raise ValueError(
            f"model={config.model!r} lacks the weights {', '.join(missing[:5])}: it has no trained score head, or is "
            "another kind of model. Give the folder or hub id of the trained classifier."
        )
    if config.dtype == "auto" and not native_dtype(device, model.dtype):
        logger.warning(
            f"{device} does not compute in {model.dtype} natively: using float32. Set dtype to choose yourself."
        )
        model = model.to(torch.float32)
    model.config.use_cache = False
    keep_head_in_float32(model)
    return model.to(device).eval().requires_grad_(False)
