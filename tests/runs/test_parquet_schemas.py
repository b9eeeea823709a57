"""Parquet files whose columns differ: what they have in common, and what is refused."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datatrove_quality.runs import inputs


def test_whole_and_broken_numbers_in_one_column_are_refused(tmp_path):
    """A column of integers in one file and floats in another would come back rounded: said before any work."""
    for name, value in (("a", 2**60 + 1), ("b", 0.5)):
        pq.write_table(pa.table({"n": [value]}), tmp_path / f"{name}.parquet")
    with pytest.raises(ValueError, match=r"disagree about a column.* n is one of double, int64"):
        inputs.find_inputs(str(tmp_path)).parquet_schema()


STRUCT = pa.struct([("a", pa.int64())])


@pytest.mark.parametrize(
    ("first", "second", "fits"),
    [
        (pa.int32(), pa.int64(), True),
        (pa.null(), pa.string(), True),
        (pa.string(), pa.large_string(), True),
        (STRUCT, pa.struct([("a", pa.int32()), ("b", pa.string())]), True),
        (pa.list_(STRUCT), pa.list_(pa.struct([("b", pa.string())])), True),
        (pa.int64(), pa.float64(), False),
        (pa.int64(), pa.uint64(), False),
        (STRUCT, pa.struct([("a", pa.float64())]), False),
        (pa.list_(pa.int64()), pa.list_(pa.float64()), False),
        (pa.string(), pa.binary(), False),
        (pa.timestamp("s"), pa.timestamp("ns"), False),
    ],
    ids=str,
)
def test_files_share_a_column_only_where_nothing_is_lost(tmp_path, first, second, fits):
    """Two files' types of one column are merged where every value comes back as it was, and refused elsewhere."""
    for name, kind in (("a", first), ("b", second)):
        pq.write_table(pa.schema([("n", kind)]).empty_table(), tmp_path / f"{name}.parquet")
    found = inputs.find_inputs(str(tmp_path))
    if fits:
        assert found.parquet_schema().names == ["n"]
    else:
        with pytest.raises(ValueError, match="disagree about a column"):
            found.parquet_schema()


ROLES = pa.list_(pa.struct([("role", pa.int64()), ("content", pa.string())]))


@pytest.mark.parametrize(
    ("names", "fits"), [(["user", "assistant"], True), (["assistant", "user"], False), (None, False)]
)
def test_files_share_a_column_only_where_its_labels_are_the_same(tmp_path, names, fits):
    """What is written has the labels of the first file: another order of them would swap the roles of the second."""
    for name, labels in (("a", ["user", "assistant"]), ("b", names)):
        role = {"_type": "Value"} if labels is None else {"names": labels, "_type": "ClassLabel"}
        features = {"messages": [{"role": role, "content": {"_type": "Value"}}]}
        metadata = {"huggingface": json.dumps({"info": {"features": features}})}
        schema = pa.schema([("messages", ROLES)], metadata=metadata)
        pq.write_table(schema.empty_table(), tmp_path / f"{name}.parquet")
    found = inputs.find_inputs(str(tmp_path))
    if fits:
        assert found.parquet_schema().names == ["messages"]
    else:
        with pytest.raises(
            ValueError, match=r"disagree about a column: Field messages has labels that differ: .*role"
        ):
            found.parquet_schema()
