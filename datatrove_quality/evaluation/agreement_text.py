"""Agreement as text: Markdown tables with intervals."""

from datatrove_quality.evaluation.agreement import Agreement, PairAgreement
from datatrove_quality.evaluation.markdown import markdown_table, percent
from datatrove_quality.evaluation.thresholds import Estimate


Row = tuple[str, str, str]


def overall(agreement: Agreement) -> list[Row]:
    """What is measured over all raters: name, value, 95% interval."""
    return [("Krippendorff's alpha (ordinal)", *_number(agreement.alpha))]


def of_pair(pair: PairAgreement) -> list[Row]:
    """What is measured of two raters: name, value, 95% interval."""
    equal = pair.equal
    return [
        ("Cohen's kappa (quadratic weights)", *_number(pair.kappa)),
        ("equal levels", percent(equal.value), f"{percent(equal.low)} to {percent(equal.high)}"),
        (f"mean of {pair.other} less {pair.labels}", *_number(pair.difference, "+.3f")),
    ]


def confusion(agreement: Agreement, pair: PairAgreement) -> tuple[list[str], list[tuple[str, ...]]]:
    """Head and rows of the confusion matrix; estimated numbers are whole ones."""
    head = [f"{pair.labels} \\ {pair.other}", *map(str, agreement.levels)]
    lines = zip(agreement.levels, pair.confusion, strict=True)
    return head, [(str(level), *(f"{count:,.0f}" for count in row)) for level, row in lines]


def describe_agreement(agreement: Agreement) -> str:
    """All of it for a terminal or a page, as Markdown."""
    counted = f"{agreement.rows:,} rows with two ratings or more"
    if agreement.weighted:
        counted += (
            f", each counted by its sample weight: matrices are of the {agreement.stands_for:,.0f} that they stand for"
        )
    header = ["", "value", "95% interval"]
    parts = [counted, markdown_table(header, overall(agreement))]
    for pair in agreement.pairs:
        parts += [f"{pair.rows:,} rows with {pair.labels} and {pair.other}", markdown_table(header, of_pair(pair))]
        parts.append(markdown_table(*confusion(agreement, pair)))
    return "\n\n".join(parts) + "\n"


def _number(found: Estimate | None, form: str = ".3f") -> tuple[str, str]:
    if found is None:
        return "none", "all levels are the same"
    low, high = ("none" if end is None else format(end, form) for end in (found.low, found.high))
    return format(found.value, form), f"{low} to {high}"
