#!/usr/bin/env bash
# torch 2.13.0: segment_reduce adds up bfloat16 in bfloat16, so that the mean of a long segment is far too small.
#
# The mean over each text's tokens, the texts end to end in one tensor, is what torch.segment_reduce is for. On a CPU mean,
# scatter_reduce, index_add and jagged tensors add up bfloat16 in float32; segment_reduce and index_reduce do not. A sum
# stops growing where the next value is less than half of bfloat16's step, and is divided by the number of tokens all
# the same: the longer the text, the smaller. Short texts look right. torch.sparse.mm by a matrix of ones does so too, and
# 2.15.0 does. hidden.float() before, or one of the first four, is right.
#
# Output seen:
#     100 tokens: mean 0.50, scatter_reduce 0.50, jagged 0.50, segment_reduce 0.51, index_reduce 0.51, sparse.mm 0.51
#     1000 tokens: mean 0.50, scatter_reduce 0.50, jagged 0.50, segment_reduce 0.26, index_reduce 0.26, sparse.mm 0.26
#     4000 tokens: mean 0.50, scatter_reduce 0.50, jagged 0.50, segment_reduce 0.06, index_reduce 0.06, sparse.mm 0.06
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy 2> "$folder/pip.log" ||
    { cat "$folder/pip.log"; exit 1; }
cat > "$folder/show.py" <<'PYTHON'
import torch

for tokens in (100, 1000, 4000):
    hidden = torch.linspace(0.25, 0.75, tokens)[:, None].bfloat16()
    text = torch.zeros(tokens, dtype=torch.long)  # all tokens are of one text
    empty = torch.zeros(1, 1, dtype=torch.bfloat16)
    ones = torch.sparse_coo_tensor(torch.stack([text, torch.arange(tokens)]), torch.ones_like(hidden[:, 0]))
    found = {
        "mean": hidden.mean(0),
        "scatter_reduce": empty.scatter_reduce(0, text[:, None], hidden, "mean", include_self=False),
        "jagged": torch.nested.nested_tensor_from_jagged(hidden, torch.tensor([0, tokens])).mean(1),
        "segment_reduce": torch.segment_reduce(hidden, "mean", lengths=torch.tensor([tokens])),
        "index_reduce": empty.index_reduce(0, text, hidden, "mean", include_self=False),
        "sparse.mm": torch.sparse.mm(ones, hidden) / tokens,
    }
    print(f"{tokens} tokens: " + ", ".join(f"{name} {value.item():.2f}" for name, value in found.items()))
PYTHON
"$folder/venv/bin/python" "$folder/show.py" 2> "$folder/errors" | tee "$folder/output" || cat "$folder/errors"
diff <(sed -n 's/^#     \([0-9]* tokens: .*\)/\1/p' "$0") "$folder/output"
