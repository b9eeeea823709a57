"""Norm, rotary embedding and gated activation on CPUs with AVX-512 and bfloat16, as one loop each.

transformers' code for these reads and writes each value up to nine times, which in bfloat16 takes longer than the
matrix products (benchmarks/EXPERIMENTS.md). The loops are in cpu_kernels.c.
"""

import ctypes
from functools import cache

import torch
from torch import Tensor

from datatrove_quality.model.c_library import compiled, has_instructions


# With fewer values, starting other threads takes longer than the loop.
MIN_VALUES_FOR_THREADS = 2**14
_POINTER, _COUNT, _NUMBER, _REAL = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int, ctypes.c_float
SIGNATURES = {
    "norm": (*[_POINTER] * 3, _COUNT, _COUNT, _REAL, _REAL, _NUMBER, _NUMBER),
    "rotate": (*[_POINTER] * 4, *[_COUNT] * 5, _NUMBER, _NUMBER),
    "gated": (*[_POINTER] * 3, _COUNT, _NUMBER, _NUMBER, _NUMBER),
}
DTYPES = (torch.float32, torch.bfloat16)


def is_supported() -> bool:
    """Whether this machine's processor can run the loops."""
    return has_instructions("avx512_bf16")


@cache
def library() -> ctypes.CDLL:
    """The compiled loops.

    Raises:
        OSError: there is no C compiler, or it fails.
    """
    return compiled("cpu_kernels", SIGNATURES)


def norm(rows: Tensor, weight: Tensor, epsilon: float, offset: float) -> Tensor:
    """RMSNorm over the last dimension.

    Args:
        rows: (..., width).
        weight: (width,).
        epsilon: added to the mean square.
        offset: added to the weight, 0 or 1.
    """
    rows, weight = rows.contiguous(), weight.contiguous()
    output = torch.empty_like(rows)
    width = rows.shape[-1]
    if weight.shape != (width,):
        raise ValueError(f"a weight of shape {tuple(weight.shape)} for rows of {width}")
    half = _is_half(rows, weight)
    count = rows.numel() // width
    library().norm(*_at(rows, weight, output), count, width, epsilon, offset, half, num_threads(rows))
    return output


def rotate(query: Tensor, key: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    """Rotary embedding in two halves.

    Args:
        query: (batch, heads, tokens, dim), dim contiguous; key: with its own number of heads.
        cos: (batch or 1, tokens, dim); sin: the same.
    """
    return _rotated(query, cos, sin), _rotated(key, cos, sin)


def _rotated(states: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    batch, heads, tokens, dim = states.shape
    if dim % 2 or cos.shape != sin.shape or cos.shape[1:] != (tokens, dim) or len(cos) not in (1, batch):
        raise ValueError(f"angles of shapes {tuple(cos.shape)} and {tuple(sin.shape)} for {tuple(states.shape)}")
    output = torch.empty_like(states)
    if output.stride() != states.stride() or states.stride(-1) != 1:
        states = states.contiguous()
        output = torch.empty_like(states)
    half = _is_half(states, cos, sin)
    cos, sin = (one.expand(batch, -1, -1).contiguous() for one in (cos, sin))
    for of_states, of_cos, of_sin, of_output in zip(states, cos, sin, output, strict=True):
        strides = states.stride(2), states.stride(1)
        pointers = _at(of_states, of_cos, of_sin, of_output)
        library().rotate(*pointers, tokens, heads, dim, *strides, half, num_threads(of_states))
    return output


def gated(gate: Tensor, up: Tensor, activation: str) -> Tensor:
    """`activation(gate) * up`, where the activation is "silu" or "gelu" (by tanh)."""
    gate, up = gate.contiguous(), up.contiguous()
    if gate.shape != up.shape:
        raise ValueError(f"a gate of shape {tuple(gate.shape)} for {tuple(up.shape)}")
    output = torch.empty_like(gate)
    half = _is_half(gate, up)
    library().gated(*_at(gate, up, output), gate.numel(), activation == "gelu", half, num_threads(gate))
    return output


def _is_half(*tensors: Tensor) -> bool:
    """Whether tensors are bfloat16; else they are float32. The loops read memory by this."""
    dtypes = {one.dtype for one in tensors}
    if len(dtypes) != 1 or not dtypes <= set(DTYPES) or any(one.device.type != "cpu" for one in tensors):
        raise TypeError(f"tensors of {', '.join(map(str, dtypes))}: these functions take float32 or bfloat16 on a CPU")
    return dtypes == {torch.bfloat16}


def _at(*tensors: Tensor) -> list[int]:
    return [one.data_ptr() for one in tensors]


def num_threads(tensor: Tensor) -> int:
    """How many threads compute with so many values."""
    return 1 if tensor.numel() < MIN_VALUES_FOR_THREADS else torch.get_num_threads()
