#!/usr/bin/env bash
# huggingface_hub 1.33.0: offline, snapshot_download finds a cached model by its branch and not by its commit.
#
# A cache that was filled file by file, as transformers' from_pretrained and hf_hub_download fill it, has no list of the
# commit's files. With HF_HUB_OFFLINE=1 a branch is looked up in the cache. A commit, which says more precisely what is
# wanted, skips that look-up and asks the hub for the list. local_files_only=True avoids it, and so does version 2.4.0.
#
# Output seen:
#     1.33.0 main: found
#     1.33.0 commit: OfflineModeIsEnabled
#     1.33.0 commit, local_files_only=True: found
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check huggingface_hub==1.33.0 2> "$folder/pip.log" ||
    { cat "$folder/pip.log"; exit 1; }
cat > "$folder/show.py" <<'PYTHON'
import os, sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_CACHE"] = cache = sys.argv[1]
commit = "c" * 40
model = Path(cache, "models--organisation--model")
for name, text in {f"snapshots/{commit}/config.json": "{}", "refs/main": commit}.items():
    (model / name).parent.mkdir(parents=True)
    (model / name).write_text(text)

import huggingface_hub

for name, options in {
    "main": {"revision": "main"},
    "commit": {"revision": commit},
    "commit, local_files_only=True": {"revision": commit, "local_files_only": True},
}.items():
    try:
        huggingface_hub.snapshot_download("organisation/model", **options)
        result = "found"
    except Exception as error:
        result = type(error).__name__
    print(f"{huggingface_hub.__version__} {name}: {result}")
PYTHON
"$folder/venv/bin/python" "$folder/show.py" "$folder/cache" | tee "$folder/output"
diff <(sed -n 's/^#     \(1\.33.*\)/\1/p' "$0") "$folder/output"
