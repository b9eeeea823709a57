"""The device is never a surprise: a GPU that cannot be used is an error, and two processes get two GPUs."""

import os
import subprocess
import sys
import time

import multiprocess
import multiprocess.pool
import pytest
import torch
from datatrove.executor import LocalPipelineExecutor

from datatrove_quality.model import devices, leases
from datatrove_quality.model.devices import any_device, choose_devices, is_native_dtype, processes_sharing


PROC_VERSION = (
    "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.54.03  Tue Jun  6 22:20:39 UTC 2023\n"
    "GCC version:  gcc version 11.4.0 (Ubuntu 11.4.0-1ubuntu1~22.04)\n"
)


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """Play a machine: `machine(gpus=..., driver=..., visible=...)`; `gpus` is how many torch can use."""

    def play(gpus=0, driver=False, visible=None, mps=False, driver_text=PROC_VERSION):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
        monkeypatch.setattr(devices.shutil, "which", lambda name: None)
        version = tmp_path / "version"
        if driver:
            version.write_text(driver_text)
        monkeypatch.setattr(devices, "NVIDIA_VERSION_FILE", version)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if visible is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)

    return play


def choose_device(requested):
    """What is chosen, without a lease; choosing with one must agree on all that needs no GPU."""
    if not torch.cuda.is_available():
        assert choose_devices(requested) == [any_device(requested)]
    return any_device(requested)


def test_auto_without_any_gpu_is_the_cpu(machine):
    """A machine without a GPU computes on the CPU, without an error."""
    machine()
    assert choose_device("auto") == torch.device("cpu")


@pytest.mark.parametrize("visible", [None, "0", "GPU-1234"])
def test_auto_raises_where_torch_cannot_use_the_gpu(machine, visible):
    """A driver older than the build must not turn a night of work into CPU time: both versions are named."""
    machine(driver=True, visible=visible)
    with pytest.raises(ValueError, match="device='auto'") as error:
        choose_device("auto")
    assert torch.__version__ in str(error.value)
    assert "535.54.03" in str(error.value)
    assert "device='cpu'" in str(error.value)


def test_an_allocated_gpu_without_driver_raises(machine):
    """A scheduler that gave a GPU to a node without a driver is an error, too."""
    machine(visible="0")
    with pytest.raises(ValueError, match="no NVIDIA driver was found"):
        choose_device("auto")


def test_a_strange_driver_file_is_still_a_clear_error(machine):
    """An unreadable version file does not hide the real problem."""
    machine(driver=True, driver_text="unknown\n")
    with pytest.raises(ValueError, match="does not name its version"):
        choose_device("auto")


def test_nvidia_smi_alone_shows_a_gpu(machine, monkeypatch):
    """Where /proc is hidden (containers, WSL), the driver's own program shows that a GPU is there."""
    machine()
    monkeypatch.setattr(devices.shutil, "which", lambda name: f"/usr/bin/{name}")
    with pytest.raises(ValueError, match="cannot use a GPU"):
        choose_device("auto")


@pytest.mark.parametrize("visible", ["", "-1", " ", "NoDevFiles"])
def test_hidden_gpus_mean_the_cpu(machine, visible):
    """Who hides the GPUs wants the CPU."""
    machine(driver=True, visible=visible)
    assert choose_device("auto") == torch.device("cpu")


def test_cpu_is_always_granted(machine):
    """An explicit CPU is a choice, whatever the machine has."""
    machine(driver=True, visible="0")
    assert choose_device("cpu") == torch.device("cpu")
    machine(gpus=2, driver=True)
    assert choose_device("cpu") == torch.device("cpu")


def test_cuda_without_cuda_raises(machine):
    """An explicit GPU is never replaced by something else."""
    machine()
    for requested in ("cuda", "cuda:1"):
        with pytest.raises(ValueError, match=f"device='{requested}'"):
            choose_device(requested)


def test_cuda_index_beyond_the_count(machine):
    """An index that is not there is named together with the last that is."""
    machine(gpus=2, driver=True)
    with pytest.raises(ValueError, match=r"device='cuda:7'.*2 GPU.*cuda:1"):
        choose_devices("cuda:7")


def test_cuda_devices_have_an_index(machine):
    """A device carries its index, so that two workers can be told apart."""
    machine(gpus=2, driver=True)
    assert choose_device("cuda") == torch.device("cuda", 0)
    assert choose_device("cuda:1") == torch.device("cuda", 1)


def test_auto_on_one_gpu(machine, log):
    """One visible GPU is used without a word."""
    machine(gpus=1, driver=True)
    assert choose_device("auto") == torch.device("cuda", 0)
    assert not log


def test_mps(machine):
    """MPS is taken where it is, and refused by name where it is not."""
    machine(mps=True)
    assert choose_device("auto") == choose_device("mps") == torch.device("mps")
    machine()
    with pytest.raises(ValueError, match="device='mps'"):
        choose_device("mps")


def test_float32_is_native_everywhere():
    """Float32 is never replaced."""
    assert is_native_dtype(torch.device("cpu"), torch.float32)
    assert is_native_dtype(torch.device("mps"), torch.float32)


@pytest.mark.parametrize(("capability", "native"), [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_bfloat16_needs_ampere(monkeypatch, capability, native):
    """A GPU that only emulates bfloat16 is not asked for it."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert is_native_dtype(torch.device("cuda", 0), torch.bfloat16) is native
    assert is_native_dtype(torch.device("cuda", 0), torch.float16)


@pytest.mark.parametrize("supported", [True, False])
def test_bfloat16_on_the_cpu_follows_the_processor(monkeypatch, supported):
    """The processor decides whether bfloat16 is worth computing in."""
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: supported, raising=False)
    assert is_native_dtype(torch.device("cpu"), torch.bfloat16) is supported


@pytest.fixture
def gpus(machine, monkeypatch, tmp_path):
    """Play a machine with GPUs that can be leased, in this process and those that it forks: `gpus(2)`."""
    monkeypatch.setattr(leases, "lease_folder", lambda: tmp_path)
    monkeypatch.setattr(leases, "_held", {})
    monkeypatch.delenv("DATATROVE_EXECUTOR", raising=False)

    def play(count):
        machine(gpus=count, driver=True)
        monkeypatch.setattr(devices, "_visible_gpus", lambda: [f"GPU-{index}" for index in range(count)])

    return play


def cuda(*indices):
    return [torch.device("cuda", index) for index in indices]


def test_a_single_process_has_all_gpus(gpus):
    """A script by itself computes on all GPUs, asked twice on the same; "cuda" is one of them."""
    gpus(3)
    assert choose_devices("auto") == choose_devices("auto") == cuda(0, 1, 2)
    assert choose_devices("cuda") == cuda(0)
    assert choose_devices("cuda:1") == cuda(1)
    assert processes_sharing(torch.device("cuda", 1)) == 1
    assert processes_sharing(torch.device("cpu")) == 1


def test_two_models_in_a_process_share_its_gpu(gpus):
    """A second scorer in a process computes where the first does, not on a GPU that another process would need."""
    gpus(3)
    assert choose_devices("cuda") == choose_devices("cuda") == cuda(0)


def test_asking_for_the_kind_takes_nothing(gpus, tmp_path):
    """Who builds a pipeline for workers must not keep a GPU from them."""
    gpus(2)
    assert any_device("auto") == torch.device("cuda", 0)
    assert not list(tmp_path.glob("GPU-*"))


def test_slurm_gives_all_that_are_visible(gpus, monkeypatch, holder):
    """What SLURM allocated is the task's own, whatever leases there are; SLURM's variables alone mean nothing."""
    gpus(2)
    monkeypatch.setenv("DATATROVE_EXECUTOR", "SLURM")
    holder(["GPU-0"])
    assert choose_devices("auto") == cuda(0, 1)
    assert processes_sharing(torch.device("cuda", 0)) == 2


def test_slurms_variables_do_not_decide(gpus, monkeypatch, holder):
    """A LocalPipelineExecutor inside an sbatch script divides the job's GPUs among its processes."""
    gpus(2)
    monkeypatch.setenv("DATATROVE_EXECUTOR", "LOCAL")
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    monkeypatch.setenv("SLURM_PROCID", "0")
    holder(["GPU-0"])
    assert choose_devices("auto") == cuda(1)


@pytest.mark.parametrize(("count", "ranks", "each"), [(1, 2, [1, 1]), (2, 2, [1, 1]), (4, 2, [2, 2]), (2, 1, [2])])
def test_the_ranks_of_a_ray_job_divide_its_gpus(gpus, monkeypatch, count, ranks, each):
    """Ray's worker runs the ranks of a job in a pool at once: its GPUs are divided, and one rank alone has all.

    Another program that the worker has started takes no part.
    """
    gpus(count)
    monkeypatch.setenv("DATATROVE_EXECUTOR", "RAY")
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    with multiprocess.pool.Pool(ranks, context=multiprocess.get_context("fork")) as pool, other:
        barrier_folder = str(leases.lease_folder())
        taken = pool.map(_choose_and_wait, [(barrier_folder, ranks)] * ranks, chunksize=1)
        other.kill()
    assert [len(indices) for indices in taken] == each
    assert {index for indices in taken for index in indices} == set(range(count))


def _choose_and_wait(arguments):
    """The GPUs of this process, which ends only when all others have theirs."""
    folder, processes = arguments
    taken = [device.index for device in choose_devices("auto")]
    _meet(folder, processes)
    return taken


def _meet(folder, processes):
    open(f"{folder}/here-{os.getpid()}", "w").close()
    deadline = time.monotonic() + 60
    while sum(name.startswith("here-") for name in os.listdir(folder)) < processes:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_workers_of_the_local_executor_lease_one_each(tmp_path):
    """DataTrove's own pool on two GPUs: each worker process has its own GPU, whichever ranks it runs."""

    def choose(data, rank, world_size):
        from pathlib import Path

        import torch

        from datatrove_quality.model import devices, leases

        leases.lease_folder = lambda: tmp_path
        devices.any_device = lambda requested: torch.device("cuda", 0)
        devices._visible_gpus = lambda: ["GPU-a", "GPU-b"]
        [device] = devices.choose_devices("auto")
        meet(tmp_path, 2)
        Path(tmp_path, f"rank-{rank}").write_text(f"{os.getpid()} {device.index}")
        yield from ()

    meet = _meet
    LocalPipelineExecutor([choose], tasks=6, workers=2, logging_dir=str(tmp_path / "logs")).run()
    found = {tuple(path.read_text().split()) for path in tmp_path.glob("rank-*")}
    assert len(list(tmp_path.glob("rank-*"))) == 6
    assert len(found) == 2 and {gpu for _, gpu in found} == {"0", "1"}
