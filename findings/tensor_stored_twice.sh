#!/usr/bin/env bash
# transformers 5.24.0 loads one of two tensors that are stored for a parameter, and reports neither of them.
#
# With shards, the index says in which file each tensor is. from_pretrained takes the files from it, but loads all that they
# hold: of a name that is in two shards the last shard's tensor counts, whatever the index says. Names that are mapped to one
# parameter, with and without the base model's prefix, are not told apart either. output_loading_info has nothing about it.
#
# Output seen:
#     a shard that the index does not name for it: zeros loaded, reported: nothing
#     a name without the prefix "model.": zeros loaded, reported: nothing
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 transformers==5.24.0 2> "$folder/pip.log" ||
    { cat "$folder/pip.log"; exit 1; }
cat > "$folder/show.py" <<'PYTHON'
import json
import logging
import sys
import warnings

import torch
import transformers
from safetensors.torch import save_file

said = []
handler = logging.Handler()
handler.emit = lambda record: said.append(record.getMessage())
transformers.logging.get_logger().addHandler(handler)
NAME = "model.layers.0.self_attn.q_proj.weight"


def show(what, shards, index):
    for file, tensors in shards.items():
        save_file(tensors, f"{sys.argv[1]}/{file}", metadata={"format": "pt"})
    with open(f"{sys.argv[1]}/model.safetensors.index.json", "w") as file:
        json.dump({"metadata": {}, "weight_map": index}, file)
    said.clear()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        loaded, info = transformers.AutoModelForSequenceClassification.from_pretrained(
            sys.argv[1], output_loading_info=True
        )
    found = "saved weights" if torch.equal(loaded.state_dict()[NAME], right[NAME]) else "other weights"
    if not loaded.state_dict()[NAME].any():
        found = "zeros"
    told = said + [str(one.message) for one in seen] + [text for text in info.values() if text]
    print(f"{what}: {found} loaded, reported: {told or 'nothing'}")


config = transformers.Qwen3Config(
    vocab_size=20, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
    num_key_value_heads=2, head_dim=8, num_labels=1, pad_token_id=0,
)
model = transformers.Qwen3ForSequenceClassification(config)
config.save_pretrained(sys.argv[1])
right = model.state_dict()
zeros = torch.zeros_like(right[NAME])
first, second = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
body = {name: tensor for name, tensor in right.items() if name != "score.weight"}
head = {"score.weight": right["score.weight"]}
index = dict.fromkeys(body, first) | dict.fromkeys(head, second)
show("a shard that the index does not name for it", {first: body, second: head | {NAME: zeros}}, index)
other = NAME.removeprefix("model.")
show('a name without the prefix "model."', {first: body, second: head | {other: zeros}}, index | {other: second})
PYTHON
mkdir "$folder/model"
"$folder/venv/bin/python" "$folder/show.py" "$folder/model" 2> "$folder/errors" | tee "$folder/output"
diff <(sed -n 's/^#     \(a .*\)/\1/p' "$0") "$folder/output"
