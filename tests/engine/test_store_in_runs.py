"""The score store through scorer and filter: a run that starts again computes nothing twice, and gives the same."""

import copy
import random
import shutil
from itertools import islice
from pathlib import Path

import pytest
import torch
from samples import documents
from scorers import score_files

from datatrove_quality import QualityFilter, ScorerConfig
from datatrove_quality.engine.scorer import Scorer
from datatrove_quality.engine.streaming import LogitStream
from datatrove_quality.model import fingerprint as fingerprint_module


@pytest.fixture
def computed(monkeypatch):
    """The texts that went through a model, in order."""
    texts = []
    real = LogitStream._submit

    def submit(self, new):
        texts.extend(new)
        return real(self, new)

    monkeypatch.setattr(LogitStream, "_submit", submit)
    return texts


def scores(step, docs):
    return {doc.id: {**doc.metadata} for doc in step.run(docs)}


def statistic(step, name):
    return step.stats.stats[name].total if name in step.stats.stats else 0


def test_a_relative_folder_is_where_the_step_was_made(config, tmp_path, monkeypatch):
    """A job that runs in another directory finds the folder that was meant; an address stays as it is."""
    monkeypatch.chdir(tmp_path)
    step = QualityFilter(config, checkpoints_dir=Path("a") / "b")
    monkeypatch.chdir("/")
    assert step.checkpoints_dir == str(tmp_path / "a" / "b")
    assert QualityFilter(config, checkpoints_dir="memory://x").checkpoints_dir == "memory://x"


def test_a_rerun_computes_nothing_and_gives_the_same(config, tmp_path, computed):
    """Scores, decisions and metadata of a replay are those of the first run, bit for bit."""
    first = scores(QualityFilter(config, checkpoints_dir=tmp_path), documents(300))
    assert len(computed) == 300
    step = QualityFilter(config, checkpoints_dir=tmp_path)
    assert scores(step, documents(300)) == first
    assert len(computed) == 300
    assert statistic(step, "from_store") == statistic(step, "scored") == 300


def test_another_threshold_costs_no_forward_pass(config, tmp_path, computed):
    """Scores do not depend on bounds, prefix, scale or batch, so that none of these computes a score again."""
    annotated = scores(QualityFilter(config, checkpoints_dir=tmp_path), documents(100))
    middle = sorted(metadata["quality_score"] for metadata in annotated.values())[50]
    other = ScorerConfig(model=config.model, dtype="float32", device="cpu", tokens_per_batch=33)
    kept = scores(QualityFilter(other, min_score=middle, prefix="p", checkpoints_dir=str(tmp_path)), documents(100))
    assert len(kept) == 50
    assert len(computed) == 100


def test_an_intact_store_loads_no_model(config, tmp_path, monkeypatch):
    """With nothing left to compute, no weights are read."""
    scores(QualityFilter(config, checkpoints_dir=tmp_path), documents(40))
    monkeypatch.setattr("datatrove_quality.engine.scorer._found", {})
    monkeypatch.setattr("datatrove_quality.engine.scorer.load_weights", lambda *_: pytest.fail("weights were read"))
    assert len(scores(QualityFilter(config, checkpoints_dir=tmp_path), documents(40))) == 40


def test_repeats_are_computed_once(config, tmp_path, computed):
    """The same conversation again, in one window or windows apart, has its score without a forward pass."""
    once = documents(30)
    again = documents(30) + documents(30)
    step = QualityFilter(config, checkpoints_dir=tmp_path)
    out = list(step.run(once + again))
    assert len(computed) == 30
    assert statistic(step, "from_store") == 60
    assert [doc.metadata["quality_score"] for doc in out[:30]] == [doc.metadata["quality_score"] for doc in out[60:]]


def test_a_run_that_is_broken_off_goes_on_where_it_stopped(config, tmp_path, computed):
    """A failure upstream, a failure downstream, SystemExit and KeyboardInterrupt: no score is computed twice."""

    def failing(error, docs, after):
        yield from docs[:after]
        raise error

    docs = 0
    for error in (ValueError("cut"), SystemExit(1), KeyboardInterrupt()):
        docs += 100
        with pytest.raises(type(error)) as held:
            list(QualityFilter(config, checkpoints_dir=tmp_path).run(failing(error, documents(500), docs)))
        assert held  # and with it the traceback, so that nothing is closed by chance
    stream = QualityFilter(config, checkpoints_dir=tmp_path).run(documents(500))
    assert len(list(islice(stream, 499))) == 499  # a consumer that fails now leaves the stream as it is
    list(QualityFilter(config, checkpoints_dir=tmp_path).run(documents(500)))
    assert len(computed) == len(set(computed))


def test_runs_over_a_damaged_store_end_right(config, tmp_path):
    """60 times: bytes of the store flipped or cut, then two copies of the rank at once; both give every score."""
    docs = documents(40)
    truth = scores(QualityFilter(config, checkpoints_dir=tmp_path), documents(40))
    (path,) = score_files(tmp_path)
    whole, rng = path.read_bytes(), random.Random(1)
    for _ in range(60):
        data = bytearray(whole)
        for _ in range(rng.choice([1, 1, 4])):
            at = rng.randrange(len(data))
            if rng.random() < 0.5:
                data[at] ^= 1 << rng.randrange(8)
            else:
                del data[at : at + rng.choice([1, 30, 2_000])]
        for old in score_files(tmp_path):
            old.unlink()
        path.write_bytes(data)
        copies = [QualityFilter(config, checkpoints_dir=tmp_path).run(copy.deepcopy(docs)) for _ in range(2)]
        for pair in zip(*copies, strict=True):
            for doc in pair:
                assert doc.metadata["quality_score"] == pytest.approx(truth[doc.id]["quality_score"], abs=5e-5)
                assert doc.metadata["quality_int_score"] == truth[doc.id]["quality_int_score"]


def test_a_score_that_is_not_finite_is_kept_as_such(config, tmp_path, computed, monkeypatch):
    """A document that breaks the model breaks it once; a replay says the same of it."""
    real = Scorer._load

    def load(self):
        loaded = real(self)
        loaded.replicas[0].forward = lambda model, ids, row=None: torch.full((len(ids), 1), float("nan"))
        return loaded

    monkeypatch.setattr(Scorer, "_load", load)
    monkeypatch.setattr("datatrove_quality.engine.scorer._found", {})
    first = scores(QualityFilter(config, checkpoints_dir=tmp_path), documents(5))
    assert scores(QualityFilter(config, checkpoints_dir=tmp_path), documents(5)) == first
    assert len(computed) == 5
    assert all("non_finite_score" in metadata["quality_error"] for metadata in first.values())


def test_a_scorer_that_differs_scores_anew(config, tmp_path, computed):
    """Another max_tokens is another scorer, and its scores lie beside the first's."""
    scores(QualityFilter(config, checkpoints_dir=tmp_path), documents(20))
    other = ScorerConfig(model=config.model, dtype="float32", device="cpu", max_tokens=30)
    step = QualityFilter(other, checkpoints_dir=tmp_path)
    scores(step, documents(20))
    assert len(computed) == 40
    assert statistic(step, "from_store") == 0


def test_an_upgrade_is_judged_by_the_real_probes(config, tmp_path, computed, other_versions, monkeypatch):
    """Through a scorer that is not loaded yet: other versions that score alike reuse, and the model is asked."""
    first = scores(QualityFilter(config, checkpoints_dir=tmp_path), documents(20))
    monkeypatch.setattr("datatrove_quality.engine.scorer._found", {})
    other_versions("9.9")
    assert scores(QualityFilter(config, checkpoints_dir=tmp_path), documents(20)) == first
    assert len(computed) == 20


def test_weights_that_change_under_a_running_process_are_noticed(config, tmp_path, monkeypatch):
    """Found, replayed from the store, trained on, loaded: scores of other weights must not go under the old name."""
    monkeypatch.setattr("datatrove_quality.engine.scorer._found", {})
    folder = tmp_path / "model"
    shutil.copytree(config.model, folder)
    config = ScorerConfig(model=str(folder), dtype="float32", device="cpu")
    scores(QualityFilter(config, checkpoints_dir=tmp_path / "c"), documents(5))
    monkeypatch.setattr("datatrove_quality.engine.scorer._found", {})
    scores(QualityFilter(config, checkpoints_dir=tmp_path / "c"), documents(5))
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-2] ^= 1
    (folder / "model.safetensors").write_bytes(data)
    with pytest.raises(ValueError, match="has changed since this process found it: weights was"):
        scores(QualityFilter(config, checkpoints_dir=tmp_path / "c"), documents(9, seed=1))


def test_nothing_is_written_into_a_read_only_home(config, tmp_path, monkeypatch):
    """The step goes to disk only where it is told to: `checkpoints_dir=None` leaves no file."""
    monkeypatch.chdir(tmp_path)
    scores(QualityFilter(config), documents(5))
    assert not list(tmp_path.iterdir())


def test_versions_leave_the_build_out(monkeypatch):
    """Scores made with a CUDA build are found by a CPU build of the same version."""
    monkeypatch.setattr(fingerprint_module, "version", lambda name: "2.13.0+cu126")
    assert fingerprint_module.library_versions()["torch"] == "2.13.0"
