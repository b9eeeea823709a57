"""Which rows are annotated: numbers add up, weights say what a row stands for, the draw is always the same."""

from collections import Counter

import numpy as np
import pytest
from samples import turns, write_rows

from datatrove_quality import ConversationAdapter
from datatrove_quality.annotation.sample_config import SampleConfig
from datatrove_quality.annotation.sampling import allocate, draw_task_samples
from datatrove_quality.annotation.select_rows import TakeSample
from datatrove_quality.runs.inputs import find_inputs


LEVELS = (1, 5)


@pytest.fixture
def inputs(tmp_path):
    """500 rows in three files, few of level 1 and 2; ten are no conversations."""
    rng = np.random.default_rng(0)
    for name in "abc":
        rows = [
            {
                "id": f"{name}{number}",
                "messages": turns(f"{name} {number}?", "Sim. " * int(rng.integers(1, 40))) if number % 50 else [],
                "source": "web" if number % 4 else "livros",
                "quality_score": float(rng.choice([1.2, 2.1, 3.4, 4.0, 5.3], p=[0.02, 0.03, 0.15, 0.2, 0.6])),
            }
            for number in range(170)
        ]
        write_rows(tmp_path / f"{name}.jsonl", rows)
    return find_inputs(str(tmp_path))


def taken(inputs, config, tasks=1):
    """The rows that the step passes on, of all tasks."""
    step = TakeSample(config, draw_task_samples(inputs, ConversationAdapter(), config, tasks, LEVELS))
    for rank in range(tasks):
        paths = list(inputs.sizes)[rank::tasks]
        reader = inputs.reader(ConversationAdapter())
        yield from step.run((document for path in paths for document in reader.read_file(path)), rank, tasks)


def test_a_sample_stands_for_the_whole(inputs):
    """As many rows as were wanted, each source in its share, and the weights add up to the rows that there are."""
    config = SampleConfig(sample=100, by=("source", "length"))
    found = list(taken(inputs, config))
    weights = {document.id: document.metadata["sample_weight"] for document in found}
    assert len(weights) == len(found) == 100
    usable = 3 * (170 - 4)
    assert sum(weights.values()) == pytest.approx(usable)
    by_source = Counter()
    for document in found:
        by_source[document.metadata["source"]] += document.metadata["sample_weight"]
    # Of each file the 43 rows of every fourth number are livros, less the two of them that are no conversations.
    assert by_source["livros"] == pytest.approx(3 * (43 - 2))


def test_the_draw_is_the_same_in_any_number_of_tasks(inputs):
    """A run that starts again, also divided otherwise, draws the same rows; another seed draws others."""
    config = SampleConfig(sample=60, by=("source",), hold_out=20)
    once = {document.id: document.metadata for document in taken(inputs, config)}
    again = {document.id: document.metadata for document in taken(inputs, config, tasks=2)}
    assert once == again and len(once) == 60
    others = {document.id for document in taken(inputs, SampleConfig(sample=60, by=("source",), seed=1))}
    assert 0 < len(others & once.keys()) < 30


def test_rare_levels_are_not_starved(inputs):
    """Each level gets as many rows, or all that it has; the weights undo it."""
    found = list(taken(inputs, SampleConfig(sample=150, flatten=True)))
    levels = Counter(min(5, round(document.metadata["quality_score"])) for document in found)
    whole = Counter()
    for path in inputs.sizes:
        for document in inputs.reader(ConversationAdapter()).read_file(path):
            if "conversation_error" not in document.metadata:
                whole[min(5, round(document.metadata["quality_score"]))] += 1
    assert (
        levels[1] == whole[1] < 30
        and levels[2] == whole[2] < 30
        and levels[4] <= levels[5] <= levels[4] + 1
        and levels[4] > 40
    )
    weighted = Counter()
    for document in found:
        weighted[min(5, round(document.metadata["quality_score"]))] += document.metadata["sample_weight"]
    assert weighted == pytest.approx(whole)


def test_near_duplicates_are_on_one_side(tmp_path):
    """Copies with a word changed are all held out, or all learned from; as many are held out as was said."""
    text = "A capital do Brasil é Brasília, que foi inaugurada em abril de 1960 e fica no planalto central. " * 3
    rows = [
        {"id": f"{group} {copy}", "messages": turns(f"Pergunta {group}?", f"{text.replace('a', f'a{group}')} {copy}.")}
        for copy in range(5)
        for group in range(12)
    ]
    write_rows(tmp_path / "a.jsonl", rows)
    found = list(taken(find_inputs(str(tmp_path)), SampleConfig(hold_out=20)))
    held_out = [document.id for document in found if document.metadata.get("datatrove_quality_held_out")]
    assert len(found) == 60 and len(held_out) == 20
    assert set(Counter(name.split()[0] for name in held_out).values()) == {5}
    assert "sample_weight" not in found[0].metadata
    with pytest.raises(ValueError, match=r"hold_out=3: .* only 0 can be held out"):
        list(taken(find_inputs(str(tmp_path)), SampleConfig(hold_out=3)))


def test_a_changed_input_is_noticed(inputs):
    """Rows are known by their numbers: if there are more or fewer than were counted, none is annotated silently."""
    config = SampleConfig(sample=10)
    step = TakeSample(config, draw_task_samples(inputs, ConversationAdapter(), config, 1, LEVELS))
    few = inputs.sample(ConversationAdapter(), 50)
    with pytest.raises(RuntimeError, match="has read 50 documents, and rows were drawn of 510"):
        list(step.run(iter(few)))


def test_a_column_that_no_row_has_is_no_stratum(inputs):
    """A misspelt column would divide nothing, without a word."""
    with pytest.raises(ValueError, match="by='sorce': no row has a value"):
        list(taken(inputs, SampleConfig(sample=10, by=("length", "sorce"))))
    with pytest.raises(ValueError, match="scores='s': no row has a score"):
        list(taken(inputs, SampleConfig(sample=10, flatten=True, scores="s")))


def test_allocation():
    """One of each at least, all that were wanted, no more than there are."""
    sizes = {(None, "a"): 1_000, (None, "b"): 10, (None, "c"): 1}
    assert allocate(sizes, 100, flatten=False) == {(None, "a"): 97, (None, "b"): 2, (None, "c"): 1}
    assert allocate(sizes, 5_000, flatten=False) == sizes
    levels = {(1,): 3, (2,): 50, (3,): 1_000}
    assert allocate(levels, 100, flatten=True) == {(1,): 3, (2,): 48, (3,): 49}
    with pytest.raises(ValueError, match="sample=2 gives 2 rows to 3 groups"):
        allocate(sizes, 2, flatten=False)
