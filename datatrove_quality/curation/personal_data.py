"""Personal data in texts: e-mail and IP addresses, Brazilian CPF and CNPJ, phone numbers. Each has one replacement.

DataTrove's `PIIFormatter` takes turns with several replacements. The same address then gets two, and a task that
starts again finds none of its scores, since its texts are others. Here the same text always becomes the same text.
"""

import ipaddress
import json
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any, NamedTuple

from datatrove.pipeline.formatters.base import BaseFormatter


EMAIL = re.compile(r"(?<![\w.+%-])([.+%-]*+)(?:[\w.+-]|%(?!40))++(?:@|%40)(?:[^\W_][\w-]*+\.)+[^\W\d_]{2,}")
"""In addresses of the web @ is %40. Each character is looked at a few times at most: on text without blanks,
DataTrove's takes a time that is square."""

AREA = "(?:1[1-9]|2[12478]|3[1-578]|4[1-9]|5[1345]|6[1-9]|7[134579]|8[1-9]|9[1-9])"
BLANK, DASH = "[ \u00a0]?", "[-\u2010-\u2013]"
# Not within a word; the n of an escaped line end, as in source text and in lines of JSON, is none.
START = r"(?:(?<!\w)|(?<=\\[bfnrt]))"
PHONE = re.compile(
    rf"""{START}(?:
        \+[1-9](?:[ \u00a0()\u2010-\u2013-]{{0,2}}[0-9]){{9,14}}                          # with a country's code
      | (?:55{BLANK})?\(0?{AREA}\){BLANK}(?:9{BLANK}[0-9]|[2-9])[0-9]{{3}}(?:[. ]|{DASH})?[0-9]{{4}}
      | (?:55{BLANK})?0?{AREA}(?:[. ]|{DASH})9{BLANK}[0-9]{{4}}(?:[. ]|{DASH})?[0-9]{{4}}
      | (?:55{BLANK})?0?{AREA}(?:[. ]|{DASH})[2-5][0-9]{{3}}{DASH}[0-9]{{4}}
      | 9{BLANK}[0-9]{{4}}{DASH}[0-9]{{4}}                                                # a mobile, without area
      | (?<![0-9][.,])(?:55)?{AREA}9[0-9]{{8}}(?![.,][0-9])                               # digits alone, no fraction
    )(?![0-9])""",
    re.VERBOSE,
)


def is_public_ip(text: str) -> bool:
    """Whether a text is an IPv4 address of the internet, not of a local network."""
    try:
        return ipaddress.ip_address(text).is_global
    except ValueError:
        return False


def is_cpf(text: str) -> bool:
    """Whether the last two digits of a CPF are those that follow from the others."""
    digits = [int(character) for character in text if character.isdigit()]
    return len(set(digits)) > 1 and all(
        sum(digit * weight for digit, weight in zip(digits, range(count + 1, 1, -1), strict=False)) * 10 % 11 % 10
        == digits[count]
        for count in (9, 10)
    )


def is_cnpj(text: str) -> bool:
    """The same of a CNPJ, which may have capital letters since 2026."""
    values = [ord(character) - 48 for character in text if character.isalnum()]
    return any(values) and all(
        -sum(value * (2 + place % 8) for place, value in enumerate(reversed(values[:count]))) % 11 % 10
        == values[count]
        for count in (12, 13)
    )


JSON_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?')
"""The texts and numbers of valid JSON."""


class _Kind(NamedTuple):
    """A kind of numbers: how they look, their replacement, and whether a text that looks so is one."""

    pattern: re.Pattern[str]
    replacement: str
    is_one: Callable[[str], bool]

    def masked(self, text: str) -> str:
        return self.pattern.sub(lambda found: self.replacement if self.is_one(found[0]) else found[0], text)


NUMBERS = (
    _Kind(re.compile(r"(?<![0-9.])(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?!\.?[0-9])"), "0.0.0.0", is_public_ip),
    _Kind(
        re.compile(rf"{START}[0-9A-Z]{{2}}\.?[0-9A-Z]{{3}}\.?[0-9A-Z]{{3}}/?[0-9A-Z]{{4}}{DASH}?[0-9]{{2}}(?![0-9])"),
        "00.000.000/0000-00",
        is_cnpj,
    ),
    _Kind(
        re.compile(rf"(?<![0-9])[0-9]{{3}}[. ]?[0-9]{{3}}[. ]?[0-9]{{3}}(?:[/ ]|{DASH})?[0-9]{{2}}(?![0-9])"),
        "000.000.000-00",
        is_cpf,
    ),
    _Kind(PHONE, "(00) 00000-0000", lambda text: True),
)
"""The replacements are of zeros, and none of them is a public address, a CPF, a CNPJ or a phone number."""


class MaskPII(BaseFormatter):
    """Masks personal data: for conversations `PerMessage(MaskPII())`.

    E-mail addresses become `email@example.com`, public IPv4 addresses `0.0.0.0`, CPF `000.000.000-00` and CNPJ
    `00.000.000/0000-00` (where the check digits are right, with or without signs between the digits), Brazilian phone
    numbers, and others with `+` and a country's code, `(00) 00000-0000`. A masked text stays as it is. Names, streets,
    and numbers of other documents are not recognised.

    All that a message holds is masked: its content, the arguments of its tool calls, `name` and every other key, texts
    in JSON texts too. A number that is one of these becomes 0.
    """

    name = "🎭 Mask personal data"

    def format(self, text: str) -> str:
        """The text with personal data replaced; JSON stays JSON."""
        return JSON_TOKEN.sub(self._masked_token, text) if _is_json(text) else self._masked(text)

    def format_value(self, value: Any) -> Any:
        """A value with personal data replaced in all that it holds, keys of objects included.

        Args:
            value: of any type.
        """
        if isinstance(value, str):
            return self.format(value)
        if isinstance(value, dict):
            return self._formatted_object(value)
        if isinstance(value, list | tuple):
            return [self.format_value(item) for item in value]
        if value is None or isinstance(value, bool):
            return value
        text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value).removesuffix(".0")
        masked = self.format(text)
        if masked == text:
            return value
        return type(value)(0) if isinstance(value, int | float | Decimal) else masked

    def _formatted_object(self, value: dict[Any, Any]) -> dict[Any, Any]:
        """Two keys with one replacement are numbered: no value is lost."""
        masked: dict[Any, Any] = {}
        for key, item in value.items():
            wanted = name = self.format_value(key)
            number = 1
            while name in masked:
                number += 1
                name = f"{wanted} ({number})"
            masked[name] = self.format_value(item)
        return masked

    def _masked_token(self, found: re.Match[str]) -> str:
        value = json.loads(found[0])
        masked = self.format_value(value)
        return found[0] if masked == value else json.dumps(masked, ensure_ascii=False)

    def _masked(self, text: str) -> str:
        text = EMAIL.sub(r"\1email@example.com", text) if "@" in text or "%40" in text else text
        before = ""
        while text != before:  # each round leaves fewer digits above zero
            before = text
            for kind in NUMBERS:
                text = kind.masked(text)
        return text


def _is_json(text: str) -> bool:
    """Whether a text is an object, an array or a text of JSON."""
    if not text.lstrip().startswith(("{", "[", '"')):
        return False
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
