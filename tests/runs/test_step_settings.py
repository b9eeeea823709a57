"""What decides a step's output is read from the step, in the same words in every process."""

import json
import re
import subprocess
import sys

import pytest
from datatrove.pipeline.dedup import MinhashConfig, MinhashDedupBuckets
from datatrove.pipeline.filters import GopherQualityFilter, LambdaFilter, RegexFilter
from datatrove.pipeline.writers import JsonlWriter

from datatrove_quality import ConversationAdapter, ConversationJsonlReader, QualityFilter, RowAdapter, ScorerConfig
from datatrove_quality.runs.step_settings import step_settings


def settings(step):
    return json.loads(json.dumps(step_settings(step, "/data/out/")))


def test_settings_are_the_class_and_the_attributes():
    """Paths in the output folder are told without it; a writer of dropped documents is described within its filter."""
    writer = JsonlWriter("/data/out/excluded", adapter=RowAdapter(), compression=None)
    found = settings(GopherQualityFilter(min_doc_words=7, stop_words=["b", "a"], exclusion_writer=writer))
    assert found["class"].endswith("GopherQualityFilter")
    assert (found["min_doc_words"], found["stop_words"]) == (7, ["a", "b"])
    assert found["exclusion_writer"]["output_folder"] == "OUTPUT/excluded"
    assert found["exclusion_writer"]["adapter"] == {"class": "datatrove_quality.rows.to_row.RowAdapter"}
    assert "stats" not in found


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (LambdaFilter(lambda document: len(document.text) > 3), LambdaFilter(lambda document: len(document.text) > 4)),
        (LambdaFilter(lambda document: "a" in document.text), LambdaFilter(lambda document: "a" in document.id)),
        (RegexFilter("a+"), RegexFilter("a*")),
        (RegexFilter(re.compile("a")), RegexFilter(re.compile("a", re.IGNORECASE))),
        (ConversationJsonlReader("/in", adapter=ConversationAdapter()),
         ConversationJsonlReader("/in", adapter=ConversationAdapter(id_key="n"))),
        (ConversationJsonlReader("/in", limit=3), ConversationJsonlReader("/in")),
        (MinhashDedupBuckets("/s", "/o"), MinhashDedupBuckets("/s", "/o", config=MinhashConfig(num_buckets=3))),
        (QualityFilter("m", min_score=3), QualityFilter("m", min_score=3.5)),
        (QualityFilter("m", unscorable="keep"), QualityFilter("m", unscorable="raise")),
        ([1, 2], [1, 3]),
    ],
)  # fmt: skip
def test_what_decides_the_output_makes_a_difference(one, other):
    """Any setting, code of a function, or adapter."""
    assert settings(one) != settings(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (QualityFilter("m", progress=True), QualityFilter("m", progress=False, documents_per_task=[1])),
        (QualityFilter("m", checkpoints_dir="/a"), QualityFilter("m")),
        (ConversationJsonlReader("/in", file_progress=True), ConversationJsonlReader("/in")),
    ],
)
def test_what_decides_nothing_makes_none(one, other):
    """Progress, and where scores are saved."""
    assert settings(one) == settings(other)


SCRIPT = """
import json, sys
from datatrove.pipeline.filters import LambdaFilter
from datatrove.pipeline.base import PipelineStep
from datatrove_quality.runs.step_settings import step_settings
LIMIT, WORDS = int(sys.argv[1]), {"a", "b", "c", "d"}

def keeps(document):
    return len(document.text) > LIMIT and document.text not in WORDS and document.id not in {"x", "y", "z"}

class Step(PipelineStep):
    share = int(sys.argv[2])

    def __init__(self):
        super().__init__()
        self.words = WORDS
        self.rate = float("nan")
        self.itself = self

    def run(self, data, rank=0, world_size=1):
        return data

print(json.dumps([step_settings(LambdaFilter(keeps)), step_settings(Step())], allow_nan=False))
"""


def described(*arguments):
    done = subprocess.run([sys.executable, "-c", SCRIPT, *arguments], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_a_scripts_own_functions_and_classes_are_described_the_same_in_every_process():
    """A rerun must not be refused for an address in memory or the order in a set; a changed constant is named."""
    first = described("3", "1")
    assert described("3", "1") == first
    [by_limit, same], [same_too, by_share] = described("4", "1"), described("3", "2")
    assert (by_limit["filter_function"]["LIMIT"], same) == (4, first[1])
    assert (same_too, by_share["class.share"]) == (first[0], 2)
    assert by_limit["filter_function"]["code"] == first[0]["filter_function"]["code"]


def test_a_function_that_can_be_imported_is_named():
    """Its module's version is its own affair, as a class's is."""
    assert settings(LambdaFilter(json.dumps))["filter_function"] == "json.dumps"


def test_a_scorer_of_another_step_is_described_too():
    """Any dataclass is its fields."""
    step = LambdaFilter(lambda document: True)
    step.own = ScorerConfig(model="m", max_tokens=7)
    assert settings(step)["own"]["max_tokens"] == 7
