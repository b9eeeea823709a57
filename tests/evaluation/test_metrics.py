"""Agreement of scores and labels: every figure is that of scikit-learn, scipy, or counting."""

import json
import warnings

import numpy as np
import pytest
from populations import SCALES
from scipy.stats import spearmanr
from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support

from datatrove_quality import evaluate_scores


CARD = [
    [153, 35, 4, 1, 2],
    [17, 204, 91, 11, 4],
    [2, 60, 578, 143, 7],
    [0, 1, 99, 2076, 348],
    [0, 0, 5, 299, 5860],
]


def card_rows():
    cells = [(label, score, count) for label, row in enumerate(CARD, 1) for score, count in enumerate(row, 1)]
    return tuple(np.repeat([cell[side] for cell in cells], [cell[2] for cell in cells]) for side in (0, 1))


def random_case(rng, scale):
    """Few or many documents, some levels without labels or scores, scores beyond the scale, on edges, and tied."""
    n = int(rng.integers(1, 200))
    levels = rng.choice(np.arange(scale.low, scale.high + 1), size=rng.integers(1, 4))
    labels = rng.choice(levels, n)
    logits = labels - scale.offset + rng.normal(0, rng.choice([0, 0.5, 3]), n)
    if rng.random() < 0.5:
        logits = np.round(logits * 2) / 2
    return labels, logits.astype(np.float32).astype(float)


def test_the_cards_matrix_gives_the_known_figures():
    """The figures of the card's own matrix, which are not those that the card prints."""
    found = evaluate_scores(*card_rows())
    assert [list(row) for row in found.confusion] == CARD
    macro = (found.macro_precision, found.macro_recall, found.macro_f1, found.accuracy)
    assert macro == pytest.approx((0.8152, 0.7827, 0.7980, 0.8871), abs=5e-5)
    [four] = [row for row in found.thresholds if row.threshold == 4]
    assert (four.precision[4], four.recall[4], four.kept) == pytest.approx((0.9808, 0.9879, 0.8751), abs=5e-5)
    assert four.tokens_kept is None


def test_agrees_with_scikit_learn_and_scipy_on_300_random_cases():
    """Every figure that scikit-learn and scipy know is theirs, on scales of all kinds and with empty levels."""
    rng = np.random.default_rng(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for case in range(300):
            scale = SCALES[case % len(SCALES)]
            labels, logits = random_case(rng, scale)
            predicted = [scale.int_score(logit) for logit in logits]
            scores = np.array([scale.score(logit) for logit in logits])
            found = evaluate_scores(labels, scores, scale)
            levels = list(range(scale.low, scale.high + 1))
            assert np.array_equal(found.confusion, confusion_matrix(labels, predicted, labels=levels))
            macro = precision_recall_fscore_support(labels, predicted, average="macro", zero_division=0)[:3]
            assert (found.macro_precision, found.macro_recall, found.macro_f1) == pytest.approx(macro)
            assert found.accuracy == pytest.approx(accuracy_score(labels, predicted))
            each = precision_recall_fscore_support(labels, predicted, labels=levels, zero_division=0)
            ours = [(row.precision, row.recall, row.f1, row.support) for row in found.per_level]
            assert np.allclose(ours, np.transpose(each))
            assert found.mae == pytest.approx(np.abs(scores - labels).mean())
            constant = len(set(labels)) == 1 or len(set(scores)) == 1
            expected = None if constant else pytest.approx(spearmanr(labels, scores).statistic, abs=1e-9)
            assert found.spearman == expected


def test_thresholds_agree_with_counting():
    """Each row of the threshold table is what counting documents one threshold at a time gives."""
    rng = np.random.default_rng(1)
    for scale in SCALES:
        labels, logits = random_case(rng, scale)
        scores, tokens = logits + scale.offset, rng.integers(0, 50, len(labels))
        found = evaluate_scores(labels, scores, scale, tokens).thresholds
        assert [row.threshold for row in found] == list(np.arange(scale.low, scale.high + 0.1, 0.25))
        for row in found:
            kept = scores >= row.threshold
            assert row.kept == pytest.approx(kept.mean())
            assert row.tokens_kept == pytest.approx(tokens[kept].sum() / tokens.sum())
            for k in range(scale.low, scale.high + 1):
                good = labels >= k
                assert row.precision[k] == (pytest.approx(good[kept].mean()) if kept.any() else None)
                assert row.recall[k] == (pytest.approx(kept[good].mean()) if good.any() else None)


def test_perfect_reversed_and_constant_rankings():
    """Spearman's ends are 1 and -1, and it is None where nothing is ranked."""
    assert evaluate_scores([1, 2, 3], [1.0, 2.0, 9.0]).spearman == 1
    assert evaluate_scores([3, 2, 1], [1.0, 2.0, 9.0]).spearman == -1
    assert evaluate_scores([2, 2], [1.0, 3.0]).spearman is None
    assert evaluate_scores([1, 2], [3.0, 3.0]).spearman is None


def test_as_json_and_markdown():
    """The figures survive JSON as they are, what is undefined is null, and Markdown has a table of each kind."""
    found = evaluate_scores([1, 1, 4], [1.2, 1.4, 3.6], tokens=[5, 5, 10])
    figures = found.to_dict()
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures
    assert figures["thresholds"][-1]["precision"]["4"] is None
    assert figures["thresholds"][8]["tokens_kept"] == 0.5
    text = found.to_markdown()
    for part in (
        "| 3 documents |",
        "| macro F1 | 100.0% |",
        "| mean absolute error | 0.3333 |",
        "| Spearman correlation | 0.8660 |",
        "| 4 | 0 | 0 | 0 | 1 | 0 |",
        "| 3.00 | 33.3% | 50.0% | 100.0% / 100.0% |",
        "| 5.00 | 0.0% | 0.0% | – / 0.0% |",
    ):
        assert part in text
    assert hash(found.levels) and found == evaluate_scores([1.0, 1.0, 4.0], [1.2, 1.4, 3.6], tokens=[5, 5, 10])


@pytest.mark.parametrize(
    ("labels", "scores", "tokens", "message"),
    [
        ([1, 2], [1.0], None, "labels has 2 and scores has 1 values"),
        ([], [], None, "empty"),
        ([1, float("nan"), 2.5], [1, 2, 3], None, "labels: 2 of 3 are not whole numbers, the first at index 1: nan"),
        ([1, 2, 7, 0], [1, 2, 3, 4], None, "labels: 2 of 4 are not from 1 to 5, the first at index 2: 7"),
        ([1, 2], [1, float("inf")], None, "scores: 1 of 2 are not finite, the first at index 1: inf"),
        ([1, 2], [1, 2], [3], "tokens has 1 and scores has 2"),
        ([1, 2], [1, 2], [3, -1], "tokens: 1 of 2 are not counts, the first at index 1: -1"),
        (["four", 1], [1, 2], None, "labels: give a sequence of numbers"),
        ([1, 2], [[1], [2]], None, r"scores has shape \(2, 1\)"),
    ],
)
def test_mistakes_are_named(labels, scores, tokens, message):
    """What is wrong, how often, where first, and what to do: as one error."""
    with pytest.raises(ValueError, match=message):
        evaluate_scores(labels, scores, tokens=tokens)


def test_a_weight_is_a_number_of_documents():
    """A document of weight 3 counts as three equal ones, in every figure; `documents` is how many were looked at."""
    rng = np.random.default_rng(5)
    labels = rng.integers(1, 6, 200)
    scores, tokens, weights = (
        labels + rng.normal(0, 1, 200).round(1),
        rng.integers(1, 90, 200),
        rng.integers(1, 4, 200),
    )
    weighted = evaluate_scores(labels, scores, tokens=tokens, weights=weights).to_dict()
    again = [np.repeat(values, weights) for values in (labels, scores, tokens)]
    repeated = evaluate_scores(*again[:2], tokens=again[2]).to_dict()
    assert (weighted.pop("documents"), weighted.pop("weighted")) == (200, True)
    assert (repeated.pop("documents"), repeated.pop("weighted")) == (weights.sum(), False)
    for name, value in repeated.items():
        assert weighted[name] == pytest.approx(value) if isinstance(value, float) else True, name
    assert weighted["confusion"] == repeated["confusion"]
    for level, same in zip(weighted["per_level"], repeated["per_level"], strict=True):
        assert level == pytest.approx(same)
    for one, same in zip(weighted["thresholds"], repeated["thresholds"], strict=True):
        assert one["kept"] == pytest.approx(same["kept"]) and one["tokens_kept"] == pytest.approx(same["tokens_kept"])
        assert one["precision"] == pytest.approx(same["precision"]) and one["recall"] == pytest.approx(same["recall"])
