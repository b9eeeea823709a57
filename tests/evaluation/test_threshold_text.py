"""What is said of a chosen threshold."""

from datatrove_quality.evaluation import Estimate, ThresholdChoice
from datatrove_quality.evaluation.threshold_text import describe_choice


def choice(**values):
    one = Estimate(0.5, 0.25, 0.75)
    figures = {"threshold": Estimate(3.5, 3.5, 3.5042), "kept": one, "tokens_kept": None, "precision": None}
    return ThresholdChoice(**(figures | {"recall": None, "labelled_kept": 0, "unreached": 0.0} | values))


def test_a_choice_is_described_in_percentages_and_an_interval_that_holds_it():
    """Ends of a threshold's interval are rounded outwards; an unknown end is printed as none."""
    assert describe_choice(choice()).splitlines() == [
        "threshold                      3.5   95% interval 3.500 to 3.505",
        "documents kept               50.0%   95% interval 25.0% to 75.0%",
    ]
    text = describe_choice(choice(threshold=Estimate(-0.25, -0.2501, None), unreached=0.125))
    assert "-0.25   95% interval -0.251 to none" in text
    assert text.endswith("In 12.5% of the resamples no threshold reaches it: label more rows to be sure.")


def test_a_perfect_precision_is_qualified():
    """The rule of three: 60 labels without an error cannot exclude 95%; one label cannot exclude anything."""
    sure = Estimate(1.0, 1.0, 1.0)
    for labelled, bound in ((60, "95.0%"), (1, "0.0%")):
        text = describe_choice(choice(precision=sure, recall=sure, labelled_kept=labelled), level=4)
        assert "precision, label >= 4       100.0%   95% interval 100.0% to 100.0%" in text
        assert f"None of the {labelled} labelled rows kept" in text and f"a precision of {bound}." in text
    text = describe_choice(choice(precision=Estimate(0.999, 0.9, 1.0), labelled_kept=60), level=4)
    assert "None of the" not in text
