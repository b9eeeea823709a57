"""Norm, rotary embedding and gated activation of a model replaced by fused functions that compute the same.

Where a model's own code does these in many steps, each of which reads and writes all values, a fused function takes
one. Which parts of a model are replaced is found by what they compute, not by its name, each is compared with what it
replaces, and the probes' logits decide in the end. What is not replaced stays as it is.
"""

import inspect
from collections import Counter
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from itertools import product
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any, Protocol, cast

import torch
from loguru import logger
from torch import Tensor, nn
from transformers.activations import GELUTanh, SiLUActivation
from transformers.modeling_utils import PreTrainedModel

from datatrove_quality.model import amx_attention, amx_linear
from datatrove_quality.model.amx_linear import AmxLinear, tiles
from datatrove_quality.model.devices import current_device
from datatrove_quality.model.quantized import linear_layers


if TYPE_CHECKING:
    from datatrove_quality.model.self_check import Logits


ROTARY = "apply_rotary_pos_emb"
# In roundings of a row's largest value: fused functions round once, the models' own several times.
ALLOWED = {torch.float32: 1e-5, torch.float16: 2**-10, torch.bfloat16: 2**-7}
# Numbers of rows that are compared.
COUNTS = (1, 5)
# Of a linear layer: some that are multiplied together, and some that are left.
ROWS = 40


class Functions(Protocol):
    """The fused functions of a kind of device: the modules `triton_kernels` and `cpu_kernels`."""

    @staticmethod
    def norm(rows: Tensor, weight: Tensor, epsilon: float, offset: float) -> Tensor: ...

    @staticmethod
    def rotate(query: Tensor, key: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]: ...

    @staticmethod
    def gated(gate: Tensor, up: Tensor, activation: str) -> Tensor: ...


class FusedNorm(nn.Module):
    """An RMSNorm with the weight of another one."""

    def __init__(self, function: Callable[..., Tensor], weight: nn.Parameter, epsilon: float, offset: float):
        super().__init__()
        self.weight = weight
        self.epsilon = epsilon
        self.offset = offset
        self.function = function  # a module of functions could not be copied

    def forward(self, rows: Tensor) -> Tensor:
        return self.function(rows, self.weight, self.epsilon, self.offset)


class FusedGate(nn.Module):
    """A gated feed-forward layer with the linear layers of another one."""

    def __init__(self, function: Callable[..., Tensor], own: Any, activation: str):
        super().__init__()
        self.gate_proj, self.up_proj, self.down_proj = own.gate_proj, own.up_proj, own.down_proj
        self.activation = activation
        self.function = function

    def forward(self, hidden: Tensor) -> Tensor:
        return self.down_proj(self.function(self.gate_proj(hidden), self.up_proj(hidden), self.activation))


class JoinedGate(nn.Module):
    """A gated feed-forward layer whose gate and what it lets through are one layer."""

    def __init__(self, gate_up: nn.Module, down_proj: nn.Module):
        super().__init__()
        self.gate_up = gate_up
        self.down_proj = down_proj

    def forward(self, hidden: Tensor) -> Tensor:
        return self.down_proj(self.gate_up(hidden))


@dataclass
class Replaced:
    """What was replaced in a model.

    Args:
        counts: how many of each kind.
        undo: calls that put each back.
    """

    counts: dict[str, int] = field(default_factory=dict)
    undo: list[Callable[[], None]] = field(default_factory=list)

    def add(self, kind: str, undo: Callable[[], None]) -> None:
        self.counts[kind] = self.counts.get(kind, 0) + 1
        self.undo.append(undo)

    def put_back(self) -> None:
        """Undo it all."""
        while self.undo:
            self.undo.pop()()


def use_fused_functions(model: PreTrainedModel, logits: "Logits", inputs: Sequence[Any]) -> bool:
    """Fuse what can be fused in a model, if the probes' logits stay the same. What was done is logged.

    Args:
        model: for inference, with its weights on the device. Copies of it made later have the same functions.
        logits: our forward pass.
        inputs: the probes.

    Returns:
        Whether anything is fused.

    Raises:
        ValueError: the model cannot be scored with at all, see `self_check.probe_logits`.
    """
    from datatrove_quality.model.self_check import agree, probe_logits

    name = type(model).__name__
    try:
        functions = functions_for(model.device)
    except Exception as error:  # no Triton, or no compiler
        logger.warning(f"{name} runs without fused functions, so slower: {error!s:.200}")
        return False
    if functions is None or model.dtype not in getattr(functions, "DTYPES", ALLOWED):
        return False
    plain = probe_logits(model, logits, list(inputs))
    replaced = Replaced()
    try:
        with current_device(model.device):
            replace_parts(model, functions, replaced)
        if multiplies_on_amx(model):
            replace_linear_layers(model, replaced)
        if not replaced.counts:
            logger.info(f"{name} has no part that fused functions compute.")
            return False
        fused = probe_logits(model, logits, list(inputs))
        if agree(fused, plain, model.dtype):
            logger.info(f"{name} uses fused functions: {', '.join(f'{n} {k}' for k, n in replaced.counts.items())}.")
            return True
        why = f"they change its logits from {plain} to {fused}"
    except torch.OutOfMemoryError:
        replaced.put_back()
        raise
    except Exception as error:  # a kernel that does not compile or start here
        why = repr(error)
    replaced.put_back()
    logger.warning(f"{name} runs without fused functions, so slower: {why:.300}")
    return False


def functions_for(device: torch.device) -> Functions | None:
    """The fused functions for a device, or None where there are none, or none that are faster.

    Raises:
        ImportError: Triton is missing, which torch's CUDA builds for Linux bring.
        OSError: on a CPU, there is no C compiler, or it fails.
    """
    if device.type == "cuda":
        from datatrove_quality.model import triton_kernels

        return cast(Functions, triton_kernels)
    from datatrove_quality.model import cpu_kernels

    if device.type != "cpu" or not cpu_kernels.is_supported():
        return None
    cpu_kernels.library()
    return cast(Functions, cpu_kernels)


def replace_parts(model: nn.Module, functions: Functions, replaced: Replaced) -> None:
    """Replace each part of a model that a fused function computes.

    Args:
        model: with its weights on the device, which must be the current one.
        functions: for that device.
        replaced: gets what was done, also if this raises.
    """
    for parent in list(model.modules()):
        for name, own in list(parent.named_children()):
            for kind, make in (("norms", _fused_norm), ("gates", _fused_gate)):
                if (fused := make(own, functions)) is not None:
                    setattr(parent, name, fused)
                    replaced.add(kind, _setter(parent, name, own))
                    break
        if (forward := _rotating_forward(parent, functions)) is not None:
            parent.forward = MethodType(forward, parent)  # which a copy of the module binds to itself
            replaced.add("rotary embeddings", lambda module=parent: delattr(module, "forward"))  # type: ignore[misc]


def multiplies_on_amx(model: PreTrainedModel) -> bool:
    """Whether linear layers of a model can be those of `amx_linear`."""
    if model.device.type != "cpu" or model.dtype != torch.bfloat16 or not amx_attention.is_supported():
        return False
    try:
        amx_linear.library()
    except OSError as error:
        logger.warning(f"Linear layers are torch's, so slower: {error!s:.200}")
        return False
    return True


@torch.no_grad()
def replace_linear_layers(model: nn.Module, replaced: Replaced) -> None:
    """Have the linear layers in a model's blocks multiply on AMX, a gate and what it lets through in one.

    Args:
        model: in bfloat16 on a CPU with AMX. Its layers' weights are laid out in another way and held by this process;
            where they were mapped from a file, processes shared them.
        replaced: gets what was done, also if this raises.
    """
    places = Counter(id(child) for parent in model.modules() for child in parent._modules.values())
    for parent in list(model.modules()):
        for name, own in list(parent.named_children()):
            if not isinstance(own, FusedGate) or any(places[id(one)] > 1 for one in (own, own.gate_proj, own.up_proj)):
                continue
            if (joined := _joined_gate(own)) is not None:
                setattr(parent, name, JoinedGate(joined, own.down_proj))
                replaced.add("joined gates", _setter(parent, name, own))
                _move_weights(joined, [own.gate_proj, own.up_proj], replaced)
    for parent, name, own in list(linear_layers(model)):
        if places[id(own)] == 1 and (layer := _amx_linear(own)) is not None:
            setattr(parent, name, layer)
            replaced.add("linear layers", _setter(parent, name, own))
            _move_weights(layer, [own], replaced)


def _move_weights(layer: AmxLinear, owns: list[Any], replaced: Replaced) -> None:
    """Let layers that were replaced have no weights until they are put back."""

    def put_back() -> None:
        for own, weight in zip(owns, layer.weights(), strict=True):
            own.weight = nn.Parameter(weight, requires_grad=False)

    for own in owns:
        own.weight = None
    replaced.undo.append(put_back)


def _joined_gate(own: FusedGate) -> AmxLinear | None:
    """A gate and what it lets through as one layer; None: it would not compute the same."""
    layers = own.gate_proj, own.up_proj
    if any(one.bias is not None or not amx_linear.fits(one) or not _is_plain(one, arguments=1) for one in layers):
        return None
    joined = AmxLinear(tiles(own.gate_proj.weight), tiles(own.up_proj.weight), activation=own.activation)
    rows = _random(ROWS, joined.in_features, like=joined.weight)
    right = own.function(*(one(rows) for one in layers), own.activation)
    return joined if _near(joined(rows), right, rows.dtype, roundings=2) else None


def _amx_linear(own: nn.Linear) -> AmxLinear | None:
    """The same layer on AMX; None: it would not compute the same."""
    if not amx_linear.fits(own):
        return None
    of_own = tiles(own.weight)
    layer = AmxLinear(of_own[::2], of_own[1::2], own.bias)
    rows = _random(ROWS, own.in_features, like=own.weight)
    return layer if _near(layer(rows), own(rows), rows.dtype) else None


def _setter(parent: nn.Module, name: str, own: nn.Module) -> Callable[[], None]:
    return lambda: setattr(parent, name, own)


def _is_plain(module: nn.Module, arguments: int) -> bool:
    """Whether a module is called with so many arguments, and nothing else happens then."""
    hooked = module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module)
    return not hooked and len(inspect.signature(module.forward).parameters) == arguments


def _fused_norm(own: nn.Module, functions: Functions) -> FusedNorm | None:
    """A fused norm with the weight of another norm; None: it would not compute the same."""
    if "RMSNorm" not in type(own).__name__ or not _is_plain(own, arguments=1):
        return None
    epsilon = getattr(own, "variance_epsilon", None) or getattr(own, "eps", None)
    weights = dict(own.named_parameters())
    if not isinstance(epsilon, float) or list(weights) != ["weight"] or weights["weight"].ndim != 1:
        return None
    weight = cast(nn.Parameter, weights["weight"])
    if not 1 < len(weight) <= getattr(functions, "MAX_WIDTH", len(weight)):
        return None
    for offset in (0.0, 1.0):  # Gemma adds one to its weights
        fused = FusedNorm(functions.norm, weight, epsilon, offset)
        if _norm_computes_same(fused, own):
            return fused
    return None


@torch.inference_mode()
def _norm_computes_same(fused: FusedNorm, own: nn.Module) -> bool:
    """Whether two norms agree on rows that are large and on rows as small as an epsilon, with any weights.

    What the fused function raises is not caught: it runs nowhere here, and the log has to say so.
    """
    weight = fused.weight
    width = len(weight)
    sizes = torch.tensor([100.0, 1.0, 1e-2, 1e-3, 1.0]).to(weight.device, weight.dtype)[:, None]
    given = [_random(count, width, like=weight) * sizes[-count:] for count in COUNTS]
    try:
        # In half precision, rounding would hide a formula that differs by 3%.
        exact = deepcopy(own).float()
        exact.weight = nn.Parameter(_random(1, width, like=weight)[0].float(), requires_grad=False)
        expected = [(exact(rows.float()), own(rows)) for rows in given]
    except (RuntimeError, TypeError, AttributeError):  # it takes other rows
        return False
    copied = FusedNorm(fused.function, exact.weight, fused.epsilon, fused.offset)
    return all(
        _near(copied(rows.float()), right, torch.float32) and _near(fused(rows), rounded, rows.dtype)
        for rows, (right, rounded) in zip(given, expected, strict=True)
    )


def _fused_gate(own: nn.Module, functions: Functions) -> FusedGate | None:
    """A fused feed-forward layer with the weights of another; None: it would not compute the same."""
    linear = [getattr(own, name, None) for name in ("gate_proj", "up_proj", "down_proj")]
    if not all(type(one) is nn.Linear for one in linear) or not _is_plain(own, arguments=1):
        return None
    activation = _activation(getattr(own, "act_fn", None))
    if activation is None:
        return None
    fused = FusedGate(functions.gated, own, activation)
    weight = cast(nn.Linear, own.gate_proj).weight
    return fused if _gate_computes_same(fused, own, weight) else None


def _activation(own: Any) -> str | None:
    if isinstance(own, nn.SiLU | SiLUActivation):
        return "silu"
    is_tanh = isinstance(own, GELUTanh) or (isinstance(own, nn.GELU) and own.approximate == "tanh")
    return "gelu" if is_tanh else None


@torch.inference_mode()
def _gate_computes_same(fused: FusedGate, own: Any, weight: Tensor) -> bool:
    """Whether the activation agrees in float32 on small and large values, and the whole layer in its own dtype."""
    for count in COUNTS:
        gate, up = (_random(count, width, like=weight).float() * 8 for width in (64, 64))
        if not _near(fused.function(gate, up, fused.activation), own.act_fn(gate) * up, torch.float32):
            return False
        hidden = _random(count, weight.shape[1], like=weight)[None]
        if not _near(fused(hidden), own(hidden), weight.dtype, roundings=4):
            return False
    return True


def _rotating_forward(module: nn.Module, functions: Functions) -> Callable | None:
    """An attention layer's forward with a fused rotary embedding; None: it has none, or another one.

    transformers' layers call it by its name in their file; only this function gets another one under that name.
    """
    if not _is_rotated(module):
        return None
    forward = cast(FunctionType, inspect.unwrap(type(module).forward))
    own = forward.__globals__[ROTARY]
    weight = next((parameter for parameter in module.parameters() if parameter.ndim == 2), None)
    if weight is None or not _rotary_computes_same(functions, own, weight):
        return None

    def rotate(query: Tensor, key: Tensor, cos: Tensor, sin: Tensor, *arguments: Any, **options: Any) -> Any:
        fits = cos.ndim == 3 and cos.shape[-1] == query.shape[-1] and query.stride(-1) == key.stride(-1) == 1
        if arguments or options.get("unsqueeze_dim", 1) != 1 or not fits or cos.shape[1] != query.shape[2]:
            return own(query, key, cos, sin, *arguments, **options)
        return functions.rotate(query, key, cos, sin)

    replaced = FunctionType(
        forward.__code__, forward.__globals__ | {ROTARY: rotate}, forward.__name__, forward.__defaults__,
        forward.__closure__,
    )  # fmt: skip
    replaced.__kwdefaults__ = forward.__kwdefaults__
    return replaced


def _is_rotated(module: nn.Module) -> bool:
    """Whether a module's forward calls a rotary embedding by transformers' name for it."""
    forward = inspect.unwrap(type(module).forward)
    code = getattr(forward, "__code__", None)
    named = code is not None and ROTARY in code.co_names and ROTARY in forward.__globals__
    return named and "forward" not in vars(module)


@torch.inference_mode()
def _rotary_computes_same(functions: Functions, own: Callable, weight: Tensor) -> bool:
    """Whether the fused rotary embedding agrees with a model's, for heads as models lay them out."""
    for count, dtype in product(COUNTS, (torch.float32, weight.dtype)):
        sizes = ((4, 64), (2, 32))
        query, key = (
            _random(count, width, like=weight).view(1, count, heads, 16).transpose(1, 2) for heads, width in sizes
        )
        cos, sin = (_random(count, 16, like=weight)[None] for _ in range(2))
        states = [one.to(dtype) for one in (query, key, cos, sin)]
        try:
            first, second = own(*states)
        except (RuntimeError, TypeError, ValueError, IndexError):  # it takes other angles
            return False
        rotated = zip(functions.rotate(*states), (first, second), strict=True)
        if not all(_near(mine, other, dtype, roundings=2) for mine, other in rotated):
            return False
    return True


def _random(rows: int, width: int, like: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(width)
    return torch.randn(rows, width, generator=generator).to(like.device, like.dtype)


def _near(mine: Tensor, other: Any, dtype: torch.dtype, roundings: int = 1) -> bool:
    """Whether two results agree but for roundings of each row's largest value; a NaN on either side fails."""
    if not isinstance(other, Tensor):
        return False
    if (mine.shape, mine.dtype, mine.device) != (other.shape, other.dtype, other.device):
        return False
    mine, other = mine.float(), other.float()
    allowed = roundings * ALLOWED.get(dtype, 0.0) * other.abs().amax(dim=-1, keepdim=True)
    return bool(((mine - other).abs() <= allowed).all())
