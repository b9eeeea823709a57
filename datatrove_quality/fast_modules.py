"""Modules in place of a model's own that compute the same with the same weights, in less time."""

import inspect
import platform
from copy import deepcopy
from typing import cast

import torch
from torch import Tensor, nn


X86 = ("x86_64", "AMD64")
# Elsewhere torch computes its RMSNorm in as many steps as models do.
NORM_DEVICES = ("cuda",)
# What oneDNN lays weights out for; other numbers of tokens run as well (benchmarks/EXPERIMENTS.md).
USUAL_TOKENS = 1_024
# Added up in another order, sums in float32 differ by some roundings of their largest terms.
ROUNDINGS = 1e-5


class BlockedLinear(nn.Linear):
    """A linear layer whose weights oneDNN has laid out in blocks once, beside the original ones, for x86 CPUs.

    Args:
        own: the layer whose weights it shares.
    """

    blocks: Tensor

    def __init__(self, own: nn.Linear):
        super().__init__(own.in_features, own.out_features, bias=own.bias is not None, device="meta")
        self.weight, self.bias = own.weight, own.bias
        blocks = torch.ops.mkldnn._reorder_linear_weight(own.weight.detach(), USUAL_TOKENS)
        self.register_buffer("blocks", blocks, persistent=False)

    def forward(self, input: Tensor) -> Tensor:
        return cast(Tensor, torch.ops.mkldnn._linear_pointwise(input, self.blocks, self.bias, "none", [], ""))


def use_fast_modules(model: nn.Module) -> int:
    """Replace the modules of a model for which there is a faster one that computes the same.

    On CUDA, RMSNorms become torch's, one kernel instead of half a dozen. On x86 CPUs, in float32, linear layers become
    oneDNN's, which take their weights' memory once more. Each is compared with the module that it replaces.

    Args:
        model: for inference, with its weights on the device.

    Returns:
        How many were replaced. They share their weights with the model's own.
    """
    replaced = 0
    for parent in list(model.modules()):
        for name, own in parent.named_children():
            faster = _faster(own)
            if faster is not None:
                setattr(parent, name, faster)
                replaced += 1
    return replaced


def _faster(own: nn.Module) -> nn.Module | None:
    """What replaces a module; None: nothing does."""
    try:
        if own._forward_hooks or own._forward_pre_hooks or len(inspect.signature(own.forward).parameters) != 1:
            return None
        if (norm := _torch_norm(own)) is not None:
            return norm if _computes_same(norm, own) else None
        blocked = _blocked_linear(own)
        return blocked if blocked is not None and _computes_same(blocked, own) else None
    except (RuntimeError, TypeError, ValueError):  # it takes other inputs, or this machine has no such operation
        return None


def _torch_norm(own: nn.Module) -> nn.RMSNorm | None:
    epsilon = getattr(own, "variance_epsilon", None) or getattr(own, "eps", None)
    weights = dict(own.named_parameters())
    if "RMSNorm" not in type(own).__name__ or not isinstance(epsilon, float) or list(weights) != ["weight"]:
        return None
    weight = weights["weight"]
    if weight.device.type not in NORM_DEVICES or weight.ndim != 1 or len(weight) == 1:
        return None
    norm = nn.RMSNorm(weight.shape, eps=epsilon, device="meta")
    norm.weight = weight
    return norm


def _blocked_linear(own: nn.Module) -> BlockedLinear | None:
    # A subclass of nn.Linear may compute anything.
    if type(own) is not nn.Linear or own.weight.device.type != "cpu" or own.weight.dtype != torch.float32:
        return None
    return BlockedLinear(own) if platform.machine() in X86 and torch.backends.mkldnn.is_available() else None


@torch.inference_mode()
def _computes_same(faster: nn.Module, own: nn.Module) -> bool:
    """Whether both give the same but for rounding, on rows that are large and on rows as small as an epsilon."""
    if isinstance(faster, nn.RMSNorm):  # in half precision, rounding would hide a formula that differs by 3%
        faster, own = deepcopy(faster).float(), deepcopy(own).float()
    weight = cast(Tensor, own.weight)
    rows = torch.randn(4, weight.shape[-1], generator=torch.Generator().manual_seed(0))
    rows = (rows * torch.tensor([100.0, 1.0, 1e-2, 1e-3])[:, None]).to(weight.device)
    expected = own(rows)
    allowed = ROUNDINGS * expected.abs().amax(dim=-1, keepdim=True)
    return bool(((faster(rows) - expected).abs() <= allowed).all())
