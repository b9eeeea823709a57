"""Norm, rotary embedding and gated activation, compiled for a CPU: every value is read and written once.

The same functions as those of `triton_kernels`, which computes them on CUDA. torch.compile makes one vectorized loop
of each, for all lengths. All compute in float32 and round once.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


@torch.compile(dynamic=True)
def norm(rows: Tensor, weight: Tensor, epsilon: float, offset: float) -> Tensor:
    """RMSNorm over the last dimension, with an offset added to the weight."""
    values = rows.float()
    scale = torch.rsqrt(values.square().mean(-1, keepdim=True) + epsilon)
    return (values * scale * (weight.float() + offset)).to(rows.dtype)


@torch.compile(dynamic=True)
def rotate(query: Tensor, key: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    """Rotary embedding in two halves: (batch, heads, tokens, dim), with cos and sin (batch or 1, tokens, dim)."""
    cos, sin = cos[:, None].float(), sin[:, None].float()
    return _rotated(query, cos, sin), _rotated(key, cos, sin)


def _rotated(states: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = states.float().chunk(2, dim=-1)
    first_cos, second_cos = cos.chunk(2, dim=-1)
    first_sin, second_sin = sin.chunk(2, dim=-1)
    halves = (first * first_cos - second * first_sin, second * second_cos + first * second_sin)
    return torch.cat(halves, dim=-1).to(states.dtype)


@torch.compile(dynamic=True)
def gated(gate: Tensor, up: Tensor, activation: str) -> Tensor:
    """`activation(gate) * up`, where the activation is "silu" or "gelu" (by tanh)."""
    values = gate.float()
    active = F.gelu(values, approximate="tanh") if activation == "gelu" else F.silu(values)
    return (active * up.float()).to(gate.dtype)
