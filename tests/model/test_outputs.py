"""Several outputs: what each problem_type makes of the logits, which output is the score, and what is refused."""

import json

import numpy as np
import pytest
from datatrove.data import Document
from samples import read_rows, write_rows
from scorers import config_of, edited, refused, texts
from transformers import PretrainedConfig, pipeline

from datatrove_quality import QualityFilter, Run, ScoresAdapter, ScoreScale, TextAdapter, score_schema
from datatrove_quality.cli.main import main
from datatrove_quality.config import ScorerConfig, Unscorable
from datatrove_quality.engine.scorer import Scorer
from datatrove_quality.model.found_model import find_model
from datatrove_quality.model.outputs import MULTI_LABEL, REGRESSION, SINGLE_LABEL, Outputs


LABELS = {0: "Clarity", 1: "facts & figures", 2: "Código-fonte"}
NAMES = ("clarity", "facts_figures", "código_fonte")
LEVELS = {0: "1", 1: "2.5", 2: "4"}


@pytest.fixture
def several(model_folder, tmp_path):
    """A function that gives the folder of an encoder with three outputs: `several(problem_type, labels)`."""

    def folder(problem_type, labels=LABELS):
        label2id = {label: index for index, label in labels.items()}
        values = {"id2label": labels, "label2id": label2id, "problem_type": problem_type}
        return edited(model_folder("bert", num_labels=3), tmp_path / f"{problem_type}-{len(labels)}", **values)

    return folder


def outputs_of_pipeline(folder, inputs, problem_type):
    """What transformers' text classification says of each text, by label."""
    classify = pipeline("text-classification", str(folder), device="cpu", dtype="float32")
    classify.model.config.problem_type = problem_type
    found = [classify(text, top_k=None, truncation=True) for text in inputs]
    return [{one["label"]: one["score"] for one in each} for each in found]


@pytest.mark.parametrize(
    ("problem_type", "column"), [(REGRESSION, "score"), (SINGLE_LABEL, "probability"), (MULTI_LABEL, "probability")]
)
def test_outputs_are_the_pipelines(several, problem_type, column):
    """Scores as they are, a softmax, a sigmoid: as transformers' own pipeline for the same problem_type."""
    folder, inputs = several(problem_type), texts(12)
    one = Scorer(config_of(folder, score_of="Código-fonte", scale=ScoreScale(0, 0, 1), tokens_per_batch=300))
    scores = one.score(inputs)
    for score, expected in zip(scores, outputs_of_pipeline(folder, inputs, problem_type), strict=True):
        for (_, label), name in zip(LABELS.items(), NAMES, strict=True):
            assert score.outputs[f"{column}_{name}"] == pytest.approx(expected[label], abs=1e-5)
        assert score.score == score.outputs[f"{column}_código_fonte"]
        assert score.int_score == round(min(max(score.score, 0), 1))
        most_likely = max(expected, key=expected.get) if problem_type == SINGLE_LABEL else None
        assert score.outputs.get("label") == most_likely
    assert len({round(score.score, 3) for score in scores}) > 6


@pytest.mark.parametrize(
    ("problem_type", "activation"), [(None, "none"), (REGRESSION, "none"), (MULTI_LABEL, "sigmoid")]
)
def test_one_output(model_folder, tmp_path, problem_type, activation):
    """Without a problem_type its logit is the score, where the pipeline would take a sigmoid; else as the pipeline."""
    folder = edited(model_folder("bert"), tmp_path / "m", problem_type=problem_type)
    inputs = texts(6)
    classify = pipeline("text-classification", str(folder), device="cpu", dtype="float32")
    expected = [classify(text, truncation=True, function_to_apply=activation)[0]["score"] for text in inputs]
    offset = {"none": 1, "sigmoid": 0}[activation]
    scores = Scorer(config_of(folder)).score(inputs)
    assert [score.score - offset for score in scores] == pytest.approx(expected, abs=1e-5)
    assert [list(score.outputs) for score in scores[:1]] == [["probability_label_0"] if offset == 0 else []]
    if problem_type == MULTI_LABEL:
        own = [classify(text, truncation=True)[0]["score"] for text in inputs]
        assert own == pytest.approx(expected, abs=1e-6)


def test_the_expected_level_of_numeric_labels(several):
    """Labels that are numbers make a score on their own scale; a name chooses the probability of one of them."""
    folder, inputs = several(SINGLE_LABEL, LEVELS), texts(8)
    one = Scorer(config_of(folder))
    assert one.scale == ScoreScale(0, 1, 4)
    for score in one.score(inputs):
        probabilities = [score.outputs[f"probability_{name}"] for name in ("1", "2_5", "4")]
        assert sum(probabilities) == pytest.approx(1)
        assert score.score == pytest.approx(np.dot(probabilities, [1, 2.5, 4]))
        assert score.int_score == round(score.score) and score.outputs["label"] in LEVELS.values()
    chosen = Scorer(config_of(folder, score_of="4"))
    assert chosen.scale == ScoreScale(0, 0, 1)
    assert [score.score for score in chosen.score(inputs)] == [
        pytest.approx(score.outputs["probability_4"]) for score in one.score(inputs)
    ]


@pytest.mark.parametrize(
    ("problem_type", "labels", "score_of", "scale"),
    [
        (MULTI_LABEL, LABELS, "clarity", ScoreScale(0, 0, 1)),
        (SINGLE_LABEL, LABELS, "clarity", ScoreScale(0, 0, 1)),
        (SINGLE_LABEL, LEVELS, None, ScoreScale(0, 1, 4)),
        (REGRESSION, LABELS, "clarity", ScoreScale(2, 1, 9)),
    ],
)
def test_an_offset_is_of_logits_alone(several, log, problem_type, labels, score_of, scale):
    """A score_scale does not lift a probability above 1, nor a level; the log says so. The user's own is refused."""
    folder = several(problem_type, labels)
    plain = Scorer(config_of(folder, score_of=score_of)).score(texts(4))
    (folder / "config.json").write_text(
        json.dumps(
            json.loads((folder / "config.json").read_text()) | {"score_scale": {"offset": 2, "low": 1, "high": 9}}
        )
    )
    one = Scorer(config_of(folder, score_of=score_of))
    assert one.scale == scale
    lifted = 1 if problem_type == REGRESSION else 0  # from the card's offset of 1
    assert [score.score for score in one.score(texts(4))] == pytest.approx([score.score + lifted for score in plain])
    assert any("score_scale" in line and "made of probabilities" in line for line in log) == (lifted == 0)
    other = config_of(folder, score_of=score_of, scale=ScoreScale(1, 1, 5))
    if lifted:
        assert find_model(other).scale == other.scale
    else:
        refused(other, r"scale=.*made of probabilities.*omit scale \(--scale\)", load=find_model)


def test_a_level_below_zero_keeps_its_sign(several):
    """Its column is not that of the level above zero, and neither is what score_of names."""
    folder = several(SINGLE_LABEL, {0: "-2", 1: "0", 2: "2"})
    one = Scorer(config_of(folder))
    assert one.outputs.names == ("minus_2", "0", "2") and one.scale == ScoreScale(0, -2, 2)
    assert [find_model(config_of(folder, score_of=name)).outputs.score_of for name in ("2", "-2", "minus_2")] == [
        2,
        0,
        0,
    ]


def test_a_certain_level_is_within_the_scale():
    """Rounding of the sum lifts no score above the highest level, which a bound may be."""
    levels = tuple(str(level / 10) for level in range(50))
    outputs = Outputs(SINGLE_LABEL, levels, tuple(f"l{index}" for index in range(50)), None)
    for certain in (800.0, -800.0):
        value, columns = outputs.read([0.0] * 49 + [certain], offset=0)
        assert 0 <= value <= 4.9 and columns["label"] == ("4.9" if certain > 0 else "0.0")
        assert sum(column for column in columns.values() if column != columns["label"]) == pytest.approx(1)


@pytest.mark.parametrize("logit", [-1e4, -3.0, 0.0, 3.0, 1e4])
def test_no_logit_overflows(logit):
    """A sigmoid is what numpy's is, also far out."""
    value, _ = Outputs(MULTI_LABEL, ("a",), ("a",), 0).read([logit], offset=0)
    with np.errstate(over="ignore"):
        assert value == pytest.approx(1 / (1 + np.exp(-logit)), abs=1e-12)


@pytest.mark.parametrize(
    ("problem_type", "labels", "options", "says"),
    [
        (None, LABELS, {"score_of": "clarity"}, r"3 outputs \(clarity, .*problem_type.*softmax.*sigmoid"),
        (REGRESSION, LABELS, {}, r"3 outputs.*set score_of \(--score-of\)"),
        (MULTI_LABEL, LEVELS, {}, r"3 outputs.*set score_of"),
        (SINGLE_LABEL, LABELS, {}, r"3 outputs.*set score_of"),
        (REGRESSION, LABELS, {"score_of": "depth"}, "score_of='depth' is not one of them"),
        (REGRESSION, {0: "<50%", 1: ">50%", 2: "x"}, {"score_of": "x"}, "do not give a column name each.*id2label"),
        (REGRESSION, {0: "★", 1: "b", 2: "c"}, {"score_of": "b"}, "do not give a column name each"),
    ],
)
def test_unclear_outputs_are_refused(several, problem_type, labels, options, says):
    """Before any weights are read."""
    refused(config_of(several(problem_type, labels), **options), says, load=find_model)


def transformers_takes(problem_type):
    """Whether its configs hold any text, as those of 5.24 do and those of 5.0 do not."""
    try:
        PretrainedConfig(problem_type=problem_type)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("value", ["Regression", "foo", "", 5, ["regression"]])
def test_a_problem_type_that_there_is_not_is_refused(model_folder, tmp_path, value):
    """In a config.json: it was taken for a sigmoid; the user's own choice goes before it."""
    folder = edited(model_folder("bert"), tmp_path / "m")
    stored = json.loads((folder / "config.json").read_text()) | {"problem_type": value}
    (folder / "config.json").write_text(json.dumps(stored))
    refused(config_of(folder), "problem_type", load=find_model)
    if isinstance(value, str) and transformers_takes(value):
        assert find_model(config_of(folder, problem_type=REGRESSION)).outputs.problem_type == REGRESSION


def test_a_softmax_of_one_output_is_refused(model_folder, tmp_path):
    """It would be 1 for every text; in a config.json transformers refuses it."""
    refused(config_of(model_folder("bert"), problem_type=SINGLE_LABEL), "always 1.*--problem-type", load=find_model)
    folder = edited(model_folder("bert"), tmp_path / "m", problem_type=SINGLE_LABEL)
    refused(config_of(folder), "problem_type|always 1", load=find_model)


@pytest.mark.parametrize("options", [{"score_of": " "}, {"score_of": 1}, {"problem_type": "softmax"}])
def test_wrong_options(options):
    """A wrong value is a ValueError that names the field."""
    with pytest.raises(ValueError, match=next(iter(options))):
        ScorerConfig(model="m", **options)
    with pytest.raises(ValueError, match="score_of='b': the scorer has 'a'; omit one"):
        QualityFilter(ScorerConfig(model="m", score_of="a"), score_of="b")


def test_an_output_that_is_not_finite(several, monkeypatch):
    """A document whose outputs are not all numbers has no score, and no outputs of an earlier run."""
    one = Scorer(config_of(several(REGRESSION), score_of="clarity"))
    forward = one.replicas[0].forward

    def poisoned(model, sequences):
        logits = forward(model, sequences).clone()
        logits[-1, 2] = float("nan")
        return logits

    monkeypatch.setattr(one.replicas[0], "forward", poisoned)
    monkeypatch.setattr("datatrove_quality.engine.scorer._found", {one.config: one})
    docs = [Document(text=text, id=text, metadata={"quality_score_clarity": 9.0}) for text in ("um texto", "dois")]
    found = {doc.id: doc.metadata for doc in QualityFilter(one.config, messages_key=None).run(docs)}
    (error,) = (metadata for metadata in found.values() if "quality_error" in metadata)
    assert Unscorable.from_text(error["quality_error"]).reason == "non_finite_score"
    assert not any(name.startswith("quality_score") for name in error)
    (right,) = (metadata for metadata in found.values() if metadata is not error)
    assert right["quality_score_clarity"] == right["quality_score"] != 9.0


# --- through the pipeline --------------------------------------------------------------------------------------------


def test_a_stored_score_has_all_outputs(several, tmp_path):
    """The store keeps each output, so that another `score_of` is served by it too."""
    folder = several(MULTI_LABEL)
    found = []
    for name in ("clarity", "facts & figures"):
        step = QualityFilter(
            config_of(folder), score_of=name, messages_key=None, checkpoints_dir=tmp_path / "c", min_score=0.0
        )
        docs = [Document(text=text, id=str(index)) for index, text in enumerate(texts(9))]
        found.append([doc.metadata for doc in step.run(docs)])
        assert step.stats["from_store"].total == (0 if name == "clarity" else 9)
    for first, second in zip(*found, strict=True):
        assert first["quality_score"] == first["quality_probability_clarity"]
        assert second["quality_score"] == second["quality_probability_facts_figures"]
        names = [f"quality_probability_{name}" for name in NAMES]
        assert [first[name] for name in names] == [second[name] for name in names]


@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
def test_a_run_writes_and_filters_every_output(several, tmp_path, ending):
    """Kept rows, dropped rows and sidecar have each output's column; another one filters later, on the CPU."""
    config = config_of(several(SINGLE_LABEL), score_of="clarity")
    rows = [{"id": str(index), "text": text} for index, text in enumerate([*texts(11), " "])]
    write_rows(tmp_path / f"data/a{ending}", rows)
    run = Run(tmp_path / "data", tmp_path / "out")
    step = QualityFilter(config, min_score=0.16, messages_key=None, exclusion_writer=run.writer("excluded"))
    run.execute([run.reader(TextAdapter()), step, run.writer("kept"), run.writer("scores", ScoresAdapter())])
    kept, excluded = (read_rows(tmp_path / "out" / name) for name in ("kept", "excluded"))
    assert {row["quality_score"] >= 0.16 for row in kept} == {True} and len(kept) + len(excluded) == 12
    names = {f"quality_probability_{name}" for name in NAMES}
    scored = [row for row in kept + excluded if row.get("quality_score") is not None]
    assert len(scored) == 11
    for row in scored:
        assert row["quality_label"] == LABELS[int(np.argmax([row[f"quality_probability_{name}"] for name in NAMES]))]
        assert row["quality_score"] == row["quality_probability_clarity"] and names <= row.keys()
    sidecar = {row["id"]: row for row in read_rows(tmp_path / "out/scores")}
    assert all(
        sidecar[row["id"]].items() >= {name: row[name] for name in [*names, "quality_label"]}.items() for row in kept
    )
    bound = sorted(row["quality_probability_código_fonte"] for row in kept)[1]
    command = ["filter", str(tmp_path / "out/kept"), "--output", str(tmp_path / "again"), "--scores-from-columns"]
    main([*command, "--text", "--score-of", "Código-fonte", "--min-score", repr(bound)])
    again = read_rows(tmp_path / "again/kept")
    assert {row["id"] for row in again} == {
        row["id"] for row in kept if row["quality_probability_código_fonte"] >= bound
    }
    assert 1 <= len(again) < len(kept)
    by_id = {row["id"]: row for row in kept}
    assert all({**row, "filter_reason": None} == {**by_id[row["id"]], "filter_reason": None} for row in again)


def test_scores_of_two_outputs_do_not_mix(several, tmp_path):
    """`reuse_scores` takes no scores of another output for its own."""
    folder = several(REGRESSION)
    write_rows(tmp_path / "data/a.jsonl", [{"id": str(i), "text": text} for i, text in enumerate(texts(4))])
    run = Run(tmp_path / "data", tmp_path / "out")
    run.execute(
        [
            run.reader(TextAdapter()),
            QualityFilter(config_of(folder), score_of="clarity", messages_key=None),
            run.writer("kept"),
        ]
    )
    again = Run(tmp_path / "out/kept", tmp_path / "again")
    step = QualityFilter(config_of(folder), score_of="código_fonte", messages_key=None, reuse_scores=True)
    with pytest.raises(ValueError, match=r"outputs was .*'score_of': 'clarity'.*is now .*'código_fonte'"):
        again.execute([again.reader(TextAdapter()), step, again.writer("kept")])


def test_a_schema_without_the_outputs_is_refused(several, tmp_path):
    """A Parquet writer takes its columns from its schema, and would lose the others without a word."""
    import pyarrow as pa
    from datatrove.pipeline.writers import ParquetWriter

    config = config_of(several(SINGLE_LABEL), score_of="clarity")
    source = pa.schema([("id", pa.string())])
    full = score_schema(source, scorer=config)
    assert full.field("quality_label").type == pa.string()
    assert full.field("quality_probability_código_fonte").type == pa.float64()
    for schema, matches in ((score_schema(source), True), (full, False)):
        writer = ParquetWriter(str(tmp_path / f"{matches}"), schema=schema)
        step = QualityFilter(config, min_score=0.9, messages_key=None, exclusion_writer=writer)
        run = step.run([Document(text="um texto", id="a")])
        if matches:
            with pytest.raises(ValueError, match=r"schema has no quality_probability_clarity.*score_schema\("):
                list(run)
        else:
            list(run)


def test_the_sidecar_of_a_document(several):
    """Each output's value, and no prefix that an output's name looks like."""
    folder = several(MULTI_LABEL, {0: "error", 1: "int score", 2: "b"})
    (doc,) = QualityFilter(config_of(folder), score_of="b", messages_key=None).run([Document(text="um texto", id="a")])
    row = ScoresAdapter()(None, doc)
    names = ("score", "int_score", "tokens", "truncated", "error")
    outputs = ("probability_error", "probability_int_score", "probability_b")
    assert list(row) == ["id", "file_path", *(f"quality_{name}" for name in (*names, *outputs))]
    assert row["quality_score"] == row["quality_probability_b"] and row["quality_error"] is None
