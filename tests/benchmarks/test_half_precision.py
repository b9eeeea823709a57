"""The benchmark of bfloat16 on a CPU: its processes score alike, and its figures are of the least times."""

import argparse

import half_precision
import pytest


def test_figures():
    """The first turn warmed up; of the others the least counts, of the scoring and of the products each."""
    turns = {
        ("now", "float32"): [[9.0, 9.0, [1.0, 2.0]], [4.0, 2.0, [1.0, 2.0]], [5.0, 1.0, [1.0, 2.0]]],
        ("now", "bfloat16"): [[0.1, 0.1, [1.0, 2.5]], [2.0, 1.0, [1.0, 2.5]], [1.0, 1.5, [1.0, 2.5]]],
    }
    exact, half = half_precision.judged(turns).values()
    assert exact["documents_per_second"] == 0.5 and exact["share_of_matrix_rate"] == 0.25
    assert half["documents_per_second"] == 2.0 and half["share_of_matrix_rate"] == 1.0
    assert (exact["difference_to_float32"], half["difference_to_float32"]) == (0.0, 0.5)


def test_all_of_it_with_a_tiny_model(monkeypatch):
    """Both dtypes, in processes of their own."""
    monkeypatch.setattr(half_precision.shapes, "HEAD_SHARPNESS", 0.1)
    figures = half_precision.compare("tiny", argparse.Namespace(docs=2, rounds=1, earlier=None))
    assert set(figures) == {"now, bfloat16", "now, float32"}
    assert 0 < figures["now, bfloat16"]["difference_to_float32"] < 0.2
    assert all(one["processor_seconds"] > 0 for one in figures.values())
    assert figures["now, bfloat16"]["documents_per_second"] == pytest.approx(
        2 / figures["now, bfloat16"]["processor_seconds"]
    )
