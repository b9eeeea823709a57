"""Values: a bad one is refused with its name, its value and the fix; a good one is frozen, hashable and pickles."""

import copy
import dataclasses
import inspect
import pickle
from pathlib import Path

import dill
import pytest

from datatrove_quality.config import Score, ScorerConfig, ScoreScale, Unscorable


QUARTERS = [step / 4 for step in range(-12, 33)]


def test_default_scale_is_the_cards():
    """The default scale is the model card's formula at every quarter, halves and both ends included."""
    scale = ScoreScale()
    for logit in [*QUARTERS, 0.49999, 2.50001, 1e9, -1e9]:
        assert scale.score(logit) == logit + 1
        assert scale.int_score(logit) == round(max(0, min(logit, 4))) + 1
        assert type(scale.int_score(logit)) is int


def test_fineweb_edu_scale():
    """The FineWeb-Edu convention (0 to 5, no offset) is a configuration, not code."""
    scale = ScoreScale(offset=0, low=0, high=5)
    for logit in QUARTERS:
        assert scale.score(logit) == logit
        assert scale.int_score(logit) == round(max(0, min(logit, 5)))


def test_rounded_score_is_monotonic():
    """A higher logit never gets a lower rounded score."""
    values = [ScoreScale().int_score(logit) for logit in QUARTERS]
    assert values == sorted(values)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"offset": float("nan")}, "offset=nan"),
        ({"offset": "1"}, "offset='1'"),
        ({"offset": True}, "offset=True"),
        ({"low": float("inf")}, "low=inf"),
        ({"low": None}, "low=None"),
        ({"low": 1.5}, "low=1.5"),
        ({"high": 4.5}, "high=4.5"),
        ({"low": 5, "high": 5}, "low=5"),
        ({"low": 6}, "high=5"),
    ],
)
def test_bad_scale(values, named):
    """A scale that could not round to its bounds is refused, and the error shows the value."""
    with pytest.raises(ValueError, match=named):
        ScoreScale(**values)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"model": ""}, "model=''"),
        ({"model": "  "}, "model='  '"),
        ({"model": None}, "model=None"),
        ({"model": 3}, "model=3"),
        ({"revision": ""}, "revision=''"),
        ({"revision": 1}, "revision=1"),
        ({"dtype": "fp32"}, "dtype='fp32'.*'float32'"),
        ({"dtype": None}, "dtype=None"),
        ({"max_tokens": 0}, "max_tokens=0"),
        ({"max_tokens": 10.0}, r"max_tokens=10\.0"),
        ({"max_tokens": True}, "max_tokens=True"),
        ({"max_tokens": "10"}, "max_tokens='10'"),
        ({"tokens_per_batch": -1}, "tokens_per_batch=-1"),
        ({"tokens_per_batch": 1e4}, r"tokens_per_batch=10000\.0"),
        ({"scale": (1, 1, 5)}, r"scale=\(1, 1, 5\).*ScoreScale"),
        ({"scale": {"offset": 1}}, "scale=.*ScoreScale"),
        ({"chat_template": "template.jinja"}, "chat_template='template.jinja'.*not a file"),
        ({"chat_template": ""}, "chat_template=''"),
        ({"chat_template": 1}, "chat_template=1"),
        ({"add_special_tokens": 1}, "add_special_tokens=1.*True or False"),
        ({"trust_remote_code": "yes"}, "trust_remote_code='yes'"),
        ({"self_check": None}, "self_check=None"),
        ({"device": "gpu"}, "device='gpu'.*'cuda'"),
        ({"device": "cuda:-1"}, "device='cuda:-1'"),
        ({"device": "cuda:x"}, "device='cuda:x'"),
        ({"device": 0}, "device=0"),
        ({"device": "cuda\n"}, "device="),
    ],
)
def test_bad_config(values, named):
    """Every bad value of a ScorerConfig is a ValueError that names the field and the value."""
    with pytest.raises(ValueError, match=named):
        ScorerConfig(**({"model": "org/name"} | values))


def test_unhashable_values_are_refused_as_values():
    """A list where a word belongs is a named error too, not a TypeError from a look-up."""
    for field in ("dtype", "device", "model", "revision", "chat_template", "max_tokens"):
        with pytest.raises(ValueError, match=field):
            ScorerConfig(**({"model": "org/name"} | {field: ["a"]}))


def test_unknown_keyword_is_refused():
    """A misspelt parameter is an error, never dropped."""
    with pytest.raises(ValueError, match=r"max_token.*there is no such field"):
        ScorerConfig(model="org/name", max_token=5)


def test_config_is_keyword_only():
    """A revision cannot be passed where another version has a dtype."""
    with pytest.raises(TypeError):
        ScorerConfig("org/name")


def test_values_are_frozen():
    """Values that caches and results are keyed by cannot change under them."""
    for value, field in (
        (ScorerConfig(model="a"), "model"),
        (ScoreScale(), "low"),
        (Score(1.0, 1, 3, False), "score"),
    ):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, field, "x")


def test_equal_configs_are_one_key():
    """Two equal configs share one loaded model, after pickling and copying too."""
    config = ScorerConfig(model="org/name", max_tokens=10, scale=ScoreScale(offset=0, low=0))
    copies = [copy.deepcopy(config), pickle.loads(pickle.dumps(config)), dill.loads(dill.dumps(config))]
    assert {config, *copies} == {config}
    assert config != ScorerConfig(model="org/name", max_tokens=11, scale=config.scale)


def test_a_path_becomes_a_string():
    """A `Path` is the same model as its string, so that it hashes and prints alike."""
    assert ScorerConfig(model=Path("/a/b")) == ScorerConfig(model="/a/b")


def test_unscorable_crosses_processes():
    """An Unscorable keeps its reason and message when executors send it from a worker."""
    error = Unscorable("template_error", "what was found")
    for copied in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert isinstance(copied, ValueError)
        assert (copied.reason, str(copied)) == ("template_error", "what was found")


def test_an_offset_that_is_no_whole_number_stays_on_the_scale():
    """Whatever the offset, an int_score lies between low and high."""
    scale = ScoreScale(offset=0.5, low=1, high=5)
    assert {scale.int_score(logit / 4) for logit in range(-20, 40)} <= {1, 2, 3, 4, 5}


def test_the_signature_names_the_fields():
    """help() and editors show what can be set."""
    assert list(inspect.signature(ScorerConfig).parameters)[:3] == ["model", "revision", "dtype"]
