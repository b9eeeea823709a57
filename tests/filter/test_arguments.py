"""Arguments of `QualityFilter` that are refused or warned of."""

import math

import pyarrow as pa
import pytest
from datatrove.pipeline.writers import ParquetWriter
from filters import fake_filter

from datatrove_quality import QualityFilter, ScorerConfig, ScoreScale, score_schema


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"scorer": 3}, "scorer=3.*ScorerConfig"),
        ({"scorer": 3}, "scorer=3"),
        ({"scorer": ""}, "model=''"),
        ({"min_score": "3"}, "min_score='3'"),
        ({"min_score": True}, "min_score=True"),
        ({"max_score": float("nan")}, "max_score=nan"),
        ({"max_score": [3]}, r"max_score=\[3\]"),
        ({"min_score": 4, "max_score": 3}, "min_score=4 is above max_score=3"),
        ({"min_score": math.inf}, "min_score=inf, max_score=None: nothing could be kept"),
        ({"max_score": -math.inf}, "max_score=-inf: nothing could be kept"),
        ({"group_by": 3}, "group_by=3: give a metadata column"),
        ({"prefix": ""}, "prefix=''"),
        ({"prefix": None}, "prefix=None"),
        ({"messages_key": ""}, "messages_key=''.*None"),
        ({"messages_key": 3}, "messages_key=3"),
        ({"unscorable": "ignore"}, "unscorable='ignore'.*'drop'"),
        ({"unscorable": True}, "unscorable=True"),
        ({"unscorable": ""}, "unscorable=''"),
        ({"unscorable": False}, "unscorable=False"),
        ({"exclusion_writer": "dir"}, "exclusion_writer='dir'"),
        ({"documents_per_task": 1_000}, "documents_per_task=1000.*a list"),
    ],
)
def test_bad_arguments(options, match):
    """Every bad argument is refused at construction with its name, its value and the fix."""
    with pytest.raises(ValueError, match=match):
        QualityFilter(**({"scorer": "org/name"} | options))


def test_a_parquet_exclusion_writer_needs_a_schema(tmp_path):
    """Without a schema the first dropped document would decide which columns survive."""
    with pytest.raises(ValueError, match=r"exclusion_writer.*schema=score_schema"):
        QualityFilter("org/name", exclusion_writer=ParquetWriter(str(tmp_path)))
    schema = score_schema(pa.schema([("id", pa.string())]))
    QualityFilter("org/name", exclusion_writer=ParquetWriter(str(tmp_path), schema=schema))


def test_a_bound_outside_the_scale_is_said(log, fake):
    """A threshold that hardly any score reaches is a warning, at load where the scale is the model's."""
    QualityFilter(ScorerConfig(model="org/name", scale=ScoreScale()), min_score=7)
    assert sum(line.startswith("WARNING") and "min_score=7" in line and "1 to 5" in line for line in log) == 1
    log.clear()
    list(fake_filter(max_score=0.5).run(fake([3.0])))
    assert sum(line.startswith("WARNING") and "max_score=0.5" in line for line in log) == 1
    log.clear()
    QualityFilter(ScorerConfig(model="org/name", scale=ScoreScale()), min_score=1, max_score=5)
    list(fake_filter(min_score=3).run(fake([3.0])))
    assert not log


def test_a_prefix_that_hides_errors_is_refused(config):
    """With the prefix "conversation" the error column would be the one that readers use."""
    with pytest.raises(ValueError, match="prefix='conversation' cannot name score columns"):
        QualityFilter(config, prefix="conversation")


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"reuse_scores": True}, "reuse_scores=True does nothing with scorer=None"),
        ({"checkpoints_dir": "x"}, r"checkpoints_dir=.*does nothing"),
        ({"special_tokens": "reject"}, "special_tokens='reject' does nothing"),
        ({"scorer": "org/name", "reuse_scores": "yes"}, "reuse_scores='yes': give True or False"),
        ({"progress": 1}, "progress=1: give True or False or None"),
    ],
)
def test_arguments_that_do_not_go_together(options, match):
    """What would have no effect, or another than meant, is refused."""
    with pytest.raises(ValueError, match=match):
        QualityFilter(**({"scorer": None} | options))
