"""Amounts as SLURM writes them."""

import re


def seconds(limit: str) -> int | None:
    """A time limit as SLURM writes it, such as 90, 8:00:00 or 2-12, in seconds; None for UNLIMITED and 0.

    Raises:
        ValueError: it is no time limit.
    """
    if limit.upper() in ("UNLIMITED", "INFINITE"):
        return None
    days, has_days, rest = limit.rpartition("-")
    parts = rest.split(":")
    if not all(part.isdecimal() for part in parts) or len(parts) > 3 or (has_days and not days.isdecimal()):
        raise ValueError(f"time={limit!r}: give minutes, or HOURS:MINUTES:SECONDS, or DAYS-HOURS[:MINUTES[:SECONDS]].")
    units: tuple[int, ...] = (3600, 60, 1) if has_days or len(parts) == 3 else (60, 1)
    total = sum(int(part) * unit for part, unit in zip(parts, units, strict=False))
    return int(days or 0) * 86_400 + total or None


def gibibytes(size: str) -> float:
    """An amount of memory as SLURM writes it, such as 500M or 32G, in GiB.

    Raises:
        ValueError: it is no amount of memory.
    """
    found = re.fullmatch(r"(\d+)([KMGT]?)B?", size.upper())
    if not found:
        raise ValueError(f"mem={size!r}: give a number with a unit, such as 32G.")
    return int(found[1]) * {"K": 2**-20, "M": 2**-10, "": 2**-10, "G": 1, "T": 2**10}[found[2]]
