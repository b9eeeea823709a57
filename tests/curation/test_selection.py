"""Selection by a budget, over all documents and by source: the same rows whatever the tasks and files."""

import json
import math
import random

import pytest
from datatrove.data import Document
from samples import read_rows, write_rows

from datatrove_quality import Run
from datatrove_quality.curation.selection import Budget, SelectByBudget, find_ends
from datatrove_quality.rows.to_document import ColumnsAdapter
from datatrove_quality.runs.inputs import find_inputs


def scored(count=400, seed=0):
    """Rows of which three in five have the best score, as on the card's set."""
    rng = random.Random(seed)
    return [
        {
            "messages": [{"role": "user", "content": f"{at}"}],
            "id": f"row-{at}",
            "source": rng.choice("aab"),
            "quality_score": 5.0 if rng.random() < 0.6 else round(rng.uniform(1, 5), 3),
            "quality_tokens": rng.randint(5, 500),
            "quality_error": None,
        }
        for at in range(count)
    ] + [{"messages": [], "id": "bad", "source": "c", "quality_error": "no_messages: there are none"}]


def selected(folder, rows, budget, files=4, tasks=None, ending=".jsonl"):
    for at in range(files):
        write_rows(folder / f"in/{at}{ending}", rows[at::files])
    inputs = find_inputs(str(folder / "in"))
    ends = find_ends(inputs, budget)
    run = Run(folder / "in", folder / "out", tasks=tasks)
    step = SelectByBudget(budget, {group: f"{end.cutoff:033x}" for group, end in ends.items()}, run.writer("excluded"))
    run.execute([run.reader(ColumnsAdapter()), step, run.writer("kept")])
    kept, excluded = (read_rows(folder / "out" / name) for name in ("kept", "excluded"))
    assert len(kept) + len(excluded) == len(rows)
    assert sum(end.selected_rows for end in ends.values()) == len(kept)
    return kept, excluded


@pytest.mark.parametrize(("files", "tasks", "ending"), [(1, 1, ".jsonl"), (7, 3, ".parquet")])
def test_the_best_within_a_budget_of_tokens(tmp_path, files, tasks, ending):
    rows, tokens = scored(), 30_000
    kept, excluded = selected(tmp_path, rows, Budget(tokens=tokens), files, tasks, ending)
    taken = sum(row["quality_tokens"] for row in kept)
    assert taken <= tokens < taken + 500
    lowest = min(row["quality_score"] for row in kept)
    reasons = {row["id"]: row["filter_reason"] for row in excluded}
    assert reasons.pop("bad") == "unscorable_no_messages" and set(reasons.values()) == {"outside_budget"}
    assert all(row["quality_score"] <= lowest for row in excluded if row["id"] != "bad")
    by_id = {row["id"]: row for row in rows}
    assert all({name: row[name] for name in by_id[row["id"]]} == by_id[row["id"]] for row in kept)


def test_the_same_rows_whatever_the_files_and_tasks(tmp_path):
    """Ties at the top are broken by the hash of the id alone."""
    rows = scored()
    ids = []
    for number, (files, tasks) in enumerate([(1, 1), (9, 4)]):
        random.Random(number).shuffle(rows)
        ids.append({row["id"] for row in selected(tmp_path / str(number), rows, Budget(share=0.3), files, tasks)[0]})
    assert ids[0] == ids[1] and len(ids[0]) == 120


def test_by_source_each_has_its_share(tmp_path):
    rows = scored()
    kept, _ = selected(tmp_path, rows, Budget(share=0.29, by="source"))
    for source in "ab":
        assert sum(row["source"] == source for row in kept) == (
            sum(row["source"] == source and "quality_score" in row for row in rows) * 29 // 100
        )


def test_tokens_are_divided_in_proportion(tmp_path):
    rows = scored()
    kept, _ = selected(tmp_path, rows, Budget(tokens=20_000, by="source"))
    total = sum(row.get("quality_tokens", 0) for row in rows)
    for source in "ab":
        of_all, of_kept = (sum(row["quality_tokens"] for row in some if row["source"] == source and row["id"] != "bad")
                           for some in (rows, kept))  # fmt: skip
        assert 0 <= 20_000 * of_all / total - of_kept < 500


def test_reasons_of_earlier_runs_do_not_stay_on_selected_rows():
    step = SelectByBudget(Budget(share=0.5), {"(all)": f"{0:033x}"})
    doc = Document("-", "a", metadata={"quality_score": 3.0, "filter_reason": "below_min_score"})
    assert step.filter(doc) is True and "filter_reason" not in doc.metadata


@pytest.mark.parametrize(
    ("budget", "change", "match"),
    [
        ({"tokens": 100}, {"quality_tokens": None}, "quality_tokens=None, not a number of tokens"),
        ({"share": 0.1}, {"quality_score": None, "quality_scored_by": "proxy"}, "decided by a cascade's proxy"),
        ({"share": 0.1, "prefix": "x"}, {}, "no row has a x_score"),
    ],
)
def test_rows_that_cannot_be_ranked_are_refused(tmp_path, budget, change, match):
    write_rows(tmp_path / "a.jsonl", [row | change for row in scored(3)])
    with pytest.raises(ValueError, match=match):
        find_ends(find_inputs(str(tmp_path)), Budget(**budget))


@pytest.mark.parametrize(
    "budget", [{}, {"tokens": 1, "share": 0.1}, {"share": 0}, {"share": 1.5}, {"tokens": 0}, {"tokens": float("inf")}]
)
def test_budgets_that_are_none_are_refused(budget):
    with pytest.raises(ValueError, match=r"share=|tokens="):
        Budget(**budget)


def test_a_source_that_came_later_is_no_silent_loss():
    step = SelectByBudget(Budget(share=0.5, by="source"), {"a": f"{0:033x}"})
    with pytest.raises(ValueError, match="source='b' is new"):
        step.filter(Document("-", "a", metadata={"quality_score": 3.0, "source": "b"}))


def test_a_column_that_no_row_has(tmp_path):
    write_rows(tmp_path / "in/0.jsonl", scored(20))
    with pytest.raises(ValueError, match="by='sauce': no row has such a column"):
        find_ends(find_inputs(str(tmp_path / "in")), Budget(share=0.5, by="sauce"))


def test_what_a_proxy_decided_cannot_be_ranked(tmp_path):
    """Also where pandas has written the missing score as NaN."""
    rows = [row | {"quality_scored_by": "proxy", "quality_score": math.nan} for row in scored(20)[:20]]
    (tmp_path / "in").mkdir()
    (tmp_path / "in/0.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    with pytest.raises(ValueError, match="decided by a cascade's proxy"):
        find_ends(find_inputs(str(tmp_path / "in")), Budget(share=0.5))
