#!/usr/bin/env bash
# pyarrow 23.0.0: a column of UUIDs is read as values that cannot be written into a column of UUIDs.
#
# to_pylist gives uuid.UUID for Arrow's type uuid. To make an array of that type of them raises, so that rows which are
# read, changed and written again fail at the writer. 24.0.0 takes them.
#
# Output seen:
#     23.0.0 reads UUID, writes: ArrowTypeError
#     24.0.0 reads UUID, writes: extension<arrow.uuid>
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/show.py" <<'PYTHON'
import pyarrow as pa

column = pa.array([bytes(range(16))], pa.uuid())
(value,) = column.to_pylist()
try:
    written = pa.array([value], pa.uuid()).type
except (pa.ArrowException, TypeError) as error:
    written = type(error).__name__
print(f"{pa.__version__} reads {type(value).__name__}, writes: {written}")
PYTHON
for version in 23.0.0 24.0.0; do
    python3 -m venv "$folder/venv$version"
    "$folder/venv$version/bin/pip" install --quiet --disable-pip-version-check pyarrow==$version \
        2> "$folder/pip.log" || { cat "$folder/pip.log"; exit 1; }
    "$folder/venv$version/bin/python" "$folder/show.py"
done | tee "$folder/output"
diff <(sed -n 's/^#     \(2[0-9]\..*\)/\1/p' "$0") "$folder/output"
