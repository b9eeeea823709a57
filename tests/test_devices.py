"""The device is never a surprise: a GPU that is there and cannot be used is an error that names both versions."""

import pytest
import torch

from datatrove_quality import devices
from datatrove_quality.devices import choose_device, default_tokens_per_batch, native_dtype


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
        choose_device("cuda:7")


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
    assert native_dtype(torch.device("cpu"), torch.float32)
    assert native_dtype(torch.device("mps"), torch.float32)


@pytest.mark.parametrize(("capability", "native"), [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_bfloat16_needs_ampere(monkeypatch, capability, native):
    """A GPU that only emulates bfloat16 is not asked for it."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert native_dtype(torch.device("cuda", 0), torch.bfloat16) is native
    assert native_dtype(torch.device("cuda", 0), torch.float16)


@pytest.mark.parametrize("supported", [True, False])
def test_bfloat16_on_the_cpu_follows_the_processor(monkeypatch, supported):
    """The processor decides whether bfloat16 is worth computing in."""
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: supported, raising=False)
    assert native_dtype(torch.device("cpu"), torch.bfloat16) is supported


def test_budget_grows_with_the_device():
    """A GPU gets more tokens at once than a CPU."""
    sizes = [default_tokens_per_batch(torch.device(name)) for name in ("cpu", "mps", "cuda")]
    assert sizes == sorted(sizes)
