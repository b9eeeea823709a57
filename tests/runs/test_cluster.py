"""What is asked of a cluster."""

import pytest

from datatrove_quality.runs.cluster import Cluster


@pytest.mark.parametrize(
    ("name", "value"),
    [("gpus_per_task", 0), ("cpus_per_task", -1), ("tasks_per_job", "two"), ("mem", 32), ("sbatch", "exclusive")],
)
def test_values_of_no_meaning_are_refused(name, value):
    """The field, the value and what to give, as soon as they are given."""
    with pytest.raises(ValueError, match=f"{name}={value!r}: give a"):
        Cluster(**{name: value})
