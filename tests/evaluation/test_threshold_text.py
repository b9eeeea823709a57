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
