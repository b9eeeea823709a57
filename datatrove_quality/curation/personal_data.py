"""Personal data in texts: e-mail and IP addresses, Brazilian CPF and CNPJ, phone numbers. Each has one replacement.

DataTrove's `PIIFormatter` takes turns with several replacements. The same address then gets two, and a task that
starts again finds none of its scores, since its texts are others. Here the same text always becomes the same text.
"""

import ipaddress
import re
from collections.abc import Callable
from typing import NamedTuple

from datatrove.pipeline.formatters.base import BaseFormatter


EMAIL = re.compile(r"(?<![\w.+%-])([.+%-]*+)[\w.+%-]++@(?:[^\W_][\w-]*+\.)+[^\W\d_]{2,}")
"""Each character is looked at a few times at most: on text without blanks, DataTrove's takes a time that is square."""

AREA = "(?:1[1-9]|2[12478]|3[1-578]|4[1-9]|5[1345]|6[1-9]|7[134579]|8[1-9]|9[1-9])"
BLANK, DASH = "[ \u00a0]?", "[-\u2010-\u2013]"
PHONE = re.compile(
    rf"""(?<!\w)(?:
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
        re.compile(rf"(?<!\w)[0-9A-Z]{{2}}\.?[0-9A-Z]{{3}}\.?[0-9A-Z]{{3}}/?[0-9A-Z]{{4}}{DASH}?[0-9]{{2}}(?![0-9])"),
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
    """

    name = "🎭 Mask personal data"

    def format(self, text: str) -> str:
        """The text with personal data replaced."""
        text = EMAIL.sub(r"\1email@example.com", text) if "@" in text else text
        before = ""
        while text != before:  # each round leaves fewer digits above zero
            before = text
            for kind in NUMBERS:
                text = kind.masked(text)
        return text
