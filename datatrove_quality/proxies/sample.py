"""A simple random sample of the rows of a corpus: the same rows for the same salt, in one pass, in bounded memory."""

import heapq
from dataclasses import dataclass
from typing import Any

from datatrove.data import Document
from tqdm import tqdm

from datatrove_quality.cascade.draw import PlaceDraw
from datatrove_quality.rows.to_document import ConversationAdapter, TextAdapter
from datatrove_quality.rows.types import Row
from datatrove_quality.runs.inputs import Inputs
from datatrove_quality.runs.named_columns import require_named_columns


@dataclass(frozen=True)
class Sample:
    """Rows drawn at random, as documents.

    Args:
        documents: in the order of the files.
        rows: of which they were drawn.
    """

    documents: list[Document]
    rows: int


class _Drawing:
    """An adapter that makes documents only of rows that are among the drawn ones so far.

    A row's number depends on its place, not on its text: copies of a text are not drawn together.
    """

    def __init__(self, adapter: ConversationAdapter | TextAdapter, size: int, salt: str):
        self.adapter = adapter
        self.size = size
        self.rows = 0
        self._draw = PlaceDraw(salt)
        self._drawn: list[float] = []  # a heap of the lowest numbers, negated: the highest of them comes first

    def __call__(self, reader: Any, row: Row, path: str, id_in_file: int | str) -> dict[str, Any]:
        """The document's arguments; of a row that is not drawn none, which DataTrove skips."""
        self.rows += 1
        number = self._draw(f"{path} {id_in_file}")
        if len(self._drawn) >= self.size and number >= -self._drawn[0]:
            return {"text": ""}
        (heapq.heappush if len(self._drawn) < self.size else heapq.heappushpop)(self._drawn, -number)
        found = self.adapter(reader, row, path, id_in_file)
        return found | {"metadata": found["metadata"] | {_NUMBER: number}}


_NUMBER = "_drawn"


def draw_sample(inputs: Inputs, adapter: ConversationAdapter | TextAdapter, size: int, salt: str) -> Sample:
    """Draw rows of all files; progress is shown on stderr.

    What cannot be read as a row at all is never drawn: no cascade has to decide it.

    Args:
        inputs: the files.
        adapter: makes documents of rows: conversations or plain text.
        size: how many rows; all of them where there are fewer.
        salt: decides which.
    """
    inputs.reader(adapter)  # refuses columns that it cannot tell
    require_named_columns(inputs, adapter)
    drawing = _Drawing(adapter, size, salt)
    reader = inputs.reader(drawing)
    reader._empty_warning = True  # rows that are not drawn have no text
    found: list[Document] = []
    for path in tqdm(inputs.sizes, unit=" files", desc="drawing rows", disable=None):
        for document in reader.read_file(path):
            if _NUMBER in document.metadata:
                found.append(document)
        if len(found) > 2 * size:
            found = _lowest(found, size)
    documents = _lowest(found, size)
    for document in documents:
        del document.metadata[_NUMBER]
    return Sample(documents, drawing.rows)


def _lowest(documents: list[Document], size: int) -> list[Document]:
    """Of documents in their order, those with the lowest numbers."""
    if len(documents) <= size:
        return documents
    last = sorted(document.metadata[_NUMBER] for document in documents)[size - 1]
    return [document for document in documents if document.metadata[_NUMBER] <= last]
