"""Parquet files whose columns differ: what they have in common, and what is refused."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datatrove.io import DataFolder

from datatrove_quality import ConversationAdapter, RowAdapter
from datatrove_quality.rows.arrow_values import column_forms, features_of
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
        with pytest.raises(ValueError, match=r"disagree about a column: Field messages.role has labels that differ: "):
            found.parquet_schema()


LABEL = {"names": ["bad", "good"], "_type": "ClassLabel"}
TEXT = {"dtype": "string", "_type": "Value"}


def write_labelled(path, columns, features):
    """A file as `datasets` writes it; without features, as other programs do."""
    metadata = {"huggingface": json.dumps({"info": {"features": features}})} if features else None
    pq.write_table(pa.table(columns).replace_schema_metadata(metadata), path)


@pytest.mark.parametrize("features", [None, {"id": TEXT}, {"id": TEXT, "label": {"dtype": "null", "_type": "Value"}}])
def test_labels_of_a_column_that_the_first_file_lacks(tmp_path, features):
    """They are in what is written; the rows without them have none."""
    first = {"id": ["1"]} | ({"label": pa.nulls(1)} if features and "label" in features else {})
    write_labelled(tmp_path / "a.parquet", first, features)
    write_labelled(tmp_path / "b.parquet", {"id": ["2"], "label": [1]}, {"id": TEXT, "label": LABEL})
    found = inputs.find_inputs(str(tmp_path))
    schema = found.parquet_schema()
    assert column_forms(schema) == {"label": {"names": ["bad", "good"]}}
    assert features_of(schema) == {"id": TEXT, "label": LABEL}
    out = tmp_path / "out"
    with found.writer(DataFolder(str(out)), "rows", RowAdapter(), schema) as writer:
        for document in found.reader(ConversationAdapter())():
            writer.write(document)
    written = pq.read_table(out / "rows")
    assert written.to_pylist() == [{"id": "1", "label": None}, {"id": "2", "label": 1}]
    assert column_forms(written.schema) == {"label": {"names": ["bad", "good"]}}


def test_labels_within_objects_of_which_the_first_file_lacks_a_part(tmp_path):
    """A part is compared where files have it: the others say nothing about it."""
    parts = [
        ({"content": "Oi"}, {"content": TEXT}),
        ({"content": "Oi", "role": 1}, {"content": TEXT, "role": {**LABEL, "names": ["user", "assistant"]}}),
        ({"role": 0}, {"role": {**LABEL, "names": ["assistant", "user"]}}),
    ]
    for number, (value, part) in enumerate(parts):
        write_labelled(tmp_path / f"{number}.parquet", {"messages": [[value]]}, {"messages": [part]})
    schema = inputs.find_inputs(str(tmp_path / "[01].parquet")).parquet_schema()
    assert column_forms(schema) == {"messages": {"list": {"struct": {"role": {"names": ["user", "assistant"]}}}}}
    assert features_of(schema) == {"messages": [parts[1][1]]}
    with pytest.raises(ValueError, match=r"Field messages.role has labels that differ: .*user.*assistant"):
        inputs.find_inputs(str(tmp_path)).parquet_schema()


def test_the_first_files_metadata_stays_where_it_says_all(tmp_path):
    """Byte for byte, whatever else is in it."""
    for name in "ab":
        write_labelled(tmp_path / f"{name}.parquet", {"id": ["1"], "label": [1]}, {"label": LABEL, "id": TEXT})
    found = inputs.find_inputs(str(tmp_path))
    assert found.parquet_schema().metadata == pq.read_schema(tmp_path / "a.parquet").metadata
