"""Runs with a cascade: columns in both formats, what is refused when a run goes on, the table, the audit."""

import json
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
from samples import read_rows, rows, without_scores, write_rows

from datatrove_quality import Cascade, ConversationAdapter, QualityFilter, Run, ScorerConfig, ScoreScale, load_scorer
from datatrove_quality.cascade.audit import BrokenPromise
from datatrove_quality.cascade.values import Bound, Certificate, scored_by
from datatrove_quality.cli import main as command
from datatrove_quality.engine.scorer import find_scorer


@pytest.fixture(scope="module")
def models(model_folder):
    """A classifier, another as its proxy, the middle of the first's scores, and a band of the second's."""
    classifier, proxy = (
        ScorerConfig(model=str(model_folder("qwen3", **options)), dtype="float32", device="cpu", tokens_per_batch=500)
        for options in ({}, {"seed": 1})
    )
    made = [row["messages"] for row in rows(40, "a") + rows(20, "b")]
    scores, proxied = (sorted(one.score for one in load_scorer(config).score(made)) for config in (classifier, proxy))
    return classifier, proxy, scores[30], (proxied[15], proxied[40])


def certified(models, promised=0.5):
    classifier, proxy, middle, band = models
    made_by = [scored_by(find_scorer(config).describe()) for config in (classifier, proxy)]
    bound = Bound("disagreement", promised, 0, 100, promised / 2)
    return Cascade(proxy, band, Certificate(middle, 0.95, (bound,), 100, 0, 1, "quality", *made_by), audit=0.3)


def filtered(folder, models, cascade, name="out", **options):
    started = Run(folder / "in", folder / name, **({"tasks": 2} | options))
    step = QualityFilter(
        models[0], models[2], cascade=cascade, exclusion_writer=started.writer("excluded"),
        checkpoints_dir=started.checkpoints,
    )  # fmt: skip
    return started.execute([started.reader(ConversationAdapter()), step, started.writer("kept")])


def source(folder, ending=".jsonl"):
    for name, number in (("a", 40), ("b", 20)):
        write_rows(folder / f"in/{name}{ending}", rows(number, name))


@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
def test_rows_come_back_with_the_cascades_columns(tmp_path, models, ending):
    """In both formats the same; each row once; the record says what has decided."""
    source(tmp_path, ending)
    result = filtered(tmp_path, models, certified(models))
    kept, excluded = (read_rows(tmp_path / "out" / name) for name in ("kept", "excluded"))
    written = sorted((without_scores(row) for row in kept + excluded), key=lambda row: row["id"])
    assert written == sorted(rows(40, "a") + rows(20, "b"), key=lambda row: row["id"])
    low, high = models[3]
    for row in kept + excluded:
        by_proxy = row["quality_scored_by"] == "proxy"
        assert (row.get("quality_score") is None) == (row.get("quality_int_score") is None) == by_proxy
        is_kept = row["quality_proxy_score"] > high if by_proxy else row["quality_score"] >= models[2]
        assert (row in kept) == is_kept
        assert by_proxy <= (not low <= row["quality_proxy_score"] <= high)
    if ending == ".parquet":
        names = pq.read_schema(next((tmp_path / "out/kept").glob("*"))).names
        assert {"quality_proxy_score", "quality_scored_by"} < set(names)
    (summary,) = result.filters
    decided = sum(row["quality_scored_by"] == "proxy" for row in kept + excluded)
    assert (summary.counts["scored_by_proxy"], summary.scored) == (decided, 60)
    assert "decided by the proxy" in result.table() and "scored as well, for the audit" in result.table()
    assert "disagreement at most 50.000%" in result.about["promise"]
    assert f"{summary.counts['audited']:.0f} documents: disagreement" in result.about["audit"]
    recorded = json.loads((tmp_path / "out/logs/run.json").read_text())["filters"][0]
    assert recorded["cascade"]["band"] == [low, high]
    assert recorded["scorer"]["fingerprint"] == find_scorer(models[0]).fingerprint.digest


def test_a_run_goes_on_with_the_same_cascade_only(tmp_path, models):
    """Of the audit, what is done about it may differ, and where the proxy computes."""
    source(tmp_path)
    filtered(tmp_path, models, certified(models))
    again = replace(certified(models), strict_audit=True, proxy=replace(models[1], tokens_per_batch=900))
    filtered(tmp_path, models, again)
    wider = Cascade(models[1], (models[3][0] - 1, models[3][1]), audit=0.3)
    for other in (wider, None, replace(certified(models), audit=0.1)):
        with pytest.raises(ValueError, match=r"different settings[\s\S]*cascade"):
            filtered(tmp_path, models, other)


def test_a_certificate_of_another_model_is_refused_before_anything_is_written(tmp_path, models):
    source(tmp_path)
    with pytest.raises(ValueError, match="issued for the classifier"):
        filtered(tmp_path, models, certified(models).with_certificate(classifier={"fingerprint": "0" * 16}))
    other_scale = replace(models[1], scale=ScoreScale(0, 0, 5))
    with pytest.raises(ValueError, match=r"issued for the proxy with scale .*1\.0.* has .*'offset': 0"):
        filtered(tmp_path, models, replace(certified(models), proxy=other_scale))
    assert not (tmp_path / "out").exists()


def test_a_broken_promise_is_said_at_the_end_or_stops_the_run(tmp_path, models, log):
    """The two models agree by chance only, and a tenth of a percent was promised. All rows are written."""
    source(tmp_path)
    cascade = replace(certified(models, 0.001), audit=1.0)
    result = filtered(tmp_path, models, cascade)
    assert "promised: at most 0.10%" in result.about["BROKEN"]
    assert len(read_rows(tmp_path / "out/kept")) + len(read_rows(tmp_path / "out/excluded")) == 60
    with pytest.raises(BrokenPromise, match="at least"):
        filtered(tmp_path, models, replace(cascade, strict_audit=True), "strict", tasks=1)
    assert read_rows(tmp_path / "strict/kept") == []


def test_what_reads_scores_knows_of_proxies(tmp_path, models, capsys):
    """A threshold is not chosen by scores near another one."""
    source(tmp_path, ".parquet")
    filtered(tmp_path, models, certified(models))
    assert command.main(["choose-threshold", str(tmp_path / "out"), "--keep-share", "0.5"]) == command.MISTAKE
    assert "Score a sample without a cascade" in capsys.readouterr().err


@pytest.mark.parametrize("column", ["quality_score", "quality_int_score"])
def test_scores_of_a_cascade_are_not_compared_with_labels(tmp_path, column, capsys):
    """A figure of the rows in the band looks like one of the corpus. Rows without a label do not matter."""
    scored = {"quality_score": 4.0, "quality_int_score": 4, "quality_scored_by": "classifier", "human": 4}
    decided = {"quality_score": None, "quality_int_score": None, "quality_scored_by": "proxy"}
    for name, human in (("labelled", 5), ("not", None)):
        write_rows(tmp_path / f"{name}.jsonl", [scored, scored | {"human": 3}, decided | {"human": human}])
    evaluate = ["--scores", "quality_score", "--labels", "human", "--output", str(tmp_path / "e")]
    agree = ["--with", column, "--labels", "human"]
    for name, arguments in (("evaluate", evaluate), ("agree", agree)):
        assert command.main([name, str(tmp_path / "labelled.jsonl"), *arguments]) == command.MISTAKE
        assert "Score a sample without a cascade" in capsys.readouterr().err
        assert command.main([name, str(tmp_path / "not.jsonl"), *arguments]) == 0


def report_of(folder, *arguments):
    assert command.main(["report", *map(str, arguments), "--output", str(folder / "page")]) == 0
    return json.loads((folder / "page/report.json").read_text()), (folder / "page/report.html").read_text()


@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
def test_a_report_counts_what_the_proxy_decided(tmp_path, models, ending):
    """What is kept is what the run kept, in all and by group, also where two runs are compared; other thresholds, and
    files without the run's record, are not known."""
    source(tmp_path, ending)
    filtered(tmp_path, models, certified(models))
    filtered(tmp_path, models, None, "plain")
    kept, excluded = (read_rows(tmp_path / "out" / name) for name in ("kept", "excluded"))
    by_proxy = [row for row in kept + excluded if row["quality_scored_by"] == "proxy"]
    figures, page = report_of(tmp_path, tmp_path / "out", "--group-by", "id", "--against", tmp_path / "plain")
    assert (figures["documents"], figures["decided_by_proxy"], figures["unscorable"]) == (60, len(by_proxy), 0)
    tokens = [sum(row["quality_tokens"] for row in some) for some in (kept, kept + excluded)]
    expected = {"documents": len(kept), "documents_share": len(kept) / 60, "tokens": tokens[0]}
    assert figures["kept"] == expected | {"tokens_share": pytest.approx(tokens[0] / tokens[1])}
    assert figures["thresholds"] == [] and figures["reasons"] == {} and figures["tokens"] == tokens[1]
    groups = {group["value"]: group for group in figures["groups"]["values"][:50]}
    for row in kept + excluded:
        if group := groups.get(row["id"]):
            assert (group["documents"], group["unscorable"]) == (1, 0)
            assert (group["kept"]["documents"], group["kept"]["tokens"]) == (
                (1, row["quality_tokens"]) if row in kept else (0, 0)
            )
    was = {row["id"] for row in read_rows(tmp_path / "plain/kept")}
    now = {row["id"] for row in kept}
    decisions = figures["comparison"]["decisions"]
    assert (decisions["kept_here_only"], decisions["kept_there_only"]) == (len(now - was), len(was - now))
    assert "A cascade&#39;s proxy decided" in page and "decided by a proxy" in page
    for arguments in ((tmp_path / "out", "--threshold", 2), (tmp_path / "out/kept", "--threshold", models[2])):
        figures, page = report_of(tmp_path, *arguments, "--allow-outside-scale", "--group-by", "id")
        assert figures["kept"] is None and figures["groups"]["values"][0]["kept"] is None
        assert any("is not known" in note for note in figures["notes"])


def test_the_command_takes_the_file(tmp_path, models, capsys):
    """With a sidecar, too, in which each row has a score or what decided it, and why it would be dropped."""
    source(tmp_path)
    classifier, _, middle, _ = models
    file = tmp_path / "cascade.json"
    certified(models).save(file)
    arguments = [
        *("filter", str(tmp_path / "in"), "--model", classifier.model, "--dtype", "float32", "--device", "cpu"),
        *("--min-score", repr(middle), "--cascade", str(file), "--audit", "0.1", "--audit-by", "topic"),
        *("--allow-outside-scale", "--tokens-per-batch", "500"),
    ]
    assert command.main([*arguments, "--output", str(tmp_path / "out")]) == 0
    assert "decided by the proxy" in capsys.readouterr().out
    assert command.main([*arguments, "--output", str(tmp_path / "side"), "--scores-only"]) == 0
    kept, excluded = (read_rows(tmp_path / "out" / name) for name in ("kept", "excluded"))
    side = read_rows(tmp_path / "side/scores")
    assert [row["id"] for row in side] == [row["id"] for row in rows(40, "a") + rows(20, "b")]
    assert {row["id"] for row in side if row.get("filter_reason") is None} == {row["id"] for row in kept}
    decided = {row["id"] for row in kept + excluded if row["quality_scored_by"] == "proxy"}
    assert {row["id"] for row in side if row["quality_scored_by"] == "proxy"} == decided
    assert 0 < len(decided) < 60


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--cascade", "none.json", "--min-score", "4"], "--cascade none.json: it cannot be read"),
        (["--audit", "0.1"], "without --cascade there is no audit: omit --audit"),
        (["--cascade", "FILE"], "cascade needs --min-score and no --max-score"),
        (["--cascade", "FILE", "--min-score", "9"], "--min-score 9.0: the cascade's certificate is for --min-score"),
        (["--cascade", "FILE", "--scores-from-columns"], "--scores-from-columns scores nothing: omit --cascade"),
    ],
)
def test_a_cascade_that_does_not_fit_is_refused_at_once(tmp_path, models, capsys, options, message):
    file = tmp_path / "cascade.json"
    certified(models).save(file)
    source(tmp_path)
    given = [str(file) if option == "FILE" else option for option in options]
    assert command.main(["filter", str(tmp_path / "in"), "--output", str(tmp_path / "out"), *given]) == command.MISTAKE
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
