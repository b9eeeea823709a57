"""CUDA tensors without CUDA: torch's FakeTensorMode computes devices, dtypes, shapes and strides, and no values.

Fake tensors refuse operands on two devices, wrong shapes, and operations whose output shape depends on values.
`_Operations` adds what only a real device would show, late or never: calls that make the host wait for it.

The CPU build of torch refuses three parts of the path even with fake tensors, so that they have stand-ins here:

- Whatever enters a CUDA device guard, such as indexing with `[]`: the guard is compiled for CUDA alone. torch replaces
  it by one that does nothing in a CUDA build without a GPU. Here it borrows the one of the meta device.
- `pin_memory`, which FakeTensorMode does not implement. The stand-in remembers which host tensors are pinned.
- `torch.cuda.Event`, `device`, `set_device` and `mem_get_info`, which are dummies in that build.
"""

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only


aten = torch.ops.aten
# Their fake versions take any dtypes.
PRODUCTS = (aten.mm.default, aten.addmm.default, aten.bmm.default, aten.baddbmm.default)
GUARDS = "_ZN3c104impl26device_guard_impl_registryE"
CUDA, META = 1, 14  # torch's numbers of device types
GIGABYTE = 10**9


def int_products_of_cuda(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Have `torch._int_mm` take what it takes on CUDA alone; gets the rows of each product."""
    product, rows = torch._int_mm, []

    def checked(left: Tensor, right: Tensor) -> Tensor:
        assert left.dtype == right.dtype == torch.int8 and left.device == right.device
        assert len(left) > 16 and left.is_contiguous() and right.t().is_contiguous()
        assert all(width > 0 and width % 8 == 0 for width in right.shape)
        rows.append(len(left))
        return product(left, right)

    monkeypatch.setattr(torch, "_int_mm", checked)
    return rows


class Mistake(AssertionError):
    """A real device would refuse this, or the host would wait for it where it should prepare the next batch."""


class _Operations(TorchDispatchMode):
    """Computes what is the host's, with values, and what is a device's, without.

    Args:
        mode: makes tensors fake.
        calls: gets what is called, in order.
        may_wait: whether operations that wait for a device do not raise `Mistake`, but give zeros.
    """

    def __init__(self, mode: FakeTensorMode, calls: list[str], may_wait: bool):
        super().__init__()
        self.mode = mode
        self.may_wait = may_wait
        self.calls = calls
        self.pinned: set[int] = set()  # storages of host tensors
        self.copied: set[int] = set()  # storages of host tensors that a device writes to
        self.kept: list[Tensor] = []  # so that no storage is used again

    def __torch_dispatch__(self, function: Any, types: Any, arguments: tuple = (), options: Any = None) -> Any:
        options = options or {}
        if function.namespace == "prim":  # what a tensor knows about itself
            return function(*arguments, **options)
        with self:  # in inference mode, composite operations come here whole
            parts = function.decompose(*arguments, **options)
        if parts is not NotImplemented:
            return parts
        if function == aten._pin_memory.default:
            with unset_fake_temporarily():
                return self._remembered(arguments[0].clone(), self.pinned)
        if function == aten._local_scalar_dense.default and isinstance(arguments[0], FakeTensor):
            return self._read(arguments[0])
        if self._is_the_hosts(arguments, options):
            with unset_fake_temporarily():
                return function(*arguments, **options)
        if function == aten.copy_.default:
            self._check_copy(arguments[1], arguments[0].device, (*arguments, False)[2] or options.get("non_blocking"))
        elif function == aten._to_copy.default:
            self._check_copy(arguments[0], options.get("device"), options.get("non_blocking"))
        else:
            self._check_one_device(function, arguments)
        if function in PRODUCTS and len({one.dtype for one in arguments if isinstance(one, Tensor)}) > 1:
            raise Mistake(f"{function} gets {', '.join(str(one.dtype) for one in arguments)}")
        arguments, options = tree_map_only(Tensor, self._fake, (arguments, options))
        result = function(*arguments, **options)
        if function == aten._to_copy.default and result.device.type == "cpu" != arguments[0].device.type:
            self._remembered(result, self.copied)
        return result

    @staticmethod
    def _is_the_hosts(arguments: tuple, options: dict[str, Any]) -> bool:
        """Whether an operation is the host's alone: it is computed, with values."""
        given = [one for one in tree_leaves((arguments, options)) if isinstance(one, Tensor)]
        device = torch.device(options.get("device") or "cpu")
        return device.type == "cpu" and not any(isinstance(one, FakeTensor) for one in given)

    def _fake(self, tensor: Tensor) -> Tensor:
        return tensor if isinstance(tensor, FakeTensor) else self.mode.from_tensor(tensor)

    def _remembered(self, tensor: Tensor, storages: set[int]) -> Tensor:
        self.kept.append(tensor)
        storages.add(tensor.untyped_storage()._cdata)
        return tensor

    def _read(self, tensor: Tensor) -> float:
        zero = 0.0 if tensor.is_floating_point() else 0  # fake tensors have no values
        if self.may_wait:
            return zero
        if tensor.untyped_storage()._cdata not in self.copied:
            raise Mistake(f"a value of a tensor on {tensor.device} is read")
        if self.calls[-1] != "synchronize event":
            raise Mistake("the host copy is read before its event was waited for")
        return zero

    def _check_copy(self, source: Tensor, target: torch.device | None, non_blocking: bool | None) -> None:
        if target is None or target.type == source.device.type:
            return
        if self.may_wait:
            return
        if not non_blocking:
            raise Mistake(f"a copy from {source.device} to {target} without non_blocking=True")
        if source.device.type == "cpu" and source.untyped_storage()._cdata not in self.pinned:
            raise Mistake(f"a copy to {target} from memory that is not pinned")
        self.calls.append(f"copy to {target}")

    @staticmethod
    def _check_one_device(function: Any, arguments: tuple) -> None:
        """Indices on the host are allowed, and copied to the device, blocking; also where a fake tensor lets them."""
        devices = {one.device for one in tree_leaves(arguments) if isinstance(one, Tensor) and one.ndim > 0}
        if len(devices) > 1:
            raise Mistake(f"{function} gets tensors on {', '.join(sorted(map(str, devices)))}")


class FakeCuda:
    """Two fake GPUs.

    Args:
        monkeypatch: replaces what the CPU build lacks.

    Attributes:
        calls: what was called in `asynchronous`, in order, such as "record event" and "copy to cuda:0".
        current: the device to which kernels go that do not look where their tensors are.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.calls: list[str] = []
        self.current = torch.device("cuda:0")
        calls = self.calls

        class Event:
            def __init__(self, **options: Any):
                assert options.get("blocking"), "waiting for an event without blocking=True takes a core"

            def record(self) -> None:
                calls.append("record event")

            def synchronize(self) -> None:
                calls.append("synchronize event")

        def synchronize(*_: Any) -> None:
            raise Mistake("torch.cuda.synchronize is called")

        def set_device(device: torch.device) -> None:
            calls.append(f"set_device {device}")
            self.current = device

        @contextmanager
        def current_device(device: torch.device) -> Iterator[None]:
            before, self.current = self.current, device
            try:
                yield
            finally:
                self.current = before

        stand_ins: dict[str, Callable] = {
            "Event": Event,
            "set_device": set_device,
            "synchronize": synchronize,
            "mem_get_info": lambda device: (100 * GIGABYTE, 140 * GIGABYTE),
            "memory_reserved": lambda device: 0,
            "memory_allocated": lambda device: 0,
            "get_device_capability": lambda device=None: (9, 0),
            "device": current_device,
        }
        for name, stand_in in stand_ins.items():
            monkeypatch.setattr(torch.cuda, name, stand_in)
        # What varlen_attn of torch 2.15 asks the driver before it looks at the window.
        monkeypatch.setattr(torch._C, "_is_cudnn_attention_decode_disabled", lambda: False, raising=False)
        # A copied tensor would bring a copied mode, whose tensors do not mix with others.
        monkeypatch.setattr(FakeTensorMode, "__deepcopy__", lambda mode, memo: mode, raising=False)
        self._mode = FakeTensorMode()

        self._require_tensors()

    def _require_tensors(self) -> None:
        """Skip the test where a CUDA build of torch makes no fake CUDA tensors without a driver, as 2.6 does not."""
        try:
            with _guard(), self._mode:
                torch.ones(2, device="cuda")[0]
        except RuntimeError as error:
            if torch.version.cuda is None:
                raise
            pytest.skip(f"torch {torch.__version__} makes no fake CUDA tensors here: {str(error).splitlines()[0]}")

    @contextmanager
    def tensors(self) -> Iterator[None]:
        """Tensors are fake, values zero; calls that wait are allowed, as where a model is loaded."""
        with _guard(), self._mode, _Operations(self._mode, self.calls, may_wait=True):
            yield

    @contextmanager
    def asynchronous(self) -> Iterator[list[str]]:
        """Tensors are fake; calls that wait for the device raise `Mistake`. Gives `calls`, empty."""
        self.calls.clear()
        with _guard(), self._mode, _Operations(self._mode, self.calls, may_wait=False):
            yield self.calls


@contextmanager
def _guard() -> Iterator[None]:
    """Have CUDA's device guard, which the CPU build does not have, do nothing."""
    if torch.version.cuda is not None:
        yield  # FakeTensorMode sees to it
        return
    (library,) = (Path(torch.__file__).parent / "lib").glob("libc10.*")
    guards = (ctypes.c_void_p * (META + 1)).in_dll(ctypes.CDLL(str(library)), GUARDS)
    before = guards[CUDA]
    guards[CUDA] = guards[META]
    try:
        yield
    finally:
        guards[CUDA] = before
