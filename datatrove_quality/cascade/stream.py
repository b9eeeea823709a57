"""A stream of documents through two classifiers: the proxy scores all, the classifier those that it leaves undecided.

    texts ── proxy's stream ── outside the band? ──yes──────────────────────────────> decided ──> in their order
                                     └──no, or audited ──> classifier's stream ──> scored ──┘

The second stream reads from the first one in its own thread, and hands decided documents on as they are: order and
bounded memory are those of a single stream.
"""

from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from datatrove.data import Document

from datatrove_quality.cascade.audit import Audit
from datatrove_quality.cascade.draw import Draw
from datatrove_quality.cascade.values import Cascade
from datatrove_quality.config import Score, Unscorable
from datatrove_quality.engine.scorer import Input, Scorer
from datatrove_quality.engine.store import ScoreStore
from datatrove_quality.rows.score_columns import PROXY, RecordedScore


class Entry(Protocol):
    """A document on its way, and what of it is scored."""

    @property
    def document(self) -> Document: ...

    @property
    def item(self) -> Input | None: ...

    @property
    def size(self) -> int: ...


T = TypeVar("T", bound=Entry)
ScorerResult = Score | RecordedScore | Unscorable


@dataclass(frozen=True)
class ProxyDecision:
    """The proxy's score has decided a document, which has no score of the classifier.

    Args:
        keep: what was decided.
        score: the proxy's, on its own scale.
        tokens: that the proxy has seen.
        truncated: whether the text had more.
    """

    keep: bool
    score: float
    tokens: int
    truncated: bool


class Decided(NamedTuple):
    """What became of a document in a cascade.

    Args:
        result: the classifier's, or the proxy's decision.
        proxy_score: None: the proxy has given none, got no text, or had to cut a text that the classifier need not.
        audited: whether the classifier has scored what the proxy had decided.
        changed: "wrongly_dropped" or "wrongly_kept": what the proxy would have done to an audited document. "": it
            would have decided as the classifier did.
    """

    result: ScorerResult | ProxyDecision
    proxy_score: float | None = None
    audited: bool = False
    changed: str = ""

    @property
    def notes(self) -> tuple[str, ...]:
        """The statistics in which the document counts."""
        return ("audited",) * self.audited + ((f"audit_{self.changed}",) if self.changed else ())

    def columns(self, prefix: str) -> dict[str, Any]:
        """The metadata that only a cascade gives to a document."""
        by = PROXY if isinstance(self.result, ProxyDecision) else "classifier"
        return {
            f"{prefix}_proxy_score": self.proxy_score,
            f"{prefix}_scored_by": None if isinstance(self.result, Unscorable) else by,
        }


class _Way(NamedTuple, Generic[T]):
    """A document between the two streams."""

    entry: T
    text: str | RecordedScore | Unscorable
    draw: float
    proxied: Score | None = None
    keep: bool | None = None
    audited: bool = False

    @property
    def size(self) -> int:
        """Roughly the bytes that it holds."""
        return self.entry.size + (len(self.text) if isinstance(self.text, str) else 0)


class CascadeTask:
    """A cascade in one task.

    Args:
        cascade: the proxy's band.
        min_score: the classifier's threshold.
        classifier: of whose decisions the proxy's are estimates.
        proxy: the cheaper one.
        rank: which task this is.
        audit_folder: see `Audit`.

    Raises:
        ValueError: the certificate was issued for other models.
    """

    def __init__(
        self,
        cascade: Cascade,
        min_score: float,
        classifier: Scorer,
        proxy: Scorer,
        rank: int,
        audit_folder: str | None,
    ):
        cascade.require_models(classifier.describe(), proxy.describe())
        self._cascade = cascade
        self._min_score = min_score
        self._classifier = classifier
        self._proxy = proxy
        self._reads_alike = reads_alike(proxy, classifier)
        self._draw = Draw("audit", rank)
        self._audit = Audit(cascade, rank, audit_folder)

    def decided(
        self, pairs: Iterable[tuple[T, Any]], store: ScoreStore | None, proxy_store: ScoreStore | None
    ) -> Generator[tuple[T, Decided], None, None]:
        """Each document in order, and what became of it.

        Args:
            pairs: a document on its way, and its text as the classifier renders it; or what is known of it.
            store: of the classifier's logits.
            proxy_store: of the proxy's.

        Raises:
            BrokenPromise: with `strict_audit`, the audit shows that a promise is broken.
        """
        self._audit.look()
        first = self._proxy.stream_pairs(self._for_proxy(pairs), proxy_store)
        try:
            with closing(self._classifier.stream_pairs(self._for_classifier(first), store)) as second:
                for way, result in second:
                    yield way.entry, self._settled(way, result)
            self._audit.look(at_the_end=True)
        finally:
            with suppress(ValueError):  # a thread that hangs in it was left behind
                first.close()

    def _for_proxy(self, pairs: Iterable[tuple[T, Any]]) -> Iterator[tuple[_Way[T], Input]]:
        """What the proxy scores of each document: the text as its own template renders it."""
        for entry, text in pairs:
            way = _Way(entry, text, self._draw())
            if self._reads_alike or not isinstance(text, str) or isinstance(entry.item, RecordedScore | None):
                yield way, text
            else:
                yield way, self._proxy.renderer.render(entry.item)

    def _for_classifier(self, first: Iterable[tuple[_Way[T], ScorerResult]]) -> Iterator[tuple[_Way[T], Input]]:
        """What the classifier scores: the texts that the proxy's score does not decide, and those that are audited."""
        for way, result in first:
            if not isinstance(way.text, str) or not isinstance(result, Score):
                yield way, way.text  # known; or the proxy has no score, and the classifier decides
                continue
            if result.truncated and not self._reads_alike:
                yield way, way.text  # the proxy has not seen all that the classifier sees
                continue
            keep = self._cascade.decides(result.score)
            audited = keep is not None and way.draw < self._cascade.audit
            way = way._replace(proxied=result, keep=keep, audited=audited)
            if keep is None or audited:
                yield way, way.text
            else:
                yield way, RecordedScore(result.score, None, result.tokens, result.truncated)

    def _settled(self, way: _Way[T], result: ScorerResult) -> Decided:
        """What became of a document; the audit counts it."""
        proxied, keep = way.proxied, way.keep
        if not isinstance(way.text, str):
            return Decided(result)
        source = way.entry.document.metadata.get(self._cascade.audit_by)
        if proxied is not None and keep is not None and not way.audited:
            self._audit.add(source, keep, False, None)
            return Decided(ProxyDecision(keep, proxied.score, proxied.tokens, proxied.truncated), proxied.score)
        kept = None if isinstance(result, Unscorable) else result.score >= self._min_score
        self._audit.add(source, keep, way.audited, kept)
        changed = f"wrongly_{'kept' if keep else 'dropped'}" if way.audited and kept is not keep else ""
        return Decided(result, None if proxied is None else proxied.score, way.audited, changed)


def reads_alike(proxy: Scorer, classifier: Scorer) -> bool:
    """Whether a proxy is given the classifier's tokens, and cuts no text that the classifier does not cut."""
    ours, theirs = proxy.fingerprint.parts, classifier.fingerprint.parts
    same = [name for name in ("chat_template", "add_special_tokens") if ours[name] == theirs[name]]
    files = [(parts.get("tokenizer"), parts.get("commit")) for parts in (ours, theirs)]
    return len(same) == 2 and files[0] == files[1] and ours["max_tokens"] >= theirs["max_tokens"]
