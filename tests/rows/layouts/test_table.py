"""The closed list of columns, as it is documented."""

from pathlib import Path

from datatrove_quality.rows.layouts.table import ENVELOPES, REJECTED, SAYS, TOOLS


def test_the_documentation_names_every_column() -> None:
    """docs/layouts.md has each column of the table, so that a layout that is added is documented."""
    text = (Path(__file__).resolve().parents[3] / "docs" / "layouts.md").read_text(encoding="utf-8")
    columns = sorted(SAYS | REJECTED | {*TOOLS, *ENVELOPES})
    assert [column for column in columns if f"`{column}`" not in text] == []
