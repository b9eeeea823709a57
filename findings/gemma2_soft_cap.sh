#!/usr/bin/env bash
# transformers 5.17.0: Gemma 2 runs with SDPA unless told otherwise, and SDPA drops the model's soft cap of attention.
#
# The config asks for attn_logit_softcapping, the model's own example sets nothing, and no warning appears: the score of
# a classifier is another one. attn_implementation="eager" keeps the cap. 5.24.0 chooses eager for Gemma 2 by itself.
#
# Output seen:
#     5.17.0 default (sdpa): -2.925, eager: -1.647
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 transformers==5.17.0 \
    2> "$folder/pip.log" || { cat "$folder/pip.log"; exit 1; }
cat > "$folder/show.py" <<'PYTHON'
import torch
import transformers
from transformers import Gemma2Config, Gemma2ForSequenceClassification

config = Gemma2Config(
    vocab_size=50, hidden_size=64, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, head_dim=16, query_pre_attn_scalar=16, attn_logit_softcapping=2.0, num_labels=1,
    pad_token_id=0,
)
torch.manual_seed(0)
model = Gemma2ForSequenceClassification(config).eval()
for weight in model.parameters():
    if weight.ndim > 1:
        weight.data.normal_(0, 1.6 * weight.shape[-1] ** -0.5)


@torch.no_grad()
def score():
    return model(input_ids=torch.arange(1, 20)[None]).logits.item()


chosen, by_default = model.config._attn_implementation, score()
model.set_attn_implementation("eager")
print(f"{transformers.__version__} default ({chosen}): {by_default:.3f}, eager: {score():.3f}")
PYTHON
"$folder/venv/bin/python" "$folder/show.py" 2> "$folder/errors" | tee "$folder/output" || cat "$folder/errors"
diff <(sed -n 's/^#     \(5\.17.*\)/\1/p' "$0") "$folder/output"
