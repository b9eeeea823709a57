"""What the readers of files share."""

from typing import Any

from datatrove.data import Document
from datatrove.pipeline.readers.base import BaseDiskReader, BaseReader

from datatrove_quality.rows.to_document import ConversationAdapter
from datatrove_quality.rows.types import Row


class DiskReader(BaseDiskReader):
    """DataTrove's base of readers, which finds out a file's full path again for each of its documents: here, once."""

    _resolved: tuple[str, list[str] | str] = ("", "")

    def _default_adapter(self, data: Row, path: str, id_in_file: int | str) -> dict[str, Any]:
        return ConversationAdapter(id_key=self.id_key)(self, data, path, id_in_file)

    def get_document_from_dict(self, data: Row, source_file: str, id_in_file: int | str) -> Document | None:
        """A row's document, with its file's path in the metadata."""
        document: Document | None = BaseReader.get_document_from_dict(self, data, source_file, id_in_file)
        if document and self.add_file_path:
            if self._resolved[0] != source_file:
                self._resolved = source_file, self.data_folder.resolve_paths(source_file)
            document.metadata.setdefault("file_path", self._resolved[1])
        return document
