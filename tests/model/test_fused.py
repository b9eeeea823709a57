"""Fused norm, rotary embedding and gate: the same as what they replace, replaced where that is so, else left alone."""

import importlib.util
import os
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny_models import DECODERS, conversations
from torch import nn
from transformers import AutoModelForSequenceClassification

from datatrove_quality.config import ScorerConfig
from datatrove_quality.engine.scorer import Scorer
from datatrove_quality.model import amx_attention, amx_linear, attention, forward, fused
from datatrove_quality.model.shared_rows import SharedPrefixes


SEQUENCES = [[5, 6, 7], [8], list(range(10, 60))]
HAS_TRITON = importlib.util.find_spec("triton") is not None
needs_amx = pytest.mark.skipif(not amx_attention.is_supported(), reason="needs a CPU with AMX")
needs_triton = pytest.mark.skipif(not HAS_TRITON, reason="needs triton, which torch's CUDA builds for Linux bring")


def eager_norm(rows, weight, epsilon, offset):
    values = rows.float()
    scale = torch.rsqrt(values.square().mean(-1, keepdim=True) + epsilon)
    return (values * scale * (weight.float() + offset)).to(rows.dtype)


def eager_rotate(query, key, cos, sin):
    def rotated(states):
        first, second = states.float().chunk(2, dim=-1)
        angles = (one[:, None].float() for one in (cos, sin))
        (first_cos, second_cos), (first_sin, second_sin) = (one.chunk(2, dim=-1) for one in angles)
        halves = (first * first_cos - second * first_sin, second * second_cos + first * second_sin)
        return torch.cat(halves, -1).to(states.dtype)

    return rotated(query), rotated(key)


def eager_gated(gate, up, activation):
    active = F.silu(gate.float()) if activation == "silu" else F.gelu(gate.float(), approximate="tanh")
    return (active * up.float()).to(gate.dtype)


def eager(**others):
    """Fused functions that need no compiler, some of them replaced."""
    return SimpleNamespace(**{"norm": eager_norm, "rotate": eager_rotate, "gated": eager_gated} | others)


def packed_model(folder, dtype=torch.float32):
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=dtype).eval().requires_grad_(False)
    forward.keep_head_in_float32(model)
    model.set_attn_implementation(attention.PACKED)
    for seed, weight in enumerate(parameter for parameter in model.parameters() if parameter.ndim == 1):
        weight.data.normal_(generator=torch.Generator().manual_seed(seed))
    return model


@needs_triton
def test_the_kernels_compute_the_same_in_tritons_interpreter():
    """All dtypes, widths, layouts and edges: the file's own tests, in a process of the interpreter's."""
    file = Path(__file__).with_name("triton_interpreter.py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(file)]
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=500, check=False)
    assert done.returncode == 0, done.stdout[-3_000:]
    assert " passed" in done.stdout and "skipped" not in done.stdout


@needs_triton
@pytest.mark.parametrize("capability", [80, 90, 100])
def test_the_kernels_compile_for_gpus(capability, tmp_path, monkeypatch):
    """For these GPUs each kernel has wide loads and stores, and keeps all values in registers; none is needed here."""
    triton = pytest.importorskip("triton", minversion="3.3", reason="triton 3.2 is called otherwise")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from datatrove_quality.model import triton_kernels as kernels

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    state = {"rows": "*bf16", "weight": "*bf16", "output": "*bf16"}
    strides = ("batch_stride", "head_stride", "token_stride", "angle_batch_stride", "angle_token_stride")
    cases = [
        (
            kernels.norm_kernel,
            state | {"count": "i32", "epsilon": "fp32", "offset": "fp32"},
            {"width": 2560, "padded_width": 4096, "together": 1},
        ),
        (
            kernels.rotary_kernel,
            dict.fromkeys(("states", "cos", "sin", "output"), "*bf16") | dict.fromkeys(("tokens", *strides), "i32"),
            {"heads": 32, "half": 64, "padded_heads": 32, "padded_half": 64},
        ),
        (
            kernels.gate_kernel,
            dict.fromkeys(("gate", "up", "output"), "*bf16") | {"count": "i32"},
            {"gelu": False, "block": kernels.VALUES_PER_PROGRAM},
        ),
    ]
    for kernel, types, constants in cases:
        signature = types | dict.fromkeys(constants, "constexpr")
        names = list(signature)
        # As at a launch: pointers, and numbers that are not exempt, are divisible by 16.
        divisible = [name for name, kind in types.items() if "*" in kind or name in strides]
        divisible += ["count"] if kernel is kernels.gate_kernel else []
        source = ASTSource(
            fn=kernel,
            signature=signature,
            constexprs={(names.index(name),): value for name, value in constants.items()},
            attrs={(names.index(name),): [["tt.divisibility", 16]] for name in divisible},
        )
        compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options={"num_warps": 4})
        code = compiled.asm["ptx"]
        assert "ld.global.v4.b32" in code or "ld.global.v2.b64" in code, f"{kernel}: narrow loads"
        assert "st.global.v4.b32" in code or "st.global.v2.b64" in code, f"{kernel}: narrow stores"
        assert ".local" not in code, f"{kernel}: values in memory"


# Norms, gates and attention layers that are replaced, of three layers: GPT-OSS has experts and angles of its own.
PARTS = {
    "qwen3": {"norms": 13, "gates": 3, "rotary embeddings": 3},
    "llama": {"norms": 7, "gates": 3, "rotary embeddings": 3},
    "mistral": {"norms": 7, "gates": 3, "rotary embeddings": 3},
    "gemma2": {"norms": 13, "gates": 3, "rotary embeddings": 3},
    "gemma3": {"norms": 19, "gates": 3, "rotary embeddings": 3},
    "gpt_oss": {"norms": 7},
    "qwen3_moe": {"norms": 13, "rotary embeddings": 3},
}


@pytest.mark.parametrize("family", DECODERS)
def test_parts_are_replaced_and_put_back(model_folder, family):
    """Parts are found by what they compute; logits stay, weights are shared, and undoing leaves nothing."""
    model = packed_model(model_folder(family))
    weights = dict(model.named_parameters())
    before = forward.packed_logits(model, SEQUENCES)
    replaced = fused.Replaced()
    calls = []
    counting = eager(
        norm=lambda *given: calls.append("norm") or eager_norm(*given),
        rotate=lambda *given: calls.append("rotate") or eager_rotate(*given),
        gated=lambda *given: calls.append("gated") or eager_gated(*given),
    )
    fused.replace_parts(model, counting, replaced)
    assert replaced.counts == PARTS[family]
    assert all(weights[name] is weight for name, weight in model.named_parameters())
    calls.clear()
    torch.testing.assert_close(forward.packed_logits(model, SEQUENCES), before, atol=1e-4, rtol=1e-4)
    expected = {"norm": "norms", "rotate": "rotary embeddings", "gated": "gates"}
    assert {name: calls.count(name) for name in set(calls)} == {
        name: PARTS[family][kind] for name, kind in expected.items() if kind in PARTS[family]
    }
    replaced.put_back()
    calls.clear()
    assert torch.equal(forward.packed_logits(model, SEQUENCES), before) and not calls


def test_texts_that_begin_alike_are_computed_once_by_fused_functions(model_folder):
    """Positions begin anew in the row, and go on where a prefix ends."""
    model = packed_model(model_folder("qwen3"))
    forward.pool_in_last_layer(model)
    prompt = list(range(10, 80))
    sequences = [[*prompt, *range(100, 100 + count)] for count in (1, 20, 7)] + [prompt, list(range(60, 90))]
    expected = forward.packed_logits(model, sequences)
    fused.replace_parts(model, eager(), fused.Replaced())
    row = SharedPrefixes(model).row(sequences)
    assert row is not None and row.num_saved == 3 * len(prompt)
    torch.testing.assert_close(forward.packed_logits(model, sequences, row=row), expected, atol=1e-4, rtol=1e-4)


def test_a_copy_computes_with_its_own_weights(model_folder):
    """What is replaced goes with a copy, and is bound to the copy's weights."""
    model = packed_model(model_folder("qwen3"))
    functions = ModuleType("functions")  # which could not be copied itself
    vars(functions).update(vars(eager()))
    fused.replace_parts(model, functions, fused.Replaced())
    before = forward.packed_logits(model, SEQUENCES)
    copied = deepcopy(model)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(0.5)
    assert torch.equal(forward.packed_logits(copied, SEQUENCES), before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        ("norms", {"norm": lambda rows, weight, epsilon, offset: eager_norm(rows, weight, 10 * epsilon, offset)}),
        ("norms", {"norm": lambda rows, weight, epsilon, offset: 1.02 * eager_norm(rows, weight, epsilon, offset)}),
        ("gates", {"gated": lambda gate, up, name: eager_gated(gate, up, "gelu")}),
        ("gates", {"gated": lambda gate, up, name: eager_gated(up, gate, name)}),
        ("rotary embeddings", {"rotate": lambda query, key, cos, sin: eager_rotate(query, key, cos, -sin)}),
        ("rotary embeddings", {"rotate": lambda query, key, cos, sin: (query, eager_rotate(query, key, cos, sin)[1])}),
        ("rotary embeddings", {"rotate": lambda query, key, cos, sin: eager_rotate(query * torch.nan, key, cos, sin)}),
    ],
)
def test_a_function_that_computes_something_else_is_not_used(model_folder, kind, wrong, dtype):
    """A formula that differs a little is told apart in any dtype, before it meets a text."""
    replaced = fused.Replaced()
    fused.replace_parts(packed_model(model_folder("qwen3"), dtype), eager(**wrong), replaced)
    assert replaced.counts == {name: count for name, count in PARTS["qwen3"].items() if name != kind}


@needs_amx
@pytest.mark.parametrize(("family", "layers", "gates"), [("qwen3", 15, 3), ("gemma3", 15, 3), ("qwen3_moe", 12, 0)])
def test_linear_layers_are_those_of_amx_and_put_back(model_folder, family, layers, gates):
    """Logits stay but for roundings, weights are there once, and undoing leaves the weights that there were."""
    model = packed_model(model_folder(family), torch.bfloat16)
    model.score.weight.data /= 4  # with such wide logits the noise of bfloat16 is more than 0.1
    plain = forward.packed_logits(model, SEQUENCES)
    size = sum(weight.numel() for weight in model.parameters())
    replaced = fused.Replaced()
    fused.replace_parts(model, eager(), replaced)
    assert fused.multiplies_on_amx(model)
    fused.replace_linear_layers(model, replaced)
    assert (replaced.counts["linear layers"], replaced.counts.get("joined gates", 0)) == (layers, gates)
    assert sum(weight.numel() for weight in model.parameters()) == size
    found, copied = (forward.packed_logits(one, SEQUENCES) for one in (model, deepcopy(model)))
    torch.testing.assert_close(found, plain, atol=0.1, rtol=0)
    assert torch.equal(found, copied) and not torch.equal(found, plain)
    replaced.put_back()
    assert torch.equal(forward.packed_logits(model, SEQUENCES), plain)


@needs_amx
def test_layers_of_other_kinds_stay(model_folder):
    """One in float32, and one in two places; one whose weights begin amid a pair is replaced as all others are."""
    model = packed_model(model_folder("qwen3"), torch.bfloat16)
    first, second, third = (layer.self_attn for layer in model.model.layers)
    first.q_proj.float()
    second.k_proj = first.k_proj
    model.model.layers[1].mlp.up_proj = model.model.layers[0].mlp.up_proj
    shape = third.v_proj.weight.shape
    odd = torch.cat([torch.zeros(1, dtype=torch.bfloat16), third.v_proj.weight.flatten()])[1:].view(shape)
    third.v_proj.weight = nn.Parameter(odd, requires_grad=False)
    replaced = fused.Replaced()
    fused.replace_parts(model, eager(), replaced)
    fused.replace_linear_layers(model, replaced)
    assert replaced.counts["joined gates"] == 1
    assert isinstance(third.v_proj, amx_linear.AmxLinear)
    for stays in (first.q_proj, first.k_proj, second.k_proj, model.model.layers[1].mlp.up_proj):
        assert type(stays) is nn.Linear and stays.weight is not None
    replaced.put_back()
    assert torch.equal(third.v_proj.weight, odd)


@needs_amx
@pytest.mark.parametrize("kind", ["linear layers", "joined gates"])
def test_a_layer_that_multiplies_wrongly_is_not_used(model_folder, monkeypatch, kind):
    """Of layers and gates on AMX too, each is compared with what it replaces."""
    right = amx_linear.AmxLinear.forward

    def wrong(layer, rows):
        result = right(layer, rows)
        if bool(layer.activation) == (kind == "joined gates"):
            result[-1] = result[-1] * 1.05
        return result

    monkeypatch.setattr(amx_linear.AmxLinear, "forward", wrong)
    model, replaced = packed_model(model_folder("qwen3"), torch.bfloat16), fused.Replaced()
    fused.replace_parts(model, eager(), replaced)
    fused.replace_linear_layers(model, replaced)
    assert kind not in replaced.counts and {"linear layers", "joined gates"} & replaced.counts.keys()


def test_a_module_with_a_hook_stays(model_folder):
    """What a user has attached to a module goes on being called."""
    model = packed_model(model_folder("llama"))
    layer = model.model.layers[0]
    for module in (layer.mlp, layer.input_layernorm):
        module.register_forward_hook(lambda module, given, output: None)
    replaced = fused.Replaced()
    fused.replace_parts(model, eager(), replaced)
    assert replaced.counts == {"norms": 6, "gates": 2, "rotary embeddings": 3}
    assert isinstance(layer.mlp.gate_proj, nn.Linear) and type(layer.mlp) is not fused.FusedGate


def scores(folder, **options):
    scorer = Scorer(ScorerConfig(model=str(folder), device="cpu", **options))
    scorer.load()
    return scorer, [score.score for score in scorer.score(conversations(20))]


def test_a_scorer_uses_them_and_says_so(model_folder, monkeypatch, log):
    """Where the device has fused functions they are the default; `fused=False` is the switch."""
    monkeypatch.setattr(fused, "functions_for", lambda device: eager())
    scorer, with_them = scores(model_folder("qwen3"))
    assert isinstance(scorer.model.model.layers[0].mlp, fused.FusedGate)
    (said,) = (line for line in log if "uses fused functions" in line)
    assert all(f"{count} {kind}" in said for kind, count in PARTS["qwen3"].items())
    plain, without = scores(model_folder("qwen3"), fused=False)
    assert not isinstance(plain.model.model.layers[0].mlp, fused.FusedGate)
    assert with_them == pytest.approx(without, abs=1e-4)


@needs_amx
def test_a_scorer_multiplies_on_amx_and_says_so(model_folder, monkeypatch, log):
    """In bfloat16 alone; without a compiler for it torch multiplies, and a warning says so."""
    folder = model_folder("qwen3")
    scorer, on_amx = scores(folder, dtype="bfloat16")
    assert isinstance(scorer.model.model.layers[0].self_attn.q_proj, amx_linear.AmxLinear)
    assert any("3 joined gates, 15 linear layers" in line for line in log)
    plain, without = scores(folder, dtype="bfloat16", fused=False)
    assert type(plain.model.model.layers[0].self_attn.q_proj) is nn.Linear
    in_float32, exact = scores(folder)
    noise, own_noise = (np.abs(np.subtract(given, exact)) for given in (on_amx, without))
    assert noise.mean() <= 1.5 * own_noise.mean() and noise.max() <= 2 * own_noise.max()
    assert type(in_float32.model.model.layers[0].self_attn.q_proj) is nn.Linear

    def fails():
        raise OSError("no such option: -mamx-tile")

    monkeypatch.setattr(amx_linear, "library", fails)
    torchs, _ = scores(folder, dtype="bfloat16")
    assert type(torchs.model.model.layers[0].self_attn.q_proj) is nn.Linear
    assert any(line.startswith("WARNING") and "-mamx-tile" in line for line in log)


def broken(*given):
    raise RuntimeError("no such instruction")


@pytest.mark.parametrize("trouble", ["import", "norm", "rotate", "gated", "wrong logits"])
def test_trouble_costs_speed_and_not_the_run(model_folder, monkeypatch, log, trouble):
    """A missing compiler, a kernel that does not start, logits that change: the model's own code, with a warning."""
    expected = scores(model_folder("qwen3"), fused=False)[1]
    if trouble == "import":

        def missing(device):
            raise ImportError("No module named 'triton'")

        monkeypatch.setattr(fused, "functions_for", missing)
    elif trouble in ("norm", "rotate", "gated"):
        monkeypatch.setattr(fused, "functions_for", lambda device: eager(**{trouble: broken}))
    else:
        # It agrees on the few rows of the comparison, and not on a text.
        def late(rows, weight, epsilon, offset):
            return eager_norm(rows, weight, epsilon, offset) * (1.5 if rows.numel() > 2_000 else 1.0)

        monkeypatch.setattr(fused, "functions_for", lambda device: eager(norm=late))
    assert scores(model_folder("qwen3"))[1] == expected
    assert any(line.startswith("WARNING") and "without fused functions" in line for line in log), log
