"""The forward passes: token ids in, a row of logits per sequence out.

Decoders run without padding. Sequences are laid end to end in one row, positions restart at each sequence, and packed
attention (attention.py) keeps the sequences apart by their cumulative lengths. Encoders run padded.
"""

import inspect
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from datatrove_quality.model.attention import PACKED, ROW, packed_attention, parameters
from datatrove_quality.model.trunk import all_logits


if TYPE_CHECKING:
    from datatrove_quality.model.shared_rows import SharedRow


# The compiler makes two compiled functions per device. Beyond its own limit it would run layers uncompiled, silently.
MAX_COMPILED_FUNCTIONS = 64
# A decoder layer's parameter for its key-value cache: since transformers 5.24, and before.
CACHE_PARAMETERS = ("cache", "past_key_values")


def pack(
    sequences: Sequence[Sequence[int]], device: torch.device, starts: Sequence[int] | None = None
) -> dict[str, Any]:
    """Lay sequences end to end.

    Args:
        sequences: token ids, none empty.
        device: where the tensors go.
        starts: the position of each sequence's first token; None: 0.

    Returns:
        A decoder's keyword arguments: `input_ids` and `position_ids` (1, tokens); the boundaries under transformers'
        names: `cu_seq_lens_q` and `cu_seq_lens_k` (sequences + 1,), `max_length_q` and `max_length_k`; and where the
        boundaries end: `num_queries` and `num_keys`.
    """
    lengths = torch.tensor([len(ids) for ids in sequences])
    ends = lengths.cumsum(0)
    offsets = ends - lengths if starts is None else ends - lengths - torch.tensor(starts)
    positions = torch.arange(int(ends[-1])) - offsets.repeat_interleave(lengths)
    boundaries = to_device(F.pad(ends, (1, 0)).to(torch.int32), device)
    longest, total = int(lengths.max()), int(ends[-1])
    input_ids = torch.tensor(list(chain.from_iterable(sequences)))
    return {
        "input_ids": to_device(input_ids[None], device),
        "position_ids": to_device(positions[None], device),
        "cu_seq_lens_q": boundaries,
        "cu_seq_lens_k": boundaries,
        "max_length_q": longest,
        "max_length_k": longest,
        "num_queries": total,
        "num_keys": total,
    }


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copied without waiting for what the device computes now, which takes pinned memory."""
    return (tensor.pin_memory() if device.type == "cuda" else tensor).to(device, non_blocking=True)


def up_to_pooled(ids: Sequence[int], pad_token_id: int | None) -> Sequence[int]:
    """A sequence up to where transformers' generic head reads it: its rightmost token that is not the pad token.

    What is behind that token changes nothing before it in a causal model. A sequence of nothing but pad tokens is read
    at its first token, and any at its last where no pad token is set.
    """
    last = next((index for index in reversed(range(len(ids))) if ids[index] != pad_token_id), 0)
    return ids[: last + 1]


@torch.inference_mode()
def packed_logits(
    model: PreTrainedModel,
    sequences: Sequence[Sequence[int]],
    heads: Sequence[PreTrainedModel] = (),
    row: "SharedRow | None" = None,
) -> Tensor:
    """One forward pass of a decoder over sequences laid end to end.

    Args:
        model: for which `is_packable` holds, with `PACKED` as its attention implementation.
        sequences: token ids, none empty.
        heads: further ones of the same trunk, see `trunk.head_on_trunk`.
        row: of the sequences, which computes once what they begin with alike. None: they lie in it whole.

    Returns:
        Logits, float32, shape (sequences, outputs), those of the heads after the model's own.
    """
    if row is None:
        pad_token_id = model.config.get_text_config().pad_token_id
        batch = pack([up_to_pooled(ids, pad_token_id) for ids in sequences], model.device)
        pooled = batch["cu_seq_lens_q"][1:] - 1
    else:
        batch, pooled = row.batch, row.pooled
    backbone = getattr(model, model.base_model_prefix)
    token = ROW.set(row)
    try:
        if pools_in_last_layer(model):
            hidden = backbone(**batch, pooled=pooled, use_cache=False).last_hidden_state[0]
        else:
            hidden = backbone(**batch, use_cache=False).last_hidden_state[0, pooled]
    finally:
        ROW.reset(token)
    if row is not None:
        hidden = hidden[row.pooled_of]
    return torch.cat([one.score(hidden) for one in (model, *heads)], -1)  # type: ignore[operator]


def keep_head_in_float32(model: PreTrainedModel) -> None:
    """Have a decoder's head compute in float32 whatever the model's dtype, and under autocast too."""
    head = getattr(model, "score", None)
    if isinstance(head, nn.Linear):
        head.forward = partial(_in_float32, head)  # type: ignore[method-assign]


def _in_float32(head: nn.Linear, hidden: Tensor) -> Tensor:
    with torch.autocast(hidden.device.type, enabled=False):
        bias = None if head.bias is None else head.bias.float()
        return F.linear(hidden.float(), head.weight.float(), bias)


def pool_in_last_layer(model: PreTrainedModel) -> None:
    """Have a decoder's last layer compute only the pooled tokens once it has the keys and values of all tokens.

    The layer's own code does both: it runs on all tokens up to where it hands keys and values to a cache, and then on
    the pooled tokens, each sequence's last, with those keys and values as its cache. `packed_logits` makes use of it.

    Args:
        model: for which `is_packable` holds. Copy it before, not after: a copy would compute with this one's layer.

    Raises:
        ValueError: the layer has no parameter for a cache.
    """
    layer = _layers(model)[-1]
    whole = layer.forward
    cache_parameter = _cache_parameter(layer)

    def forward(hidden: Tensor, *args: Any, pooled: Tensor | None = None, **kwargs: Any) -> Any:
        if pooled is None:
            return whole(hidden, *args, **kwargs)
        cache = _LastLayerCache()
        with suppress(_StopAfterKeyValues):
            whole(hidden, *args, **kwargs | {cache_parameter: cache})
        cache.require_filled(layer)
        rows = {
            "position_embeddings": tuple(part[:, pooled] for part in kwargs["position_embeddings"]),
            "position_ids": kwargs["position_ids"][:, pooled],
            "cu_seq_lens_q": torch.arange(len(pooled) + 1, dtype=torch.int32, device=hidden.device),
            "max_length_q": 1,
            "num_queries": len(pooled),
            cache_parameter: cache,
        }
        return whole(hidden[:, pooled], *args, **kwargs | rows)

    layer.forward = forward


def pool_after_last_layer(model: PreTrainedModel) -> None:
    """Undo `pool_in_last_layer`; does nothing where it was not applied."""
    vars(_layers(model)[-1]).pop("forward", None)


def pools_in_last_layer(model: PreTrainedModel) -> bool:
    """Whether `pool_in_last_layer` was applied."""
    return "forward" in vars(_layers(model)[-1])


def _layers(model: PreTrainedModel) -> nn.ModuleList:
    return getattr(model, model.base_model_prefix).layers


def _cache_parameter(layer: nn.Module) -> str:
    """The name of a layer's parameter for its key-value cache."""
    names = inspect.signature(layer.forward).parameters
    found = next((name for name in CACHE_PARAMETERS if name in names), None)
    if found is None:
        raise ValueError(f"{type(layer).__name__}.forward has none of the parameters {', '.join(CACHE_PARAMETERS)}")
    return found


class _StopAfterKeyValues(Exception):
    """Ends a layer's forward pass once its keys and values are computed."""


class _LastLayerCache:
    """Takes a layer's keys and values for all tokens on the first call, and returns them on the second."""

    states: tuple[Tensor, Tensor] | None = None

    def update(self, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        if self.states is None:
            self.states = key, value
            raise _StopAfterKeyValues
        return self.states

    def require_filled(self, layer: nn.Module) -> None:
        if self.states is None:
            raise ValueError(f"{type(layer).__name__} does not hand its keys and values to the cache that it is given")


def compile_layers(model: PreTrainedModel) -> None:
    """Compile a model's layers, one piece of code for all of them and for all lengths; attention stays as it is.

    Layers are compiled when they are first called. The compiled code is kept in TORCHINDUCTOR_CACHE_DIR, where that is
    not set in ~/.cache/datatrove-quality, so that the next process only loads it.
    """
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(Path("~/.cache/datatrove-quality/inductor").expanduser()))
    # Kernels mean nothing to the compiler, and some take sequences apart by their lengths.
    AttentionInterface.register(PACKED, torch.compiler.disable(packed_attention))
    options: dict[str, Any] = {"dynamic": True}
    if "recompile_limit" in parameters(torch.compile):
        # Where it is an argument, the config is each thread's own, and other threads than this one compute.
        options["recompile_limit"] = MAX_COMPILED_FUNCTIONS
    else:
        # The name that all other versions know.
        torch._dynamo.config.cache_size_limit = max(MAX_COMPILED_FUNCTIONS, torch._dynamo.config.cache_size_limit)
    for layer in model.modules():
        if isinstance(layer, GradientCheckpointingLayer) and "forward" not in vars(layer):
            layer.compile(**options)


@torch.inference_mode()
def padded_logits(
    model: PreTrainedModel, sequences: Sequence[Sequence[int]], heads: Sequence[PreTrainedModel] = ()
) -> Tensor:
    """One forward pass over sequences padded on the right to the longest, with an attention mask.

    Args:
        model: any sequence classifier with a pad token.
        sequences: token ids, none empty.
        heads: further ones of the same trunk, see `trunk.head_on_trunk`.

    Returns:
        Logits, float32, shape (sequences, outputs), those of the heads after the model's own.
    """
    rows = [torch.tensor(ids) for ids in sequences]
    pad_token_id = model.config.get_text_config().pad_token_id
    input_ids = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=pad_token_id)
    mask = nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
    inputs = {"input_ids": to_device(input_ids, model.device), "attention_mask": to_device(mask, model.device)}
    return all_logits(model, heads, **inputs).float()


@contextmanager
def with_attention(model: PreTrainedModel, implementation: str | None) -> Iterator[None]:
    """Let a model use another attention implementation for a while; None: its present one."""
    present = model.config._attn_implementation
    try:
        if implementation is not None:
            model.set_attn_implementation(implementation)
        yield
    finally:
        if implementation is not None:
            model.set_attn_implementation(present)
