"""Norm, rotary embedding and gated activation as one Triton kernel each: every value is read and written once.

transformers' code for these reads and writes each value up to nine times, which on a GPU takes longer than a third of
the matrix products (benchmarks/EXPERIMENTS.md). All three compute in float32 and round once.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor


# Values of a program: enough loads in flight, few enough registers.
VALUES_PER_PROGRAM = 2_048
MAX_WIDTH = 16_384  # of a row that one program holds


@triton.jit(do_not_specialize=["count"])
def norm_kernel(  # type: ignore[no-untyped-def]
    rows, weight, output, count, epsilon, offset,
    width: tl.constexpr, padded_width: tl.constexpr, together: tl.constexpr,
):  # fmt: skip
    """Some rows: each divided by its root mean square, times the weight plus an offset."""
    row = tl.program_id(0).to(tl.int64) * together + tl.arange(0, together)[:, None]
    column = tl.arange(0, padded_width)[None, :]
    inside = (row < count) & (column < width)
    values = tl.load(rows + row * width + column, mask=inside, other=0.0).to(tl.float32)
    scale = tl.rsqrt(tl.sum(values * values, axis=1) / width + epsilon)[:, None]
    factor = tl.load(weight + column, mask=column < width, other=0.0).to(tl.float32) + offset
    tl.store(output + row * width + column, (values * scale * factor).to(output.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["tokens"])
def rotary_kernel(  # type: ignore[no-untyped-def]
    states, cos, sin, output, tokens,
    batch_stride, head_stride, token_stride, angle_batch_stride, angle_token_stride,
    heads: tl.constexpr, half: tl.constexpr, padded_heads: tl.constexpr, padded_half: tl.constexpr,
):  # fmt: skip
    """All heads of a token, rotated; output has the strides of states."""
    place = tl.program_id(0).to(tl.int64)
    batch, token = place // tokens, place % tokens
    head = tl.arange(0, padded_heads)[:, None]
    column = tl.arange(0, padded_half)[None, :]
    inside = (head < heads) & (column < half)
    angle = batch * angle_batch_stride + token * angle_token_stride + column
    first_cos = tl.load(cos + angle, mask=column < half).to(tl.float32)
    second_cos = tl.load(cos + angle + half, mask=column < half).to(tl.float32)
    first_sin = tl.load(sin + angle, mask=column < half).to(tl.float32)
    second_sin = tl.load(sin + angle + half, mask=column < half).to(tl.float32)
    at = batch * batch_stride + token * token_stride + head * head_stride + column
    first = tl.load(states + at, mask=inside).to(tl.float32)
    second = tl.load(states + at + half, mask=inside).to(tl.float32)
    kind = output.dtype.element_ty
    tl.store(output + at, (first * first_cos - second * first_sin).to(kind), mask=inside)
    tl.store(output + at + half, (second * second_cos + first * second_sin).to(kind), mask=inside)


@triton.jit
def gate_kernel(gate, up, output, count, gelu: tl.constexpr, block: tl.constexpr):  # type: ignore[no-untyped-def]
    """The activation of one factor, SiLU or gelu by tanh, times the other. A count divisible by 16 loads wider."""
    place = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    inside = place < count
    values = tl.load(gate + place, mask=inside).to(tl.float32)
    # (1 + tanh(z)) / 2 is the logistic function of 2 z
    steep = 1.5957691216057308 * (values + 0.044715 * values * values * values) if gelu else values
    product = values * tl.sigmoid(steep) * tl.load(up + place, mask=inside).to(tl.float32)
    tl.store(output + place, product.to(output.dtype.element_ty), mask=inside)


def norm(rows: Tensor, weight: Tensor, epsilon: float, offset: float) -> Tensor:
    """RMSNorm over the last dimension.

    Args:
        rows: (..., width), width at most `MAX_WIDTH`.
        weight: (width,).
        epsilon: added to the mean square.
        offset: added to the weight, 0 or 1.
    """
    rows = rows.contiguous()
    output = torch.empty_like(rows)
    width = rows.shape[-1]
    padded = triton.next_power_of_2(width)
    together = max(1, VALUES_PER_PROGRAM // padded)
    count = rows.numel() // width
    launch(
        norm_kernel, triton.cdiv(count, together), rows, weight, output, count, epsilon, offset,
        width=width, padded_width=padded, together=together, num_warps=8 if padded > VALUES_PER_PROGRAM else 4,
    )  # fmt: skip
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
    output = torch.empty_like(states)
    if output.stride() != states.stride():
        states = states.contiguous()
        output = torch.empty_like(states)
    cos, sin = cos.contiguous(), sin.contiguous()
    launch(
        rotary_kernel, batch * tokens, states, cos, sin, output, tokens,
        states.stride(0), states.stride(1), states.stride(2), cos.stride(0) if len(cos) > 1 else 0, cos.stride(1),
        heads=heads, half=dim // 2, padded_heads=triton.next_power_of_2(heads),
        padded_half=triton.next_power_of_2(dim // 2), num_warps=4,
    )  # fmt: skip
    return output


def gated(gate: Tensor, up: Tensor, activation: str) -> Tensor:
    """`activation(gate) * up`, where the activation is "silu" or "gelu" (by tanh)."""
    gate, up = gate.contiguous(), up.contiguous()
    output = torch.empty_like(gate)
    count = gate.numel()
    launch(
        gate_kernel, triton.cdiv(count, VALUES_PER_PROGRAM), gate, up, output, count,
        gelu=activation == "gelu", block=VALUES_PER_PROGRAM, num_warps=4,
    )  # fmt: skip
    return output


def launch(kernel: Any, programs: int, *arguments: Any, **options: Any) -> None:
    """Start a kernel on the current device, which must be that of the tensors."""
    if programs > 0:
        kernel[(programs,)](*arguments, **options)
