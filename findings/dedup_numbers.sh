#!/usr/bin/env bash
# datatrove 0.10.1: texts that differ in their numbers alone are the same to MinHash deduplication.
#
# MinhashConfig normalizes texts before it compares them, and by default writes 0 for every number. Of exercises in
# arithmetic that differ in nothing else one is kept, and the others are dropped as its duplicates.
# TextNormConfig(norm_numbers=False) keeps numbers apart.
#
# Output seen:
#     default: 'what is 0 times 0' and 'what is 0 times 0', equal: True
#     norm_numbers=False: 'what is 12 times 7' and 'what is 345 times 9', equal: False
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check datatrove==0.10.1 regex xxhash tokenizers 2> "$folder/pip.log" ||
    { cat "$folder/pip.log"; exit 1; }
cat > "$folder/show.py" <<'PYTHON'
from datatrove.pipeline.dedup.minhash import MinhashConfig
from datatrove.utils.text import TextNormConfig, simplify_text

numbers_kept = MinhashConfig(norm_config=TextNormConfig(norm_numbers=False))
for name, config in (("default", MinhashConfig()), ("norm_numbers=False", numbers_kept)):
    one, other = (simplify_text(text, config.norm_config) for text in ("What is 12 times 7?", "What is 345 times 9?"))
    print(f"{name}: {one!r} and {other!r}, equal: {one == other}")
PYTHON
"$folder/venv/bin/python" "$folder/show.py" 2> "$folder/errors" | tee "$folder/output" || cat "$folder/errors"
diff <(sed -n "s/^#     \(.*equal: .*\)/\1/p" "$0") "$folder/output"
