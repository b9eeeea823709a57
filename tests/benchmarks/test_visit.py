"""What a visit to a GPU reports: kinds of kernels, and a table of whatever was measured."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
import visit_table
from profile_batches import kind_of


SCRIPT = Path(visit_table.__file__).with_name("gpu_visit.sh")
# In the place of Python: one wheel does not fit, one benchmark fails, the others print a result.
PYTHON = """#!/bin/bash
echo "$*" >> {calls}
case "$*" in
    *visit_table.py*) echo "the table" ;;
    *bad.whl* | *profile_batches.py*) exit 1 ;;
    *) echo '{{"kind": "other"}}' ;;
esac
"""
TIMEOUT = """#!/bin/bash
echo "$3" >> {limits}
shift 3
exec "$@"
"""
DF = """#!/bin/sh
echo 100G
"""


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("nvjet_tst_256x128_64x4_2x1_v_bz_coopA_TNT", "products"),
        ("sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x64", "products"),
        ("void cutlass::Kernel2<cutlass_80_wmma_tensorop_bf16_s161616gemm_bf16>", "products"),
        ("void pytorch_flash::flash_fwd_kernel<Flash_fwd_kernel_traits<128, 128, 64, 4>>", "attention"),
        ("norm_kernel", "norms"),
        ("void at::native::vectorized_layer_norm_kernel<c10::BFloat16, float, true>", "norms"),
        ("rotary_kernel", "rotary"),
        (
            "void at::native::CatArrayBatchedCopy_aligned16_contig<at::native::OpaqueType<2u>, unsigned int, 4>",
            "rotary",
        ),
        ("gate_kernel", "gate"),
        ("void at::native::vectorized_elementwise_kernel<4, at::native::silu_kernel>", "gate"),
        ("Memcpy DtoH (Device -> Pinned)", "copies"),
        ("void at::native::vectorized_elementwise_kernel<4, at::native::CUDAFunctor_add>", "other elementwise"),
        ("aten::mm", "products"),
        ("aten::_scaled_dot_product_flash_attention_for_cpu", "attention"),
    ],
)
def test_a_kernel_is_counted_by_its_kind(name, kind):
    assert kind_of(name) == kind


def test_the_table_shows_steps_that_failed_or_were_skipped(tmp_path, capsys):
    """A step without results, a contender without a turn, and results of all kinds, each in its line."""
    (tmp_path / "steps.tsv").write_text(
        "tests\tdone\t9\nours\tstopped after 100 s\t100\nprofile\tdone\t5\npipeline\tskipped: no time left\t0\n"
        "shared-prefixes\tdone\t40\ncascade\tdone\t40\n"
    )
    (tmp_path / "tests.out").write_text("....\n26 passed in 9 s\n")
    turn = {"seconds": 2.0, "documents_per_second": 50.0, "share_of_matrix_rate": 0.713, "times_annotator": 31.0}
    comparison = {
        "kind": "comparison",
        "matrix_rate": 7.9e14,
        "dtype": "bfloat16",
        "contenders": {"ours": turn, "card": {"error": None}, "vllm": {"error": "ValueError: no\nmore"}},
    }
    (tmp_path / "ours.json").write_text(json.dumps(comparison))
    one = {"tokens": 1_000, "seconds": 2.0, "by_kind": {"products": 1.5, "gaps": 0.1}}
    (tmp_path / "profile.json").write_text(json.dumps({"kind": "profile", "fused": one}))
    load = {"times_as_fast_as": {"earlier": 4.251}, "largest_difference_to_card": 2e-6}
    shared = {"kind": "shared-prefixes", "loads": {"answers": load}}
    (tmp_path / "shared-prefixes.json").write_text(json.dumps(shared))
    (tmp_path / "pipeline.out").write_text("first\nso far\n")
    cascade = {"kind": "cascades", "rescored": {"float8": 0.004, "int8": 1.0}, "refused": {"int8": "too small"}}
    cascade |= {"certified": {"float8": [0.00097]}, "times_as_fast": {"float8": 1.416}}
    (tmp_path / "cascade.json").write_text(json.dumps(cascade))
    visit_table.main(str(tmp_path))
    shown = capsys.readouterr().out
    for words in (
        "26 passed",
        "stopped after 100 s",
        "matrix rate 790 TFLOP/s, bfloat16",
        "ours: 50 documents/s, 0.71 of the matrix rate, 31.0 times the annotator",
        "card: no turn within the limit",
        "vllm: ValueError: no",
        "fused: 500 tokens/s: products 75%, gaps 5%",
        "skipped: no time left",
        "so far",
        "answers: 4.25 times as fast as without sharing, 2e-06 from the card's scores",
        "float8: 1.42 times as fast as the classifier alone, certified 0.097%",
        "int8: too small",
    ):
        assert words in shown


@pytest.fixture
def visit(tmp_path):
    """The script, with programs that take no time: `visit("--seconds", "60")` gives its process, steps and limits."""
    limits = tmp_path / "limits"
    (tmp_path / "bin").mkdir()
    programs = {"python": PYTHON.format(calls=tmp_path / "calls"), "timeout": TIMEOUT.format(limits=limits), "df": DF}
    for name, text in programs.items():
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    results = tmp_path / "results"

    def run(*options):
        environment = os.environ | {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}", "PYTHON": f"{tmp_path}/bin/python"}
        command = ["bash", SCRIPT, "--results", results, *options]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        lines = (results / "steps.tsv").read_text().splitlines()
        return done, dict(line.split("\t")[:2] for line in lines), [int(line) for line in limits.open()]

    return run


def test_a_step_that_fails_ends_nothing(visit, tmp_path):
    """Nor does a wheel that cannot be installed; the script fails at the end, with the table."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    for name in ("a.whl", "bad.whl", "c.whl"):
        (wheels / name).touch()
    results = tmp_path / "results"
    results.mkdir()
    (results / "profile.json").write_text('{"kind": "of an earlier call"}')
    done, steps, _ = visit("--device", "cpu", "--wheels", str(wheels))
    assert done.returncode == 1 and done.stdout.endswith("the table\n")
    failed = [name for name, state in steps.items() if "FAILED" in state]
    assert failed == ["bad.whl", "profile"]
    assert [name for name, state in steps.items() if state == "done"][-1] == "simulated-gpus"
    assert (results / "ours.json").exists() and not (results / "profile.json").exists()


def test_each_step_has_its_share_and_what_is_left_over(visit):
    """All shares together are within nine minutes; what a step leaves goes to those after it, the first come first."""
    text = SCRIPT.read_text()
    shares = [int(share) for share in re.findall(r"^(?:step|needs \S+) [a-z-]+ (\d+) ", text, re.MULTILINE)]
    (total,) = (int(number) for number in re.findall(r"^later=(\d+)", text, re.MULTILINE))
    assert sum(shares) == total <= 540 - 5
    _, steps, limits = visit("--device", "cpu")
    assert len(limits) == len(shares) == sum("skipped" not in state for state in steps.values())
    later = total
    for limit, share in zip(limits, shares, strict=True):
        later -= share
        assert share <= limit <= 540 - 5 - later
    assert limits[-1] > 400
    _, _, limits = visit("--device", "cpu", "--seconds", "60")
    assert max(limits[len(shares) :]) <= 60 - 5


def test_a_second_call_runs_some_steps(visit):
    """And the model that they need; a name that no step has is an error."""
    done, steps, _ = visit("--device", "cpu", "--only", "cascade,ours")
    assert done.returncode == 0 and list(steps) == ["model", "ours", "cascade"]
    done, steps, _ = visit("--device", "cpu", "--only", "tests,cascades")
    assert done.returncode == 1 and list(steps) == ["tests", "cascades"] and "no such step" in steps["cascades"]


@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="needs a file system in memory")
def test_wheels_are_not_put_where_containers_load_no_code(visit, tmp_path):
    """The model is made in memory, the programs of wheels elsewhere."""
    (tmp_path / "a.whl").touch()
    visit("--device", "cuda", "--wheels", str(tmp_path), "--only", "ours")
    calls = (tmp_path / "calls").read_text()
    assert re.search(r"shapes.py /dev/shm/\S+ qwen3-4b cuda", calls)
    (target,) = re.findall(r"--target (\S+) \S+/a.whl", calls)
    assert not target.startswith("/dev/shm") and not Path(target).exists()
