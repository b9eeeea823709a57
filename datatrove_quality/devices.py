"""Which device this process computes on. The device is never a surprise: a GPU that cannot be used is an error."""

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from loguru import logger


if TYPE_CHECKING:
    import torch


NVIDIA_VERSION_FILE = Path("/proc/driver/nvidia/version")


def choose_device(requested: str) -> "torch.device":
    """Turn a config's `device` into a device that works.

    Args:
        requested: "auto" (CUDA, else MPS, else CPU), "cuda", "cuda:<index>", "mps" or "cpu".

    Returns:
        The device; for CUDA always with its index.

    Raises:
        ValueError: the device is not there, or a GPU was allocated or is there and torch cannot use it.
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


def native_dtype(device: "torch.device", dtype: "torch.dtype") -> bool:
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


def _cuda_device(requested: str) -> "torch.device":
    import torch

    if not torch.cuda.is_available():
        raise ValueError(
            f"device={requested!r}: {_why_no_cuda()} Install a torch build for this driver (README, Versions), "
            "or set device='cpu' to compute without the GPU."
        )
    count = torch.cuda.device_count()
    index = int(requested.partition(":")[2] or 0)
    if index >= count:
        raise ValueError(f"device={requested!r}: this process sees {count} GPU(s), the last is 'cuda:{count - 1}'.")
    if requested == "auto" and count > 1:
        logger.warning(f"{count} GPUs are visible and this process uses the first; run one task per GPU.")
    return torch.device("cuda", index)


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
