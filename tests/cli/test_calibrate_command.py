"""`datatrove-quality calibrate`: a cascade's file that `filter` takes, or the reason why there is none."""

import json

import pytest
from samples import documents, read_rows, write_rows

from datatrove_quality import Cascade
from datatrove_quality.cli import main as command
from datatrove_quality.proxies import scores as proxies_scores


@pytest.fixture(scope="module")
def models(model_folder):
    """A classifier, and another as a proxy that knows nothing of it."""
    return str(model_folder("qwen3")), str(model_folder("qwen3", seed=1))


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    made = [{"id": doc.id, "messages": doc.metadata["messages"]} for doc in documents(400)]
    for at in range(4):
        write_rows(tmp_path / f"in/{at}.jsonl", made[at::4])
    write_rows(tmp_path / "in/bad.jsonl", [{"id": "bad", "messages": []}])
    return tmp_path / "in"


@pytest.fixture
def costs(monkeypatch):
    """Seconds for a document: the classifier's, then the proxy's."""
    given = [1.0, 0.1]
    left = []

    def seconds(scorer, inputs):
        left[:] = left or list(given)
        return left.pop(0)

    monkeypatch.setattr(proxies_scores, "seconds_per_document", seconds)
    return given


def calibrate(corpus, model, *options, output="cascade.json", threshold=None):
    return command.main(
        [
            *("calibrate", str(corpus), "--model", model, "--dtype", "float32", "--device", "cpu"),
            *("--output", str(corpus.parent / output), "--min-score", str(threshold), "--allow-outside-scale"),
            *map(str, options),
        ]
    )


@pytest.fixture
def threshold(corpus, models):
    """The middle of the classifier's scores."""
    from datatrove_quality import ScorerConfig, load_scorer

    config = ScorerConfig(model=models[0], dtype="float32", device="cpu")
    made = [doc.metadata["messages"] for doc in documents(400)]
    return sorted(score.score for score in load_scorer(config).score(made))[200]


def test_a_cascade_that_filter_takes(corpus, models, threshold, costs, capsys):
    """In a cheaper arithmetic nearly all decisions are the same; the file holds for these models alone."""
    promise = ("--disagreement", 0.1, "--proxy-dtype", "bfloat16", "--audit", 0.2)
    assert calibrate(corpus, models[0], *promise, threshold=threshold) == 0
    out = capsys.readouterr().out
    assert "needs at least 29 rows" in out and "1 of them cannot be scored" in out
    assert "232 of 401 rows drawn; attempt 1" in out
    cascade = Cascade.load(corpus.parent / "cascade.json")
    assert cascade.proxy.dtype == "bfloat16" and cascade.audit == 0.2
    assert cascade.certificate.prefix == "quality" and cascade.certificate.min_score == threshold
    assert "<polyline" in (corpus.parent / "cascade.svg").read_text()
    used = ["--min-score", str(threshold), "--cascade", str(corpus.parent / "cascade.json"), "--allow-outside-scale"]
    filtered = ["filter", str(corpus), "--output", str(corpus.parent / "out"), "--device", "cpu", *used]
    assert command.main([*filtered, "--model", models[0], "--dtype", "float32"]) == 0
    assert command.main([*filtered, "--model", models[0], "--render-tools", "--overwrite"]) == command.MISTAKE
    assert "--render-tools, and the cascade's certificate was issued with" in capsys.readouterr().err
    kept = read_rows(corpus.parent / "out/kept")
    assert {row["quality_scored_by"] for row in kept} == {"proxy", "classifier"}
    capsys.readouterr()
    asked = [*filtered, "--model", models[0], "--dtype", "float32", "--overwrite", "--messages-key", "messages"]
    assert command.main(asked) == command.MISTAKE
    said = "issued for rows read by the default columns, and these are read by --messages-key messages"
    assert said in capsys.readouterr().err
    assert command.main([*filtered, "--model", models[1], "--dtype", "float32", "--overwrite"]) == command.MISTAKE
    assert "certificate was issued for the classifier" in capsys.readouterr().err


def test_the_same_again_computes_nothing_and_another_is_an_attempt(corpus, models, threshold, costs, capsys, log):
    promise = ("--disagreement", 0.2, "--proxy-dtype", "bfloat16")
    assert calibrate(corpus, models[0], *promise, threshold=threshold) == 0
    first = json.loads((corpus.parent / "cascade.json").read_text())
    assert calibrate(corpus, models[0], *promise, threshold=threshold) == 0
    assert json.loads((corpus.parent / "cascade.json").read_text()) == first
    capsys.readouterr()
    other = ("--disagreement", 0.15, "--proxy-dtype", "bfloat16")
    assert calibrate(corpus, models[0], *other, threshold=threshold) == command.MISTAKE
    assert "disagreement was 0.2, is 0.15" in capsys.readouterr().err
    assert calibrate(corpus, models[0], *other, output="other.json", threshold=threshold) == command.MISTAKE
    assert calibrate(corpus, models[0], *other, "--new-sample", threshold=threshold) == 0
    assert "the chance of being wrong is divided by 2" in capsys.readouterr().out
    assert Cascade.load(corpus.parent / "cascade.json").certificate.attempts == 2


def test_why_there_is_no_certificate(corpus, models, threshold, costs, capsys):
    """A proxy that knows nothing does not pay; the chart is there, the cascade is not."""
    assert calibrate(corpus, models[0], "--proxy", models[1], "--disagreement", 0.1, threshold=threshold) == 1
    seen = capsys.readouterr()
    assert "no certificate: " in seen.err and "scored by the classifier" in seen.out
    assert not (corpus.parent / "cascade.json").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--proxy", "org/p"], "give --disagreement, or --wrongly-dropped and --wrongly-kept together"),
        (["--proxy", "org/p", "--wrongly-kept", "0.1"], "give --disagreement, or --wrongly-dropped"),
        (["--disagreement", "0.1"], "give --proxy MODEL, or a --proxy-dtype"),
        (["--disagreement", "0.1", "--proxy", "./none"], "there is no folder"),
        (["--disagreement", "0.1", "--proxy", "org/m", "--proxy-dtype", "float32"], "--proxy org/m is the classifier"),
    ],
)
def test_mistakes_are_refused_at_once(corpus, capsys, options, message):
    assert calibrate(corpus, "org/m", *options, threshold=4) == command.MISTAKE
    assert message in capsys.readouterr().err


def test_a_sample_that_is_too_small_says_how_many_rows_are_needed(corpus, models, threshold, costs, capsys):
    promise = ("--disagreement", 0.001, "--proxy-dtype", "bfloat16")
    assert calibrate(corpus, models[0], *promise, threshold=threshold) == 1
    assert "needs 2,995 certifying rows without one error, and there are 200" in capsys.readouterr().err


def test_a_sample_of_which_nothing_can_be_scored(tmp_path, models, costs, capsys):
    write_rows(tmp_path / "in/a.jsonl", [{"id": "bad", "messages": []}] * 3)
    promise = ("--disagreement", 0.1, "--proxy-dtype", "bfloat16")
    assert calibrate(tmp_path / "in", models[0], *promise, threshold=3) == command.MISTAKE
    assert "none of the rows that were drawn can be scored" in capsys.readouterr().err
