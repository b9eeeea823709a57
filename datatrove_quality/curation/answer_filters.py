"""DataTrove's text filters for what the assistant says in a conversation, with limits that suit answers in a chat.

The filters and their usual limits were made for web pages. An answer may be a word, a number, a list, a table or a
program, so each limit here is looser than DataTrove's, and those that count lines or words of short texts are off.
"""

import importlib.metadata  # DataTrove uses it, but leaves it to others to import it
import importlib.util
import os

from datatrove.data import Document
from datatrove.pipeline.filters import GopherQualityFilter, GopherRepetitionFilter
from datatrove.pipeline.filters.base_filter import BaseFilter, get_filter_result
from datatrove.pipeline.writers.disk_base import DiskWriter
from datatrove.utils.lid import FT176LID
from datatrove.utils.word_tokenizers import load_word_tokenizer
from fsspec.core import strip_protocol
from huggingface_hub import cached_assets_path

from datatrove_quality.extras import require_extra
from datatrove_quality.rows.types import MESSAGES


# Shares of repeated or symbolic text say nothing about a short one; nor does a guess at its language.
SHARES_FROM_CHARS = 200
LANGUAGE_FROM_CHARS = 50

# All that DataTrove's filter of quality looks at.
QUALITY_LIMITS = (
    *("min_doc_words", "max_doc_words", "min_avg_word_length", "max_avg_word_length", "min_stop_words"),
    *("max_symbol_word_ratio", "max_bullet_lines_ratio", "max_ellipsis_lines_ratio", "max_non_alpha_words_ratio"),
)
# What DataTrove's filter by language imports, and how it is installed; the last two to find the model in its cache.
LANGUAGE_PACKAGES = {
    "fasttext": "fasttext-numpy2-wheel",
    "fasteners": "fasteners",
    "aiohttp": "aiohttp",
    "requests": "requests",
}


def length_filter(language: str, min_words: int = 1, max_words: int = 100_000) -> GopherQualityFilter:
    """At least a word, and no book: DataTrove's filter of quality with all else off."""
    return _quality_filter(language, min_doc_words=min_words, max_doc_words=max_words)


def symbol_filter(language: str) -> GopherQualityFilter:
    """DataTrove's filter of quality with all off but its shares of symbols, which are 0.1 and 0.8 there.

    `#` or `...` may be as many as half the words, and a tenth of the words (punctuation marks among them) must have
    a letter: Markdown, code and tables do not meet DataTrove's limits.
    """
    return _quality_filter(language, max_symbol_word_ratio=0.5, max_non_alpha_words_ratio=0.1)


def _quality_filter(language: str, **limits: float) -> GopherQualityFilter:
    """DataTrove's filter of quality with some limits alone."""
    return GopherQualityFilter(**dict.fromkeys(QUALITY_LIMITS) | limits, language=language)  # type: ignore[arg-type]


def repetition_filter(language: str) -> GopherRepetitionFilter:
    """DataTrove's filter of repetition with its shares of characters doubled and its counts of equal lines off."""
    return GopherRepetitionFilter(
        dup_line_frac=None,
        dup_para_frac=None,
        dup_line_char_frac=0.4,
        dup_para_char_frac=0.4,
        top_n_grams=((2, 0.40), (3, 0.36), (4, 0.32)),  # type: ignore[arg-type]  # its annotation says one pair
        dup_n_grams=((5, 0.30), (6, 0.28), (7, 0.26), (8, 0.24), (9, 0.22), (10, 0.20)),  # type: ignore[arg-type]
        language=language,
    )


class AnswerFilter(BaseFilter):
    """Lets a text filter of DataTrove's judge all that the assistant says in a conversation, as one text.

    The filter sees a document of its own: what it writes into the metadata, where a column of the source may have the
    same name, is not kept.

    Args:
        judge: the text filter.
        exclusion_writer: gets the dropped documents.
        from_chars: shorter texts are kept unseen.
        reason: the `filter_reason` where the filter gives none.
    """

    def __init__(
        self,
        judge: BaseFilter,
        exclusion_writer: DiskWriter | None = None,
        from_chars: int = 1,
        reason: str = "dropped",
    ):
        self.name = judge.name
        super().__init__(exclusion_writer)  # type: ignore[arg-type]  # None is its default
        self.judge = judge
        self.from_chars = from_chars
        self.reason = reason

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        """Keep or drop a document by what the filter says of the answers in it."""
        texts = (message["content"] for message in doc.metadata[MESSAGES] if message["role"] == "assistant")
        text = "\n\n".join(text for text in texts if text.strip())
        if len(text) < max(1, self.from_chars):
            return True
        keep, reason = get_filter_result(self.judge.filter(Document(text=text, id=doc.id)))
        return True if keep else (False, reason or self.reason)


def require_word_tokenizer(language: str) -> None:
    """Find out on this machine whether there is a word tokenizer for a language; spaCy's own need no download.

    Raises:
        ImportError: the extra for curation is not installed.
        ValueError: the language has no word tokenizer; the message says what is missing.
    """
    try:
        load_word_tokenizer(language).word_tokenize("Uma frase.")
    except Exception as error:  # packages of many languages, each with errors of its own
        require_extra("curate", "datatrove-quality curate")
        raise ValueError(
            f"language={language!r} (--language): no word tokenizer is installed for this language: {error}. Give a "
            "code of DataTrove's, such as eng or por, and install what it asks for."
        ) from error


def language_model_path() -> str:
    """Where DataTrove keeps the model that identifies languages."""
    folder = cached_assets_path(library_name="datatrove", namespace="lid", subfolder=FT176LID.MODEL_SUBFOLDER)
    return os.path.join(folder, strip_protocol(FT176LID.MODEL_URL).replace("/", "_"))


def require_language_model() -> None:
    """Nothing may be fetched while jobs run: the model that identifies languages has to be there before.

    Raises:
        ValueError: it is not, or fastText is not; the message holds the command that fetches them.
    """
    missing = [name for name in LANGUAGE_PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(
            f"--keep-languages needs {', '.join(missing)}: pip install {' '.join(LANGUAGE_PACKAGES.values())}. "
            "Without them, omit --keep-languages."
        )
    path = language_model_path()
    # DataTrove downloads unless the latter is there.
    if not (os.path.isfile(path) and os.path.isfile(f"{path}.completed")):
        raise ValueError(
            f"--keep-languages needs a model that is not cached: {path}\n"
            "On a machine with network and the same home folder, once:\n"
            '  python -c "from datatrove.utils.lid import FT176LID; FT176LID().model"\n'
            "or omit --keep-languages."
        )
