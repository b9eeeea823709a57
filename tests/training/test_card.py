"""The model card, and the curves beside it."""

import json
import math

import pytest

from datatrove_quality.training.card import write_curves
from datatrove_quality.training.trainer import _finite


def test_the_model_card_says_how_it_was_made_and_how_good_it_is(trained, base):
    """Recipe, counts and figures stand in the README, so that a folder explains itself."""
    card = (trained / "README.md").read_text()
    record = json.loads((trained / "training.json").read_text())
    assert str(base) in card
    assert "| learning rate | 0.003 |" in card
    assert "| held out | 20 |" in card
    assert "| rows of level 5 | 20 |" in card
    assert record["evaluation"]["macro_f1"] == pytest.approx(best(record["log"]), abs=1e-9)


def best(log: list[dict]) -> float:
    return max(entry["eval_macro_f1"] for entry in log if "eval_macro_f1" in entry)


def test_a_gradient_that_overflowed_does_not_lose_the_record(tmp_path):
    """JSON has no NaN: the log has null there, and the curves leave the point out."""
    log = _finite([{"step": 1, "loss": 2.0, "grad_norm": math.inf}, {"step": 2, "loss": math.nan, "grad_norm": 1.0}])
    assert log == [{"step": 1, "loss": 2.0, "grad_norm": None}, {"step": 2, "loss": None, "grad_norm": 1.0}]
    write_curves(log, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
