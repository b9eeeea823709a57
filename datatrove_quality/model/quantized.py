"""Linear layers that multiply 8-bit numbers: a cheaper classifier that decides nearly the same (docs/cascade.md).

Each row of what a layer is given, and each output's weights, have a scale of their own, so that a text's logit does
not depend on the texts beside it. Each layer is compared with the one that it replaces, then the probes' logits.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from loguru import logger
from torch import Tensor, nn
from transformers import PreTrainedModel

from datatrove_quality.model.fingerprint import ProbeLogits


if TYPE_CHECKING:
    from datatrove_quality.model.self_check import Logits


# So far from the unchanged model's a probe's logit may be, or so many times its size.
ALLOWED = 0.3
# The least that a row's largest value counts as: a row of zeros has a scale too.
SMALLEST = 1e-30
# Rows on which a layer is looked at, and outputs whose products are compared with exact ones.
ROWS = 32
OUTPUTS = 64
# How far products may be from exact ones, as a share of a row's largest: what they are rounded to.
PRECISION = {torch.float32: 1e-5, torch.bfloat16: 2**-6}
# Fewer rows are filled up: of 16 or fewer CUDA gives no products of int8.
LEAST_ROWS = 32


class LastRows:
    """The numbers of the rows that were quantized last, since queries, keys and values are made of the same ones."""

    def __init__(self) -> None:
        self._hidden: Tensor | None = None
        self._quantized: tuple[Tensor, Tensor] | None = None

    def get(self, hidden: Tensor, layer: "QuantizedLinear") -> tuple[Tensor, Tensor]:
        """What `layer.quantized` gives for the rows of a tensor, (..., width)."""
        if self._quantized is None or self._hidden is not hidden:
            self._hidden, self._quantized = hidden, layer.quantized(hidden.reshape(-1, hidden.shape[-1]))
        return self._quantized


class QuantizedLinear(nn.Module):
    """A linear layer with the weights of another one in 8-bit numbers.

    Args:
        own: the layer that it is to replace.
        last: shared by the layers of a model.
    """

    largest: ClassVar[float]  # of the numbers
    zero: ClassVar[int] = 0  # the number that stands for zero, in rows
    error: ClassVar[float]  # that rounding may cause, as a share of an output's size
    multiple: ClassVar[int]  # of which both widths have to be one

    numbers: Tensor
    scales: Tensor

    def __init__(self, own: nn.Linear, last: LastRows):
        super().__init__()
        self.in_features, self.out_features, self.bias = own.in_features, own.out_features, own.bias
        self._last = last
        weight = own.weight.detach().float()
        scales = self._scales(weight)
        self.register_buffer("scales", scales[:, 0].contiguous())
        self.register_buffer("numbers", self.packed(self.rounded(weight / scales)))

    def forward(self, hidden: Tensor) -> Tensor:
        result = self.product(*self._last.get(hidden, self), hidden.dtype)
        result = result if self.bias is None else result.add_(self.bias)
        return result.view(*hidden.shape[:-1], self.out_features)

    def quantized(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Rows as 8-bit numbers, (rows, width), and what each row has to be multiplied by, (rows, 1).

        A row with a value that is not finite gets such a scale, so that its products are not finite.
        """
        raise NotImplementedError

    def rounded(self, weight: Tensor) -> Tensor:
        """Weights between minus and plus `largest`, (out, in), as 8-bit numbers."""
        raise NotImplementedError

    def packed(self, numbers: Tensor) -> Tensor:
        """What `rounded` gave, as `product` takes it."""
        return numbers

    def product(self, rows: Tensor, row_scales: Tensor, dtype: torch.dtype) -> Tensor:
        """What `quantized` gave multiplied by the weights, (rows, out): without the bias, in a float dtype."""
        raise NotImplementedError

    def _scales(self, rows: Tensor) -> Tensor:
        # Without `abs`, which would write all of them.
        largest = torch.maximum(rows.amax(1, keepdim=True), -rows.amin(1, keepdim=True))
        return largest.float().clamp_min_(SMALLEST).mul_(1 / self.largest)


class Int8Linear(QuantizedLinear):
    """On CPUs, by oneDNN's products of unsigned rows and signed weights, which processors with VNNI or AMX have."""

    largest = 127.0
    zero = 128
    error = 0.05
    multiple = 1

    def __init__(self, own: nn.Linear, last: LastRows):
        super().__init__(own, last)
        self.register_buffer("zeros", torch.zeros(self.out_features, dtype=torch.int64))

    def quantized(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        scales = self._scales(rows)
        # Each is at least 1.5, so that what the conversion cuts off, with the half, rounds it.
        return rows.mul(scales.reciprocal()).add_(self.zero + 0.5).to(torch.uint8), scales

    def rounded(self, weight: Tensor) -> Tensor:
        return weight.round().to(torch.int8)

    def packed(self, numbers: Tensor) -> Tensor:
        return torch.ops.onednn.qlinear_prepack(numbers, None)

    def product(self, rows: Tensor, row_scales: Tensor, dtype: torch.dtype) -> Tensor:
        return torch.ops.onednn.qlinear_pointwise(
            rows, 1.0, self.zero, self.numbers, self.scales, self.zeros, None, 1.0, 0, dtype, "none", [], ""
        ).mul_(row_scales)


class CudaLinear(QuantizedLinear):
    """On CUDA."""

    capability: ClassVar[tuple[int, int]]  # the least


class CudaInt8Linear(CudaLinear):
    """From sm_80 on, which has no float8: products of signed numbers, whose sums are whole numbers too."""

    largest = 127.0
    error = 0.05
    multiple = 8
    capability = (8, 0)

    def quantized(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        scales = self._scales(rows)
        return rows.mul(scales.reciprocal()).round_().to(torch.int8), scales

    def rounded(self, weight: Tensor) -> Tensor:
        return weight.round().to(torch.int8)

    def product(self, rows: Tensor, row_scales: Tensor, dtype: torch.dtype) -> Tensor:
        lacking = LEAST_ROWS - len(row_scales)
        rows = nn.functional.pad(rows, (0, 0, 0, lacking)) if lacking > 0 else rows
        sums = torch._int_mm(rows, self.numbers.t())[: len(row_scales)]
        # Into numbers of this dtype at once: the sums take twice as much memory.
        return torch.mul(sums, row_scales, out=sums.new_empty(sums.shape, dtype=dtype)).mul_(self.scales)


class Float8Linear(CudaLinear):
    """From sm_89 on."""

    largest = 448.0
    error = 0.1
    multiple = 16
    capability = (8, 9)

    def quantized(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        scales = self._scales(rows)
        return (rows / scales).to(torch.float8_e4m3fn), scales

    def rounded(self, weight: Tensor) -> Tensor:
        return weight.to(torch.float8_e4m3fn)

    def product(self, rows: Tensor, row_scales: Tensor, dtype: torch.dtype) -> Tensor:
        return torch._scaled_mm(rows, self.numbers.t(), scale_a=row_scales, scale_b=self.scales[None], out_dtype=dtype)


ON_CUDA: dict[str, type[CudaLinear]] = {"int8_bfloat16": CudaInt8Linear, "float8": Float8Linear}
LINEAR: dict[str, type[QuantizedLinear]] = {"int8": Int8Linear, **ON_CUDA}


def quantize(
    model: PreTrainedModel, dtype: str, logits: "Logits", inputs: Sequence[Any], expected: ProbeLogits
) -> ProbeLogits:
    """Have a model's layers multiply 8-bit numbers.

    Args:
        model: for inference, with its weights on the device. It is changed.
        dtype: a key of `LINEAR`.
        logits: our forward pass.
        inputs: the probes.
        expected: what the model gives for them so far.

    Returns:
        What it gives for them now.

    Raises:
        ValueError: the device does not multiply such numbers, or not exactly; no layer can be replaced; or the probes'
            logits are far from those that are expected.
    """
    from datatrove_quality.model.self_check import far_apart, probe_logits

    problem = f"model={model.name_or_path!r}: dtype={dtype!r}"
    if why := why_unusable(dtype, model.device):
        raise ValueError(f"{problem} cannot be used on {model.device}: {why}. Give another dtype.")
    try:
        replaced, left = _replace_layers(model, LINEAR[dtype])
    except (RuntimeError, AttributeError, NotImplementedError, ValueError) as error:
        raise ValueError(
            f"{problem} cannot be used on {model.device} with torch {torch.__version__}: {error!s:.300}. Give another "
            "dtype."
        ) from error
    if not replaced:
        raise ValueError(f"{problem}: no linear layer of the model is exact enough in it. Give another dtype.")
    found = probe_logits(model, logits, list(inputs))
    if far := far_apart(found, expected, ALLOWED):
        raise ValueError(f"{problem} moves the logit of a probe from {far[1]} to {far[0]}. Give another dtype.")
    kept = f"; {left} stay as they are, since it would change too much" if left else ""
    logger.info(f"{type(model).__name__}: {replaced} linear layers multiply in {dtype}{kept}.")
    return found


def why_unusable(dtype: str, device: torch.device) -> str | None:
    """Why a device cannot multiply such numbers; None: it can."""
    if dtype == "int8":
        if device.type != "cpu":
            return "it is for CPUs; with CUDA it is int8_bfloat16"
        names = ("_is_vnni_supported", "_is_amx_tile_supported")
        checks = [check for name in names if (check := getattr(torch.cpu, name, None)) is not None]
        return None if any(check() for check in checks) else "the processor has neither VNNI nor AMX"
    if device.type != "cuda":
        return "it is for GPUs with CUDA"
    found, least = torch.cuda.get_device_capability(device), ON_CUDA[dtype].capability
    there, needed = (".".join(map(str, version)) for version in (found, least))
    return None if found >= least else f"its compute capability is {there}, and {needed} is needed"


def _replace_layers(model: nn.Module, kind: type[QuantizedLinear]) -> tuple[int, int]:
    """Replace the linear layers in a model's blocks, not its head; how many were replaced, and how many were not."""
    last = LastRows()
    replaced = left = 0
    for parent, name, own in list(linear_layers(model)):
        layer = _quantized(own, kind, last)
        if layer is None:
            left += 1
        else:
            setattr(parent, name, layer)
            replaced += 1
    return replaced, left


def linear_layers(model: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Linear]]:
    """The linear layers in a model's blocks that are as torch has them, each with its parent and its name there."""
    blocks = [block for module in model.modules() if isinstance(module, nn.ModuleList) for block in module]
    parents = {id(parent): parent for block in blocks for parent in block.modules()}
    for parent in parents.values():
        for name, own in parent.named_children():
            if type(own) is nn.Linear and not (own._forward_hooks or own._forward_pre_hooks or "forward" in vars(own)):
                yield parent, name, own


@torch.inference_mode()
def _quantized(own: nn.Linear, kind: type[QuantizedLinear], last: LastRows) -> QuantizedLinear | None:
    """A layer in place of another one; None: 8 bits are too few for its weights, or its widths do not fit.

    Raises:
        ValueError: it multiplies wrongly. Without VNNI oneDNN's sums of two products overflow, without a word.
    """
    if own.in_features % kind.multiple or own.out_features % kind.multiple:
        return None
    layer = kind(own, last)
    weight = own.weight
    rows = torch.randn(ROWS, own.in_features, generator=torch.Generator().manual_seed(0)).to(weight)
    # Rows that are as large as can be, with the signs of weights, overflow first.
    rows = torch.cat([rows, weight[:ROWS].sign()])
    if not _multiplies_rightly(layer, weight, rows):
        raise ValueError(f"products of {own.in_features} by {own.out_features} are wrong")
    right, found = own(rows[:ROWS]).float(), layer(rows[:ROWS]).float()
    # Not `>`: a NaN must fail.
    is_near = (found - right).norm(dim=0) <= kind.error * right.norm(dim=0)
    return layer if bool(is_near.all()) else None


def _multiplies_rightly(layer: QuantizedLinear, weight: Tensor, rows: Tensor) -> bool:
    """Whether a layer's products are those of its 8-bit numbers."""
    numbers, row_scales = layer.quantized(rows)
    scales = layer.scales[:OUTPUTS, None]
    weights = layer.rounded(weight[:OUTPUTS].float() / scales).double() * scales
    exact = (numbers.double() - layer.zero) * row_scales @ weights.t()
    found = layer.product(numbers, row_scales, rows.dtype)[:, :OUTPUTS].double()
    return bool(((found - exact).abs() <= PRECISION[rows.dtype] * exact.abs().amax(1, keepdim=True)).all())
