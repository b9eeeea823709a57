"""What fused functions of any kind of device must compute: the models' own norm, rotary embedding and gate."""

from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from transformers.models.gemma2.modeling_gemma2 import Gemma2RMSNorm
from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm, apply_rotary_pos_emb


# Of a row's largest value. The models' own code rounds once or twice more.
TOLERANCE = {torch.float32: 1e-5, torch.float16: 2**-9, torch.bfloat16: 2**-6}


def random(*sizes, dtype, seed=0):
    return torch.randn(*sizes, generator=torch.Generator().manual_seed(seed)).to(dtype)


def assert_near(mine, other):
    assert mine.dtype == other.dtype and mine.shape == other.shape
    allowed = TOLERANCE[mine.dtype] * other.float().abs().amax(-1, keepdim=True)
    assert ((mine.float() - other.float()).abs() <= allowed).all()


class FusedArithmetic:
    """Tests of a module of fused functions: the attributes of a class of tests that inherits them."""

    kernels = None
    dtypes: Sequence = tuple(TOLERANCE)

    @pytest.fixture(autouse=True)
    def poisoned(self, monkeypatch):
        """Outputs start as NaN: what a kernel does not write shows."""
        monkeypatch.setattr(torch, "empty_like", lambda states: torch.full_like(states, torch.nan))

    @pytest.mark.parametrize("shape", [(1, 3, 4, 128), (1, 5, 2560), (1, 1, 96), (33, 16), (2, 7)])
    @pytest.mark.parametrize("kind", [Qwen3RMSNorm, Gemma2RMSNorm])
    def test_norm(self, kind, shape):
        """Widths that are and are not powers of two, one row and numbers that do not fill the last program."""
        for dtype in self.dtypes:
            own = kind(shape[-1], eps=1e-6).to(dtype)
            own.weight.data = random(shape[-1], dtype=dtype, seed=1)
            rows = random(*shape, dtype=dtype) * torch.tensor([1e-3]).to(dtype)
            offset = 1.0 if kind is Gemma2RMSNorm else 0.0
            assert_near(self.kernels.norm(rows, own.weight, 1e-6, offset), own(rows))

    def test_norm_of_rows_that_are_not_contiguous(self):
        own = Qwen3RMSNorm(32)
        rows = random(1, 32, 9, dtype=torch.float32).transpose(1, 2)
        assert_near(self.kernels.norm(rows, own.weight, own.variance_epsilon, 0.0), own(rows))

    @pytest.mark.parametrize(("heads", "key_heads", "dim"), [(4, 2, 16), (32, 8, 128), (5, 1, 96)])
    @pytest.mark.parametrize(("batch", "tokens"), [(1, 1), (1, 5), (3, 2)])
    def test_rotate(self, heads, key_heads, dim, batch, tokens):
        """Heads that are and are not powers of two, laid out as models do and otherwise."""
        for dtype in self.dtypes:
            counts = (heads, key_heads)
            query, key = (random(batch, tokens, count, dim, dtype=dtype).transpose(1, 2) for count in counts)
            for rows in {1, batch}:
                cos, sin = (random(rows, tokens, dim, dtype=dtype, seed=seed) for seed in (1, 2))
                expected = apply_rotary_pos_emb(query, key, cos, sin)
                for states in ((query, key), (query.contiguous(), key.contiguous())):
                    rotated = self.kernels.rotate(*states, cos, sin)
                    for mine, other, given in zip(rotated, expected, states, strict=True):
                        assert_near(mine, other)
                        assert mine.stride() == given.stride()

    def test_rotate_a_part_of_a_wider_row(self):
        """Queries that are columns of one product of queries, keys and values."""
        wide = random(1, 6, 3 * 4 * 16, dtype=torch.float32)
        query, key, _ = (part.view(1, 6, 4, 16).transpose(1, 2) for part in wide.chunk(3, dim=-1))
        cos, sin = (random(1, 6, 16, dtype=torch.float32, seed=seed) for seed in (1, 2))
        expected = apply_rotary_pos_emb(query, key, cos, sin)
        for mine, other in zip(self.kernels.rotate(query, key, cos, sin), expected, strict=True):
            assert_near(mine, other)

    @pytest.mark.parametrize("activation", ["silu", "gelu"])
    @pytest.mark.parametrize("shape", [(1, 5, 96), (1, 1, 3), (1, 9, 1000)])
    def test_gated(self, shape, activation):
        """Also where values do not fill the last program, and far out, where an exponential overflows."""
        for dtype in self.dtypes:
            gate, up = (random(*shape, dtype=dtype, seed=seed) for seed in (1, 2))
            gate = gate * 5
            gate[..., 0], gate[..., -1] = -200, 200
            own = F.silu(gate) if activation == "silu" else F.gelu(gate, approximate="tanh")
            assert_near(self.kernels.gated(gate, up, activation), own * up)
