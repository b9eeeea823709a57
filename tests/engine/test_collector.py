"""The garbage collector during a run."""

import gc

from datatrove.data import Document

from datatrove_quality import QualityFilter, ScorerConfig


def run(model):
    conversation = [{"role": "user", "content": "Oi?"}, {"role": "assistant", "content": "Olá!"}]
    step = QualityFilter(ScorerConfig(model=model, device="cpu"))
    frozen = []
    for _ in step.run([Document("x", str(number), metadata={"messages": conversation}) for number in range(3)]):
        frozen.append(gc.get_freeze_count())
    return frozen


def test_the_collector_leaves_the_libraries_alone_while_a_filter_runs(model_folder):
    """And looks at them again afterwards."""
    assert min(run(model_folder("qwen3"))) > 10_000
    assert gc.get_freeze_count() == 0


def test_what_the_program_has_frozen_stays_frozen(model_folder):
    """It may have done so before it forked."""
    gc.freeze()
    try:
        run(model_folder("qwen3"))
        assert gc.get_freeze_count() > 10_000
    finally:
        gc.unfreeze()
