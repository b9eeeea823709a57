"""The closed list of columns, as it is documented."""

from pathlib import Path

from datatrove_quality.rows.layouts.column_names import ANSWERS, CHATS, ENVELOPES, PAIRS, REJECTED, SAYS, TOOLS


def test_the_documentation_names_every_column() -> None:
    """docs/layouts.md has each column of the table, so that a layout that is added is documented."""
    text = (Path(__file__).resolve().parents[3] / "docs" / "layouts.md").read_text(encoding="utf-8")
    columns = sorted(SAYS | REJECTED | {*TOOLS, *ENVELOPES})
    assert [column for column in columns if f"`{column}`" not in text] == []
    table = [line for line in text.splitlines() if line.startswith("|")]
    for pair in PAIRS:
        answers = () if pair.answers[:1] == ANSWERS[:1] else pair.answers[-1:]
        assert any(all(f"`{name}`" in line for name in (pair.question, *answers)) for line in table), pair
    assert all(any(f"`{chat}`" in line for line in table) for chat in CHATS)
    assert ", ".join(f"`{answer}`" for answer in ANSWERS) + ": the first that is filled" in text
