"""Norm, rotary embedding and gated activation on CPUs with AVX-512 and bfloat16, as one loop each.

transformers' code for these reads and writes each value up to nine times, which in bfloat16 takes longer than the
matrix products (benchmarks/EXPERIMENTS.md). The loops are compiled from cpu_kernels.c by the machine's C compiler in
about a second, and kept for the next process in ~/.cache/datatrove-quality/kernels.
"""

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import torch
from torch import Tensor


SOURCE = Path(__file__).with_suffix(".c")
COMPILERS = ("cc", "gcc", "clang")
# Named one by one and not "what this machine has": the machines of a cluster may share a home directory.
FLAGS = (
    "-O3", "-fno-math-errno", "-shared", "-fPIC", "-fopenmp", "-mfma", "-mavx512f", "-mavx512bw", "-mavx512vl",
    "-mavx512dq", "-mavx512bf16",
)  # fmt: skip
SECONDS_TO_COMPILE = 60
# With fewer values, starting other threads takes longer than the loop.
MIN_VALUES_FOR_THREADS = 2**14
_POINTER, _COUNT, _NUMBER, _REAL = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int, ctypes.c_float
SIGNATURES = {
    "norm": (*[_POINTER] * 3, _COUNT, _COUNT, _REAL, _REAL, _NUMBER, _NUMBER),
    "rotate": (*[_POINTER] * 4, *[_COUNT] * 5, _NUMBER, _NUMBER),
    "gated": (*[_POINTER] * 3, _COUNT, _NUMBER, _NUMBER, _NUMBER),
}
DTYPES = (torch.float32, torch.bfloat16)


def is_supported() -> bool:
    """Whether this machine's processor can run the loops."""
    check = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return platform.system() == "Linux" and check is not None and bool(check())


@cache
def library() -> ctypes.CDLL:
    """The compiled loops.

    Raises:
        OSError: there is no C compiler, or it fails; the message has its words.
    """
    compiler = next(filter(None, map(shutil.which, [*filter(None, [os.environ.get("CC")]), *COMPILERS])), None)
    if compiler is None:
        raise OSError("there is no C compiler (cc, gcc, clang, or what CC names)")
    version = subprocess.run([compiler, "--version"], capture_output=True, check=False, timeout=SECONDS_TO_COMPILE)
    made_of = b"\0".join([SOURCE.read_bytes(), " ".join(FLAGS).encode(), compiler.encode(), version.stdout])
    path = _folder() / f"{hashlib.sha256(made_of).hexdigest()[:32]}.so"
    if not path.exists():
        _compile(compiler, path)
    loaded = ctypes.CDLL(str(path))
    for name, types in SIGNATURES.items():
        function = getattr(loaded, name)
        function.argtypes, function.restype = types, None
    return loaded


def _folder() -> Path:
    """Where compiled code is kept; for this process alone where the home directory cannot be written to."""
    kept = Path("~/.cache/datatrove-quality/kernels").expanduser()
    try:
        kept.mkdir(parents=True, exist_ok=True)
        if os.access(kept, os.W_OK):
            return kept
    except (OSError, RuntimeError):
        pass
    return Path(tempfile.mkdtemp(prefix="datatrove-quality-"))


def _compile(compiler: str, path: Path) -> None:
    """Compile to a file beside, then rename: another process may do the same."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        made = Path(folder, path.name)
        command = [compiler, *FLAGS, "-o", str(made), str(SOURCE)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS_TO_COMPILE)
        except subprocess.TimeoutExpired as error:
            raise OSError(f"{compiler} takes longer than {SECONDS_TO_COMPILE} s") from error
        if done.returncode != 0:
            raise OSError(f"{compiler} fails: {done.stderr.strip()[-200:]}")
        made.replace(path)


def norm(rows: Tensor, weight: Tensor, epsilon: float, offset: float) -> Tensor:
    """RMSNorm over the last dimension.

    Args:
        rows: (..., width).
        weight: (width,).
        epsilon: added to the mean square.
        offset: added to the weight, 0 or 1.
    """
    rows, weight = rows.contiguous(), weight.contiguous()
    output = torch.empty_like(rows)
    width = rows.shape[-1]
    if weight.shape != (width,):
        raise ValueError(f"a weight of shape {tuple(weight.shape)} for rows of {width}")
    half = _is_half(rows, weight)
    count = rows.numel() // width
    library().norm(*_at(rows, weight, output), count, width, epsilon, offset, half, _threads(rows))
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
    if dim % 2 or cos.shape != sin.shape or cos.shape[1:] != (tokens, dim) or len(cos) not in (1, batch):
        raise ValueError(f"angles of shapes {tuple(cos.shape)} and {tuple(sin.shape)} for {tuple(states.shape)}")
    output = torch.empty_like(states)
    if output.stride() != states.stride():
        states = states.contiguous()
        output = torch.empty_like(states)
    half = _is_half(states, cos, sin)
    cos, sin = (one.expand(batch, -1, -1).contiguous() for one in (cos, sin))
    for of_states, of_cos, of_sin, of_output in zip(states, cos, sin, output, strict=True):
        strides = states.stride(2), states.stride(1)
        pointers = _at(of_states, of_cos, of_sin, of_output)
        library().rotate(*pointers, tokens, heads, dim, *strides, half, _threads(of_states))
    return output


def gated(gate: Tensor, up: Tensor, activation: str) -> Tensor:
    """`activation(gate) * up`, where the activation is "silu" or "gelu" (by tanh)."""
    gate, up = gate.contiguous(), up.contiguous()
    if gate.shape != up.shape:
        raise ValueError(f"a gate of shape {tuple(gate.shape)} for {tuple(up.shape)}")
    output = torch.empty_like(gate)
    half = _is_half(gate, up)
    library().gated(*_at(gate, up, output), gate.numel(), activation == "gelu", half, _threads(gate))
    return output


def _is_half(*tensors: Tensor) -> bool:
    """Whether tensors are bfloat16; else they are float32. The loops read memory by this."""
    dtypes = {one.dtype for one in tensors}
    if len(dtypes) != 1 or not dtypes <= set(DTYPES) or any(one.device.type != "cpu" for one in tensors):
        raise TypeError(f"tensors of {', '.join(map(str, dtypes))}: these functions take float32 or bfloat16 on a CPU")
    return dtypes == {torch.bfloat16}


def _at(*tensors: Tensor) -> list[int]:
    return [one.data_ptr() for one in tensors]


def _threads(tensor: Tensor) -> int:
    return 1 if tensor.numel() < MIN_VALUES_FOR_THREADS else torch.get_num_threads()
