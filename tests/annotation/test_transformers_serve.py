"""The same code against `transformers serve`: an endpoint that was not written with ours in mind."""

import os
import socket
import subprocess
import sys
import time

import pytest
from commands import run_command
from samples import read_rows, rows, write_rows
from training_runs import causal_model


for module in ("fastapi", "openai", "pydantic", "uvicorn"):
    pytest.importorskip(module, reason="needs transformers[serving]")
SECONDS = 90


@pytest.fixture
def served(tmp_path):
    """A tiny model with random weights, and the address under which it is served."""
    model = causal_model(tmp_path / "model")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = "from transformers.cli.transformers import main; main()"
    arguments = ["serve", str(model), "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    with subprocess.Popen([sys.executable, "-c", command, *arguments], env=environment) as process:
        try:
            until = time.monotonic() + SECONDS
            while time.monotonic() < until and process.poll() is None:
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.2)
            yield str(model), f"http://127.0.0.1:{port}/v1"
        finally:
            process.kill()


def test_rows_are_asked_about_and_none_is_lost(tmp_path, served):
    """What a model of random weights answers is no level: each row has the reason, and the model that was served."""
    model, address = served
    rubric = tmp_path / "short.toml"
    levels = "\n".join(f'[[levels]]\nvalue = {level}\ndescription = "{level}"' for level in (1, 2))
    rubric.write_text(f'name = "short"\ntask = "Rate."\nscale = [1, 2]\n{levels}\n[sampling]\nmax_tokens = 4\n')
    write_rows(tmp_path / "in/a.jsonl", rows(3))
    with pytest.raises(SystemExit, match="No row has a label"):
        run_command(
            *("annotate", tmp_path / "in", "--output", tmp_path / "out", "--rubric", rubric, "--model", model),
            *("--endpoint", address, "--retries", 0, "--max-failures", 1, "--patience", SECONDS),
        )
    found = read_rows(tmp_path / "out/rows")
    assert [row["id"] for row in found] == [row["id"] for row in rows(3)]
    assert {row["judge_error"].partition(":")[0] for row in found} <= {
        "answer_cut",
        "unparsable_answer",
        "empty_answer",
    }
    assert all(model in row["judge_model"] for row in found)
