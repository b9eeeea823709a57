"""The garbage collector during a run."""

import gc

from datatrove.data import Document

from datatrove_quality import QualityFilter, ScorerConfig
from datatrove_quality.engine.garbage_collection import RARELY


def thresholds(model):
    """The collector's while a filter gives its documents out."""
    conversation = [{"role": "user", "content": "Oi?"}, {"role": "assistant", "content": "Olá!"}]
    step = QualityFilter(ScorerConfig(model=model, device="cpu"))
    documents = [Document("x", str(number), metadata={"messages": conversation}) for number in range(3)]
    return [gc.get_threshold() for _ in step.run(documents)]


def test_full_collections_are_rare_while_a_filter_runs(model_folder):
    """And as often as before afterwards."""
    before = gc.get_threshold()
    assert thresholds(model_folder("qwen3")) == [(*before[:2], RARELY)] * 3
    assert gc.get_threshold() == before


def test_what_the_program_has_set_stays(model_folder):
    """It may want them still more rarely, or none at all."""
    before = gc.get_threshold()
    try:
        gc.set_threshold(0, 20, 2 * RARELY)
        assert thresholds(model_folder("qwen3")) == [(0, 20, 2 * RARELY)] * 3
    finally:
        gc.set_threshold(*before)
