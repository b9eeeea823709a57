"""Reads a judge's answer: a level and a reason, or why it cannot be used."""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from datatrove_quality.annotation.rubric import Rubric
from datatrove_quality.config import Unscorable


# The places of a reply at which a level may be told: `"score": 4`.
_SCORE = re.compile(r'"score"\s*:\s*"?')
# The start of a number, also of one in words.
_NUMERAL = r"\W*(?:\d|(?i:zero|one|two|three|four|five|um|dois|três|quatro|cinco)\b)"
# An entry of that name in text that is no valid JSON; "the score: high" are words of a reason.
_SCORE_KEY = re.compile(rf"""(?P<words>(?<=\w )score:(?!{_NUMERAL}))|\bscore["'“”‘’]?\s*:""")
# Its value, where nothing but a comment without numbers, the object's next entry or its end follows. "4 or 5", "4/5"
# and "4.5" are no such values. Blanks are never tried again (*+): a model can write thousands.
_BLANK = r"(?:\s|//[^\n\d]*\n|\#[^\n\d]*\n|/\*[^*\d]*\*/)*+"
_SCORE_VALUE = re.compile(
    r"""\s*+(\*\*)?["'“”‘’]?\s*+(?P<level>[+-]?[0-9]{1,9})(?:\.0*)?\s*+["'“”‘’]?(?(1)\*\*)"""
    rf"""{_BLANK}(?:[,;]?{_BLANK}(?:["'“”‘’][^\W\d][^"'“”‘’:\n]*["'“”‘’]\s*:|[^\W\d]\w*\s*:|[}}\]])|,?\s*+$|```)"""
)
# Words around an object that tell a score, and the numbers in them; "4/5" is 4.
_TOLD = re.compile(r"""\bscore["'“”‘’*_]*\s*[:=]\s*(.*)""", re.IGNORECASE)
_NUMBER = re.compile(rf"^(?!\W*\d){_NUMERAL}|(?<![/\d])\d+(?:[.,]\d+)?")
_NOT_VISIBLE_ASCII = re.compile(r"[^!-~]+")
_THOUGHTS = re.compile(r"^.*?</think>", re.DOTALL)
_WHOLE = re.compile(r"[+-]?[0-9]{1,9}(\.0*)?")
MAX_REASON = 2_000


@dataclass(frozen=True)
class Verdict:
    """A usable answer.

    Args:
        level: one of the rubric's.
        reason: for it; "" where none was given.
        repaired: whether the answer was no valid JSON and had to be mended.
    """

    level: int
    reason: str
    repaired: bool


def read_answer(text: str, rubric: Rubric) -> Verdict:
    """The verdict in a judge's answer.

    Args:
        text: the answer, with or without thoughts before it.
        rubric: of the prompt.

    Raises:
        Unscorable: the answer has no verdict; the reason is "empty_answer", "unparsable_answer", "ambiguous_answer" or
            "score_out_of_range".
    """
    text = text.strip()
    if not text.startswith("{"):  # a reason may speak of these tags
        text = _THOUGHTS.sub("", text).strip()
    if not text:
        raise Unscorable("empty_answer", "the judge answered nothing")
    found, repaired = _object_in(text)
    if "score" not in found:
        raise Unscorable("unparsable_answer", f"no score in {text!r:.200}")
    level = _whole(found["score"])
    if level is None:
        raise Unscorable("unparsable_answer", f"the score {found['score']!r:.80} is not a whole number")
    if level not in rubric.values:
        low, high = rubric.scale
        raise Unscorable("score_out_of_range", f"the score {level} is not from {low} to {high}")
    reason = found.get("reason")
    text = reason if isinstance(reason, str) else "" if reason is None else json.dumps(reason, ensure_ascii=False)
    text = text[:MAX_REASON].encode("utf-8", "replace").decode()  # JSON can spell half of a UTF-16 pair
    return Verdict(level, text, repaired)


def answer_schema(rubric: Rubric) -> dict[str, Any]:
    """The JSON schema of an answer, for servers that can hold a model to one."""
    score = {"type": "integer", "enum": rubric.values}
    reason = {"type": "string"}
    both: dict[str, Any] = {"reason": reason, "score": score}
    names = ["reason", "score"] if rubric.reason == "before" else ["score", "reason"]
    properties = {name: both[name] for name in names}
    return {"type": "object", "properties": properties, "required": names, "additionalProperties": False}


def expected_level(tokens: Sequence[Any], text: str, rubric: Rubric) -> float:
    """The mean level over the probabilities of the level tokens, renormalised over the scale.

    Args:
        tokens: of the answer, each with "token" and "top_logprobs" (a list of "token" and "logprob").
        text: the answer.
        rubric: of the prompt; its levels have one digit.

    Raises:
        Unscorable: the probabilities of the score's token are not there; the reason is "no_logprobs".
    """
    places = [match.end() for match in _SCORE.finditer(text)]
    if len(places) != 1:
        raise Unscorable("no_logprobs", f"the answer has {len(places)} places for a score")
    shown = [_visible(_text_of(token)) for token in tokens]
    start = "".join(shown).find(answer := _visible(text))
    if start < 0 or "".join(shown).count(answer) > 1:
        raise Unscorable("no_logprobs", "the endpoint's tokens are not those of the answer")
    place = start + len(_visible(text[: places[0]]))
    end = 0
    for token, characters in zip(tokens, shown, strict=True):
        begin, end = end, end + len(characters)
        if begin <= place < end:
            return _mean_level(token, characters[: place - begin], rubric)
    raise Unscorable("no_logprobs", "the endpoint gave no token at the place of the score")


def _text_of(token: Any) -> str:
    """The text of a token: by its bytes, where the endpoint gives them; a part of a character has none."""
    given = token.get("bytes")
    return token["token"] if given is None else bytes(given).decode("utf-8", "ignore")


def _visible(text: str) -> str:
    """The visible ASCII characters: each is in one token, and every endpoint shows them as they are.

    Of characters that a tokenizer splits some endpoints show a replacement for each part; others mark blanks.
    """
    return _NOT_VISIBLE_ASCII.sub("", text)


def _mean_level(token: Any, before: str, rubric: Rubric) -> float:
    """`before` is the part of the score's token before the digit, such as a quotation mark."""
    levels = set(map(str, rubric.values))
    if _visible(_text_of(token)).removeprefix(before) not in levels:
        raise Unscorable("no_logprobs", "the token at the place of the score is no level")
    likeliest = token.get("top_logprobs") or []
    drawn_too = [] if _text_of(token) in map(_text_of, likeliest) else [token]
    found = [(_visible(_text_of(one)).removeprefix(before), one["logprob"]) for one in [*likeliest, *drawn_too]]
    known = [(int(level), math.exp(logprob)) for level, logprob in found if level in levels]
    total = sum(mass for _, mass in known)
    if not total > 0 or not any(_visible(_text_of(one)).removeprefix(before) in levels for one in likeliest):
        raise Unscorable("no_logprobs", "no level is among the likeliest tokens at the place of the score")
    return sum(level * mass for level, mass in known) / total


def _object_in(text: str) -> tuple[dict[str, Any], bool]:
    """The object that an answer is, or holds; and whether it had to be mended."""
    try:
        found = json.loads(text, object_pairs_hook=_unique)
    except (json.JSONDecodeError, RecursionError):
        found = _among_words(text) or _repaired(text)
        _require_no_other_score(text, found["score"])
        return found, True
    if isinstance(found, dict):
        return found, False
    raise Unscorable("unparsable_answer", f"a {type(found).__name__} instead of an object: {text!r:.200}")


def _among_words(text: str) -> dict[str, Any] | None:
    """The one valid JSON object in a text: with a fence or words around it."""
    start, end = text.find("{"), text.rfind("}") + 1
    if start < 0:
        return None
    try:
        found: dict[str, Any] = json.loads(text[start:end], object_pairs_hook=_unique)
    except (json.JSONDecodeError, RecursionError):
        return None
    return found if "score" in found else None


def _require_no_other_score(text: str, score: Any) -> None:
    """Refuse words around the object that tell another score than it."""
    for words in (text[: max(0, text.find("{"))], text[text.rfind("}") + 1 :] if "}" in text else ""):
        told = {number for line in _TOLD.findall(words) for number in _NUMBER.findall(line)}
        if told - {str(_whole(score))}:
            raise Unscorable("ambiguous_answer", f"the answer has several scores: {text!r:.200}")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise Unscorable("ambiguous_answer", f"the answer has an entry twice: {[name for name, _ in pairs]}")
    return found


def _repaired(text: str) -> dict[str, Any]:
    """The object in a text that is no valid JSON: single quotes, a comma too many or one that is missing."""
    import json_repair

    keys = [key for key in _SCORE_KEY.finditer(text) if not key["words"]]
    if len(keys) > 1:
        raise Unscorable("ambiguous_answer", f"the answer has several scores: {text!r:.200}")
    try:
        found: Any = json_repair.loads(text)
    except (ValueError, RecursionError) as error:
        raise Unscorable("unparsable_answer", f"{error} in {text!r:.200}") from error
    objects = [one for one in (found if isinstance(found, list) else [found]) if isinstance(one, dict)]
    scored = [one for one in objects if "score" in one]
    if len(scored) != 1 or not keys:
        raise Unscorable("unparsable_answer", f"no JSON object with a score in {text!r:.200}")
    told = _SCORE_VALUE.match(text, keys[0].end())
    # What the library makes of "4 or 5" is a guess.
    if told is None or _whole(scored[0]["score"]) != int(told["level"]):
        raise Unscorable("unparsable_answer", f"the score is not one whole number in {text!r:.200}")
    return scored[0]


def _whole(value: Any) -> int | None:
    """A score as a whole number, also written as 4.0 or "4"."""
    if isinstance(value, str):
        return int(float(value)) if _WHOLE.fullmatch(value.strip()) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if math.isfinite(value) and int(value) == value else None
