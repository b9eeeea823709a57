"""The loops of a CPU: the models' arithmetic, values that are not finite, and machines that cannot have them."""

import stat
import subprocess

import pytest
import torch
import torch.nn.functional as F
from fused_arithmetic import FusedArithmetic, random
from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm

from datatrove_quality.model import c_library, cpu_kernels, fused


CPU = torch.device("cpu")
needs_avx512 = pytest.mark.skipif(not cpu_kernels.is_supported(), reason="needs a CPU with avx512_bf16")


@pytest.fixture
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("CC", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    cpu_kernels.library.cache_clear()
    yield tmp_path
    cpu_kernels.library.cache_clear()


@needs_avx512
class TestCpuKernels(FusedArithmetic):
    kernels = cpu_kernels
    dtypes = cpu_kernels.DTYPES

    def test_exponential(self):
        """Closely in float32, over all of its range."""
        gate = torch.cat([torch.linspace(-90, 90, 20_000), torch.tensor([0.0, -0.0, 1e-30, -1e-30])])
        mine = cpu_kernels.gated(gate, torch.ones_like(gate), "silu").double()
        torch.testing.assert_close(mine, F.silu(gate.double()), rtol=8e-6, atol=1e-36)

    @pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
    @pytest.mark.parametrize("dtype", cpu_kernels.DTYPES)
    def test_what_is_not_finite_stays_so(self, value, dtype):
        """In its own row, or at its own place, and nowhere else."""
        own = Qwen3RMSNorm(40).to(dtype)
        rows = random(3, 40, dtype=dtype)
        rows[1, 35] = value
        finite = cpu_kernels.norm(rows, own.weight, 1e-6, 0.0).isfinite()
        assert finite[[0, 2]].all() and not finite[1, 35]
        for gate, up in ((rows, torch.ones_like(rows)), (torch.ones_like(rows), rows)):
            for activation in ("silu", "gelu"):
                mine = cpu_kernels.gated(gate, up, activation)
                own_gated = (F.silu(gate) if activation == "silu" else F.gelu(gate, approximate="tanh")) * up
                assert torch.equal(mine.isnan(), own_gated.isnan())
                assert torch.equal(mine.isfinite(), own_gated.isfinite())

    def test_threads_change_nothing(self, monkeypatch):
        """Each row is computed by itself."""
        rows, weight = random(700, 40, dtype=torch.bfloat16), random(40, dtype=torch.bfloat16)
        alone = cpu_kernels.norm(rows, weight, 1e-6, 0.0), cpu_kernels.gated(rows, rows, "gelu")
        monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
        together = cpu_kernels.norm(rows, weight, 1e-6, 0.0), cpu_kernels.gated(rows, rows, "gelu")
        assert all(map(torch.equal, alone, together))

    def test_tensors_of_other_kinds_are_refused(self):
        """The loops read memory by a tensor's dtype and sizes."""
        rows = random(2, 16, dtype=torch.float32)
        with pytest.raises(TypeError, match="float16"):
            cpu_kernels.gated(rows.half(), rows.half(), "silu")
        with pytest.raises(TypeError, match="bfloat16"):
            cpu_kernels.norm(rows, rows[0].bfloat16(), 1e-6, 0.0)
        with pytest.raises(ValueError, match="gate"):
            cpu_kernels.gated(rows, rows[:1], "silu")
        with pytest.raises(ValueError, match="weight"):
            cpu_kernels.norm(rows, rows[0, :8], 1e-6, 0.0)
        with pytest.raises(ValueError, match="angles"):
            cpu_kernels.rotate(rows[None, None], rows[None, None], rows[None, :1], rows[None, :1])


@needs_avx512
def test_a_layout_of_any_strides_is_rotated_rightly():
    """Also one without gaps whose last dimension is not contiguous."""
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(1, 16, 3, 2, generator=generator).permute(0, 3, 2, 1)
    cos, sin = torch.randn(2, 1, 3, 16, generator=generator)
    mine, _ = cpu_kernels.rotate(states, states, cos, sin)
    first, second = states.chunk(2, dim=-1)
    assert torch.allclose(mine, states * cos + torch.cat([-second, first], dim=-1) * sin, atol=1e-6)


@needs_avx512
def test_compiled_once(own_home, monkeypatch):
    """The next process loads what the first has compiled; nothing else is left beside it."""
    assert fused.functions_for(CPU) is cpu_kernels
    (kept,) = (own_home / ".cache" / "datatrove-quality" / "kernels").iterdir()
    written = kept.stat().st_mtime_ns
    cpu_kernels.library.cache_clear()
    monkeypatch.setattr(c_library, "_compile", None)
    cpu_kernels.library()
    assert kept.stat().st_mtime_ns == written
    assert kept.parent.stat().st_mode & 0o077 == 0


@needs_avx512
@pytest.mark.parametrize("is_whole", [False, True])
def test_kept_code_is_loaded_only_whole_and_only_the_users_own(own_home, is_whole):
    """A cut file would end the process at its first use; what others may write to, others may have written."""
    rows, weight = torch.ones(2, 16), torch.ones(16)
    cpu_kernels.norm(rows, weight, 0.0, 0.0)
    (kept,) = (own_home / ".cache" / "datatrove-quality" / "kernels").iterdir()
    content = kept.read_bytes()
    for damaged in (content[:0], content[:100], content[:-100], content[:4096] + bytes(4096) + content[8192:]):
        cpu_kernels.library.cache_clear()
        kept.write_bytes(content if is_whole else damaged)
        kept.chmod(0o666 if is_whole else 0o600)
        assert cpu_kernels.norm(rows, weight, 0.0, 0.0).sum() == 32
        assert len(kept.read_bytes()) == len(content) and kept.stat().st_mode & 0o022 == 0


@needs_avx512
def test_a_node_without_a_compiler_takes_what_another_has_kept(own_home, monkeypatch):
    """As the nodes of a cluster share a home directory, which some of them may only read."""
    cpu_kernels.library()
    cpu_kernels.library.cache_clear()
    monkeypatch.setattr(c_library.shutil, "which", lambda name: None)
    assert fused.functions_for(CPU) is cpu_kernels


@needs_avx512
def test_a_home_that_cannot_be_written_to(own_home):
    (own_home / ".cache").write_text("")
    rows = random(2, 16, dtype=torch.float32)
    assert fused.functions_for(CPU).gated(rows, rows, "silu").isfinite().all()


@needs_avx512
def test_a_compiler_that_fails_or_is_missing(own_home, monkeypatch):
    """Both say so, for the warning; nothing is left of the attempt."""
    compiler = own_home / "cc"
    compiler.write_text("#!/bin/sh\necho no such flag >&2\nexit 1\n")
    compiler.chmod(compiler.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("CC", str(compiler))
    with pytest.raises(OSError, match="no such flag"):
        fused.functions_for(CPU)
    compiler.write_text("#!/bin/sh\n")
    with pytest.raises(OSError, match="cc fails"):
        fused.functions_for(CPU)
    assert not (own_home / ".cache").exists()
    monkeypatch.setattr(c_library.shutil, "which", lambda name: None)
    with pytest.raises(OSError, match="no C compiler"):
        fused.functions_for(CPU)


def test_a_cpu_without_the_instructions_has_none(monkeypatch):
    """There the models' own code goes on computing, and nothing is compiled."""
    monkeypatch.setattr(c_library, "_instructions", lambda: frozenset({"avx2"}))
    monkeypatch.setattr(subprocess, "run", None)
    assert fused.functions_for(CPU) is None
