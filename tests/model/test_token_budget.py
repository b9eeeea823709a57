"""How many tokens a device takes at once."""

import types

import torch
from scorers import config_of

from datatrove_quality.engine.scorer import Scorer
from datatrove_quality.model import token_budget
from datatrove_quality.model.amx_linear import AmxLinear


def test_the_budget_follows_the_models_width_and_the_devices_memory(model_folder, monkeypatch):
    """A wide model gets fewer tokens at once, memory that others use counts, a configured budget is kept,
    and on AMX a batch is as large as the weights that pass."""
    folder = model_folder("qwen3")
    model = Scorer(config_of(folder)).model
    assert Scorer(config_of(folder, tokens_per_batch=77)).replicas[0].tokens_per_batch == 77
    outputs = 64 + 2 * 32 + 64 + 2 * 96 + 64  # queries, keys and values, their output, the feed-forward layer's
    monkeypatch.setattr(token_budget, "CPU_CACHE_BYTES", 1_000 * token_budget.bytes_per_token(model))
    assert token_budget.bytes_per_token(model) == 2 * 4 * outputs
    assert token_budget.tokens_per_batch(model) == 1_000
    monkeypatch.setattr(token_budget, "CPU_CACHE_BYTES", 10**12)
    assert token_budget.tokens_per_batch(model) == token_budget.MAX_TOKENS["cpu"]

    weights = torch.zeros(64, 2, 16, 16, dtype=torch.int32)
    one, two, three = (AmxLinear(weights, weights) for _ in range(3))
    model.layers = torch.nn.ModuleList([one, torch.nn.Sequential(two, torch.nn.Linear(4, 4), three)])
    monkeypatch.setattr(token_budget, "CPU_CACHE_BYTES", 10)
    assert token_budget.passing_bytes(model) == 2 * (2 * 2048 * 64)  # two layers in bfloat16
    monkeypatch.setattr(token_budget, "passing_bytes", lambda model: 1_000 * token_budget.bytes_per_token(model))
    assert token_budget.tokens_per_batch(model) == 1_000

    gpu = types.SimpleNamespace(device=torch.device("cuda", 0), dtype=torch.bfloat16)
    monkeypatch.setattr(token_budget, "bytes_per_token", lambda model: 100_000)
    for free, processes, expected in ((70e9, 1, 32_768), (4e9, 1, 20_000), (4e9, 4, 5_000), (1e6, 1, 512)):
        monkeypatch.setattr(token_budget, "_free_memory", lambda device, free=free: int(free))
        monkeypatch.setattr(token_budget, "processes_sharing", lambda device, processes=processes: processes)
        assert token_budget.tokens_per_batch(gpu) == expected
