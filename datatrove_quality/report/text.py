"""Text of strangers, prepared for a page or a terminal: hidden characters made visible, long texts cut.

Nothing here is HTML: escaping is the templates' task, which Jinja2 does for all that they print.
"""

import re


# Control characters but tab and line feed, marks that reorder text, line separators, tags, halves of surrogate pairs.
HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f\ud800-\udfff]"
)

# What reads well in columns only: fenced code to its end or the text's, two and more lines of a table, JSON in lines.
COLUMNS = re.compile(
    r"^[ \t]*(`{3,}|~{3,})[^\n]*\n(?:.*?^[ \t]*\1[ \t]*(?:\n|\Z)|.*)"
    r"|(?:^[ \t]*\|[^\n]*(?:\n|\Z)){2,}"
    r"|\A[{\[]\n.*\n[}\]]\s*\Z",
    re.MULTILINE | re.DOTALL,
)


def visible(text: str) -> str:
    """A text in which characters that hide or reorder text, or control a terminal, are shown as such: "[U+202E]"."""
    return HIDDEN.sub(lambda found: f"[{_code(found[0])}]", text.replace("\r\n", "\n"))


def split_hidden(text: str) -> list[tuple[bool, str]]:
    """A text in parts: whether each replaces a hidden character, and its text or the character's code."""
    text = text.replace("\r\n", "\n")
    parts, end = [], 0
    for found in HIDDEN.finditer(text):
        parts += [(False, text[end : found.start()]), (True, _code(found[0]))]
        end = found.end()
    return [part for part in [*parts, (False, text[end:])] if part[1]]


def split_columns(text: str) -> list[tuple[bool, str]]:
    """A text in parts: whether each reads well in columns only, as code and tables do, and its text."""
    parts, end = [], 0
    for found in COLUMNS.finditer(text):
        parts += [(False, text[end : found.start()]), (True, found[0])]
        end = found.end()
    return [part for part in [*parts, (False, text[end:])] if part[1]]


def cut_middle(text: str, limit: int) -> str:
    """A text of about `limit` characters at most, which says how many were left out of its middle."""
    if len(text) <= limit:
        return text
    head, tail = text[: limit * 2 // 3], text[-(limit - limit * 2 // 3) :]
    return f"{head}\n[… {len(text) - limit:,} characters left out …]\n{tail}"


def _code(character: str) -> str:
    return f"U+{ord(character):04X}"
