"""`datatrove-quality curate`: its options are what is kept; what a run does is tested in tests/curation."""

import pytest
from commands import run_command

from datatrove_quality.cli import curate
from datatrove_quality.cli.main import make_parser
from datatrove_quality.config import ScorerConfig


def curation(*arguments):
    """What a command line says is kept."""
    pytest.importorskip("spacy", reason="the extra curate is not installed")
    return curate.curation(make_parser(["curate"]).parse_args(["curate", "in", "--output", "out", *arguments]))


def test_options_are_the_fields_of_a_curation():
    """Each option reaches the stages; what is not given has the stages' default."""
    from datatrove_quality.curation.stages import Curation

    assert curation("--model", "m") == Curation(scorer=ScorerConfig(model="m"))
    given = (
        "--model m --device cpu --min-score 3 --max-score 5 --prefix x --min-words 2 --max-words 9 --language por "
        "--keep-languages pt en --language-threshold 0.5 --without-rules no_answer --group-by source "
        "--checkpoints there --no-progress --mask-pii --special-tokens reject"
    )
    assert curation(*given.split()) == Curation(
        scorer=ScorerConfig(model="m", device="cpu"),
        min_score=3.0,
        max_score=5.0,
        prefix="x",
        special_tokens="reject",
        mask_pii=True,
        without_rules=("no_answer",),
        min_words=2,
        max_words=9,
        language="por",
        keep_languages=("pt", "en"),
        language_threshold=0.5,
        group_by=("source",),
        checkpoints="there",
        progress=False,
    )


def test_bounds_that_cross_are_refused(tmp_path):
    """No answer has both more and fewer words than that."""
    with pytest.raises(ValueError, match="--min-words 5 is above --max-words 4: "):
        run_command("curate", tmp_path, "--output", tmp_path / "out", "--min-words", 5, "--max-words", 4)
