import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datatrove_quality.annotation.answers import answer_schema, expected_level, read_answer
from datatrove_quality.annotation.rubric import load_rubric
from datatrove_quality.config import Unscorable


RUBRIC = load_rubric("instruct-quality-pt")


UNCLEAR = (
    *(
        "4 or 5",
        "4 ou 5",
        "2 3",
        "3½",
        "4 to 5",
        "4-5",
        "4/5",
        "4,5",
        "4, 5",
        "4.5.",
        "~4",
        "4?",
        "**4",
        "**4** or 5",
        "4 /5",
        "4 # 5\n",
        "4 // 5\n",
        "4 /* or 5 */",
        "4; 5",
        '4, "5"',
        "4%",
        "<4>",
    ),
    *(
        '"4 or 5"',
        '"2 3"',
        '"3½"',
        "[4, 5]",
        "4 | 5",
        '4 "ou" 5',
        "4\n5",
        "4 // 5",
        "quatro",
        "four",
        "4²",
        "0x4",
        "4+",
    ),
)


@pytest.mark.parametrize(
    ("text", "level", "repaired"),
    [
        ('{"reason": "boa", "score": 4}', 4, False),
        ('  {"score": 4.0}\n', 4, False),
        ('{"score": "4"}', 4, False),
        ('<think>a 1? {"score": 1}</think>\n{"reason": "", "score": 4}', 4, False),
        ('a 1? {"score": 1}</think>{"reason": "", "score": 4}', 4, False),
        ('{"reason": "só há </think> e {\\"score\\": 1}", "score": 4}', 4, False),
        ('```json\n{"reason": "boa", "score": 4}\n```', 4, True),
        ("{'reason': 'boa', 'score': 4,}", 4, True),
        ('Claro! {"reason": "boa", "score": 4} Espero ter ajudado.', 4, True),
        ('```json\n{"reason": "eu diria score: 2, mas", "score": 4}\n```', 4, True),
        ("{score: 4, reason: 'boa'}", 4, True),
        ('{"score": 4 "reason": "falta uma vírgula"}', 4, True),
        ('{"reason": "sem fim", "score": 4', 4, True),
        ("{'reason': 'boa', 'score': '4.0'}", 4, True),
        ('My score: {"score": 4, "reason": "boa"}', 4, True),
        ('**Score:** 4\n{"score": 4, "reason": "boa"}', 4, True),
        ('Final score:\n```json\n{"score": 4, "reason": "boa"}\n```', 4, True),
        ('{"score": 4, "reason": "boa"}\n\nI gave this score: it is good.', 4, True),
        ("{'reason': 'the score: high', 'score': 4}", 4, True),
        ('{"reason": "the score:\nhigh", "score": 4}', 4, True),
        ('{"score": 4, // good\n "reason": "boa"}', 4, True),
        ('{"score": 4, /* good */ "reason": "boa"}', 4, True),
        ('{"score": 4 # good\n}', 4, True),
        ("{“score”: 4, “reason”: “boa”}", 4, True),
        ('{"score": **4**}', 4, True),
        ('{"score": 4; "reason": "boa"}', 4, True),
        ('{"score": 4, "é": "boa",}', 4, True),
        ('{"score": 4, "my reason": "boa",}', 4, True),
    ],
)
def test_levels_are_read(text, level, repaired):
    """What a person would take for a level, and whether it had to be mended."""
    found = read_answer(text, RUBRIC)
    assert (found.level, found.repaired) == (level, repaired)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty_answer"),
        ("<think>hm</think>", "empty_answer"),
        ("A nota é 4.", "unparsable_answer"),
        ("4", "unparsable_answer"),
        ('{"nota": 4}', "unparsable_answer"),
        ('{"score": "4/5"}', "unparsable_answer"),
        ('{"score": 3.5}', "unparsable_answer"),
        ('{"score": true}', "unparsable_answer"),
        ('{"score": null}', "unparsable_answer"),
        ('{"score": NaN}', "unparsable_answer"),
        ('[{"score": 4}]', "unparsable_answer"),
        ('{"score": 0}', "score_out_of_range"),
        ('{"score": 6}', "score_out_of_range"),
        *((f'{{"reason": "boa", "score": {score}}}', "unparsable_answer") for score in UNCLEAR),
        *((f"{{'score': {score}, 'reason': 'boa'}}", "unparsable_answer") for score in UNCLEAR),
        ("{score: 4, score: 2}", "ambiguous_answer"),
        ('score: 2? {"score": 4}', "ambiguous_answer"),
        ('**Score:** 3\n{"score": 4}', "ambiguous_answer"),
        ('{"score": 4}\nFinal score: 5', "ambiguous_answer"),
        ("{'reason': 'the score: 2', 'score': 4}", "ambiguous_answer"),
        ("{'reason': 'the score: two', 'score': 4}", "ambiguous_answer"),
        ('{"score": 4}\nNota final, score: **cinco**', "ambiguous_answer"),
        ('score: 4 or 5\n{"score": 4}', "ambiguous_answer"),
        ("{'score': 'four', 'score': 4}", "ambiguous_answer"),
        ("{score: four, score: 4}", "ambiguous_answer"),
        ("{'reason': 'the score: high', 'score': 4 or 5}", "unparsable_answer"),
        ('My score: {"score": 4.5}', "unparsable_answer"),
        ('{"score": 4, "score": 2}', "ambiguous_answer"),
        ('{"score": 4} ou {"score": 2}', "ambiguous_answer"),
        pytest.param('{"a": ' * 3_000, "unparsable_answer", id="nested"),
    ],
)
def test_no_level_is_guessed(text, reason):
    """A wrong level that looks right is worse than none."""
    with pytest.raises(Unscorable) as caught:
        read_answer(text, RUBRIC)
    assert caught.value.reason == reason


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet='{}[]":,\\ 0123456789scoreanN.\n', max_size=60))
def test_any_answer_is_a_level_or_a_reason(text):
    """Whatever a model writes, and half of a UTF-16 pair in it, can be written to a file."""
    try:
        found = read_answer(text, RUBRIC)
    except Unscorable as error:
        error.to_text().encode()
    else:
        assert found.level in RUBRIC.values


def test_a_reason_can_be_written():
    """JSON can spell what UTF-8 cannot hold."""
    read_answer('{"reason": "\\ud83d", "score": 4}', RUBRIC).reason.encode()


def test_schema_orders_the_entries():
    """Servers that generate by the schema keep its order: a reason that comes first can matter for the score."""
    schema = answer_schema(RUBRIC)
    assert list(schema["properties"]) == ["reason", "score"]
    assert schema["properties"]["score"]["enum"] == [1, 2, 3, 4, 5]
    json.dumps(schema)


def tokens(*texts, **top):
    made = [{"token": text, "logprob": 0.0, "top_logprobs": []} for text in texts]
    for index, alternatives in top.items():
        made[int(index[1:])]["top_logprobs"] = [
            {"token": token, "logprob": math.log(p)} for token, p in alternatives.items()
        ]
    return made


@pytest.mark.parametrize("digit", ["4", " 4"])
def test_expected_level(digit):
    """The mean over the levels alone: what else the model might have written has no say."""
    before = digit[:-1]
    text = '{"reason": "9", "score":' + digit + "}"
    made = tokens(
        '{"reason": "9", "', "score", '":', digit, "}", _3={before + "4": 0.5, before + "5": 0.25, "x": 0.25}
    )
    assert expected_level(made, text, RUBRIC) == pytest.approx((4 * 0.5 + 5 * 0.25) / 0.75)


def as_bytes(*pieces, **top):
    """Tokens of an endpoint that gives bytes; what is no whole character has a replacement for its text."""
    made = tokens(*(piece.decode("utf-8", "replace") for piece in pieces), **top)
    return [token | {"bytes": list(piece)} for token, piece in zip(made, pieces, strict=True)]


EMOJI = "😀".encode()
LEVELS = {"4": 0.75, "5": 0.25}
PIECES = (b'{"reason": "', EMOJI[:2], EMOJI[2:3], EMOJI[3:], b' 11111", "score": ', b"4", b"}")


@pytest.mark.parametrize(
    "made",
    [
        as_bytes(*PIECES, _5=LEVELS),
        [token | {"bytes": None} for token in as_bytes(*PIECES, _5=LEVELS)],
        tokens('{"reason": "', "", "", "😀", ' 11111", "score": ', "4", "}", "<|im_end|>", _5=LEVELS),
        tokens('{"reason": "', "<0xF0>😀"[6:], ' 11111",', 'Ġ"score":', "Ġ4", "}", _4={"Ġ4": 0.75, "Ġ5": 0.25}),
        tokens("hm: 4</think>", '{"reason": "😀 11111", "score": 4}'[:-2], "4", "}", _2=LEVELS),
    ],
)
def test_the_place_of_the_score_does_not_depend_on_split_characters(made):
    """However an endpoint shows parts of a character: digits before the score are not taken for it."""
    assert expected_level(made, '{"reason": "😀 11111", "score": 4}', RUBRIC) == pytest.approx(4.25)


def test_the_expected_level_is_about_the_level_that_was_told():
    """The drawn token counts, also outside of the likeliest; where it is no level, no number is right."""
    text = '{"score": 4}'
    made = tokens('{"score": ', "4", "}", _1={"5": 0.5})
    made[1]["logprob"] = math.log(0.25)
    assert expected_level(made, text, RUBRIC) == pytest.approx((5 * 0.5 + 4 * 0.25) / 0.75)
    for others in (tokens('{"score": ', "4}", _1={"5": 0.1}), tokens('{"score": 3', "4", "}", _1=LEVELS)):
        with pytest.raises(Unscorable, match=r"no level|not those"):
            expected_level(others, text, RUBRIC)


def test_tokens_of_one_text_all_count_and_the_drawn_one_counts_once():
    """Two tokens can have one text ("4" and "▁4", or its byte): neither takes the place of the other."""
    made = tokens('{"score": ', "4", "}", _1={"4": 0.6, "3": 0.38})
    made[1]["logprob"] = math.log(0.6)
    made[1]["top_logprobs"].append({"token": "4", "logprob": math.log(0.015)})
    assert expected_level(made, '{"score": 4}', RUBRIC) == pytest.approx((4 * 0.615 + 3 * 0.38) / 0.995)


def test_expected_level_needs_probabilities():
    """Without them there is no mean, and the level itself is not taken for one."""
    text = '{"score": 4}'
    for made in ([], tokens('{"score": ', "4", "}"), tokens('{"score": ', "4", "}", _1={"x": 1.0})):
        with pytest.raises(Unscorable, match=r"level|token"):
            expected_level(made, text, RUBRIC)
