"""Processes that hold GPUs, for the tests of leases and of devices."""

import json
import subprocess
import sys

import pytest
from lease_holder import HOLDER


@pytest.fixture
def holder(tmp_path):
    """A function that starts a process which takes GPUs: `holder(gpus, most)` gives it and what it took."""
    started = []

    def start(gpus, most=1, *options):
        arguments = [sys.executable, "-c", HOLDER, json.dumps([gpus, most, str(tmp_path)]), *options]
        process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        started.append(process)
        return process, json.loads(process.stdout.readline())

    yield start
    for process in started:
        process.kill()
        process.communicate()
