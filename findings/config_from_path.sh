#!/usr/bin/env bash
# transformers 5.0.0: an empty folder is a model if a model's name is anywhere in its path.
#
# AutoConfig.from_pretrained raises for a folder without config.json. Not where the path, parent folders included, has the
# name of a model type in it: then the config is that type's, with default sizes. "t5", "sew" and "led" are such names.
# The same goes for a config.json without model_type. 5.24.0 refuses both.
#
# Output seen:
#     5.0.0 in models/plain: ValueError
#     5.0.0 in models/enabled: LEDConfig with 12 layers
#     5.24.0 in models/plain: ValueError
#     5.24.0 in models/enabled: ValueError
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/show.py" <<'PYTHON'
import os
import sys

import transformers
from transformers import AutoConfig

os.chdir(sys.argv[1])
for path in ("models/plain", "models/enabled"):
    os.makedirs(path, exist_ok=True)
    try:
        config = AutoConfig.from_pretrained(path)
        found = f"{type(config).__name__} with {config.num_hidden_layers} layers"
    except (ValueError, OSError) as error:
        found = type(error).__name__
    print(f"{transformers.__version__} in {path}: {found}")
PYTHON
for version in 5.0.0 5.24.0; do
    python3 -m venv "$folder/venv$version"
    "$folder/venv$version/bin/pip" install --quiet --disable-pip-version-check transformers==$version \
        2> "$folder/pip.log" || { cat "$folder/pip.log"; exit 1; }
    "$folder/venv$version/bin/python" "$folder/show.py" "$folder" 2> "$folder/errors"
done | tee "$folder/output"
diff <(sed -n 's/^#     \(5\..*\)/\1/p' "$0") "$folder/output"
