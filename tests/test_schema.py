"""The Arrow schema of scored rows."""

import pyarrow as pa
import pytest

from datatrove_quality.schema import score_schema


def test_score_schema() -> None:
    """The source's fields stay as they are, ours are added or take the place of their namesakes."""
    source = pa.schema(
        [pa.field("id", pa.int32(), nullable=False, metadata={"k": "v"}), pa.field("quality_score", pa.string())],
        metadata={"pandas": "{}"},
    )
    schema = score_schema(source)
    assert schema.field("id").equals(source.field("id"), check_metadata=True)
    assert schema.metadata == source.metadata
    assert schema.names == [
        *("id", "quality_score", "quality_int_score", "quality_tokens", "quality_truncated", "quality_error"),
        "filter_reason",
    ]
    kinds = [pa.float64(), pa.int64(), pa.int64(), pa.bool_(), pa.string(), pa.string()]
    assert schema.types[1:] == kinds
    assert "instruct_score" in score_schema(source, "instruct").names
    with pytest.raises(ValueError, match=r"pyarrow\.Schema"):
        score_schema({"id": "int"})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="prefix=''"):
        score_schema(source, "")
