"""A base model and a classifier trained from it, once per session."""

from pathlib import Path

import pytest
from training_runs import RECIPE, annotated, config

from datatrove_quality.training import train_classifier


@pytest.fixture(scope="session")
def trained(base, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "classifier"
    train_classifier(config(base, **RECIPE), annotated(100), folder)
    return folder
