"""Options made from a dataclass's fields."""

import argparse
from dataclasses import dataclass, field, fields

import pytest

from datatrove_quality.cli.fields import add_fields, described, filled
from datatrove_quality.cli.train import GROUPS
from datatrove_quality.config import ScorerConfig, ScoreScale
from datatrove_quality.training.config import TrainingConfig


@dataclass(frozen=True)
class Recipe:
    """What is cooked.

    Args:
        dish: its name.
        grams: how much of it, 100%
            of what is eaten.
        heat: of the oven. None: a cold dish.
        scale: of the marks.
        fast: whether it is fast.
        fried: whether it is fried. None: as usual.
        herbs: what is added.
        secret: no option has it.

    Raises:
        ValueError: never.
    """

    dish: str
    grams: int = 5
    heat: float | None = None
    scale: ScoreScale = field(default_factory=ScoreScale)
    fast: bool = False
    fried: bool | None = None
    herbs: tuple[str, ...] = ()
    secret: str = "salt"


@pytest.fixture
def parser():
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_fields(
        parser.add_argument_group("recipe"), Recipe, ("dish", "grams", "heat", "scale", "fast", "fried", "herbs")
    )
    return parser


def test_options_fill_the_dataclass(parser):
    """Values have the fields' types; what is not given has the fields' defaults."""
    assert filled(Recipe, parser.parse_args(["--dish", "soup"])) == Recipe("soup")
    given = ["--dish", "soup", "--grams", "7", "--heat", "1e2", "--scale", "0,0,5", "--fast"]
    given += ["--herbs", "dill", "--herbs", "mint"]
    expected = Recipe("soup", 7, 100.0, ScoreScale(0.0, 0, 5), True, herbs=("dill", "mint"))
    assert filled(Recipe, parser.parse_args(given)) == expected
    for flag, fried in (("--fried", True), ("--no-fried", False)):
        assert filled(Recipe, parser.parse_args(["--dish", "soup", flag])) == Recipe("soup", fried=fried)


def test_help_is_the_docstring(parser):
    """The docstring's text with the default, ready for argparse, which reads `%` itself."""
    text = " ".join(parser.format_help().split())
    assert "--dish DISH its name --grams N how much of it, 100% of what is eaten (default: 5)" in text
    assert "--heat X of the oven. default: a cold dish" in text
    assert "--scale OFFSET,LOW,HIGH of the marks (default: 1,1,5)" in text
    assert "--fast whether it is fast --fried, --no-fried whether it is fried. default: as usual --herbs" in text
    assert "--herbs HERBS what is added; may be given several times" in text


@pytest.mark.parametrize("given", [["--grams", "much"], ["--heat", "nan"], ["--scale", "1,5"]])
def test_a_wrong_value_is_named(parser, given):
    """As argparse reports it: the option and what to give."""
    with pytest.raises(argparse.ArgumentError, match=f"{given[0]}: '{given[1]}': give"):
        parser.parse_args(["--dish", "soup", *given])


@pytest.mark.parametrize("kind", [TrainingConfig, ScorerConfig])
def test_every_field_is_described(kind):
    """An option made of any field has a help text."""
    assert set(described(kind)) == {field.name for field in fields(kind)}


def test_every_field_of_the_training_config_is_an_option():
    """A field that is added to the config is added to one of the command's groups."""
    names = [name for group in GROUPS.values() for name in group]
    assert sorted(names) == sorted(field.name for field in fields(TrainingConfig))
