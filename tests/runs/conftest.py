"""A classifier for the tests of this folder."""

import pytest
from tiny_models import DECODER, chatml_tokenizer, save_model


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(save_model(tmp_path_factory.mktemp("runs-model"), "qwen3", chatml_tokenizer(), **DECODER))
