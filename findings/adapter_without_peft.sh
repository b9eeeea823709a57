#!/usr/bin/env bash
# transformers 5.24.0: a folder with a LoRA adapter beside its weights loads without the adapter where peft is missing.
#
# from_pretrained adds an adapter_config.json's adapter to the model by itself, if peft is installed. If not, the base model
# comes back, without a warning, and its outputs are those before fine-tuning.
#
# Output seen:
#     without peft: 0 adapter weights, warnings: none
#     with peft: 4 adapter weights, warnings: none
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
pip() {
    "$folder/venv/bin/pip" install --quiet --disable-pip-version-check "$@" 2> "$folder/pip.log" ||
        { cat "$folder/pip.log"; exit 1; }
}
cat > "$folder/make.py" <<'PYTHON'
import sys

from peft import LoraConfig, get_peft_model
from transformers import BertConfig, BertForSequenceClassification

config = BertConfig(
    vocab_size=20, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, num_labels=1
)
model = BertForSequenceClassification(config)
model.save_pretrained(sys.argv[1])
get_peft_model(model, LoraConfig(target_modules=["query", "value"])).save_pretrained(sys.argv[1])
PYTHON
cat > "$folder/show.py" <<'PYTHON'
import logging
import sys
import warnings

import transformers

said = []
handler = logging.Handler()
handler.emit = lambda record: said.append(record.getMessage())
transformers.logging.get_logger().addHandler(handler)
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    model = transformers.AutoModelForSequenceClassification.from_pretrained(sys.argv[1])
    said += [str(one.message) for one in seen]
count = sum("lora" in name for name, _ in model.named_parameters())
said = [text for text in said if "adapter" in text.lower() or "peft" in text.lower()]
print(f"{sys.argv[2]} peft: {count} adapter weights, warnings: {len(said) or 'none'}")
PYTHON
pip torch==2.13.0 transformers==5.24.0 peft==0.21.2
"$folder/venv/bin/python" "$folder/make.py" "$folder/model" 2> "$folder/errors"
for what in without with; do
    if [ $what = without ]; then
        "$folder/venv/bin/pip" uninstall --quiet --yes peft
    else
        pip peft==0.21.2
    fi
    "$folder/venv/bin/python" "$folder/show.py" "$folder/model" $what 2> "$folder/errors" || cat "$folder/errors"
done | tee "$folder/output"
diff <(sed -n 's/^#     \(with.*\)/\1/p' "$0") "$folder/output"
