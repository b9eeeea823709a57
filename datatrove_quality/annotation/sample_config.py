"""Which rows are annotated, as settings; imports nothing heavy."""

from dataclasses import dataclass


# What is not a column in `SampleConfig.by`.
LENGTH = "length"


@dataclass(frozen=True, kw_only=True)
class SampleConfig:
    """Which rows are annotated.

    Args:
        sample: how many rows. None: all.
        by: columns, and "length", whose values each get their share of the sample.
        flatten: draw as many rows from each level of an earlier score, as far as there are so many.
        scores: the column of that score.
        hold_out: how many of the rows are written apart, to test with; near-duplicates are never on both sides.
        seed: of the draw.

    Raises:
        ValueError: a value is not one of those above; names the field, the value and the fix.
    """

    sample: int | None = None
    by: tuple[str, ...] = ()
    flatten: bool = False
    scores: str = "quality_score"
    hold_out: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("sample", 1), ("hold_out", 0), ("seed", 0)):
            value = getattr(self, name)
            is_whole = isinstance(value, int) and not isinstance(value, bool)
            if not (is_whole and value >= least) and not (name == "sample" and value is None):
                raise ValueError(f"{name}={value!r}: give a whole number from {least}.")
        if self.sample is None and (self.by or self.flatten):
            name = "by" if self.by else "flatten"
            raise ValueError(f"{name}={getattr(self, name)!r}: this divides a sample: give its size, sample.")
        if self.sample is not None and self.hold_out >= self.sample:
            raise ValueError(f"hold_out={self.hold_out}: give fewer than sample={self.sample}.")

    @property
    def takes_all(self) -> bool:
        """Whether every row is annotated and none is held out."""
        return self.sample is None and not self.hold_out
