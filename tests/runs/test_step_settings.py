"""What decides a step's output is read from the step, in the same words in every process."""

import datetime
import importlib
import inspect
import json
import re
import subprocess
import sys
import threading
from decimal import Decimal
from functools import partial
from types import SimpleNamespace

import pytest
from datatrove.pipeline.dedup import MinhashConfig, MinhashDedupBuckets
from datatrove.pipeline.filters import GopherQualityFilter, LambdaFilter, RegexFilter, SamplerFilter
from datatrove.pipeline.writers import JsonlWriter

from datatrove_quality import ConversationAdapter, ConversationJsonlReader, QualityFilter, RowAdapter, ScorerConfig
from datatrove_quality.runs.step_settings import FREE, step_settings


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


def longer(document, n, pattern=None):
    """A condition with a setting."""
    return len(document.text) > n


class Slotted:
    """A user's object without a dictionary."""

    __slots__ = ("limit",)

    def __init__(self, limit):
        self.limit = limit

    def keeps(self, document):
        """A condition by the object."""
        return len(document.text) > self.limit


class Step(LambdaFilter):
    """A step with an attribute of any name."""

    def __init__(self, **values):
        super().__init__(len)
        vars(self).update(values)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (partial(longer, n=50), partial(longer, n=100)),
        (partial(longer, pattern=re.compile("a")), partial(longer, pattern=re.compile("b"))),
        (Slotted(1).keeps, Slotted(2).keeps),
        (SamplerFilter(0.5, seed=1), SamplerFilter(0.5, seed=2)),
        (Step(value=Decimal("0.1")), Step(value=Decimal("0.2"))),
        (Step(value=datetime.date(2026, 1, 2)), Step(value=datetime.date(2026, 1, 3))),
        (Step(value=range(3)), Step(value=range(4))),
        (Step(value={Slotted(1): 1}), Step(value={Slotted(2): 1})),
        *((Step(**{name: 1}), Step(**{name: 2})) for name in ("name", "connection", "claim", "max_failures")),
        (Step(inner=SimpleNamespace(progress=1)), Step(inner=SimpleNamespace(progress=2))),
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
        (SamplerFilter(0.5), SamplerFilter(0.5)),  # a seed that nobody gave
        (partial(longer, n=1), partial(longer, n=1)),
    ],
)
def test_what_decides_nothing_makes_none(one, other):
    """Progress, and where scores are saved."""
    assert settings(one) == settings(other)


SCRIPT = """
import argparse, dataclasses, json, re, sys
from loguru import logger
from datatrove.pipeline.filters import LambdaFilter
from datatrove.pipeline.base import PipelineStep
from datatrove_quality.runs.step_settings import step_settings
import own_rules
VALUES = {**dict.fromkeys("abcdefghijk", 1), **json.loads(sys.argv[1])}
LIMIT, WORDS = VALUES["a"], {"a", "b", "c", "d"}
PATTERN, TABLE = re.compile("x" * VALUES["c"]), {"n": None, "v": VALUES["d"]}
options = argparse.Namespace(limit=VALUES["e"], workers=VALUES["f"])
own_rules.LIMIT = VALUES["g"]

class Config:
    limit = VALUES["h"]

def keeps(document):
    return len(document.text) > LIMIT and document.text not in WORDS and document.id not in {"x", "y", "z"}

def keeps_too(document):
    logger.info("told")
    from own_rules import keeps as keeps_by_rules
    return PATTERN.match(document.text) and TABLE and options.limit and keeps_by_rules(document) and Config.limit

class Base(PipelineStep):
    least = VALUES["i"]

class Step(Base):
    share = VALUES["b"]

    def __init__(self):
        super().__init__()
        self.words = WORDS
        self.rate = float("nan")
        self.itself = self

    def run(self, data, rank=0, world_size=1):
        return data

    @staticmethod
    def part():
        return TABLE

    @property
    def more(self, by=VALUES["j"]):
        return by

    @dataclasses.dataclass
    class Inner:
        value: int = VALUES["k"]

steps = [LambdaFilter(keeps), LambdaFilter(keeps_too), Step()]
print(json.dumps([step_settings(step, "") for step in steps], allow_nan=False))
"""


@pytest.fixture(scope="module")
def described(tmp_path_factory):
    """What a process tells of a script's steps; in `own_rules.py` is what the user put into another file."""
    folder = tmp_path_factory.mktemp("script")
    (folder / "own_rules.py").write_text("LIMIT = 0\ndef keeps(document):\n    return len(document.text) > LIMIT\n")

    def run(**values):
        command = [sys.executable, "-c", SCRIPT, json.dumps(values)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder)
        assert "not compared" not in done.stderr
        return json.loads(done.stdout)

    return run


@pytest.fixture(scope="module")
def first(described):
    """What is told of the script as it was."""
    return described()


def test_a_scripts_own_functions_and_classes_are_described_the_same_in_every_process(described, first):
    """A rerun must not be refused for an address in memory, the order in a set or an option that is used elsewhere."""
    assert described(f=2) == first
    by_limit, same, by_share = described(a=4, b=2)
    assert (by_limit["filter_function"]["LIMIT"], same, by_share["class.share"]) == (4, first[1], 2)
    assert by_limit["filter_function"]["code"] == first[0]["filter_function"]["code"]


@pytest.mark.parametrize("changed", ["ci", "dj", "ek", "g", "h"])
def test_whatever_a_scripts_step_uses_makes_a_difference(described, first, changed):
    """Patterns, tables, options, another file of the user's, classes and their bases, and what stands within them."""
    same, by_function, by_class = described(**dict.fromkeys(changed, 2))
    assert same == first[0] and by_function != first[1]
    assert (by_class != first[2]) == (len(changed) == 2)


def test_what_cannot_be_described_is_told_once(log):
    """A lock, an open connection: a user has to know that they are not compared."""
    step = Step(lock=threading.Lock(), again=threading.Lock())
    assert settings(step)["lock"] == settings(step)["again"] == {"class": "_thread.lock"}
    assert len([line for line in log if "_thread.lock" in line and "overwrite=True" in line]) == 1


def test_each_attribute_that_makes_no_difference_is_of_a_class_that_there_is():
    """A renamed class or attribute would be compared, and runs refused."""
    for name, attributes in FREE.items():
        module, _, cls = name.rpartition(".")
        source = inspect.getsource(getattr(importlib.import_module(module), cls))
        for attribute in attributes - {"unfinished", "claim"}:
            assert f"self.{attribute}" in source, (name, attribute)


def test_a_function_that_can_be_imported_is_named():
    """Its module's version is its own affair, as a class's is."""
    assert settings(LambdaFilter(json.dumps))["filter_function"] == "json.dumps"


def test_a_scorer_of_another_step_is_described_too():
    """Any dataclass is its fields."""
    step = LambdaFilter(lambda document: True)
    step.own = ScorerConfig(model="m", max_tokens=7)
    assert settings(step)["own"]["max_tokens"] == 7
