"""The package's loops in C, compiled by the machine's C compiler in about a second and kept for the next process."""

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from datatrove_quality.atomic_write import write_atomic
from datatrove_quality.model.digests import cache_folder


FOLDER = Path(__file__).parent
COMPILERS = ("cc", "gcc", "clang")
# Named one by one and not "what this machine has": the machines of a cluster may share a home directory.
FLAGS = (
    "-O3", "-fno-math-errno", "-shared", "-fPIC", "-fopenmp", "-mfma", "-mavx512f", "-mavx512bw", "-mavx512vl",
    "-mavx512dq", "-mavx512bf16",
)  # fmt: skip
SECONDS_TO_COMPILE = 60


def has_instructions(*kinds: str) -> bool:
    """Whether this machine's processor has instructions by Linux's names for them, such as "avx512_bf16"."""
    return platform.machine() == "x86_64" and _instructions().issuperset(kinds)


@cache
def _instructions() -> frozenset[str]:
    """What the system says of its first processor."""
    with suppress(OSError), open("/proc/cpuinfo") as file:
        return frozenset(next((line.split() for line in file if line.startswith("flags")), ()))
    return frozenset()


def compiled(name: str, signatures: Mapping[str, Sequence[Any]], flags: Sequence[str] = ()) -> ctypes.CDLL:
    """A file of C code, loaded.

    The compiled code is kept in ~/.cache/datatrove-quality/kernels, also for nodes without a compiler.

    Args:
        name: of the file, without its ending.
        signatures: the types of each function's arguments. The functions give an int, or nothing.
        flags: of the compiler, besides `FLAGS`.

    Raises:
        OSError: there is no C compiler, or it fails; the message has its words.
    """
    sources = [path.read_bytes() for path in (FOLDER / f"{name}.c", *sorted(FOLDER.glob("*.h")))]
    made_of = b"\0".join([*sources, " ".join([*FLAGS, *flags]).encode()])
    kept = cache_folder("kernels") / f"{name}-{hashlib.sha256(made_of).hexdigest()[:32]}"
    code = _kept(kept)
    if code is None:
        code = _compile([*FLAGS, *flags, str(FOLDER / f"{name}.c")])
        with suppress(OSError):
            kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_atomic(kept, hashlib.sha256(code).digest() + code)
    # From memory: a file may be cut, replaced on another node (SIGBUS), or lie where nothing may be executed. It stays
    # open, since the loader knows libraries by their paths.
    file = os.memfd_create(name)
    with open(file, "wb", closefd=False) as out:
        out.write(code)
    loaded = ctypes.CDLL(f"/proc/self/fd/{file}")
    for function, types in signatures.items():
        getattr(loaded, function).argtypes = types
    return loaded


def _kept(path: Path) -> bytes | None:
    """Compiled code that this user has kept, whole; None: there is none."""
    with suppress(OSError), path.open("rb") as file:
        found = os.fstat(file.fileno())
        content = file.read()
        is_own = found.st_uid in (os.geteuid(), 0) and not found.st_mode & 0o022
        if is_own and hashlib.sha256(content[32:]).digest() == content[:32]:
            return content[32:]
    return None


def _compile(arguments: list[str]) -> bytes:
    compiler = next(filter(None, map(shutil.which, [*filter(None, [os.environ.get("CC")]), *COMPILERS])), None)
    if compiler is None:
        raise OSError("there is no C compiler (cc, gcc, clang, or what CC names)")
    with tempfile.TemporaryDirectory(prefix="datatrove-quality-") as folder:
        made = Path(folder, "made.so")
        try:
            done = subprocess.run(
                [compiler, *arguments, "-o", str(made)], capture_output=True, check=False, timeout=SECONDS_TO_COMPILE
            )
        except subprocess.TimeoutExpired as error:
            raise OSError(f"{compiler} takes longer than {SECONDS_TO_COMPILE} s") from error
        if done.returncode != 0 or not made.exists():
            raise OSError(f"{compiler} fails: {done.stderr.decode(errors='replace').strip()[-200:]}")
        return made.read_bytes()
