"""Amounts as SLURM writes them."""

import pytest

from datatrove_quality.runs.slurm_units import gibibytes, seconds


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        ("90", 5400),
        ("1:30", 90),
        ("8:00:00", 28800),
        ("2-12", 216000),
        ("1-0:30", 88200),
        ("UNLIMITED", None),
        ("0", None),
    ],
)
def test_time_limits_as_slurm_writes_them(limit, expected):
    """Ray counts seconds and SLURM does not; the signal before the limit follows from it."""
    assert seconds(limit) == expected


def test_amounts_that_are_none_are_refused():
    """A mistake in an amount is named, and not handed on."""
    assert [gibibytes(size) for size in ("512M", "2048", "32G", "1TB")] == [0.5, 2, 32, 1024]
    for mistake, function in (("tomorrow", seconds), ("1:2:3:4", seconds), ("much", gibibytes)):
        with pytest.raises(ValueError, match=mistake):
            function(mistake)
