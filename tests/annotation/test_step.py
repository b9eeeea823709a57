import threading

import pytest
from judge_steps import RUBRIC, Answers, documents, expected, stats, step
from judges import CountingJudge, FaultyJudge, serving
from toy_judge import completion

from datatrove_quality.annotation.config import Connection, JudgeConfig
from datatrove_quality.annotation.step import TooManyFailures


def test_every_document_gets_its_own_level_in_its_place():
    """Many requests in flight, answers in any order: each document keeps its level and its place."""
    judge = CountingJudge(seconds=0.005)
    given = documents(100)
    given[7].metadata = {"conversation_error": "no_messages: an empty list"}
    with serving(judge) as address:
        made = step(address, connection={"concurrency": 16})
        found = list(made.run(iter(given), 0, 1))
    assert [document.id for document in found] == [str(n) for n in range(100)]
    for document in found[:7] + found[8:]:
        metadata = document.metadata
        assert metadata["judge_level"] == metadata["judge_score"] == expected(document)
        assert metadata["judge_error"] is None and metadata["judge_reason"] and metadata["judge_spread"] is None
        assert (metadata["judge_model"], metadata["judge_rubric"]) == ("toy-judge", RUBRIC.identity)
    assert found[7].metadata["judge_error"] == "no_messages: an empty list"
    assert found[7].metadata["judge_score"] is None and found[7].metadata["judge_model"] is None
    assert judge.most_in_flight == 16 and len(judge.requests) == 99
    counts = stats(made)
    assert (counts["total"], counts["labelled"], counts["failed"], counts["requests"]) == (100, 99, 1, 99)


def test_faults_of_every_kind_cost_no_row(tmp_path, monkeypatch):
    """A server that fails in each way it can: each row is labelled right or has a reason, and a rerun asks for few."""
    monkeypatch.setattr("datatrove_quality.annotation.judge._backoff", lambda tries: 0.01)
    judge = FaultyJudge(share=0.5, hang=0.3)
    given = documents(120)
    with serving(judge) as address:
        made = step(address, tmp_path, 1.0, {"timeout": 0.2}, retries=2)
        found = list(made.run(iter(given), 0, 1))
        assert [document.id for document in found] == [document.id for document in given]
        failed = [document.metadata["judge_error"] for document in found if document.metadata["judge_score"] is None]
        assert 0 < len(failed) < 60 and all(failed)
        labelled = [document for document in found if document.metadata["judge_score"] is not None]
        assert all(document.metadata["judge_level"] == expected(document) for document in labelled)
        assert all(document.metadata["judge_error"] is None for document in labelled)
        assert len(judge.faults) == 9
        before = sum(judge.answered.values())
        again = list(step(address, tmp_path, 1.0, {"timeout": 0.2}, retries=2).run(iter(documents(120)), 0, 1))
    # Asked again: those that failed for what may pass, such as a closed connection; none that has a label.
    assert before == len(labelled)
    assert sum(judge.answered.values()) - before < 60
    kept = {document.id: document.metadata["judge_answer"] for document in labelled}
    assert {document.id: document.metadata["judge_answer"] for document in again if document.id in kept} == kept


def test_too_many_failures_end_the_task():
    """An answer that cannot be used may be the model's mistake; a fifth of them are the user's."""
    message = r"10 of 10 rows .*max_failures=0.2 .*unparsable_answer"
    with serving(Answers(completion("Não sei."))) as address, pytest.raises(TooManyFailures, match=message):
        list(step(address, retries=0).run(iter(documents(100)), 0, 1))


def test_an_abandoned_stream_ends_its_thread():
    """A pipeline that stops early leaves neither requests nor a thread behind."""
    with serving(CountingJudge(seconds=0.01)) as address:
        running = step(address).run(iter(documents(200)), 0, 1)
        next(running)
        running.close()
    assert "judge" not in [thread.name for thread in threading.enumerate()]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Connection("localhost:8000"), "endpoint='localhost:8000'"),
        (lambda: Connection("http://me:secret@host/v1"), "has a user, password"),
        (lambda: Connection("http://host/v1", concurrency=0), "concurrency=0"),
        (lambda: Connection("http://host/v1", timeout=0), "timeout=0"),
        (lambda: JudgeConfig(model="", rubric=RUBRIC), "model=''"),
        (lambda: JudgeConfig(model="m", rubric="pt"), "load_rubric"),
        (lambda: JudgeConfig(model="m", rubric=RUBRIC, samples=0), "samples=0"),
        (lambda: step("http://host/v1", max_failures=2), "max_failures=2"),
    ],
)
def test_mistakes_are_named(make, message):
    """Field, value and fix."""
    with pytest.raises(ValueError, match=message):
        make()
