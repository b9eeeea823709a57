"""Settings of a training run: a wrong value is named."""

import math

import pytest

from datatrove_quality.training import TrainingConfig


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("freeze", "head"), ("epochs", 0), ("batch_size", 1.5), ("learning_rate", 0), ("learning_rate", math.nan),
        ("warmup_steps", -1), ("weight_decay", -0.1), ("max_tokens", 0), ("holdout", 1.5), ("holdout", 0),
        ("dtype", "int8"), ("device", "tpu"), ("per_device_batch_size", 0), ("evaluations", True), ("adam_beta2", 1),
        ("learning_rate", "5e-5"), ("weight_decay", None), ("adam_beta2", "0.9"), ("holdout", "0.1"), ("scale", None),
    ],
)  # fmt: skip
def test_bad_values_name_the_field_and_the_option(field, value):
    """A typo costs a second, not a night."""
    with pytest.raises(ValueError, match=rf"{field}=.*--{field.replace('_', '-')}"):
        TrainingConfig(model="x", **{field: value})
