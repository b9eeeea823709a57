"""The rows of a table with separators. Quotes that do not fit together swallow no row.

A quoted field may hold separators and line breaks, with each of its quotes doubled (RFC 4180). A field that begins
with a quote and is not closed so is bad data of the line on which it begins (CSV), or text as it is (TSV, which by its
definition has no quotes, though many programs write them). The next row begins on the next line.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator

from datatrove_quality.rows.types import InvalidConversation


# A quoted field that is never closed would hold the rest of the file.
MAX_SPAN = 64 * 1024 * 1024
LINE_ENDS = "\r\n"
_ENDS = ("", "\n", "\r", "\r\n")


class _Broken(Exception):
    """A field begins with a quote and is not closed as a quoted field is."""


class _Cut(Exception):
    """The file is damaged within this row."""


class Table:
    """A header and rows.

    Args:
        lines: with their ends, which are those of `io` with `newline=""`.
        separator: between fields.
        quotes_may_be_text: a field whose quotes do not fit together is text as it is; else its row is bad.
        is_cut: whether the file is damaged where the lines end; called when they have ended.

    Attributes:
        columns: the fields of the first row.
        number: how many lines have been read.
        rest: of the row in which a damaged file ends, what there is of it.
        doubtful: the first and last line of the first row whose quotes fit together although each of its lines could
            be a row by itself: of more than two, or of two where no other row has a quoted field. None: there is none.
    """

    def __init__(
        self,
        lines: Iterable[str],
        separator: str,
        quotes_may_be_text: bool = False,
        is_cut: Callable[[], bool] = lambda: False,
    ):
        self._lines = iter(lines)
        self._separator = separator
        self._is_cut = is_cut
        self._ahead: deque[str] = deque()
        self._taken: list[str] = []  # the lines of the row that is read
        self._line = ""  # the last of them
        self._span = 0  # characters of those before it that could not close a quoted field
        self.number = 0
        self.rest = ""
        self._has_quoted = False  # a field of the row that is read
        self._is_quoting = False  # a row that is not doubtful has a quoted field: so the file's writer quotes
        self._of_two_lines: tuple[int, int] | None = None
        self._of_more_lines: tuple[int, int] | None = None
        self.columns: list[str] = []
        self._quotes_may_be_text = True
        self.columns = next(iter(self), ([], None))[0]
        self._quotes_may_be_text = quotes_may_be_text

    @property
    def doubtful(self) -> tuple[int, int] | None:
        return self._of_more_lines or (None if self._is_quoting else self._of_two_lines)

    def __iter__(self) -> Iterator[tuple[list[str], InvalidConversation | None]]:
        """Each row's fields; or the line as it is, alone in a list, and what is wrong with its quotes."""
        try:
            while self._begin():
                if not self._line.strip(LINE_ENDS):
                    continue
                try:
                    fields = self._row()
                except _Broken:
                    self._give_back(1)
                    yield [self._line.rstrip(LINE_ENDS)], self._what_is_broken()
                else:
                    self._note_if_doubtful()
                    yield fields, None
        except _Cut:
            self.rest = self.rest or "".join(self._taken).rstrip(LINE_ENDS)

    def _row(self) -> list[str]:
        if '"' not in self._line:
            return self._line.rstrip(LINE_ENDS).split(self._separator)
        fields: list[str] = []
        start = 0
        while True:
            field, end = self._field(start, len(fields))
            fields.append(field)
            if not self._line.startswith(self._separator, end):
                return fields
            start = end + 1

    def _field(self, start: int, before: int) -> tuple[str, int]:
        """The field that begins at a place in the line, and where it ends in what is then the line.

        Args:
            start: the place.
            before: how many fields the row has before it.
        """
        if self._line.startswith('"', start):
            # No row needs a further line for more fields than it may have.
            may_span = not self.columns or before < len(self.columns)
            if found := self._quoted(start + 1, may_span):
                return found
            if not self._quotes_may_be_text:
                raise _Broken
        end = self._line.find(self._separator, start)
        end = len(self._line.rstrip(LINE_ENDS)) if end < 0 else end
        return self._line[start:end], end

    def _quoted(self, start: int, may_span: bool) -> tuple[str, int] | None:
        """As `_field`, of a quoted one, without its quotes; None: it is not closed, and no line has been taken."""
        first = len(self._taken)
        parts: list[str] = []
        while True:
            end = self._line.find('"', start)
            if end < 0:
                parts.append(self._line[start:])
                if not (may_span and self._go_on()):
                    self._give_back(first)
                    return None
                start = 0
            elif self._line.startswith('""', end):
                parts.append(self._line[start : end + 1])
                start = end + 2
            else:
                break
        parts.append(self._line[start:end])
        end += 1
        is_closed = self._line.startswith(self._separator, end) or self._line[end : end + 3] in _ENDS
        if not is_closed or (self._quotes_may_be_text and self._are_rows(self._taken[first - 1 :])):
            self._give_back(first)
            return None
        self._has_quoted = True
        return "".join(parts), end

    def _are_rows(self, lines: list[str]) -> bool:
        """Whether each of several lines could be a row by itself. Indented text in a quoted field is not."""
        separators = len(self.columns) - 1
        return (
            len(lines) > 1
            and separators > 0
            and all(
                line.count(self._separator) == separators and not line.startswith(self._separator) for line in lines
            )
        )

    def _note_if_doubtful(self) -> None:
        lines = len(self._taken)
        if not self._are_rows(self._taken):
            self._is_quoting = self._is_quoting or self._has_quoted
            return
        place = (self.number - lines + 1, self.number)
        if lines > 2:
            self._of_more_lines = self._of_more_lines or place
        else:
            self._of_two_lines = self._of_two_lines or place

    def _what_is_broken(self) -> InvalidConversation:
        return InvalidConversation(
            "invalid_csv",
            f"line {self.number}: a field begins with a quote, and is not closed by one before a separator or the end "
            'of a row; a quote within a quoted field is written twice ("")',
        )

    def _begin(self) -> bool:
        """Take the first line of a row; False: there is none."""
        self._taken, self._span, self._has_quoted = [], 0, False
        return self._take()

    def _go_on(self) -> bool:
        """Take a further line of the row; False: there is none, or the row is too long."""
        self._span += len(self._line)
        return self._span < MAX_SPAN and self._take()

    def _take(self) -> bool:
        line = self._ahead.popleft() if self._ahead else next(self._lines, "")
        if line:
            self._taken.append(line)
            self._line = line
            self.number += 1
        if not line.endswith(("\n", "\r")) and self._is_cut():
            raise _Cut
        return bool(line)

    def _give_back(self, count: int) -> None:
        """Leave all but the first lines of the row to the next one."""
        given = self._taken[count:]
        del self._taken[count:]
        self._ahead.extendleft(reversed(given))
        self.number -= len(given)
        self._line = self._taken[-1]
