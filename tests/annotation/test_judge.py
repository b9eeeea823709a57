"""What the judge is sent, and what becomes of its replies."""

import json

import pytest
from judge_steps import Answers, documents, expected, step
from judges import CountingJudge, serving
from toy_judge import Reply, completion


def test_request():
    """The rubric's sampling, the schema and the prompt are what is sent."""
    judge = CountingJudge()
    with serving(judge) as address:
        list(step(address).run(iter(documents(1)), 0, 1))
    [request] = judge.requests
    assert request["model"] == "toy-judge" and request["temperature"] == 0.2 and request["max_tokens"] == 300
    assert request["response_format"]["json_schema"]["schema"]["properties"]["score"]["enum"] == [1, 2, 3, 4, 5]
    assert "logprobs" not in request and "chat_template_kwargs" not in request


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
