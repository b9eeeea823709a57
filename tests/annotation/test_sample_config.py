"""How a sample is drawn, as the user says it."""

import pytest

from datatrove_quality.annotation.sample_config import SampleConfig


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sample": 0}, "sample=0: give a whole number from 1"),
        ({"by": ("source",)}, r"by=\('source',\): this divides a sample"),
        ({"flatten": True}, "flatten=True: this divides a sample"),
        ({"sample": 5, "hold_out": 5}, "hold_out=5: give fewer"),
    ],
)
def test_mistakes_are_named(values, message):
    """Field, value and fix."""
    with pytest.raises(ValueError, match=message):
        SampleConfig(**values)
