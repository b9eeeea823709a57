"""An endpoint that is gone, overloaded, or needs a key."""

import pickle

import pytest
from judge_steps import Answers, documents, expected, stats, step
from judges import CountingJudge, FaultyJudge, serving
from toy_judge import Reply

from datatrove_quality.annotation.endpoint import EndpointUnusable, seconds_to_wait


KEY = "sk-secret-0123456789"


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
    with serving(silent) as address:  # all answers are stored: no request is sent
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
