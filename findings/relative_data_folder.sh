#!/usr/bin/env bash
# datatrove 0.10.1 with fsspec 2026.9.0: a folder by a relative path stays the one of the first working directory.
#
# DataFolder is an fsspec filesystem, and fsspec keeps filesystems by their arguments. The text "in" is the argument, so
# after os.chdir a second DataFolder("in") is the first object, with the path that "in" had before. Readers and writers
# with relative paths, made later in the process, then read and write the first directory's files.
#
# Output seen:
#     after chdir to b: DataFolder("in") is b/in: False
#     after chdir to b: DataFolder("in") is a/in: True
#     one object: True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check datatrove==0.10.1 fsspec==2026.9.0 2> "$folder/pip.log" ||
    { cat "$folder/pip.log"; exit 1; }
cat > "$folder/show.py" <<'PYTHON'
import os, sys
from pathlib import Path

from datatrove.io import get_datafolder

a, b = (Path(sys.argv[1], name).resolve() for name in "ab")
for path in (a, b):
    path.mkdir()
os.chdir(a)
first = get_datafolder("in")
os.chdir(b)
second = get_datafolder("in")
print('after chdir to b: DataFolder("in") is b/in:', second.path == str(b / "in"))
print('after chdir to b: DataFolder("in") is a/in:', second.path == str(a / "in"))
print("one object:", first is second)
PYTHON
"$folder/venv/bin/python" "$folder/show.py" "$folder" | tee "$folder/output"
diff <(sed -n '/^# Output seen/,/^set/s/^#     //p' "$0") "$folder/output"
