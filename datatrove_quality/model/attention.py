"""Attention within each of the sequences of a packed row: the kernels, and every fallback between them."""

import inspect
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache, partial
from itertools import pairwise
from typing import Any, Protocol, cast

import torch
import torch.nn.functional as F
from loguru import logger
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel

from datatrove_quality.model import amx_attention


PACKED = "datatrove_quality_packed"
# Keywords that models hand to any attention function and that change nothing about a packed forward pass.
NEUTRAL_KEYWORDS = frozenset(
    {"pooled", "position_ids", "cache_position", "use_cache", "cache", "past_key_values", "output_attentions",
     "output_hidden_states", "return_dict", "position_embeddings", "layer_idx", "output_router_logits"}
)  # fmt: skip
# What `pack` hands to a model's attention: transformers' names, and the host's numbers of queries and keys.
BOUNDARIES = ("cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k", "num_queries", "num_keys")
# Queries that the reference attention takes at once, so that its score matrix stays small for long sequences.
QUERY_BLOCK = 512
# The boundaries of the sequences on which a kernel is tried, and how far it may be off: roundings of bfloat16.
PROBE = (0, 1, 40, 110)
ROUNDINGS = 2**-6
PROBE_WINDOW = 20


@dataclass(frozen=True)
class AttentionTerms:
    """What a model's attention needs besides queries, keys and values.

    Args:
        scale: factor on the query-key products.
        causal: whether a token sees only itself and what is before it.
        window: how many tokens back, itself included, a token sees; None: all.
        softcap: bound of the tanh on the scaled products; None: none.
        sinks: one logit per head that joins the softmax and is dropped, shape (heads,); None: none.
    """

    scale: float
    causal: bool = True
    window: int | None = None
    softcap: float | None = None
    sinks: Tensor | None = None


@dataclass(frozen=True)
class Spans:
    """Where the sequences of a packed row begin and end.

    Args:
        queries: cumulative numbers of queries, int32, (sequences + 1,).
        keys: cumulative numbers of keys; the same, but where each sequence has only its last token as a query.
        longest_query: the most queries of a sequence.
        longest_key: the most keys of a sequence.
    """

    queries: Tensor
    keys: Tensor
    longest_query: int
    longest_key: int


# A kernel: query (queries, heads, dim), key and value (tokens, key heads, dim), spans, terms
# -> (queries, heads, value dim). Queries are the last tokens of their sequences.
Kernel = Callable[[Tensor, Tensor, Tensor, Spans, AttentionTerms], Tensor]


class Row(Protocol):
    """A packed row in which tokens that several sequences begin with are there once (shared_rows.py)."""

    def spans(self, module: nn.Module, queries: int, keys: int) -> Spans:
        """Of the queries, and of the keys that each sequence sees."""

    def attend(
        self,
        module: nn.Module,
        kernel: Kernel,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        spans: Spans,
        terms: AttentionTerms,
    ) -> Tensor:
        """Attention of each sequence to its own keys and those before, in a kernel's shapes, by a kernel."""


# Of the forward pass that this thread computes; None: sequences share nothing. Not an argument, since models would
# have to hand it on, and the compiler would compile again for each.
ROW: ContextVar[Row | None] = ContextVar("row", default=None)


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    is_causal: bool | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention within each of the sequences of a packed row; registered in transformers' attention interface.

    Args:
        module: the attention layer.
        query: (1, heads, queries, dim); key and value: (1, key heads, tokens, dim).
        attention_mask: must be None: the boundaries take its place.
        **kwargs: the `BOUNDARIES` of the sequences, see `pack`, and whatever else the model passes. A keyword that is
            not known to be neutral is refused, never ignored.

    Returns:
        (1, queries, heads, value dim), and None for the weights.

    Raises:
        ValueError: the model uses something that is not computed here, or the boundaries do not fit the tensors.
    """
    given = {name for name, value in kwargs.items() if value is not None and value is not False}
    unknown = sorted(given - NEUTRAL_KEYWORDS - set(BOUNDARIES))
    if unknown or dropout or attention_mask is not None:
        raise ValueError(
            f"{type(module).__name__} passes {unknown or 'dropout or a mask of its own'} to attention, which packed "
            "attention does not compute, so its scores would be wrong: this architecture is not supported."
        )
    row = ROW.get()
    if row is None:
        spans = _spans(module, query.shape[2], key.shape[2], kwargs)
    else:
        spans = row.spans(module, query.shape[2], key.shape[2])
    terms = AttentionTerms(
        scale=query.shape[-1] ** -0.5 if scaling is None else scaling,
        causal=getattr(module, "is_causal", True) if is_causal is None else is_causal,
        window=None if sliding_window is None or sliding_window >= spans.longest_key else sliding_window,
        softcap=softcap,
        sinks=s_aux,
    )
    if terms.window is not None and not terms.causal:
        raise ValueError(f"{type(module).__name__} uses a window in both directions: this is not supported.")
    kernel = kernel_for(query, key, value, terms)
    query, key, value = (states[0].transpose(0, 1) for states in (query, key, value))
    if row is not None:
        kernel = partial(row.attend, module, kernel)
    return kernel(query, key, value, spans, terms)[None], None


def _spans(module: nn.Module, queries: int, keys: int, given: dict[str, Any]) -> Spans:
    """The boundaries that a model handed on, checked against the tensors: kernels read memory where they point.

    The check compares numbers that the host has, since reading a boundary on a GPU would wait for the GPU.
    """
    boundaries = [given.get(name) for name in BOUNDARIES]
    if any(value is None for value in boundaries):
        raise ValueError(
            f"{type(module).__name__} does not hand the sequences' boundaries to its attention, so that sequences "
            "would see each other: this architecture is not supported."
        )
    query_ends, key_ends, longest_query, longest_key, num_queries, num_keys = cast(list[Any], boundaries)
    fits = (num_queries, num_keys) == (queries, keys) and len(query_ends) == len(key_ends)
    if query_ends.device.type == "cpu":
        fits &= (int(query_ends[-1]), int(key_ends[-1])) == (queries, keys)
    if not fits or longest_query > queries or longest_key > keys:
        raise ValueError(
            f"{type(module).__name__} computes attention of {queries} queries to {keys} keys, where the sequences "
            f"have {num_queries} and {num_keys}: this architecture is not supported."
        )
    return Spans(query_ends, key_ends, longest_query, longest_key)


AttentionInterface.register(PACKED, packed_attention)


def kernel_for(query: Tensor, key: Tensor, value: Tensor, terms: AttentionTerms) -> Kernel:
    """The first kernel that computes this attention on this device; one SDPA call per sequence does everywhere.

    Args:
        query: (1, heads, tokens, dim); key and value: (1, key heads, tokens, dim).
        terms: what else the model's attention needs.
    """
    if query.device.type == "cpu" and amx_attention.offers(query, value, terms):
        return _amx_kernel(query.shape[1], key.shape[1], query.shape[-1])
    half_precision = query.dtype in (torch.float16, torch.bfloat16)
    if (
        query.device.type != "cuda"
        or not half_precision
        or terms.sinks is not None
        or query.shape[-1] != value.shape[-1]
    ):
        return per_sequence_attention
    return _flash_kernel(query.device, query.dtype, query.shape[1], key.shape[1], query.shape[-1], terms.softcap)


@cache
def _amx_kernel(heads: int, key_heads: int, dim: int) -> Kernel:
    """The kernel for CPUs with AMX, where it agrees with one SDPA call per sequence: whole, pooled, windows."""
    generator = torch.Generator().manual_seed(0)
    query, key, value = (
        torch.randn(PROBE[-1], count, dim, generator=generator).bfloat16() for count in (heads, key_heads, key_heads)
    )
    ends = torch.tensor(PROBE, dtype=torch.int32)
    longest = int(ends.diff().max())
    whole = Spans(ends, ends, longest, longest)
    pooled = Spans(torch.arange(len(PROBE), dtype=torch.int32), ends, 1, longest)
    last = query[ends[1:] - 1]  # as in a last layer of which one token a sequence is wanted
    try:
        for states, spans in ((query, whole), (last, pooled)):
            for window in (None, PROBE_WINDOW):
                terms = AttentionTerms(scale=2 * dim**-0.5, window=window)
                mine = amx_attention.amx_attention(states, key, value, spans, terms).float()
                other = per_sequence_attention(states, key, value, spans, terms).float()
                if not bool(((mine - other).abs() <= ROUNDINGS * other.abs().amax(dim=-1, keepdim=True)).all()):
                    raise ValueError("it computes something else here")
    except Exception as error:  # whatever a compiler, a loader or the system has against it
        say = logger.warning if amx_attention.is_supported() else logger.debug
        say(f"Attention runs sequence by sequence, without AMX: {error!s:.200}")
        return per_sequence_attention
    return amx_attention.amx_attention


@cache
def _flash_kernel(
    device: torch.device, dtype: torch.dtype, heads: int, key_heads: int, dim: int, softcap: float | None
) -> Kernel:
    """The first installed flash kernel that takes such heads on this device: each is tried once, on three tokens."""
    states = (torch.zeros(3, count, dim, dtype=dtype, device=device) for count in (heads, key_heads, key_heads))
    query, key, value = states
    boundaries = torch.tensor([0, 1, 3], dtype=torch.int32, device=device)
    spans = Spans(boundaries, boundaries, 2, 2)
    terms = AttentionTerms(scale=1.0, window=1, softcap=softcap)
    # The operator before the public function over it: from torch 2.15 on that one prefers cuDNN on some GPUs, for
    # batches without a window. Which of the two computes can hang on a batch's longest sequence, and with it a score.
    for kernel in (torch_flash_attention, torch_varlen_attention, flash_attn_attention):
        if not _offers(kernel, terms):
            continue
        try:
            kernel(query, key, value, spans, terms)
        except torch.OutOfMemoryError:
            raise  # says nothing about the kernel
        except (RuntimeError, TypeError, ValueError) as error:
            logger.info(f"{kernel.__name__} does not run here: {error!s:.200}")
        else:
            return kernel
    logger.warning(
        f"No variable-length attention kernel serves {dtype} with heads of {dim} on {device}: attention runs sequence "
        "by sequence, which is slow. A newer torch, or flash-attn, may have one."
    )
    return per_sequence_attention


def _offers(kernel: Kernel, terms: AttentionTerms) -> bool:
    """Whether a flash kernel is installed whose function's signature offers what the terms need."""
    try:
        if kernel is torch_varlen_attention:
            from torch.nn.attention.varlen import varlen_attn

            return terms.softcap is None and {"scale", "window_size"} <= parameters(varlen_attn)
        if kernel is torch_flash_attention:
            schema = torch.ops.aten._flash_attention_forward.default._schema
            names = {argument.name for argument in schema.arguments}
            return terms.softcap is None and {"scale", "window_size_left", "window_size_right"} <= names
        from flash_attn import flash_attn_varlen_func

        return {"softcap", "window_size"} <= parameters(flash_attn_varlen_func)
    except (ImportError, AttributeError):
        return False


@cache
def parameters(function: Callable) -> frozenset[str]:
    """The names of a function's parameters."""
    return frozenset(inspect.signature(function).parameters)


def kernel_name(model: PreTrainedModel) -> str:
    """The kernel that a decoder's attention runs on, for the log."""
    config = model.config.get_text_config()
    heads = config.num_attention_heads
    key_heads = getattr(config, "num_key_value_heads", None) or heads
    dim = getattr(config, "head_dim", None) or config.hidden_size // heads
    query, key = (
        torch.empty(1, count, 1, dim, dtype=model.dtype, device=model.device) for count in (heads, key_heads)
    )
    softcap = getattr(config, "attn_logit_softcapping", None)
    return kernel_for(query, key, key, AttentionTerms(scale=1.0, softcap=softcap)).__name__


def per_sequence_attention(query: Tensor, key: Tensor, value: Tensor, spans: Spans, terms: AttentionTerms) -> Tensor:
    """One SDPA call per sequence, on any device; what SDPA lacks (soft cap, sinks) is computed by its definition."""
    plain = terms.softcap is None and terms.sinks is None
    attend = _sdpa if plain else _reference_attention
    output = query.new_empty(*query.shape[:-1], value.shape[-1])
    bounds = zip(pairwise(spans.queries.tolist()), pairwise(spans.keys.tolist()), strict=True)
    for (start, end), (first, last) in bounds:
        own_query = query[start:end].transpose(0, 1)
        own_key, own_value = (states[first:last].transpose(0, 1) for states in (key, value))
        output[start:end] = attend(own_query, own_key, own_value, terms).transpose(0, 1)
    return output


def torch_varlen_attention(query: Tensor, key: Tensor, value: Tensor, spans: Spans, terms: AttentionTerms) -> Tensor:
    """PyTorch's public variable-length attention, where its signature offers a scale and a window."""
    from torch.nn.attention.varlen import varlen_attn

    # Older signatures take fewer key heads than query heads without being told.
    grouped: dict[str, Any] = {"enable_gqa": True} if "enable_gqa" in parameters(varlen_attn) else {}
    # A window that holds every sequence says the same as none, but cuDNN takes none: flash computes, as in the trial.
    left, right = (spans.longest_key if tokens < 0 else tokens for tokens in _flash_window(terms))
    output = varlen_attn(
        query, key, value, spans.queries, spans.keys, spans.longest_query, spans.longest_key,
        scale=terms.scale, window_size=(left, right), **grouped,
    )  # fmt: skip
    return cast(Tensor, output)


def torch_flash_attention(query: Tensor, key: Tensor, value: Tensor, spans: Spans, terms: AttentionTerms) -> Tensor:
    """The operator under PyTorch's variable-length attention, where the public function is missing or poorer."""
    left, right = _flash_window(terms)
    output, *_ = torch.ops.aten._flash_attention_forward(
        query, key, value, spans.queries, spans.keys, spans.longest_query, spans.longest_key, 0.0, terms.causal, False,
        scale=terms.scale, window_size_left=left, window_size_right=right,
    )  # fmt: skip
    return output


def flash_attn_attention(query: Tensor, key: Tensor, value: Tensor, spans: Spans, terms: AttentionTerms) -> Tensor:
    """The flash-attn package's variable-length attention, the only one here with a soft cap."""
    from flash_attn import flash_attn_varlen_func

    return flash_attn_varlen_func(
        query, key, value, spans.queries, spans.keys, spans.longest_query, spans.longest_key,
        softmax_scale=terms.scale, causal=terms.causal, window_size=_flash_window(terms), softcap=terms.softcap or 0.0,
    )  # fmt: skip


def _flash_window(terms: AttentionTerms) -> tuple[int, int]:
    """Tokens seen to the left and right, not counting the token itself, as flash kernels count; -1: all."""
    return (-1 if terms.window is None else terms.window - 1, 0 if terms.causal else -1)


def _sdpa(query: Tensor, key: Tensor, value: Tensor, terms: AttentionTerms) -> Tensor:
    """Scaled dot-product attention of a sequence's last tokens, or all: (heads, tokens, dim) in and out."""
    length, before = query.shape[1], key.shape[1] - query.shape[1]
    grouped = query.shape[0] != key.shape[0]
    query, key, value = (states[None] for states in (query, key, value))
    if length == 1:
        first = max(0, key.shape[2] - (terms.window or key.shape[2]))
        states = (query, key[:, :, first:], value[:, :, first:])
        return F.scaled_dot_product_attention(*states, scale=terms.scale, enable_gqa=grouped)[0]
    windowed = terms.window is not None and key.shape[2] > terms.window
    if not windowed and (before == 0 or not terms.causal):
        attended = F.scaled_dot_product_attention(
            query, key, value, scale=terms.scale, is_causal=terms.causal, enable_gqa=grouped
        )
        return attended[0]
    blocks = []
    for start, end, first in _query_blocks(length, before, terms):
        mask = _visible(before + start, before + end, first, terms, query.device)
        last = before + end
        states = (query[:, :, start:end], key[:, :, first:last], value[:, :, first:last])
        blocks.append(F.scaled_dot_product_attention(*states, attn_mask=mask, scale=terms.scale, enable_gqa=grouped))
    return torch.cat(blocks, dim=2)[0]


def _reference_attention(query: Tensor, key: Tensor, value: Tensor, terms: AttentionTerms) -> Tensor:
    """The same by its definition, with soft cap and sinks: (heads, tokens, dim) in and out."""
    length, before = query.shape[1], key.shape[1] - query.shape[1]
    groups = query.shape[0] // key.shape[0]
    key, value = key.repeat_interleave(groups, 0), value.repeat_interleave(groups, 0)
    blocks = []
    for start, end, first in _query_blocks(length, before, terms):
        last = before + end if terms.causal else key.shape[1]
        products = query[:, start:end] @ key[:, first:last].transpose(1, 2) * terms.scale
        if terms.softcap is not None:
            products = terms.softcap * torch.tanh(products / terms.softcap)
        products = products.float()
        if terms.causal:
            visible = _visible(before + start, before + end, first, terms, query.device)
            products = products.masked_fill(~visible, -torch.inf)
        if terms.sinks is not None:
            sinks = terms.sinks.float().view(-1, 1, 1).expand(-1, end - start, 1)
            products = torch.cat([products, sinks], dim=-1)
        weights = products.softmax(-1)[..., : last - first].to(value.dtype)
        blocks.append(weights @ value[:, first:last])
    return torch.cat(blocks, dim=1)


def _query_blocks(length: int, before: int, terms: AttentionTerms) -> Iterator[tuple[int, int, int]]:
    """Blocks of queries, from start to end, and the first key that any query of the block sees.

    Args:
        length: the number of queries.
        before: how many of the sequence's keys are before the first query's own.
        terms: with the window.
    """
    for start in range(0, length, QUERY_BLOCK):
        first = 0 if terms.window is None else max(0, before + start - terms.window + 1)
        yield start, min(start + QUERY_BLOCK, length), first


def _visible(start: int, end: int, first: int, terms: AttentionTerms, device: torch.device) -> Tensor:
    """Which of the keys from `first` to `end` the tokens from `start` to `end` see, looking back: bool."""
    query = torch.arange(start, end, device=device)[:, None]
    key = torch.arange(first, end, device=device)[None]
    visible = key <= query
    return visible if terms.window is None else visible & (key > query - terms.window)
