"""Which architectures can be scored with, and which of them without padding."""

from typing import Any

from transformers import PreTrainedModel
from transformers.modeling_layers import GenericForSequenceClassification


def is_packable(model: PreTrainedModel) -> bool:
    """Whether the model is a decoder with transformers' generic head, whose attention goes through its interface."""
    causal = all(getattr(module, "is_causal", True) for module in model.modules())
    return causal and isinstance(model, GenericForSequenceClassification) and model._supports_attention_backend


def why_not_scorable(model: PreTrainedModel, max_tokens: int) -> str | None:
    """Why the scores of this model would not be true, or None. What is not seen here, the self-check sees.

    Args:
        model: a sequence classifier with one output.
        max_tokens: the longest sequence that it will be given.
    """
    config = model.config.get_text_config()
    kind = type(model).__name__
    if model.config.is_encoder_decoder:
        return f"{kind} is an encoder-decoder, which is not supported."
    layers = set(getattr(config, "layer_types", None) or ()) - {"full_attention", "sliding_attention"}
    if getattr(model, "_is_stateful", False) or getattr(model.base_model, "_is_stateful", False) or layers:
        return (
            f"{kind} has layers that carry state along the row ({', '.join(sorted(layers)) or 'recurrent'}), which "
            "would leak from one conversation into the next; it is not supported."
        )
    if getattr(config, "attention_type", None) == "block_sparse":
        return (
            f"{kind} with attention_type='block_sparse' turns that off for good at the first short text, so that "
            "scores of long ones would depend on the texts before; if it was trained with full attention, set "
            "attention_type='original_full' in its config.json."
        )
    limit = _rope_regime(config)
    if limit is not None and max_tokens > limit:
        return (
            f"{kind} rotates positions differently once a text has more than {limit} tokens, so that a long "
            f"neighbour would change a score; set max_tokens={limit} or less."
        )
    if not is_packable(model) and config.pad_token_id is None:
        return f"{kind} needs padding and its config.json names no pad_token_id; add the tokenizer's there."
    if not is_packable(model) and config.pad_token_id < 0:
        return (
            f"{kind} needs padding and pad_token_id={config.pad_token_id} in its config.json is no token; correct it."
        )
    return None


def _rope_regime(config: Any) -> int | None:
    """The length up to which length-dependent RoPE is one and the same for all texts; None: at any length."""
    rope = getattr(config, "rope_parameters", None) or {}
    per_layer_type = [rope] if "rope_type" in rope else [value for value in rope.values() if isinstance(value, dict)]
    limits = []
    for parameters in per_layer_type:
        if "dynamic" in parameters.get("rope_type", ""):
            limits.append(config.max_position_embeddings)
        elif parameters.get("rope_type") == "longrope":
            limits.append(parameters["original_max_position_embeddings"])
    return min(limits, default=None)
