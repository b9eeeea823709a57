#!/usr/bin/env bash
# transformers 5.24.0 with accelerate 1.15.0: evaluate() before train() ends the exchange of gradients between processes.
#
# A user who wants to know what a model gives before training calls evaluate or predict first. On several devices each
# process then trains a model of its own on its share of the rows, without a warning, and the first one's is saved. From
# 1.14.0 on accelerate prepares no model twice: for evaluate, Trainer has the model prepared without
# DistributedDataParallel, and train gets it back as it is. accelerate 1.13.0 wraps it.
#
# Output seen:
#     accelerate 1.15.0, train(): wrapped True, same weights on both processes True
#     accelerate 1.15.0, evaluate() and train(): wrapped False, same weights on both processes False
#     accelerate 1.13.0, train(): wrapped True, same weights on both processes True
#     accelerate 1.13.0, evaluate() and train(): wrapped True, same weights on both processes True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
cat > "$folder/show.py" <<'PYTHON'
import sys

import accelerate
import torch
import transformers
from torch.nn.parallel import DistributedDataParallel

transformers.logging.set_verbosity_error()
folder, calls = sys.argv[1:]
config = transformers.LlamaConfig(
    vocab_size=20, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, num_labels=1,
    pad_token_id=0,
)
data = [{"input_ids": [1, 2, 3 + row], "labels": float(row % 6)} for row in range(16)]
torch.manual_seed(0)
trainer = transformers.Trainer(
    transformers.LlamaForSequenceClassification(config),
    transformers.TrainingArguments(
        folder, per_device_train_batch_size=4, max_steps=2, save_strategy="no", report_to="none", use_cpu=True,
        disable_tqdm=True,
    ),
    train_dataset=data,
    eval_dataset=data,
)
trainer.remove_callback(transformers.PrinterCallback)
if "evaluate" in calls:
    trainer.evaluate()
trainer.train()
weights = torch.cat([one.detach().flatten() for one in trainer.model.parameters()])
first, second = trainer.accelerator.gather(weights[None])
if trainer.is_world_process_zero():
    wrapped = isinstance(trainer.model_wrapped, DistributedDataParallel)
    same = torch.equal(first, second)
    print(f"accelerate {accelerate.__version__}, {calls}: wrapped {wrapped}, same weights on both processes {same}")
trainer.accelerator.end_training()
PYTHON
export OMP_NUM_THREADS=1
for version in 1.15.0 1.13.0; do
    "$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 transformers==5.24.0 \
        accelerate==$version 2> "$folder/pip.log" || { cat "$folder/pip.log"; exit 1; }
    for calls in "train()" "evaluate() and train()"; do
        "$folder/venv/bin/torchrun" --standalone --nproc-per-node 2 "$folder/show.py" "$folder/model" "$calls" \
            2> "$folder/errors" || cat "$folder/errors"
    done
done | tee "$folder/output"
diff <(sed -n 's/^#     \(accelerate .*\)/\1/p' "$0") "$folder/output"
