#!/usr/bin/env bash
# transformers 5.24.0: a decoder layer that is given the old name of its cache beside the new one drops the cache.
#
# 5.24 renames the argument past_key_values of decoder layers to cache, with a deprecation until 5.40. The model itself
# passes cache=None to its layers where no cache is used. Code that hands a layer its own cache by the old name, next to
# the arguments that the model gave, as a wrapper around a layer's forward does, has it ignored with a FutureWarning:
# keys and values are not kept, and nothing fails. In 5.23.0 the same call fills the cache.
#
# Output seen:
#     5.24.0 tokens kept: 0, warned: True
#     5.23.0 tokens kept: 3, warned: False
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
cat > "$folder/show.py" <<'PYTHON'
import warnings

import torch
import transformers
from transformers import DynamicCache, LlamaConfig, LlamaModel

config = LlamaConfig(
    vocab_size=20, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
    num_key_value_heads=2,
)
model = LlamaModel(config).eval()
layer, cache = model.layers[0], DynamicCache(config=config)
plain = layer.forward
layer.forward = lambda hidden, *others, **options: plain(hidden, *others, **options | {"past_key_values": cache})
with warnings.catch_warnings(record=True) as seen, torch.no_grad():
    warnings.simplefilter("always")
    model(input_ids=torch.tensor([[1, 2, 3]]), use_cache=False)
warned = any(issubclass(one.category, FutureWarning) for one in seen)
print(f"{transformers.__version__} tokens kept: {cache.get_seq_length()}, warned: {warned}")
PYTHON
for version in 5.24.0 5.23.0; do
    "$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 "transformers==$version" \
        2> "$folder/pip.log" || { cat "$folder/pip.log"; exit 1; }
    "$folder/venv/bin/python" "$folder/show.py" 2> "$folder/errors" | tee -a "$folder/output" || cat "$folder/errors"
done
diff <(sed -n 's/^#     \(5\.2.*\)/\1/p' "$0") "$folder/output"
