import re

import pytest

from datatrove_quality.report.charts import bar_chart, length_chart, round_numbers, short
from datatrove_quality.report.figures import Histogram, Lengths


HISTOGRAM = Histogram(from_=[1.0, 2.0, 3.0], width=1.0, documents=[5, 0, 10], tokens=[50, 0, 7], outside=0)


def test_bars_are_as_high_as_their_counts_and_gray_below_the_threshold():
    """The highest bar fills the plot; a bar that the threshold cuts is told from those on either side."""
    chart = bar_chart("documents", HISTOGRAM, threshold=2.5)
    heights = [float(value) for value in re.findall(r'<rect[^>]* height="([\d.]+)"', chart)]
    assert heights[1] == 0 and heights[2] == pytest.approx(2 * heights[0])
    assert re.findall(r'<rect class="([\w-]+)"', chart) == ["bar-dropped", "bar-cut", "bar"]
    assert "threshold 2.5" in chart and "threshold" not in bar_chart("documents", HISTOGRAM, threshold=9.0)
    tokens = re.findall(r'<rect[^>]* height="([\d.]+)"', bar_chart("tokens", HISTOGRAM, None))
    assert float(tokens[0]) > float(tokens[2]) > 0


def test_whatever_a_chart_is_given_is_escaped():
    """Names in attributes and in text are no markup."""
    chart = bar_chart("documents", HISTOGRAM, None, name='"><b>')
    assert "<b>" not in chart and "&#34;&gt;&lt;b&gt;documents-title" in chart


def test_cells_are_the_darker_the_more_documents_and_empty_ones_are_not_drawn():
    """Opacity follows the root of the share, so that few documents are still seen beside many."""
    lengths = Lengths(from_tokens=[16, 32], from_score=[1.0, 2.0], width=1.0, documents=[[100, 25], [0, 1]])
    opacities = re.findall(r'fill-opacity="([\d.]+)"', length_chart(lengths, None))
    assert opacities == ["1.00", "0.56", "0.21"]


def test_ticks_are_round_and_numbers_short():
    """Axes have round numbers within their ends."""
    assert round_numbers(0.83, 5.2) == [1, 2, 3, 4, 5]
    assert round_numbers(0, 100, steps=5) == [0, 20, 40, 60, 80, 100]
    assert [short(value) for value in (7, 1_500, 2_000_000, 3e9)] == ["7", "1.5k", "2M", "3G"]
