"""`QualityStats`: what it counts, and that DataTrove's own merger adds it up."""

import copy
import json
import random
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from datatrove.data import Document
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.stats import StatsMerger

from datatrove_quality import QualityFilter, QualityStats
from datatrove_quality import stats as stats_module
from datatrove_quality.stats import read_stats


def scored_docs(count=400):
    """Scored and unscored documents of three sources."""
    rng = random.Random(5)
    made = []
    for index in range(count):
        score = rng.uniform(0.5, 5.5)
        metadata = {"quality_score": score, "quality_tokens": rng.randint(1, 50), "source": rng.choice("abc")}
        if index % 10 == 0:
            metadata = {"quality_error": "no_messages: the list is empty", "source": "a"}
        if index % 25 == 1:
            metadata = {"quality_score": float("nan"), "quality_tokens": None}
        made.append(Document(text="x" * rng.randint(0, 30), id=str(index), metadata=metadata))
    return made


def run(step, made, tasks):
    """Count the documents in so many tasks, and merge what the tasks wrote."""
    for rank in range(tasks):
        assert len(list(step.run(made[rank::tasks], rank, tasks))) == len(made[rank::tasks])
    folder = step.output_folder.path
    list(StatsMerger(folder, f"{folder}-merged").run(None) or ())
    return merged(f"{folder}-merged")


def merged(folder):
    """Every merged number by group, stat and key: its total."""
    found = {}
    for path in Path(folder).rglob("metric.json"):
        group, stat = path.relative_to(folder).parts[:2]
        for key, value in json.loads(path.read_text()).items():
            found[group, stat, key] = value["total"] if isinstance(value, dict) else value
    return found


def test_the_numbers_are_those_of_the_documents(tmp_path):
    """Histogram, sums and groups equal what a plain loop counts, and all documents are in them."""
    made = scored_docs()
    found = run(QualityStats(str(tmp_path / "s"), group_by="source"), made, 1)
    expected = Counter()
    for doc in made:
        score, source = doc.metadata.get("quality_score"), doc.metadata.get("source", "(none)")
        if score is None or score != score:
            reason = "no_messages" if score is None else "invalid_score"
            expected["summary", f"quality_unscored_{reason}", "summary"] += 1
            expected["source", "quality_unscored__documents", source] += 1
            continue
        key = str(round(score, 2))
        expected["histogram", "quality_score", key] += 1
        expected["histogram", "quality_score__chars", key] += len(doc.text)
        expected["histogram", "quality_score__tokens", key] += doc.metadata["quality_tokens"]
        expected["source", "quality_score__documents", source] += 1
        expected["source", "quality_score", source] += score
        expected["summary", "quality_score", "summary"] += score
    assert {name: found[name] for name in expected} == pytest.approx(dict(expected))
    counted = sum(
        number for (group, stat, _), number in found.items() if (group, stat) == ("histogram", "quality_score")
    )
    assert counted + found["summary", "quality_unscored", "summary"] == len(made)


def test_eight_tasks_merge_into_what_one_counts(tmp_path):
    """However the corpus is divided among tasks, StatsMerger gives the same numbers for it."""
    one, eight = (
        run(QualityStats(str(tmp_path / str(tasks)), group_by=["source"]), scored_docs(), tasks) for tasks in (1, 8)
    )
    assert one == pytest.approx(eight) and len(one) > 400


def test_what_was_written_is_read_back_from_tasks_and_merged_ones(tmp_path):
    """The same totals from tasks' files, from StatsMerger's, and where both lie in a folder; no other prefix's."""
    folder = str(tmp_path / "s")
    expected = run(QualityStats(folder, group_by="source"), scored_docs(), 8)
    list(StatsMerger(folder, folder).run(None) or ())
    list(QualityStats(folder, prefix="other").run(scored_docs(5)))
    for read in (read_stats(f"{folder}-merged"), read_stats(folder)):
        found = {
            (group, stat, key): total
            for group, stats in read.items()
            for stat, keys in stats.items()
            for key, total in keys.items()
        }
        assert found == pytest.approx(expected)
    for path in Path(folder).rglob("metric.json"):
        path.unlink()
    assert read_stats(folder)["histogram"] == read_stats(f"{folder}-merged")["histogram"]


def test_metadata_is_left_alone(tmp_path):
    """Counting adds no column, needs no `url`, and passes every document on in its order."""
    made = scored_docs(60)
    before = copy.deepcopy(made)
    out = list(QualityStats(str(tmp_path / "s"), group_by="source").run(made))
    assert [id(doc) for doc in out] == [id(doc) for doc in made]
    assert repr(made) == repr(before)


def test_the_commonest_values_and_the_rest(tmp_path, monkeypatch):
    """A column of ever new values costs a bounded number of keys, and no document."""
    monkeypatch.setattr(stats_module, "MAX_VALUES", 50)
    made = [
        Document(text="x", id=str(n), metadata={"quality_score": 3.0, "source": "common" if n % 2 else f"rare-{n}"})
        for n in range(400)
    ]
    made += [Document(text="x", id="none", metadata={"quality_error": "empty_text: ", "source": ["a", "list"]})]
    found = run(QualityStats(str(tmp_path / "s"), group_by="source", top_k=3), made, 1)
    by_source = defaultdict(float)
    for (group, stat, key), number in found.items():
        if group == "source" and stat in ("quality_score__documents", "quality_unscored__documents"):
            by_source[key] += number
    assert by_source.pop("common") == 200 and by_source.pop("(others)") == 199
    assert len(by_source) == 2 and sum(by_source.values()) == 2


def test_what_a_threshold_drops_is_counted_too(tmp_path):
    """Between scoring and filtering, in an executor: the statistics hold the dropped and the kept."""
    steps = [
        scored_docs(50),
        QualityFilter(None),
        QualityStats(str(tmp_path / "s")),
        QualityFilter(None, min_score=4),
    ]
    executor = LocalPipelineExecutor(steps, tasks=1, workers=1, logging_dir=str(tmp_path / "logs"))
    executor.run()
    histogram = json.loads((tmp_path / "s/histogram/quality_score/00000.json").read_text())
    annotated, filtered = (json.loads((tmp_path / "logs/stats.json").read_text())[place]["stats"] for place in (0, 2))
    assert sum(histogram.values()) == annotated["scored"]
    assert sum(count for key, count in histogram.items() if float(key) < 4) == filtered["dropped_below_min_score"] > 10


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"group_by": "a/b"}, "group_by='a/b'"),
        ({"group_by": ["source", "source"]}, "group_by='source': there is a group"),
        ({"group_by": "histogram"}, "group_by='histogram'"),
        ({"group_by": [3]}, "group_by=3"),
        ({"top_k": 0}, "top_k=0: give a whole number from 1"),
        ({"histogram_round_digits": 1.5}, "histogram_round_digits=1.5"),
        ({"prefix": ""}, "prefix=''"),
    ],
)
def test_bad_arguments(tmp_path, options, match):
    """A mistake is refused at construction with its name, its value and the fix."""
    with pytest.raises(ValueError, match=match):
        QualityStats(str(tmp_path), **options)
