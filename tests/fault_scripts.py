"""The scripts of tests/faults, started as `make faults` starts them."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any


ROOT = Path(__file__).resolve().parents[1]
# What the scripts import beside the package.
FOLDERS = ("tests", "tests/faults", "examples")


def start_fault_script(name: str, *arguments: Any) -> subprocess.CompletedProcess:
    """Run a script of tests/faults in a process of its own, and wait for it."""
    paths = [*(str(ROOT / folder) for folder in FOLDERS), os.environ.get("PYTHONPATH")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    command = [sys.executable, str(ROOT / f"tests/faults/{name}.py"), *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500, check=False)
