"""The package's loops in C, compiled by the machine's C compiler in about a second and kept for the next process."""

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch


FOLDER = Path(__file__).parent
COMPILERS = ("cc", "gcc", "clang")
# Named one by one and not "what this machine has": the machines of a cluster may share a home directory.
FLAGS = (
    "-O3", "-fno-math-errno", "-shared", "-fPIC", "-fopenmp", "-mfma", "-mavx512f", "-mavx512bw", "-mavx512vl",
    "-mavx512dq", "-mavx512bf16",
)  # fmt: skip
SECONDS_TO_COMPILE = 60


def has_instructions(*kinds: str) -> bool:
    """Whether this machine's processor has instructions by torch's names for them, such as "avx512_bf16"."""
    checks = [getattr(torch.cpu, f"_is_{kind}_supported", None) for kind in kinds]
    return platform.system() == "Linux" and all(check is not None and check() for check in checks)


def compiled(name: str, signatures: Mapping[str, Sequence[Any]], flags: Sequence[str] = ()) -> ctypes.CDLL:
    """A file of C code, loaded.

    The compiled code is kept in ~/.cache/datatrove-quality/kernels.

    Args:
        name: of the file, without its ending.
        signatures: the types of each function's arguments. The functions give an int, or nothing.
        flags: of the compiler, besides `FLAGS`.

    Raises:
        OSError: there is no C compiler, or it fails; the message has its words.
    """
    compiler = next(filter(None, map(shutil.which, [*filter(None, [os.environ.get("CC")]), *COMPILERS])), None)
    if compiler is None:
        raise OSError("there is no C compiler (cc, gcc, clang, or what CC names)")
    command = [compiler, *FLAGS, *flags, str(FOLDER / f"{name}.c")]
    version = subprocess.run([compiler, "--version"], capture_output=True, check=False, timeout=SECONDS_TO_COMPILE)
    sources = [path.read_bytes() for path in (FOLDER / f"{name}.c", *sorted(FOLDER.glob("*.h")))]
    made_of = b"\0".join([*sources, " ".join(command[:-1]).encode(), version.stdout])
    path = _folder() / f"{name}-{hashlib.sha256(made_of).hexdigest()[:32]}.so"
    if not path.exists():
        _compile(command, path)
    loaded = ctypes.CDLL(str(path))
    for function, types in signatures.items():
        getattr(loaded, function).argtypes = types
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


def _compile(command: list[str], path: Path) -> None:
    """Compile to a file beside, then rename: another process may do the same."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        made = Path(folder, path.name)
        try:
            done = subprocess.run(
                [*command, "-o", str(made)], capture_output=True, text=True, check=False, timeout=SECONDS_TO_COMPILE
            )
        except subprocess.TimeoutExpired as error:
            raise OSError(f"{command[0]} takes longer than {SECONDS_TO_COMPILE} s") from error
        if done.returncode != 0:
            raise OSError(f"{command[0]} fails: {done.stderr.strip()[-200:]}")
        made.replace(path)
