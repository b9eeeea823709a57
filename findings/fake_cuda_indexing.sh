#!/usr/bin/env bash
# torch 2.13.0, CPU build: under FakeTensorMode a CUDA tensor computes, but tensor[0] raises, and tensor.select(0, 0) not.
#
# FakeTensorMode is for machines without the device: fake CUDA tensors multiply, add and move. Indexing with [] enters a
# device guard before it reaches the operators that fake tensors replace, and the CPU build has none for CUDA. In a CUDA
# build without a GPU torch puts an empty guard in its place.
#
# Output seen:
#     x @ x: cuda:0
#     x.select(0, 0): cuda:0
#     x[0]: RuntimeError: PyTorch is not linked with support for cuda devices
#     x[:, 0]: RuntimeError: PyTorch is not linked with support for cuda devices
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
# The CPU build: from https://download.pytorch.org/whl/cpu, in PIP_EXTRA_INDEX_URL or PIP_FIND_LINKS.
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0+cpu numpy \
    2> "$folder/pip.log" || { cat "$folder/pip.log"; exit 1; }
cat > "$folder/show.py" <<'PYTHON'
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

with FakeTensorMode():
    x = torch.ones(3, 3, device="cuda")
    for words in ("x @ x", "x.select(0, 0)", "x[0]", "x[:, 0]"):
        try:
            result = eval(words).device
        except RuntimeError as error:
            result = f"RuntimeError: {error}"
        print(f"{words}: {result}")
PYTHON
"$folder/venv/bin/python" "$folder/show.py" | tee "$folder/output"
diff <(sed -n 's/^#     \(x.*\)/\1/p' "$0") "$folder/output"
