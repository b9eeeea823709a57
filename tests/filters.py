"""What the tests of `QualityFilter` share: documents, a scorer without a model, and a pipeline."""

import time
from types import SimpleNamespace

from datatrove.data import Document
from datatrove.pipeline.writers import JsonlWriter

from datatrove_quality import (
    ConversationAdapter,
    ConversationJsonlReader,
    QualityFilter,
    RowAdapter,
    Score,
    ScoreScale,
)


SUFFIXES = ("score", "int_score", "tokens", "truncated")
TURNS = [{"role": "user", "content": "Qual é a capital?"}, {"role": "assistant", "content": "Lisboa."}]


def document(messages, **metadata):
    """A document with these messages, whatever they are."""
    return Document(
        text="texto", id="bad-1", metadata={"messages": messages, "file_path": "in/part-7.jsonl"} | metadata
    )


def statistics(step):
    """The totals of what a step has counted."""
    return {name: metric.total for name, metric in step.stats.stats.items()}


class FakeScorer:
    """Gives the scores that the texts spell out, one by one, without a model."""

    scale = ScoreScale()
    outputs = SimpleNamespace(columns={})
    renderer = SimpleNamespace(control_token_in=lambda item: None, render_checked=lambda item: (item, False))

    def __init__(self, seconds=0.0):
        self.seconds = seconds

    def stream_pairs(self, pairs, store=None, counts=None):
        for companion, item in pairs:
            time.sleep(self.seconds)
            if isinstance(item, str):
                yield companion, Score(float(item), round(float(item)), 3, False)
            else:
                yield companion, item


def fake_filter(**options):
    """A filter of plain texts that are their scores: with the fixture `fake`."""
    return QualityFilter("no/model", messages_key=None, **options)


def pipeline(source, output, config, **options):
    """What a user writes: reader, filter with exclusion writer, writer."""
    writers = [
        JsonlWriter(str(output / folder), compression=None, adapter=RowAdapter()) for folder in ("kept", "excluded")
    ]
    return [
        ConversationJsonlReader(str(source), adapter=ConversationAdapter()),
        QualityFilter(config, exclusion_writer=writers[1], **options),
        writers[0],
    ]
