"""The table at the end of gpu_visit.sh: what was measured, what failed, what was skipped."""

import json
import sys
from pathlib import Path
from typing import Any


def main(folder: str) -> None:
    """Print a line for each step of a visit, and below it what it measured.

    Args:
        folder: with `steps.tsv` and the steps' results.
    """
    for line in Path(folder, "steps.tsv").read_text().splitlines():
        name, state, seconds = line.split("\t")
        print(f"{name:<16} {seconds:>4} s  {state}")
        for said in found(Path(folder), name):
            print(f"{'':<24}{said}")


def found(folder: Path, name: str) -> list[str]:
    """What a step measured, in lines; where it did not come to its result, the last that it said."""
    path = folder / f"{name}.json"
    if path.exists():
        return said(json.loads(path.read_text()))
    output = folder / f"{name}.out"
    lines = output.read_text(errors="replace").splitlines() if output.exists() else []
    return lines[-1:]


def said(result: dict[str, Any]) -> list[str]:
    """A result in lines."""
    if result["kind"] == "comparison":
        lines = [f"matrix rate {result['matrix_rate'] / 1e12:,.3g} TFLOP/s, {result['dtype']}"]
        return lines + [_contender(name, one) for name, one in result["contenders"].items()]
    if result["kind"] == "shared-prefixes":
        return [_load(name, one) for name, one in result["loads"].items()]
    if result["kind"].startswith("cascades"):
        return [_cascade(name, result) for name in result["rescored"]]
    if result["kind"] == "profile":
        return [_profile(name, result[name]) for name in ("fused", "plain") if name in result]
    if result["kind"] == "simulated-gpus":
        return [f"{one['gpus']} simulated GPUs idle {one['runs'][-1]['idle']:.1%}" for one in result["gpus"]]
    return []


def _contender(name: str, one: dict[str, Any]) -> str:
    if "seconds" not in one:
        return f"{name}: {(one['error'] or 'no turn within the limit').splitlines()[0]}"
    times = f", {one['times_annotator']:.1f} times the annotator" if one["times_annotator"] else ""
    share = f"{one['share_of_matrix_rate']:.2f} of the matrix rate"
    return f"{name}: {one['documents_per_second']:.4g} documents/s, {share}{times}"


def _load(name: str, one: dict[str, Any]) -> str:
    difference = f"{one['largest_difference_to_card']:.0e} from the card's scores"
    return f"{name}: {one['times_as_fast_as']['earlier']:.2f} times as fast as without sharing, {difference}"


def _cascade(name: str, result: dict[str, Any]) -> str:
    if name in result["refused"]:
        return f"{name}: {result['refused'][name]}"
    certified = ", ".join(f"{bound:.3%}" for bound in result["certified"][name])
    return f"{name}: {result['times_as_fast'][name]:.2f} times as fast as the classifier alone, certified {certified}"


def _profile(name: str, one: dict[str, Any]) -> str:
    shares = (f"{kind} {seconds / one['seconds']:.0%}" for kind, seconds in one["by_kind"].items())
    return f"{name}: {one['tokens'] / one['seconds']:,.0f} tokens/s: {', '.join(shares)}"


if __name__ == "__main__":
    main(sys.argv[1])
