"""A chat template that writes the date: one date for a run, on whichever days and in whichever processes it runs."""

import datetime
import json
import pickle
import shutil

import pytest
from samples import read_rows, rows, write_rows

from datatrove_quality import ConversationAdapter, QualityFilter, Run, ScorerConfig, load_scorer
from datatrove_quality.engine import scorer
from datatrove_quality.model import found_model


TEMPLATE = (
    "{{ 'Today is ' + strftime_now('%A, %d %B %Y') + '.\n' }}"
    "{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}"
)
FIRST, SECOND = "2026-11-29", "2027-01-02"


@pytest.fixture(scope="module")
def dated_model(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("dated") / "model"
    shutil.copytree(model, folder)
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    return str(folder)


@pytest.fixture
def on(monkeypatch):
    """A function that makes it another day, in a process that has found no model yet."""

    def set_day(day):
        class Date(datetime.date):
            @classmethod
            def today(cls):
                return cls.fromisoformat(day)

        monkeypatch.setattr(found_model, "date", Date)
        monkeypatch.setattr(scorer, "_found", {})

    return set_day


def start(folder, model, name="out", min_score=-9.0, **arguments):
    run = Run(folder / "in", folder / name, **arguments)
    step = QualityFilter(model, min_score=min_score, checkpoints_dir=run.checkpoints)
    return run([run.reader(ConversationAdapter()), step, run.writer("kept")])


def scores(folder):
    return {row["id"]: row["quality_score"] for row in read_rows(folder / "kept")}


@pytest.fixture
def corpus(tmp_path):
    for name in "ab":
        write_rows(tmp_path / f"in/{name}.jsonl", rows(8, name))
    return tmp_path


def test_a_run_that_goes_on_tomorrow_has_the_date_of_today(corpus, dated_model, on, log):
    """Also where it deletes what it wrote: the saved scores are found. It is said once, and recorded."""
    on(FIRST)
    start(corpus, dated_model)
    assert sum("writes the date" in message and FIRST in message for message in log) == 1
    first = scores(corpus / "out")
    record = json.loads((corpus / "out/logs/run.json").read_text())
    assert record["filters"][0]["scorer"]["parts"]["template_date"] == FIRST
    on(SECOND)
    (corpus / "out/logs/completions/00001").unlink()
    for path in (corpus / "out/logs/checkpoints").rglob("00001_*"):
        path.unlink()
    start(corpus, dated_model)
    assert scores(corpus / "out") == first
    [counted] = start(corpus, dated_model, min_score=-8.0, overwrite=True).filters
    assert counted.counts["from_store"] == counted.documents == 16
    assert sum("writes the date" in message for message in log) == 1
    start(corpus, dated_model, "other")
    assert all(abs(scores(corpus / "other")[name] - score) > 1e-3 for name, score in first.items())


def test_a_date_of_ones_own(corpus, dated_model, on):
    """It overrides the recorded one, so that going on with it is refused; and gives the scores of that day."""
    on(SECOND)
    start(corpus, ScorerConfig(model=dated_model, template_date=FIRST))
    assert scores(corpus / "out") != {}
    with pytest.raises(ValueError, match=f'template_date: was "{FIRST}", is now "{SECOND}"'):
        start(corpus, ScorerConfig(model=dated_model, template_date=SECOND))
    start(corpus, dated_model)  # none of its own: the recorded one
    on(FIRST)
    start(corpus, dated_model, "other")
    assert scores(corpus / "other") == scores(corpus / "out")


def test_all_processes_have_the_date_on_which_the_step_was_pickled(dated_model, on):
    """As workers, SLURM's jobs and Ray's actors get it."""
    on(FIRST)
    pickled = pickle.dumps(QualityFilter(dated_model))
    on(SECOND)
    step = pickle.loads(pickled)
    assert step.scorer.template_date == FIRST
    assert (
        scorer.find_scorer(step.scorer).renderer.render(rows(1)[0]["messages"]).startswith("Today is Sunday, 29 Nov")
    )


def test_a_date_that_no_text_has_makes_no_other_scorer(model, dated_model, on):
    """A model is loaded once, whatever the date; where the date matters, once per date."""
    on(FIRST)
    plain = load_scorer(ScorerConfig(model=model))
    assert scorer.find_scorer(ScorerConfig(model=model, template_date=SECOND)) is plain
    assert "template_date" not in plain.fingerprint.parts
    dated = scorer.find_scorer(ScorerConfig(model=dated_model))
    assert scorer.find_scorer(ScorerConfig(model=dated_model, template_date=FIRST)) is dated
    other = scorer.find_scorer(ScorerConfig(model=dated_model, template_date=SECOND))
    assert other.fingerprint.differences(dated.fingerprint.parts) == [f"template_date was {FIRST}, is now {SECOND}"]
    # The store finds scores by the text, which holds the date.
    assert other.fingerprint.store_digest == dated.fingerprint.store_digest != other.fingerprint.digest


@pytest.mark.parametrize("date", ["today", "29.11.2026", 20261129, ""])
def test_what_is_no_date(date):
    with pytest.raises(ValueError, match=r"template_date=.*such as '2026-11-29'"):
        ScorerConfig(model="m", template_date=date)
