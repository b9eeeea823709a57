"""Attention in bfloat16 on CPUs with AMX, two to three times as fast as torch's for sequences of a few hundred tokens.

torch's operator serves one sequence a call, without its tiles for short ones. The loops are in amx_attention.c.
"""

import ctypes
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from datatrove_quality.model.c_library import compiled, has_instructions
from datatrove_quality.model.cpu_kernels import num_threads


if TYPE_CHECKING:
    from datatrove_quality.model.attention import AttentionTerms, Spans


FLAGS = ("-mamx-tile", "-mamx-bf16")
NO_WINDOW = 2**62
# Heads are multiplied in tiles of so many dimensions.
TILE = 32
TENSORS = ("query", "key", "value", "output")
STRIDES = tuple(f"{name}_{kind}" for name in TENSORS for kind in ("token", "head"))
COUNTS = (*STRIDES, "heads", "groups", "dim", "window")


class _Attention(ctypes.Structure):
    """As in amx_attention.c."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in TENSORS),
        *((name, ctypes.c_int64) for name in COUNTS),
        ("scale", ctypes.c_float),
        ("causal", ctypes.c_int),
    )


SIGNATURES = {
    "prepare": (),
    "attend": (ctypes.POINTER(_Attention), *[ctypes.c_void_p] * 2, *[ctypes.c_int64] * 2, ctypes.c_int),
}


def is_supported() -> bool:
    """Whether this machine's processor can run the loops."""
    return has_instructions("avx512_bf16", "amx_tile", "amx_bf16")


def compiled_for_amx(name: str, signatures: Mapping[str, Sequence[Any]]) -> ctypes.CDLL:
    """Compiled loops, with the tiles' registers at hand.

    Args:
        name: of the source, without ".c".
        signatures: of its functions, `prepare` among them.

    Raises:
        OSError: the processor has no such instructions, the system does not let this process use them, there is no C
            compiler, or it fails.
    """
    if not is_supported():
        raise OSError("this processor has no AMX")
    loaded = compiled(name, signatures, FLAGS)
    if loaded.prepare() != 0:
        raise OSError("the system does not let this process use AMX")
    return loaded


@cache
def library() -> ctypes.CDLL:
    """The loops of amx_attention.c; raises as `compiled_for_amx` does."""
    return compiled_for_amx("amx_attention", SIGNATURES)


def offers(query: Tensor, value: Tensor, terms: "AttentionTerms") -> bool:
    """Whether the loops compute such attention: (..., dim) of queries and values."""
    plain = terms.softcap is None and terms.sinks is None and terms.scale > 0
    dim = query.shape[-1]
    return plain and query.dtype == torch.bfloat16 and dim == value.shape[-1] and dim % TILE == 0


def amx_attention(query: Tensor, key: Tensor, value: Tensor, spans: "Spans", terms: "AttentionTerms") -> Tensor:
    """All sequences of a packed row in one call.

    Raises:
        ValueError: the tensors are not what the loops take, or the boundaries do not fit them.
        MemoryError: there is too little memory.
    """
    query, key, value = (one if one.stride(-1) == 1 else one.contiguous() for one in (query, key, value))
    output = torch.empty(query.shape, dtype=query.dtype)
    tensors = (query, key, value, output)
    dim, heads, longest = query.shape[2], key.shape[1], _longest_key(spans, len(query), len(key), terms.causal)
    fits = key.shape == value.shape and key.shape[2] == dim and query.shape[1] % heads == 0
    if not fits or not offers(query, value, terms) or {key.dtype, value.dtype} != {query.dtype}:
        raise ValueError(f"attention of {[(tuple(one.shape), one.dtype) for one in tensors[:3]]} with {terms}")
    strides = (stride for one in tensors for stride in one.stride()[:2])
    window = NO_WINDOW if terms.window is None else terms.window
    counts = (*strides, heads, query.shape[1] // heads, dim, window)
    given = _Attention(*(one.data_ptr() for one in tensors), *counts, terms.scale, terms.causal)
    queries, keys = spans.queries.contiguous(), spans.keys.contiguous()
    boundaries = queries.data_ptr(), keys.data_ptr()
    failed = library().attend(given, *boundaries, len(queries) - 1, longest, num_threads(query))
    if failed:
        raise MemoryError(f"out of memory: attention to {longest} keys")
    return output


def _longest_key(spans: "Spans", num_queries: int, num_keys: int, causal: bool) -> int:
    """The most keys of a sequence, of boundaries that lie inside of the tensors: the loops read where they point."""
    queries, keys = spans.queries.tolist(), spans.keys.tolist()
    counts = [
        (end - start, last - first)
        for (start, end), (first, last) in zip(pairwise(queries), pairwise(keys), strict=True)
    ]
    inside = queries[0] == keys[0] == 0 and (queries[-1], keys[-1]) == (num_queries, num_keys)
    is_int32 = spans.queries.dtype == spans.keys.dtype == torch.int32
    if not inside or not is_int32 or any(few < 0 or many < few * causal or many < 1 for few, many in counts):
        raise ValueError(f"boundaries {queries} and {keys} of {num_queries} queries and {num_keys} keys")
    return max((many for _, many in counts), default=0)
