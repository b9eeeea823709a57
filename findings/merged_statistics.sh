#!/usr/bin/env bash
# datatrove 0.10.1: StatsMerger counts all documents of a task as one where their values add up to 0.
#
# Each task writes its metrics as JSON, and shortens one whose total is 0 to the number 0. Read again, that is a single
# document with the value 0: of ninety documents without a capital letter one counts. The mean of a ratio that most
# documents have at 0 is then too large, and so are deviations; totals are right. It depends on how the files are divided:
# one task gives the right mean, tasks with all kinds of documents do, and tasks with a source each do not.
#
# Output seen:
#     1 task: mean uppercase_ratio 0.10 of 100 documents
#     2 tasks with 5 and 45 documents of each kind: mean uppercase_ratio 0.10 of 100 documents
#     2 tasks with one kind each: mean uppercase_ratio 0.91 of 11 documents
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check datatrove==0.10.1 tldextract tokenizers regex \
    2> "$folder/pip.log" || { cat "$folder/pip.log"; exit 1; }
cat > "$folder/show.py" <<'PYTHON'
import json
import os
import sys
from pathlib import Path

from datatrove.data import Document
from datatrove.pipeline.stats import DocStats, StatsMerger

os.chdir(sys.argv[1])
upper, lower = ["ABC"] * 10, ["abc"] * 90
for name, tasks in {
    "1 task": [upper + lower],
    "2 tasks with 5 and 45 documents of each kind": [upper[::2] + lower[::2]] * 2,
    "2 tasks with one kind each": [upper, lower],
}.items():
    for rank, texts in enumerate(tasks):
        documents = (Document(text=text, id=f"{rank}/{number}") for number, text in enumerate(texts))
        list(DocStats(f"{name}/parts", groups_to_compute=["summary"]).run(documents, rank, len(tasks)))
    list(StatsMerger(f"{name}/parts", f"{name}/merged").run(None))
    merged = json.loads(Path(name, "merged/summary/uppercase_ratio/metric.json").read_text())["summary"]
    print(f"{name}: mean uppercase_ratio {merged['mean']:.2f} of {merged['n']:.0f} documents")
PYTHON
mkdir "$folder/run"
"$folder/venv/bin/python" "$folder/show.py" "$folder/run" 2> "$folder/errors" | tee "$folder/output" ||
    tail -n 20 "$folder/errors"
diff <(sed -n 's/^#     \([12] task.*\)/\1/p' "$0") "$folder/output"
