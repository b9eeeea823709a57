"""Processes that hold GPUs; classifiers that a test may damage, in a process that has read none."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from lease_holder import HOLDER

from datatrove_quality.model import digests


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


@pytest.fixture
def new_process(tmp_path_factory, monkeypatch):
    """Nothing is known of any file, as in a new process of a new user."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setattr(digests, "_read_here", {})


@pytest.fixture
def folder(tmp_path, model_folder):
    """A classifier that a test may damage."""
    return Path(shutil.copytree(model_folder("qwen3"), tmp_path / "model"))
