"""Steps that the tests put into pipelines; jobs import them from here."""

import json
import os
import time
from pathlib import Path

from datatrove.pipeline.base import PipelineStep


class Gate(PipelineStep):
    """Holds each task at its first document, until the test opens it.

    Args:
        folder: where a task says that it has come here, and where "open" appears.
    """

    name = "gate"
    type = "test"

    def __init__(self, folder: str):
        super().__init__()
        self.folder = folder

    def run(self, data, rank=0, world_size=1):
        for number, document in enumerate(data):
            if number == 0:
                Path(self.folder, f"rank-{rank}-process-{os.getpid()}").touch()
                while not Path(self.folder, "open").exists():
                    time.sleep(0.05)
            yield document


class Need(PipelineStep):
    """Fails unless a file is there.

    Args:
        path: of the file of the first task; those of the others need none.
    """

    name = "need"
    type = "test"

    def __init__(self, path: str):
        super().__init__()
        self.path = path

    def run(self, data, rank=0, world_size=1):
        if rank == 0:
            Path(self.path).read_text()
        yield from ()


class Devices(PipelineStep):
    """Writes down which GPUs a task would compute on, played on those that the scheduler made visible.

    Args:
        folder: where each task writes a file.
        together: how many processes must have theirs before one of them ends.
    """

    name = "devices"
    type = "test"

    def __init__(self, folder: str, together: int = 1):
        super().__init__()
        self.folder = folder
        self.together = together

    def run(self, data, rank=0, world_size=1):
        import torch

        from datatrove_quality.model import devices, leases

        visible = os.environ["CUDA_VISIBLE_DEVICES"].split(",")
        leases.lease_folder = lambda: Path(self.folder)
        devices.any_device = lambda requested: torch.device("cuda", 0)
        devices._visible_gpus = lambda: [f"GPU-{number}" for number in visible]
        chosen = [device.index for device in devices.choose_devices("auto")]
        Path(self.folder, f"process-{os.getpid()}").touch()
        while len(list(Path(self.folder).glob("process-*"))) < self.together:
            time.sleep(0.05)
        Path(self.folder, f"rank-{rank}").write_text(json.dumps([os.getpid(), visible, chosen]))
        yield from ()
