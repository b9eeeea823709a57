import json
import pickle
import threading

import pytest
from datatrove.data import Document
from judges import CountingJudge, FaultyJudge, serving
from samples import turns
from toy_judge import Reply, completion, rate

from datatrove_quality.annotation.config import Connection, JudgeConfig
from datatrove_quality.annotation.endpoint import EndpointUnusable, seconds_to_wait
from datatrove_quality.annotation.rubric import load_rubric
from datatrove_quality.annotation.step import LLMJudge, TooManyFailures


RUBRIC = load_rubric("instruct-quality-pt")
KEY = "sk-secret-0123456789"


def documents(count):
    """Documents whose level, by the toy judge's rules, depends on their number."""
    answers = ("Não sei, talvez, kkk", "A capital é Roma.", "A capital é Roma. Fica no Lácio. É antiga.", "Xis.")
    return [
        Document(text="-", id=str(n), metadata={"messages": turns(f"Diga a capital {n}", answers[n % 4])})
        for n in range(count)
    ]


def expected(document):
    question, answer = (message["content"] for message in document.metadata["messages"])
    return rate(question, answer)[0]


def step(address, checkpoints_dir=None, max_failures=0.2, connection=None, **judge):
    config = JudgeConfig(model="toy-judge", rubric=RUBRIC, **judge)
    made = Connection(address, **{"concurrency": 8, **(connection or {})})
    return LLMJudge(config, made, checkpoints_dir=checkpoints_dir, max_failures=max_failures, progress=False)


def stats(step):
    return {name: int(stat.total) for name, stat in step.stats.stats.items()}


class Answers(CountingJudge):
    """Gives the same replies to each request in turn."""

    def __init__(self, *replies):
        super().__init__()
        self.replies = list(replies)

    async def answer(self, request):
        return self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]


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


def test_request():
    """The rubric's sampling, the schema and the prompt are what is sent."""
    judge = CountingJudge()
    with serving(judge) as address:
        list(step(address).run(iter(documents(1)), 0, 1))
    [request] = judge.requests
    assert request["model"] == "toy-judge" and request["temperature"] == 0.2 and request["max_tokens"] == 300
    assert request["response_format"]["json_schema"]["schema"]["properties"]["score"]["enum"] == [1, 2, 3, 4, 5]
    assert "logprobs" not in request and "chat_template_kwargs" not in request


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


def test_the_judge_is_told_what_was_wrong():
    """A retry holds the answer and the error; a repaired answer is flagged."""
    judge = Answers(completion('{"score": 9}'), completion('```\n{"score": 4}\n```'))
    with serving(judge) as address:
        [document] = step(address).run(iter(documents(1)), 0, 1)
    first, second = judge.requests
    assert len(first["messages"]) == 1
    assert second["messages"][1] == {"role": "assistant", "content": '{"score": 9}'}
    assert "9 is not from 1 to 5" in second["messages"][2]["content"]
    assert document.metadata["judge_level"] == 4 and document.metadata["judge_repaired"] is True


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (completion("Não sei."), "unparsable_answer: "),
        (completion('{"score": 4}', finish_reason="length"), "answer_cut: "),
        (completion('{"score": 4}', finish_reason="content_filter"), "content_filter: "),
        (Reply({"error": {"message": "maximum context length is 10 tokens"}}, 400), "context_too_long: HTTP 400: max"),
        (Reply({"error": {"message": "no such thing"}}, 400), "bad_request: HTTP 400: no such thing"),
        (Reply({"error": "broken"}, 500), "server_error: HTTP 500: broken"),
        (Reply({"choices": []}), "broken_response: "),
    ],
)
def test_a_row_without_a_label_says_why(reply, error, monkeypatch):
    """The reason first, as in any error column; the answer as it came."""
    monkeypatch.setattr("datatrove_quality.annotation.judge._backoff", lambda tries: 0.0)
    with serving(Answers(reply)) as address:
        [document] = step(address, retries=1).run(iter(documents(1)), 0, 1)
    assert document.metadata["judge_error"].startswith(error)
    assert document.metadata["judge_score"] is None and document.metadata["judge_level"] is None
    answered = isinstance(reply.body, dict) and reply.body.get("choices")
    assert document.metadata["judge_answer"] == (answered[0]["message"]["content"] if answered else "")


def test_samples_are_averaged():
    """The mean, the level rounded half to even, and the spread; one sample that fails is an error of the row."""
    answers = [completion(json.dumps({"reason": f"{level}", "score": level})) for level in (4, 5, 4, 5)]
    with serving(Answers(*answers)) as address:
        [document] = step(address, samples=4).run(iter(documents(1)), 0, 1)
        metadata = document.metadata
        assert (metadata["judge_score"], metadata["judge_level"], metadata["judge_spread"]) == (4.5, 4, 0.5)
        assert sorted(json.loads(metadata["judge_reason"])) == ["4", "4", "5", "5"]
    with serving(Answers(*answers[:3], completion("?"))) as address:
        [document] = step(address, samples=4, retries=0).run(iter(documents(1)), 0, 1)
        assert document.metadata["judge_error"].startswith("unparsable_answer")
        assert document.metadata["judge_score"] is None


def test_an_endpoint_without_schemas():
    """Where it is refused, answers are parsed without one, and no row pays for it."""

    class Plain(CountingJudge):
        async def answer(self, request):
            if "response_format" in request:
                return Reply({"error": {"message": "response_format is not supported"}}, 400)
            return await super().answer(request)

    judge = Plain()
    with serving(judge) as address:
        found = list(step(address).run(iter(documents(40)), 0, 1))
    assert all(document.metadata["judge_level"] == expected(document) for document in found)
    assert len(judge.requests) < 80


def test_too_many_failures_end_the_task():
    """An answer that cannot be used may be the model's mistake; a fifth of them are the user's."""
    message = r"10 of 10 rows .*max_failures=0.2 .*unparsable_answer"
    with serving(Answers(completion("Não sei."))) as address, pytest.raises(TooManyFailures, match=message):
        list(step(address, retries=0).run(iter(documents(100)), 0, 1))


def test_an_endpoint_that_is_gone_is_no_verdict_on_rows(tmp_path, monkeypatch):
    """When the server dies, the task ends with an error and no row gets one; the next start asks for the rest only."""
    monkeypatch.setattr("datatrove_quality.annotation.judge._backoff", lambda tries: 0.05)
    judge = CountingJudge(seconds=0.01)
    with serving(judge) as address:
        running = step(address, tmp_path, connection={"patience": 0.5}).run(iter(documents(200)), 0, 1)
        found = [next(running) for _ in range(30)]
    with pytest.raises(EndpointUnusable, match="goes on where it stopped"):
        found += running
    assert all(document.metadata["judge_score"] for document in found)
    answered = sum(judge.answered.values())
    with serving(judge) as address:
        assert len(list(step(address, tmp_path).run(iter(documents(200)), 0, 1))) == 200
    assert sum(judge.answered.values()) <= 200 + 8 and answered < 200
    silent = CountingJudge()
    with serving(silent) as address:  # all is known: nobody is asked
        assert len(list(step(address, tmp_path).run(iter(documents(200)), 0, 1))) == 200
    assert silent.requests == []


def test_overload_is_waited_for():
    """429 and 503 with Retry-After: no row fails however often, and fewer requests are let in."""
    judge = FaultyJudge(share=0.0)
    refusals = iter([503, 429] * 20)

    async def answer(request, usual=judge.answer):
        status = next(refusals, None)
        return Reply({}, status, (("Retry-After", "0.01"),)) if status else await usual(request)

    judge.answer = answer
    with serving(judge) as address:
        made = step(address, retries=0)
        found = list(made.run(iter(documents(40)), 0, 1))
    assert all(document.metadata["judge_level"] == expected(document) for document in found)
    assert stats(made)["failed_requests_overloaded"] == 40


def test_retry_after_longer_than_patience_ends_the_task():
    """A quota that is used up for the day is not waited for."""
    tomorrow = Reply({}, 429, (("Retry-After", "86400"),))
    with serving(Answers(tomorrow)) as address, pytest.raises(EndpointUnusable, match="asks to wait"):
        list(step(address).run(iter(documents(3)), 0, 1))


def test_retry_after_may_be_a_date():
    """Both forms of the header, and what is neither."""
    assert seconds_to_wait("1.5") == 1.5 and seconds_to_wait(None) is None and seconds_to_wait("soon") is None
    assert seconds_to_wait("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0
    assert seconds_to_wait("Wed, 21 Oct 2115 07:28:00 GMT") > 1e9


def test_the_key_is_sent_and_never_shown(monkeypatch, log, tmp_path):
    """It comes from the environment; an endpoint that quotes it back gets it neither into a row nor into an error."""
    seen = []

    class Quoting(CountingJudge):
        async def answer(self, request):
            return Reply({"error": {"message": f"bad request of {KEY}"}}, 400)

        async def reply(self, path, body):
            if path.endswith("/models") and seen:
                return Reply({"error": {"message": f"Incorrect API key provided: {KEY}"}}, 401)
            seen.append(path)
            return await super().reply(path, body)

    monkeypatch.setenv("MY_KEY", KEY)
    with serving(Quoting()) as address:
        made = step(address, tmp_path, connection={"api_key_env": "MY_KEY"})
        [document] = made.run(iter(documents(1)), 0, 1)
        assert document.metadata["judge_error"] == "bad_request: HTTP 400: bad request of ***"
        with pytest.raises(EndpointUnusable, match=r"MY_KEY is set.*provided: \*\*\*"):
            list(step(address, connection={"api_key_env": "MY_KEY"}).run(iter(documents(1)), 0, 1))
    assert KEY.encode() not in pickle.dumps(made)
    assert not any(KEY in line for line in log)
    assert all(KEY.encode() not in path.read_bytes() for path in tmp_path.rglob("*.scores"))


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
