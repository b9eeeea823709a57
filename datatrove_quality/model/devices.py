"""Which device this process computes on. The device is never a surprise: a GPU that cannot be used is an error."""

import multiprocessing
import os
import re
import shutil
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast


if TYPE_CHECKING:
    import torch


NVIDIA_VERSION_FILE = Path("/proc/driver/nvidia/version")


def choose_devices(requested: str) -> list["torch.device"]:
    """The devices that are this process's to compute on, until it ends; a second call gives the same.

    What "auto" and "cuda" are follows from who runs the process, which DATATROVE_EXECUTOR says:

    - the SLURM executor: every GPU that the scheduler made visible.
    - the Ray executor: the same, divided among the ranks that the job runs at once.
    - a worker process of the local executor, or any other process that Python's multiprocessing started: one GPU of
      its own.
    - a single process, under the local executor or by itself: every GPU that no other process has taken.

    Where no GPU is free the process shares the one that the fewest others have, with a warning. Only processes of this
    package know of each other, and only those of one user on one machine.

    Args:
        requested: "auto" (CUDA, else MPS, else CPU), "cuda" (one GPU), "cuda:<index>", "mps" or "cpu".

    Returns:
        One device or several; for CUDA each with its index among those that are visible.

    Raises:
        ValueError: the device is not there, or a GPU was allocated or is there and torch cannot use it.
    """
    import torch

    device = any_device(requested)
    if device.type != "cuda":
        return [device]
    from datatrove_quality.model import leases

    gpus = _visible_gpus()
    if requested not in ("auto", "cuda"):
        chosen = [cast(int, device.index)]
        leases.register([gpus[index] for index in chosen])
    elif requested == "auto" and os.environ.get("DATATROVE_EXECUTOR") == "SLURM":
        chosen = list(range(len(gpus)))
        leases.register(gpus)
    else:
        most, advice = _share(len(gpus))
        chosen = leases.lease(gpus, 1 if requested == "cuda" else most, advice)
    return [torch.device("cuda", index) for index in chosen]


def any_device(requested: str) -> "torch.device":
    """A device of the kind that `choose_devices` gives, without taking it: to tell what will be computed in.

    Args:
        requested: as for `choose_devices`.

    Raises:
        ValueError: as `choose_devices`.
    """
    import torch

    if requested == "cpu":
        return torch.device("cpu")
    if requested == "mps" or (requested == "auto" and not _gpu_is_there() and torch.backends.mps.is_available()):
        if not torch.backends.mps.is_available():
            raise ValueError(f"device='mps': torch {torch.__version__} finds no MPS device; set device='auto'.")
        return torch.device("mps")
    if requested == "auto" and not torch.cuda.is_available() and not _gpu_is_there():
        return torch.device("cpu")
    return _cuda_device(requested)


def processes_sharing(device: "torch.device") -> int:
    """How many processes have taken a device, this one included; 1 where it is no GPU.

    The number may grow as others start.
    """
    if device.type != "cuda":
        return 1
    from datatrove_quality.model import leases

    return max(1, len(leases.holders(_visible_gpus()[device.index])))


def is_native_dtype(device: "torch.device", dtype: "torch.dtype") -> bool:
    """Whether the device multiplies matrices of this dtype in hardware, so that it is worth using."""
    import torch

    if dtype not in (torch.float16, torch.bfloat16):
        return dtype == torch.float32
    if device.type == "cuda":
        return dtype == torch.float16 or torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        names = {torch.bfloat16: ("_is_avx512_bf16_supported",), torch.float16: ("_is_amx_fp16_supported",)}
        checks = (getattr(torch.cpu, name, None) for name in names.get(dtype, ()))
        return any(check() for check in checks if check is not None)
    return dtype == torch.float16


def current_device(device: "torch.device") -> AbstractContextManager[Any]:
    """A block in which a device is the current one: Triton's kernels go to that, whatever their tensors are on."""
    import torch

    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device had too little memory: CUDA has a type for it; MPS, cuBLAS and the CPU have only words."""
    words = ("out of memory", "can't allocate memory", "alloc_failed")
    torch = sys.modules.get("torch")  # it takes seconds to import, and raises nothing where it is not
    kinds = (MemoryError, torch.OutOfMemoryError) if torch else (MemoryError,)
    return isinstance(error, kinds) or any(word in str(error).lower() for word in words)


def _cuda_device(requested: str) -> "torch.device":
    import torch

    if not torch.cuda.is_available():
        raise ValueError(
            f"device={requested!r}: {_why_no_cuda()} Install a torch build for this driver (pytorch.org/get-started), "
            "or set device='cpu' to compute without the GPU."
        )
    count = torch.cuda.device_count()
    index = int(requested.partition(":")[2] or 0)
    if index >= count:
        raise ValueError(f"device={requested!r}: this process sees {count} GPU(s), the last is 'cuda:{count - 1}'.")
    return torch.device("cuda", index)


def _visible_gpus() -> list[str]:
    """What tells each visible GPU from all others of the machine, in torch's order."""
    import torch

    properties = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    # Builds for other makers' GPUs may know no UUID.
    return [str(getattr(gpu, "uuid", f"index-{index}")) for index, gpu in enumerate(properties)]


def _share(visible: int) -> tuple[int | None, str]:
    """How many of the visible GPUs this process may take (None: all that are free), and what to set if none is."""
    if os.environ.get("DATATROVE_EXECUTOR") == "RAY":
        ranks = _processes_of_parent()
        return max(1, visible // ranks), f"This Ray job runs {ranks} tasks at once: set tasks_per_job={visible}."
    # DataTrove starts its workers with the package multiprocess, a copy of Python's own.
    modules = (multiprocessing, sys.modules.get("multiprocess"))
    if any(module.parent_process() is not None for module in modules if module is not None):
        return 1, f"Set workers={visible}, the number of GPUs."
    return None, "Set CUDA_VISIBLE_DEVICES to the GPUs that are for this process, or end the others."


def _processes_of_parent() -> int:
    """How many processes this one's parent has started and that still run: the ranks of a Ray job, in its pool."""
    lists = Path(f"/proc/{os.getppid()}/task").glob("*/children")
    children = [child for file in lists for child in file.read_text().split()]
    own = _program("self")
    return max(1, sum(_program(child) == own for child in children))


def _program(process: str) -> bytes:
    """What a process runs: the workers of a pool run the same, but for numbers, and other programs do not."""
    try:
        return re.sub(rb"\d+", b"", Path(f"/proc/{process}/cmdline").read_bytes())
    except OSError:  # it has ended
        return b""


def _gpu_is_there() -> bool:
    """Whether this machine has an NVIDIA GPU, or a scheduler gave one to this process, whatever torch thinks."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return visible.strip() not in ("", "-1", "NoDevFiles")
    return NVIDIA_VERSION_FILE.exists() or shutil.which("nvidia-smi") is not None


def _why_no_cuda() -> str:
    import torch

    build = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "a build without CUDA"
    return f"torch {torch.__version__} ({build}) cannot use a GPU here; {_driver_version()}."


def _driver_version() -> str:
    """What the NVIDIA driver calls itself, read without torch, since torch may be what is wrong."""
    try:
        words = NVIDIA_VERSION_FILE.read_text().split()
    except OSError:
        return "no NVIDIA driver was found"
    numbers = [word for word in words if word[:1].isdigit() and "." in word]
    return f"the NVIDIA driver is {numbers[0]}" if numbers else "the NVIDIA driver does not name its version"
