import numpy as np
import pytest
from scored_rows_samples import make, scored, write

from datatrove_quality.report.sampling import ScoreSamples


def test_samples_are_seeded_and_lie_in_their_bands(tmp_path):
    """A seed decides what is read; each example lies in the band or on the side of its section's title."""
    source = write(tmp_path / "a.jsonl", scored(2_000))
    examples = make(tmp_path, source, "--threshold", "3", "--sample", "5")[0]["examples"]
    assert examples == make(tmp_path, source, "--threshold", "3", "--sample", "5")[0]["examples"]
    assert examples != make(tmp_path, source, "--threshold", "3", "--sample", "5", "--seed", "1")[0]["examples"]
    for example in examples:
        if example["section"].startswith("Just"):
            assert (example["score"] >= 3) == ("above" in example["section"])
        else:
            low = int(example["section"].split()[2])
            assert low <= example["score"] < low + 1
    sections = [example["section"] for example in examples]
    assert all(sections.count(title) <= 5 for title in sections)
    assert sections.count("Scores from 2 to 3") == sections.count("Just above the threshold") == 5


def test_bands_of_wide_scales_are_merged():
    """Scores of 0 to 100 make at most twelve bands, and a sample of each, not a hundred."""
    scores = np.random.default_rng(0).uniform(0, 100, 5_000)
    samples = ScoreSamples(threshold=None, size=4, seed=0)
    samples.add_scored(scores, np.arange(5_000), samples.draw(5_000))
    sections = samples.of_scores()
    assert len(sections) == 10
    assert [len(section.rows) for section in sections] == [4] * 10
    assert all((scores[section.rows] // 10 == at).all() for at, section in enumerate(sections))


def test_examples_are_sorted_by_closeness_to_the_threshold(tmp_path):
    """In each section the closest come first: those on which a threshold is judged."""
    source = write(tmp_path / "a.jsonl", scored(2_000))
    examples = make(tmp_path, source, "--threshold", "3.1")[0]["examples"]
    sections = {example["section"] for example in examples}
    assert {"Just below the threshold", "Just above the threshold", "Scores from 2 to 3"} <= sections
    for section in sections:
        distances = [abs(example["score"] - 3.1) for example in examples if example["section"] == section]
        assert distances == sorted(distances)
    below = [example["score"] for example in examples if example["section"] == "Just below the threshold"]
    assert len(below) == 10 and below == sorted(below, reverse=True) and below[-1] < below[0] < 3.1


def test_a_score_equal_to_the_threshold_is_above_it():
    """The sides are those of the filter, which keeps a score equal to `min_score`."""
    scores = np.array([2.74, 1.0, np.nextafter(3, 0), 3.0, np.nextafter(3.25, 0), 5.25])
    samples = ScoreSamples(threshold=3.0, size=10, seed=0)
    samples.add_scored(scores, np.arange(6), samples.draw(6))
    below, above = samples.of_scores()[:2]
    assert (below.rows, above.rows) == ([0, 1, 2], [3, 4, 5])


@pytest.mark.parametrize("batch", [7, 400])
def test_the_closest_rows_on_each_side_are_shown(batch):
    """However many rows there are and in whatever batches they come, it is the closest ones, not a random sample."""
    scores = np.random.default_rng(1).uniform(1, 5, 400)
    samples = ScoreSamples(threshold=3.3, size=6, seed=0)
    for start in range(0, len(scores), batch):
        some = scores[start : start + batch]
        samples.add_scored(some, np.arange(start, start + len(some)), samples.draw(len(some)))
    below, above = (set(section.rows) for section in samples.of_scores()[:2])
    order = np.argsort(scores)
    place = int((scores < 3.3).sum())
    assert below == set(order[place - 6 : place].tolist())
    assert above == set(order[place : place + 6].tolist())


def test_of_equal_scores_a_random_sample_is_shown():
    """Scores that are whole numbers are equally close: not only the first rows of the first file are read."""
    samples = ScoreSamples(threshold=4.0, size=5, seed=0)
    samples.add_scored(np.repeat([3.0, 4.0], 500), np.arange(1_000), samples.draw(1_000))
    below, above = samples.of_scores()[:2]
    assert max(below.rows) > 100 and max(above.rows) > 600 and len(below.rows) == len(above.rows) == 5
