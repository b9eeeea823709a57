"""The sample of a corpus: as large as asked for, uniform, by place, the same again."""

import numpy as np
import pytest
from samples import rows, write_rows

from datatrove_quality import ConversationAdapter
from datatrove_quality.proxies.sample import draw_sample
from datatrove_quality.runs.inputs import find_inputs


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Three files of a hundred rows; all of the first have the same text."""
    folder = tmp_path_factory.mktemp("corpus")
    one = rows(1, "same")[0]
    write_rows(folder / "a.jsonl", [one | {"id": f"a{at}"} for at in range(100)] + [b"no json"])
    write_rows(folder / "b.jsonl", [row | {"id": f"b{at}"} for at, row in enumerate(rows(100, "b"))])
    write_rows(folder / "c.jsonl", [row | {"id": f"c{at}"} for at, row in enumerate(rows(100, "c"))])
    return find_inputs(str(folder))


def drawn(corpus, size, salt="x"):
    sample = draw_sample(corpus, ConversationAdapter(), size, salt)
    assert sample.rows == 300
    return [document.id for document in sample.documents]


def test_the_same_salt_draws_the_same_rows_in_their_order(corpus):
    found = drawn(corpus, 40)
    assert len(found) == len(set(found)) == 40 and found == drawn(corpus, 40) != drawn(corpus, 40, "y")
    assert found == [name for name in drawn(corpus, 300) if name in found]
    assert set(found) < set(drawn(corpus, 90))  # a larger sample has the smaller one's rows


def test_a_corpus_that_is_smaller_is_drawn_whole(corpus):
    assert len(drawn(corpus, 1_000)) == 300


def test_each_row_is_drawn_as_often_as_another(corpus):
    """And copies of a text are not drawn together: their number varies as that of the others."""
    times = dict.fromkeys(drawn(corpus, 300), 0)
    of_copies = []
    for salt in range(60):
        found = drawn(corpus, 60, str(salt))
        of_copies.append(sum(name.startswith("a") for name in found))
        for name in found:
            times[name] += 1
    assert np.mean(list(times.values())) == 12 and max(times.values()) < 28 and min(times.values()) > 1
    assert np.mean(of_copies) == pytest.approx(20, abs=1.5) and 2 < np.std(of_copies) < 5


def test_documents_are_those_that_a_run_reads(corpus):
    (document, *_) = draw_sample(corpus, ConversationAdapter(), 300, "x").documents
    (read, *_) = corpus.sample(ConversationAdapter(), 1)
    assert document == read
