#!/usr/bin/env bash
# datatrove 0.10.1: SamplerFilter keeps the same positions of each task's rows, whatever the seed.
#
# The step draws from a random generator that is made with it. Executors copy or unpickle the step for each task, and the
# generator with it as it was at first: the n-th row of each task meets the same number. So all tasks together keep their
# first rows or drop them; a sample is not independent, nor of the size that the rate says (of tasks with one row each
# all are kept or none), and is biased where files are sorted. seed=None helps nothing. A LambdaFilter on a hash of the
# document's id and a seed draws each document for itself.
#
# Output seen:
#     workers=1, seed=7: 100 of 250 rows; choices of positions in 50 tasks: 1
#     workers=2, seed=7: 100 of 250 rows; choices of positions in 50 tasks: 1
#     workers=2, seed=None: choices of positions in 50 tasks: 1
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check datatrove==0.10.1 numpy==2.4.6 orjson regex \
    2> "$folder/pip.log" || { cat "$folder/pip.log"; exit 1; }
cat > "$folder/show.py" <<'PYTHON'
import json
import os
import sys
from pathlib import Path

from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.filters import SamplerFilter
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import JsonlWriter

TASKS, ROWS = 50, 5


def kept_positions(workers, seed):
    out = Path(f"out-{workers}-{seed}")
    steps = [
        JsonlReader("in", doc_progress=False),
        SamplerFilter(rate=0.5, seed=seed),
        JsonlWriter(str(out), compression=None),
    ]
    LocalPipelineExecutor(steps, tasks=TASKS, workers=workers, logging_dir=f"logs-{workers}-{seed}").run()
    for task in range(TASKS):
        file = out / f"{task:05}.jsonl"
        yield tuple(json.loads(line)["text"] for line in file.open()) if file.exists() else ()


if __name__ == "__main__":
    os.chdir(sys.argv[1])
    Path("in").mkdir()
    for task in range(TASKS):
        lines = [json.dumps({"text": f"row {row}"}) for row in range(ROWS)]
        Path("in", f"{task:05}.jsonl").write_text("\n".join(lines))
    for workers, seed in ((1, 7), (2, 7), (2, None)):
        kept = list(kept_positions(workers, seed))
        size = f"{sum(map(len, kept))} of {TASKS * ROWS} rows; " if seed else ""
        print(f"workers={workers}, seed={seed}: {size}choices of positions in {TASKS} tasks: {len(set(kept))}")
PYTHON
mkdir "$folder/run"
"$folder/venv/bin/python" "$folder/show.py" "$folder/run" 2> "$folder/errors" | tee "$folder/output" ||
    tail -n 20 "$folder/errors"
diff <(sed -n 's/^#     \(workers.*\)/\1/p' "$0") "$folder/output"
