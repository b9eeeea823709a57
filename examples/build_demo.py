"""Make the demo from nothing: `examples/conversations.jsonl` and `examples/demo-classifier/`.

    python examples/build_demo.py                  # both, into examples/
    python examples/build_demo.py --data-only      # the conversations alone, in a second
    python examples/build_demo.py --output DIR     # somewhere else

The conversations are the same byte for byte on every machine (`demo_data.py`). The classifier is a Qwen3 of under a
million parameters, trained for some minutes on two CPU threads with invented conversations that share neither subjects
nor seeds with the shipped ones. Its weights differ in the last digits from machine to machine, so it is checked by its
scores, which this script prints at the end.
"""

import argparse
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import demo_data


if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerFast, Qwen3ForSequenceClassification


# Threads that wait sleep, so that training is slowed no more than its share on a busy machine; read when torch loads.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "0")

HERE = Path(__file__).parent
CLASSIFIER = "demo-classifier"
CONVERSATIONS = "conversations.jsonl"

SEED = 0
NUM_THREADS = 2
NUM_TRAINING_ROWS = 80_000
ROWS_PER_BATCH = 32
BATCHES_PER_WINDOW = 64
WARMUP_STEPS = 200
LEARNING_RATE = 1.2e-3
WEIGHT_DECAY = 0.01
REPORT_EVERY = 100
AID_LAYER = 2
AID_WEIGHT = 1.0

VOCAB_SIZE = 1_536
MAX_TOKENS = 1_024
HEAD_DIM = 32
PAD, START, END = "<|pad|>", "<|im_start|>", "<|im_end|>"
CHAT_TEMPLATE = """\
{%- for message in messages -%}
    {%- if message.role not in ["system", "user", "assistant"] -%}
        {{- raise_exception("Unknown role: " ~ message.role ~ " (known: system, user, assistant)") -}}
    {%- endif -%}
    {%- if message.content is not string -%}
        {{- raise_exception("The content of a message must be a string") -}}
    {%- endif -%}
    {{- "<|im_start|>" ~ message.role ~ "\\n" ~ message.content ~ "<|im_end|>\\n" -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- "<|im_start|>assistant\\n" -}}
{%- endif -%}
"""

SCORE_SCALE = {"offset": 1.0, "low": 1, "high": 5}

CARD = """\
# Demo classifier

A demo on synthetic text: it lets `make demo`, the quickstart and the tests run without a download or a GPU. **Do not
judge real data with it.** For that, use a trained classifier such as
`Polygl0t/portuguese-qwen3-4b-instruct-quality-classifier`.

It is a Qwen3 of {parameters:,} parameters with a one-output regression head, trained from random weights by
`examples/build_demo.py` on {rows:,} generated Portuguese conversations. Their names and words are invented afresh for
each row, so what it learned is to compare an answer with its question, and to tell plain from explained, hedging,
evasive and senseless answers in the styles of its templates. It knows no facts: a wrong capital scores as high as the
right one, and a bare “Lisboa.”, which takes up nothing of the question, scores as low as an answer to another one.

| level | the answers of the conversation |
|---|---|
| 5 | answer the question asked, in full sentences, and explain |
| 4 | answer the question asked, in one plain sentence |
| 3 | are about what was asked, but vague, hedging or contradicting themselves |
| 2 | are evasive, sloppy, or remark on the subject without answering |
| 1 | belong to another question, chat about oneself, are gibberish, or a loop |

`score = logit + 1`, as `score_scale` in `config.json` says. The template is ChatML-like and knows the roles system,
user and assistant. Texts are cut after {tokens:,} tokens.

Rebuild it with `python examples/build_demo.py`: some minutes on two CPU cores. On `examples/conversations.jsonl`,
whose subjects are real and none of which it was trained on, and on the two examples of the card named above:

{figures}
"""


def write_conversations(folder: Path) -> None:
    """Write `conversations.jsonl`, with "\\n" line ends on every system."""
    lines = demo_data.shipped_lines()
    (folder / CONVERSATIONS).write_bytes("".join(line + "\n" for line in lines).encode())
    print(f"{len(lines)} lines in {folder / CONVERSATIONS}")


def build_tokenizer(rows: list[tuple[demo_data.Messages, int]]) -> "PreTrainedTokenizerFast":
    """Train a byte-level BPE on training conversations.

    Args:
        rows: What to learn the merges from: mostly invented names, so that any name falls into short pieces.

    Returns:
        A `PreTrainedTokenizerFast` with the demo's chat template.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    digits, byte_level = (
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False),
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=[PAD, START, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = (f"{message['role']}\n{message['content']}" for messages, _ in rows for message in messages)
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[START],
        model_max_length=MAX_TOKENS,
        padding_side="right",
        clean_up_tokenization_spaces=False,
        chat_template=CHAT_TEMPLATE,
    )


def build_model(tokenizer: "PreTrainedTokenizerFast") -> "Qwen3ForSequenceClassification":
    """A fresh Qwen3 with a one-output regression head, under a million parameters.

    In half of the heads queries and keys begin alike, so that tokens look for their equals from the first step.
    """
    import torch
    from transformers import Qwen3Config, Qwen3ForSequenceClassification

    torch.manual_seed(SEED)
    config = Qwen3Config(  # type: ignore[call-arg]  # any keyword is kept
        vocab_size=len(tokenizer),
        initializer_range=0.08,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        head_dim=HEAD_DIM,
        max_position_embeddings=MAX_TOKENS,
        use_cache=False,
        tie_word_embeddings=True,
        num_labels=1,
        problem_type="regression",
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        score_scale=SCORE_SCALE,
    )
    model = Qwen3ForSequenceClassification(config)
    with torch.no_grad():
        for layer in model.model.layers:
            half = config.num_attention_heads // 2 * HEAD_DIM
            layer.self_attn.k_proj.weight[:half] = layer.self_attn.q_proj.weight[:half]
    return model


def encode(tokenizer: "PreTrainedTokenizerFast", conversations: list[demo_data.Messages]) -> list[list[int]]:
    """Render and tokenize as the model card does."""
    texts = tokenizer.apply_chat_template(conversations, tokenize=False)
    return tokenizer(texts, truncation=True)["input_ids"]


def batches(ids: list[list[int]], labels: list[int]) -> Iterator[tuple]:
    """Rows in the order given but for a window, of similar length within a batch, padded on the right.

    Args:
        ids: Token ids per row.
        labels: Level per row.

    Yields:
        Token ids of shape (rows, longest) and target logits of shape (rows,).
    """
    import torch

    rng = random.Random(SEED)
    window = ROWS_PER_BATCH * BATCHES_PER_WINDOW
    for start in range(0, len(ids), window):
        rows = sorted(range(start, min(start + window, len(ids))), key=lambda row: len(ids[row]))
        chunks = [rows[first : first + ROWS_PER_BATCH] for first in range(0, len(rows), ROWS_PER_BATCH)]
        rng.shuffle(chunks)
        for chunk in chunks:
            longest = max(len(ids[row]) for row in chunk)
            padded = [ids[row] + [0] * (longest - len(ids[row])) for row in chunk]
            yield torch.tensor(padded), torch.tensor([labels[row] - SCORE_SCALE["offset"] for row in chunk])


def repeated(input_ids: "Tensor") -> "Tensor":
    """What the aid of `train` has to predict: which tokens occurred before.

    Args:
        input_ids: Token ids of shape (rows, longest).

    Returns:
        Of shape (rows, longest, 2), 1.0 or 0.0: whether the token occurred earlier in the row, and whether it did so
        after the same token as here.
    """
    import torch

    same = input_ids[:, :, None] == input_ids[:, None, :]
    same = same.tril(diagonal=-1)
    pair = torch.zeros_like(same)
    pair[:, 1:, 1:] = same[:, 1:, 1:] & same[:, :-1, :-1]
    return torch.stack([same.any(-1), pair.any(-1)], dim=-1).float()


def train(model: "Qwen3ForSequenceClassification", ids: list[list[int]], labels: list[int]) -> None:
    """One pass over the rows: AdamW, warmup, cosine, mean squared error.

    A linear probe, thrown away afterwards, has to predict from an inner layer which tokens occurred before: an aid
    that draws the model towards comparing question and answer. What it is worth was not measured in a long run.

    No attention mask is needed: padding stands on the right of a causal model, and the head skips it.
    """
    import torch
    from transformers import get_cosine_schedule_with_warmup

    num_steps = -(-len(ids) // ROWS_PER_BATCH)
    probe = torch.nn.Linear(model.config.hidden_size, 2)
    parameters = [*model.parameters(), *probe.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, betas=(0.9, 0.98))
    schedule = get_cosine_schedule_with_warmup(optimizer, WARMUP_STEPS, num_steps)
    model.train()
    started, losses = time.perf_counter(), []
    for step, (input_ids, targets) in enumerate(batches(ids, labels), start=1):
        outputs = model(input_ids=input_ids, labels=targets, output_hidden_states=True)
        found, known = probe(outputs.hidden_states[AID_LAYER]), repeated(input_ids)
        aid_loss = torch.nn.functional.binary_cross_entropy_with_logits(found, known)
        optimizer.zero_grad()
        (outputs.loss + AID_WEIGHT * aid_loss).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        losses.append(outputs.loss.item())
        if step % REPORT_EVERY == 0 or step == num_steps:
            recent = sum(losses[-REPORT_EVERY:]) / len(losses[-REPORT_EVERY:])
            seconds, aid = time.perf_counter() - started, aid_loss.item()
            print(f"step {step}/{num_steps}  loss {recent:.3f}  aid {aid:.3f}  {seconds:.0f} s", flush=True)
    model.eval()


def score(
    model: "Qwen3ForSequenceClassification", tokenizer: "PreTrainedTokenizerFast", messages: demo_data.Messages
) -> float:
    """The score of one conversation, the model card's way."""
    import torch

    text = tokenizer.apply_chat_template(messages, tokenize=False)
    inputs = tokenizer(text, return_tensors="pt", truncation=True)
    with torch.no_grad():
        return model(**inputs).logits.item() + SCORE_SCALE["offset"]


def int_score(value: float) -> int:
    """The level that a score stands for."""
    return round(min(max(value, SCORE_SCALE["low"]), SCORE_SCALE["high"]) - SCORE_SCALE["offset"]) + 1


def macro_f1(expected: list[int], found: list[int]) -> float:
    """The mean over the levels of the harmonic mean of precision and recall."""
    total = 0.0
    for level in demo_data.LEVELS:
        hits = sum(one == two == level for one, two in zip(expected, found, strict=True))
        total += 2 * hits / max(expected.count(level) + found.count(level), 1)
    return total / len(demo_data.LEVELS)


def figures(model: "Qwen3ForSequenceClassification", tokenizer: "PreTrainedTokenizerFast") -> str:
    """As Markdown: confusion matrix and macro F1 on the shipped rows, scores of the model card's two examples."""
    rows = demo_data.shipped_rows()
    expected = [row["label"] for row in rows]
    found = [int_score(score(model, tokenizer, row["messages"])) for row in rows]
    lines = ["| level | scored as 1 | 2 | 3 | 4 | 5 |", "|---|---|---|---|---|---|"]
    for level in demo_data.LEVELS:
        of_level = [two for one, two in zip(expected, found, strict=True) if one == level]
        lines.append(" | ".join([f"| {level}", *(str(of_level.count(other)) for other in demo_data.LEVELS)]) + " |")
    lines += ["", f"- macro F1 on {len(rows)} rows: {macro_f1(expected, found):.3f}"]
    for reply in ("A capital de Portugal é Lisboa.", "Minha cor favorita é azul."):
        messages = [
            {"role": "user", "content": "Qual é a capital de Portugal?"},
            {"role": "assistant", "content": reply},
        ]
        lines.append(f"- {score(model, tokenizer, messages):.2f} for “{reply}”")
    return "\n".join(lines)


def write_card(folder: Path, model: "Qwen3ForSequenceClassification", tokenizer: "PreTrainedTokenizerFast") -> None:
    """Write the classifier's README, with its figures, and print these."""
    text = figures(model, tokenizer)
    print(text)
    card = CARD.format(parameters=model.num_parameters(), rows=NUM_TRAINING_ROWS, tokens=MAX_TOKENS, figures=text)
    (folder / "README.md").write_bytes(card.encode())


def write_classifier(folder: Path) -> None:
    """Train the demo classifier, write it to `folder / "demo-classifier"` and print its scores."""
    import torch

    torch.set_num_threads(NUM_THREADS)
    started = time.perf_counter()
    rows = list(demo_data.training_rows(NUM_TRAINING_ROWS))
    tokenizer = build_tokenizer(rows[::4])
    model = build_model(tokenizer)
    ids = encode(tokenizer, [messages for messages, _ in rows])
    print(f"{model.num_parameters():,} parameters, {sum(map(len, ids)):,} tokens to train on")
    train(model, ids, [level for _, level in rows])

    target = folder / CLASSIFIER
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
    write_card(target, model, tokenizer)
    size = sum(file.stat().st_size for file in target.iterdir())
    print(f"{target}: {size / 1e6:.2f} MB, {time.perf_counter() - started:.0f} s in all")


def main() -> None:
    """Parse the command line and build."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=HERE, help="folder to write to (default: examples/)")
    parser.add_argument("--data-only", action="store_true", help="write the conversations, train nothing")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    write_conversations(arguments.output)
    if not arguments.data_only:
        write_classifier(arguments.output)


if __name__ == "__main__":
    main()
