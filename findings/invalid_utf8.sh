#!/usr/bin/env bash
# datatrove 0.10.1: a byte that is not UTF-8 ends a file for JsonlReader, and takes rows before it along.
#
# The reader opens files as text, which is decoded in blocks of 8 KB: the error comes before the first line of the block
# that has the byte is there. It is caught around the loop over lines, with a warning. The rows behind it, and those before
# it in its block, are in no count, and the task ends as complete. The other way of damage, a line that is not JSON, costs
# that line alone.
#
# Output seen:
#     a line that is not JSON in the middle: 999 of 1000 rows
#     a byte that is not UTF-8 in the middle: 431 of 1000 rows
#     a byte that is not UTF-8 in row 100: 0 of 1000 rows
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check datatrove==0.10.1 orjson 2> "$folder/pip.log" ||
    { cat "$folder/pip.log"; exit 1; }
cat > "$folder/show.py" <<'PYTHON'
import sys
from pathlib import Path

from datatrove.pipeline.readers import JsonlReader

for what, row, damage in (
    ("a line that is not JSON in the middle", 500, b'{"text": '),
    ("a byte that is not UTF-8 in the middle", 500, b'{"text": "caf\xe9"}'),
    ("a byte that is not UTF-8 in row 100", 100, b'{"text": "caf\xe9"}'),
):
    rows = [b'{"text": "0123456789012345678901234"}'] * 1000
    rows[row] = damage
    Path(sys.argv[1], "rows.jsonl").write_bytes(b"\n".join(rows))
    print(f"{what}: {len(list(JsonlReader(sys.argv[1])()))} of {len(rows)} rows")
PYTHON
mkdir "$folder/in"
"$folder/venv/bin/python" "$folder/show.py" "$folder/in" 2> "$folder/errors" | tee "$folder/output"
diff <(sed -n 's/^#     \(a .*\)/\1/p' "$0") "$folder/output"
