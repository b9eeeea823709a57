"""torch's RMSNorm in place of a model's own: one kernel on CUDA instead of half a dozen."""

import inspect
from copy import deepcopy

import torch
from torch import nn
from transformers import PreTrainedModel


# Elsewhere torch computes its RMSNorm in as many steps as models do.
DEVICES = ("cuda",)
# Some roundings of a row's largest value.
ALLOWED = 1e-5


def use_fast_norms(model: PreTrainedModel) -> None:
    """Replace the RMSNorms of a model for which torch's computes the same, which is looked at one by one.

    Args:
        model: for inference, with its weights on the device. Those of its norms are shared.
    """
    for parent in list(model.modules()):
        for name, own in parent.named_children():
            norm = _torch_norm(own)
            if norm is not None:
                setattr(parent, name, norm)


def _torch_norm(own: nn.Module) -> nn.RMSNorm | None:
    """torch's norm with the weights of another one; None: it would not compute the same, or not faster."""
    if "RMSNorm" not in type(own).__name__:
        return None
    epsilon = getattr(own, "variance_epsilon", None) or getattr(own, "eps", None)
    weights = dict(own.named_parameters())
    if not isinstance(epsilon, float) or list(weights) != ["weight"]:
        return None
    weight = weights["weight"]
    if weight.device.type not in DEVICES or weight.ndim != 1 or len(weight) == 1:
        return None
    if own._forward_hooks or own._forward_pre_hooks or len(inspect.signature(own.forward).parameters) != 1:
        return None
    norm = nn.RMSNorm(weight.shape, eps=epsilon, device="meta")
    norm.weight = weight
    return norm if _computes_same(norm, own) else None


@torch.inference_mode()
def _computes_same(norm: nn.RMSNorm, own: nn.Module) -> bool:
    """Whether two norms agree on rows that are large and on rows as small as an epsilon."""
    # In half precision, rounding would hide a formula that differs by 3%.
    norm, own = deepcopy(norm).float(), deepcopy(own).float()
    rows = torch.randn(4, len(norm.weight), generator=torch.Generator().manual_seed(0))
    rows = (rows * torch.tensor([100.0, 1.0, 1e-2, 1e-3])[:, None]).to(norm.weight.device)
    try:
        expected = own(rows)
        allowed = ALLOWED * expected.abs().amax(dim=-1, keepdim=True)
        return bool(((norm(rows) - expected).abs() <= allowed).all())
    except (RuntimeError, TypeError):  # it takes other rows
        return False
