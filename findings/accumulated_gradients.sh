#!/usr/bin/env bash
# transformers 5.24.0: Trainer multiplies a classifier's gradients by the accumulated batches, and again by the devices.
#
# 16 rows a step are one batch here, or divided among accumulated batches and devices. The Trainer takes a model whose
# forward has **kwargs for one that divides its loss by num_items_in_batch, all rows of the step. The heads for sequence
# classification give the mean of their own rows, so that nothing divides by the number of batches, and what makes up
# for the devices is too much. max_grad_norm=1.0, the default, then cuts where it would not have, and the loss that is
# logged is as many times too large, beside an eval_loss that is right. A compute_loss_func that divides by
# num_items_in_batch gives the same gradient for each division. The first half is huggingface/transformers issue 47688.
#
# Output seen:
#     rows 16, accumulated 1, devices 1: gradient 1.00 times, logged loss 1.00 times
#     rows 4, accumulated 4, devices 1: gradient 4.00 times, logged loss 4.00 times
#     rows 8, accumulated 1, devices 2: gradient 2.00 times, logged loss 2.00 times
#     rows 2, accumulated 4, devices 2: gradient 8.00 times, logged loss 8.00 times
#     rows 2, accumulated 4, devices 2, compute_loss_func: gradient 1.00 times, logged loss 1.00 times
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 transformers==5.24.0 accelerate==1.15.0 \
    2> "$folder/pip.log" || { cat "$folder/pip.log"; exit 1; }
cat > "$folder/show.py" <<'PYTHON'
import sys

import torch
import transformers

transformers.logging.set_verbosity_error()
folder, rows, accumulated, *named = sys.argv[1:]
config = transformers.LlamaConfig(
    vocab_size=20, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, num_labels=1,
    pad_token_id=0,
)
torch.manual_seed(0)
model = transformers.LlamaForSequenceClassification(config)
data = [{"input_ids": [1, 2, 3 + row], "labels": float(row % 6)} for row in range(16)]
whole = {name: torch.tensor([row[name] for row in data]) for name in data[0]}
right_loss = model(**whole).loss
right = torch.cat([one.flatten() for one in torch.autograd.grad(right_loss, [*model.parameters()])]).norm()


def squared_error(outputs, labels, num_items_in_batch):
    return ((outputs.logits[:, 0] - labels) ** 2).sum() / num_items_in_batch


trainer = transformers.Trainer(
    model,
    transformers.TrainingArguments(
        folder, per_device_train_batch_size=int(rows), gradient_accumulation_steps=int(accumulated), max_steps=1,
        logging_steps=1, max_grad_norm=1e9, save_strategy="no", report_to="none", use_cpu=True, disable_tqdm=True,
    ),
    train_dataset=data,
    compute_loss_func=squared_error if named else None,
)
trainer.remove_callback(transformers.PrinterCallback)
trainer.train()
if trainer.is_world_process_zero():
    logged = trainer.state.log_history[0]
    how = ", ".join([f"rows {rows}, accumulated {accumulated}, devices {trainer.args.world_size}", *named])
    gradient, loss = float(logged["grad_norm"]) / right.item(), float(logged["loss"]) / right_loss.item()
    print(f"{how}: gradient {gradient:.2f} times, logged loss {loss:.2f} times")
trainer.accelerator.end_training()
PYTHON
export OMP_NUM_THREADS=1
while read -r devices arguments; do
    # The arguments are several words.
    # shellcheck disable=SC2086
    "$folder/venv/bin/torchrun" --standalone --nproc-per-node "$devices" "$folder/show.py" "$folder" $arguments \
        < /dev/null 2> "$folder/errors" || cat "$folder/errors"
done <<'DIVISIONS' | tee "$folder/output"
1 16 1
1 4 4
2 8 1
2 2 4
2 2 4 compute_loss_func
DIVISIONS
diff <(sed -n 's/^#     \(rows .*\)/\1/p' "$0") "$folder/output"
