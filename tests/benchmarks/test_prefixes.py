"""The benchmark of shared prefixes: its contenders score alike, and its loads share what they say."""

import json
import sys
from types import SimpleNamespace

import prefixes
import pytest
import shapes
import throughput
from transformers import AutoTokenizer


SITE = """
import os, sys, types
from types import SimpleNamespace as Some

class LLM:
    def __init__(self, enable_prefix_caching, **options):
        assert enable_prefix_caching and not os.environ["PYTHONPATH"].count(":")
        self.resets = 0

    def reset_prefix_cache(self):
        self.resets += 1

    def classify(self, prompts, pooling_params, use_tqdm):
        os.write(1, b"a line of vLLM's\\n")
        assert all(prompt["prompt_token_ids"] for prompt in prompts) and self.resets
        return [Some(outputs=Some(probs=[0.5])) for _ in prompts]

sys.modules["vllm"] = Some(LLM=LLM, PoolingParams=Some)
"""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    shapes.save_random_model(folder, "tiny", "float32", "cpu")
    return folder


def test_the_comparison(tiny, tmp_path, monkeypatch, capsys):
    """Each contender in its process; the table and the result have each load, and scores are the card's.

    vLLM's, whose interpreter is another, is this one here, with a module that prints as vLLM does.
    """
    monkeypatch.setattr(throughput, "RESULTS", tmp_path)
    (tiny / "sitecustomize.py").write_text(SITE)
    (tiny / "python").write_text(f'#!/bin/sh\nexport PYTHONPATH={tiny}\nexec {sys.executable} "$@"\n')
    (tiny / "python").chmod(0o755)
    arguments = [
        "prefixes.py",
        "--model",
        str(tiny),
        "--prompts",
        "1",
        "--rounds",
        "1",
        "--vllm",
        str(tiny / "python"),
    ]
    monkeypatch.setattr(sys, "argv", arguments)
    prefixes.main()
    (path,) = tmp_path.iterdir()
    result = json.loads(path.read_text())
    assert path.name.endswith("shared-prefixes.json") and result["kind"] == "shared-prefixes"
    shown = capsys.readouterr().out
    for load, one in result["loads"].items():
        assert prefixes.LABELS[load] in shown and one["largest_difference_to_card"] < 1e-4
        assert all(len(seconds) == 1 and seconds[0] > 0 for seconds in one["all_seconds"].values())
        ours, *others = (one["all_seconds"][name][0] for name in ("ours", "earlier", "card", "vllm"))
        assert list(one["times_as_fast_as"].values()) == pytest.approx([other / ours for other in others])


def test_what_was_measured_before_it_is_stopped_is_kept(monkeypatch, tmp_path):
    """All load at the same time; the result has the loads for which every contender had its turn."""
    calls = []

    class Process:
        def __init__(self, name, checkout, options):
            self.name, self.versions = name, {"torch": "2"}
            calls.append(("start", name))

        def load(self):
            calls.append(("load", self.name))

        def turn(self, path):
            calls.append(("turn", self.name))
            if len(calls) > 6 + 3 + 3 + 1:  # started and loaded, warm, a first load, one turn of the second
                raise KeyboardInterrupt
            return 1.0 if self.name == "ours" else 3.0, [0.5]

        def close(self):
            calls.append(("close", self.name))

    monkeypatch.setattr(prefixes, "Process", Process)
    options = SimpleNamespace(earlier=None, vllm=None, rounds=2, device="cpu", shape="tiny")
    result = prefixes.measure(options, {name: tmp_path / name for name in ("answers", "system", "nothing")})
    assert [kind for kind, _ in calls[:6]] == ["start"] * 3 + ["load"] * 3 and calls[-1][0] == "close"
    assert list(result["loads"]) == ["answers"] and result["loads"]["answers"]["times_as_fast_as"]["earlier"] == 3.0


def test_the_loads(tiny, tmp_path):
    """A prompt is ten times as long as an answer, a system prompt nearly as long as what follows."""
    tokenizer = AutoTokenizer.from_pretrained(tiny)
    loads = prefixes.save_loads(tmp_path, str(tiny), 2)
    tokens = {}
    for name, path in loads.items():
        made = prefixes.corpora.read(path)
        texts = [tokenizer.apply_chat_template(one, tokenize=False) for one in made]
        tokens[name] = [len(ids) for ids in tokenizer(texts)["input_ids"]]
    assert [len(lengths) for lengths in tokens.values()] == [16, 40, 30]
    assert all(1_000 < length < 1_200 for length in tokens["answers"])
    assert all(580 < length < 720 for length in tokens["system"])
