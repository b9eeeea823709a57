"""Make the demo from nothing: `examples/conversations.jsonl` and `examples/demo-classifier/`.

    python examples/build_demo.py                  # both, into examples/
    python examples/build_demo.py --data-only      # the conversations alone, in a second
    python examples/build_demo.py --output DIR     # somewhere else

The conversations are the same byte for byte on every machine (`demo_data.py`). The classifier is a Qwen3 of under a
million parameters, trained by `datatrove_quality.training`, the trainer that users have, for some minutes on two CPU
threads with invented conversations that share neither subjects nor seeds with the shipped ones. Its weights differ in
the last digits from machine to machine, so it is checked by its scores, which this script prints at the end.
"""

import argparse
import os
import random
import shutil
import time
from contextlib import chdir
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import demo_data

from datatrove_quality import ScorerConfig, load_scorer
from datatrove_quality.evaluation.metrics import evaluate_scores
from datatrove_quality.training import TrainingConfig, train_classifier


if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Linear
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
NUM_HELD_OUT_ROWS = 1_000
ROWS_PER_BATCH = 32
BATCHES_PER_WINDOW = 64
HELD_OUT_SEED = 2
AID_LAYER = 2
BASE = "random-qwen3"

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

# One pass over the rows in their order, from drills to conversations.
RECIPE = TrainingConfig(
    model=BASE,
    freeze="none",
    epochs=1,
    order="given",
    batch_size=ROWS_PER_BATCH,
    per_device_batch_size=ROWS_PER_BATCH,
    learning_rate=1.2e-3,
    warmup_steps=200,
    weight_decay=0.01,
    adam_beta2=0.98,
    max_tokens=MAX_TOKENS,
    evaluations=4,
    dtype="float32",
    device="cpu",
    seed=SEED,
)

CARD = """\
# Demo classifier

A demo on synthetic text: it lets `make demo`, the quickstart and the tests run without a download or a GPU. **Do not
judge real data with it.** For that, use a trained classifier such as
`Polygl0t/portuguese-qwen3-4b-instruct-quality-classifier`, or train one (`docs/training.md`).

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

Rebuild it with `python examples/build_demo.py`: some minutes on two CPU cores. On the two examples of the card named
above it gives:

{examples}

## On `examples/conversations.jsonl`

Their subjects are real, and it was trained on none of them.

{shipped}
## Training
{training}"""


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
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
    )
    model = Qwen3ForSequenceClassification(config)
    with torch.no_grad():
        for layer in model.model.layers:
            half = config.num_attention_heads // 2 * HEAD_DIM
            layer.self_attn.k_proj.weight[:half] = layer.self_attn.q_proj.weight[:half]
    return model


def repeated(input_ids: "Tensor") -> "Tensor":
    """What the aid has to predict: which tokens occurred before.

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


def attach_aid(model: Any, probe: "Linear") -> None:
    """Let the model add a loss of its own while it trains: an aid that draws it towards comparing question and answer.

    A linear probe, which is not saved, has to predict from an inner layer which tokens occurred before. Over steps 800
    to 900 the mean loss was 0.85 with it and 1.48 without, in one run each.
    """
    from torch import nn

    model.probe = probe
    model._keys_to_ignore_on_save = ["probe.weight", "probe.bias"]
    inner: list[Tensor] = []

    def keep(layer: nn.Module, args: Any, hidden: "Tensor") -> None:
        inner[:] = [hidden]

    def add_loss(model: Any, args: Any, named: dict[str, Any], outputs: Any) -> None:
        if model.training:
            found = model.probe(inner[0])
            outputs["loss"] = nn.functional.binary_cross_entropy_with_logits(found, repeated(named["input_ids"]))

    model.model.layers[AID_LAYER - 1].register_forward_hook(keep)
    model.register_forward_hook(add_loss, with_kwargs=True)


def train(scratch: Path) -> Path:
    """Train the classifier in a folder of its own, as a user would.

    Args:
        scratch: an empty folder.

    Returns:
        The trained classifier's folder.
    """
    import torch

    torch.set_num_threads(NUM_THREADS)
    rows = list(demo_data.training_rows(NUM_TRAINING_ROWS))
    held_out = demo_data.training_rows(NUM_HELD_OUT_ROWS, seed=HELD_OUT_SEED)
    tokenizer = build_tokenizer(rows[::4])
    model = build_model(tokenizer)
    probe = torch.nn.Linear(model.config.hidden_size, 2)
    with chdir(scratch):  # so that the model card names the base model, not a path of this machine
        model.save_pretrained(BASE)
        tokenizer.save_pretrained(BASE)
        rows = in_order(rows, tokenizer)
        train_classifier(RECIPE, rows, CLASSIFIER, held_out, prepare=partial(attach_aid, probe=probe))
    return scratch / CLASSIFIER


def in_order(
    rows: list[tuple[demo_data.Messages, int]], tokenizer: "PreTrainedTokenizerFast"
) -> list[tuple[demo_data.Messages, int]]:
    """Rows in the order given, but within a window by batches of similar length, which are shuffled."""
    texts = tokenizer.apply_chat_template([messages for messages, _ in rows], tokenize=False)
    lengths = [len(ids) for ids in tokenizer(texts)["input_ids"]]
    rng = random.Random(SEED)
    ordered: list[int] = []
    for start in range(0, len(rows), ROWS_PER_BATCH * BATCHES_PER_WINDOW):
        end = min(start + ROWS_PER_BATCH * BATCHES_PER_WINDOW, len(rows))
        window = sorted(range(start, end), key=lengths.__getitem__)
        batches = [window[first : first + ROWS_PER_BATCH] for first in range(0, len(window), ROWS_PER_BATCH)]
        rng.shuffle(batches)
        ordered += [row for batch in batches for row in batch]
    return [rows[row] for row in ordered]


def write_card(classifier: Path) -> None:
    """Write the demo's README around what the trainer wrote, with the figures on the shipped rows; print these."""
    scorer = load_scorer(ScorerConfig(model=str(classifier), device="cpu"))
    rows = demo_data.shipped_rows()
    scores = scorer.score([row["messages"] for row in rows])
    labels, values, tokens = [row["label"] for row in rows], [it.score for it in scores], [it.tokens for it in scores]
    shipped = evaluate_scores(labels, values, scorer.scale, tokens).to_markdown()
    replies = ("A capital de Portugal é Lisboa.", "Minha cor favorita é azul.")
    question = {"role": "user", "content": "Qual é a capital de Portugal?"}
    pairs = [[question, {"role": "assistant", "content": reply}] for reply in replies]
    examples = "\n".join(
        f"- {it.score:.2f} for “{reply}”" for it, reply in zip(scorer.score(pairs), replies, strict=True)
    )
    print(examples, shipped, sep="\n")
    path = classifier / "README.md"
    _, _, training = path.read_text(encoding="utf-8").partition("\n## Training\n")
    card = CARD.format(
        parameters=scorer.model.num_parameters(),
        rows=NUM_TRAINING_ROWS,
        tokens=MAX_TOKENS,
        examples=examples,
        shipped=shipped,
        training=training,
    )
    path.write_bytes(card.encode())


def write_classifier(folder: Path) -> None:
    """Train the demo classifier, write it to `folder / "demo-classifier"` and print its scores."""
    started = time.perf_counter()
    target = folder / CLASSIFIER
    with TemporaryDirectory() as scratch:
        classifier = train(Path(scratch))
        write_card(classifier)
        shutil.copytree(classifier, target, dirs_exist_ok=True)
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
