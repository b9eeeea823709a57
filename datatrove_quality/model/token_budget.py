"""How many tokens a device takes at once: enough to fill it, and what its memory admits beside the model."""

import math
from typing import TYPE_CHECKING

from datatrove_quality.model.devices import processes_sharing


if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedModel


# More tokens at once than this fill no device better.
MAX_TOKENS = {"cuda": 32_768, "mps": 8_192, "cpu": 4_096}
MIN_TOKENS = 512
# What a CPU keeps near: batches whose layers need more take up to 1.3 times as long (benchmarks/EXPERIMENTS.md), but
# where larger weights pass at each batch, which then counts for more.
CPU_CACHE_BYTES = 48_000_000
# Of a model's weights, what keys and values that are held for the next batch may take, and what they may in any case.
SHARE_HELD = 0.125
MIN_BYTES_HELD = 64 * 2**20
# Of the memory that is free: the estimate is rough, and other processes may come to the same device.
SHARE_OF_FREE_MEMORY = 0.5


def tokens_per_batch(model: "PreTrainedModel") -> int:
    """The token budget of a micro-batch where none is configured.

    Args:
        model: with its weights on the device.

    Returns:
        A number of tokens. Should it be too large after all, a replica takes fewer.
    """
    device = model.device
    if device.type == "cuda":
        room = SHARE_OF_FREE_MEMORY / processes_sharing(device) * _free_memory(device)
    else:
        room = math.inf if device.type == "mps" else max(CPU_CACHE_BYTES, passing_bytes(model))
    return int(max(MIN_TOKENS, min(MAX_TOKENS[device.type], room / bytes_per_token(model))))


def bytes_per_token(model: "PreTrainedModel") -> int:
    """What a forward pass holds at once for each token, at most: twice all that the widest layer's matrices give."""
    from torch import nn

    from datatrove_quality.model.amx_linear import AmxLinear

    kinds = (nn.Linear, AmxLinear)
    widths = [sum(one.out_features for one in layer.modules() if isinstance(one, kinds)) for layer in _layers(model)]
    hidden = getattr(model.config.get_text_config(), "hidden_size", None) or 0
    return 2 * model.dtype.itemsize * max([*widths, 4 * hidden, 1])


def passing_bytes(model: "PreTrainedModel") -> int:
    """The weights of the largest layer that multiplies on AMX, or 0.

    They come from memory once a batch, which takes as long whether it is small or large.
    """
    from datatrove_quality.model.amx_linear import AmxLinear

    return max(
        (sum(one.weight.nbytes for one in layer.modules() if isinstance(one, AmxLinear)) for layer in _layers(model)),
        default=0,
    )


def _layers(model: "PreTrainedModel") -> list["nn.Module"]:
    from torch import nn

    return [layer for module in model.modules() if isinstance(module, nn.ModuleList) for layer in module]


def max_held_tokens(model: "PreTrainedModel") -> int:
    """Of how many tokens a CPU may hold the keys and values of all layers from one batch to the next."""
    config = model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    of_token = 2 * config.num_hidden_layers * heads * dim * model.dtype.itemsize
    of_weights = sum(weight.numel() * weight.element_size() for weight in model.parameters())
    return int(max(SHARE_HELD * of_weights, MIN_BYTES_HELD) / of_token)


def _free_memory(device: "torch.device") -> int:
    """Free bytes, with those that this process's allocator keeps for later."""
    import torch

    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + kept
