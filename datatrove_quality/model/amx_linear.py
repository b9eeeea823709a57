"""Linear layers in bfloat16 on CPUs with AMX, of weights that are laid out once, and gates in the same loop.

torch lays out a layer's weights at each call (benchmarks/EXPERIMENTS.md). The loops are in amx_linear.c.
"""

import ctypes
import mmap
from contextlib import suppress
from functools import cache

import torch
from torch import Tensor, nn

from datatrove_quality.model.amx_attention import compiled_for_amx


ACTIVATIONS = ("", "silu", "gelu")
# Inputs are multiplied in tiles of so many, and so many outputs, or gates and what they let through, together.
INPUTS_OF_TILE = 32
OUTPUTS_OF_TILE = 16


class _Linear(ctypes.Structure):
    """As in amx_linear.c."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("rows", "weight", "bias", "output")),
        *((name, ctypes.c_int64) for name in ("count", "inputs", "panels")),
        ("activation", ctypes.c_int),
    )


SIGNATURES = {"prepare": (), "linear": (ctypes.POINTER(_Linear), ctypes.c_int)}


@cache
def library() -> ctypes.CDLL:
    """The loops of amx_linear.c; raises as `compiled_for_amx` does."""
    return compiled_for_amx("amx_linear", SIGNATURES)


class AmxLinear(nn.Module):
    """A linear layer, or two of which one is the gate of the other.

    Args:
        first: gives half of each 32 outputs' weights as tiles, see `tiles`.
        second: gives the other half.
        bias: (outputs,), or None.
        activation: of the gates, which are the first halves: "silu", "gelu" (by tanh). Empty: there are none.
    """

    def __init__(self, first: Tensor, second: Tensor, bias: Tensor | None = None, activation: str = ""):
        super().__init__()
        panels, steps = first.shape[:2]
        self.in_features = steps * INPUTS_OF_TILE
        self.out_features = panels * OUTPUTS_OF_TILE * (1 if activation else 2)
        self.activation = activation
        weight = _on_large_pages(2 * first.numel()).view(panels, steps, 2, *first.shape[2:])
        torch.stack([first, second], 2, out=weight)
        self.weight = nn.Parameter(weight.view(torch.bfloat16), requires_grad=False)
        self.bias = None if bias is None else nn.Parameter(bias.detach().contiguous(), requires_grad=False)

    def forward(self, rows: Tensor) -> Tensor:
        """Outputs of rows: (..., inputs) in, (..., outputs) out.

        Raises:
            TypeError: the rows are not in bfloat16 on a CPU, or need gradients.
            ValueError: they have another width.
            MemoryError: there is too little memory.
        """
        tensors = [one for one in (rows, self.weight, self.bias) if one is not None]
        if any(one.dtype != torch.bfloat16 or one.device.type != "cpu" for one in tensors):
            kinds = ", ".join(f"{one.dtype} on {one.device}" for one in tensors)
            raise TypeError(f"rows and weights of {kinds}: these layers take bfloat16 on a CPU")
        if torch.is_grad_enabled() and rows.requires_grad:
            raise TypeError("rows that need gradients: these layers have none")
        if rows.shape[-1] != self.in_features:
            raise ValueError(f"rows of {rows.shape[-1]} for a layer of {self.in_features} inputs")
        rows = rows.contiguous()
        output = torch.empty(*rows.shape[:-1], self.out_features, dtype=rows.dtype)
        pointers = (None if one is None else one.data_ptr() for one in (rows, self.weight, self.bias, output))
        counts = rows.numel() // self.in_features, self.in_features, len(self.weight)
        given = _Linear(*pointers, *counts, ACTIVATIONS.index(self.activation))
        if library().linear(given, torch.get_num_threads()):
            raise MemoryError(f"out of memory: {counts[0]} rows of {self.in_features}")
        return output

    def weights(self) -> list[Tensor]:
        """The weights of the layer, or of its gates and of what they let through, as linear layers have them."""
        halves = self.weight.view(torch.int32).unbind(2)
        if self.activation:
            return [_laid_back(half) for half in halves]
        return [_laid_back(torch.stack(halves, 1).flatten(0, 1))]


def fits(own: nn.Linear) -> bool:
    """Whether a layer is in bfloat16, and its widths are multiples of what is multiplied together."""
    if any(one is not None and one.dtype != torch.bfloat16 for one in (own.weight, own.bias)):
        return False
    return own.in_features % INPUTS_OF_TILE == 0 and own.out_features % (2 * OUTPUTS_OF_TILE) == 0


def tiles(weight: Tensor) -> Tensor:
    """The weights of a linear layer, (outputs, inputs), in the order in which AMX takes them.

    Returns:
        (blocks of 16 outputs, steps of 32 inputs, pairs of inputs, outputs), int32: two inputs in one number.
    """
    whole = weight.contiguous()
    pairs = (whole.clone() if whole.storage_offset() % 2 else whole).view(torch.int32)
    return pairs.view(-1, OUTPUTS_OF_TILE, weight.shape[1] // INPUTS_OF_TILE, INPUTS_OF_TILE // 2).permute(0, 2, 3, 1)


def _on_large_pages(count: int) -> Tensor:
    """So many int32; where the system can, in pages of 2 MB: weights that pass touch a page of 4 KB for two tiles."""
    memory = mmap.mmap(-1, count * torch.int32.itemsize, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(OSError, AttributeError):  # a system without them
        memory.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(memory, dtype=torch.int32)


def _laid_back(of_tiles: Tensor) -> Tensor:
    outputs = len(of_tiles) * OUTPUTS_OF_TILE
    return of_tiles.permute(0, 3, 1, 2).reshape(outputs, -1).view(torch.bfloat16)
