"""Random classifiers of known shapes, made on the device and saved as complete folders: nothing is downloaded.

    python benchmarks/shapes.py FOLDER SHAPE cpu|cuda       # float32 on the CPU, bfloat16 on CUDA

Weights are random, so scores mean nothing; what a model costs does not depend on what it has learned.
"""

import random
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import corpora


if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


PAD, START, END, CLS, SEP = "<|endoftext|>", "<|im_start|>", "<|im_end|>", "[CLS]", "[SEP]"
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
)
VOCABULARY = 8_192
SHARPNESS = 1.6  # of random attention, so that scores depend on the words
# Of the head. In bfloat16 36 random layers give a logit a noise of 3 to 4% of what it varies by: with a head as sharp
# as the rest, 0.07, which the self-check now and then takes for an error.
HEAD_SHARPNESS = 0.4


@dataclass(frozen=True)
class Shape:
    """A model's architecture.

    Args:
        model_type: as transformers calls it.
        max_tokens: longer texts are cut.
        values: of its config.
    """

    model_type: str
    max_tokens: int
    values: dict[str, Any]


def _qwen3(hidden: int, intermediate: int, layers: int, heads: int, key_heads: int, dim: int, words: int) -> Shape:
    values = {
        "hidden_size": hidden, "intermediate_size": intermediate, "num_hidden_layers": layers,
        "num_attention_heads": heads, "num_key_value_heads": key_heads, "head_dim": dim, "vocab_size": words,
        "max_position_embeddings": 40_960, "rope_parameters": {"rope_type": "default", "rope_theta": 1_000_000.0},
    }  # fmt: skip
    return Shape("qwen3", 6_032, values)


SHAPES = {
    "qwen3-4b": _qwen3(2_560, 9_728, 36, 32, 8, 128, 151_936),
    "qwen3-0.6b": _qwen3(1_024, 3_072, 28, 16, 8, 128, 151_936),
    "small": _qwen3(512, 1_536, 8, 8, 4, 64, VOCABULARY),
    "wide": _qwen3(2_048, 6_144, 6, 16, 8, 128, VOCABULARY),  # six of the 28 layers of qwen3-1.7b
    "medium": _qwen3(384, 1_152, 6, 6, 2, 64, VOCABULARY),
    "tiny": _qwen3(64, 128, 2, 4, 2, 16, VOCABULARY),
    "thin": _qwen3(64, 64, 36, 4, 2, 16, VOCABULARY),  # qwen3-4b's layers, and hardly anything in them
    "bert-base": Shape("bert", 512, {"vocab_size": 30_522}),  # all else is the config's default
}


def make_tokenizer(shape: Shape) -> "PreTrainedTokenizerFast":
    """A byte-level BPE tokenizer with a chat template like Qwen's; for BERT also with special tokens at both ends."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[PAD, START, END, CLS, SEP],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    rng = random.Random(2)
    tokenizer.train_from_iterator((corpora.text(rng, 1_000) for _ in range(150)), trainer)
    if shape.model_type == "bert":
        ids = [(name, tokenizer.token_to_id(name)) for name in (CLS, SEP)]
        tokenizer.post_processor = processors.TemplateProcessing(single=f"{CLS} $A {SEP}", special_tokens=ids)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        model_max_length=shape.max_tokens,
        model_input_names=["input_ids", "attention_mask"],
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def save_random_model(folder: Path, name: str, dtype: str, device: str) -> None:
    """Save a classifier with random weights, made on the device, and its tokenizer.

    Args:
        folder: where; needs two bytes (bfloat16, float16) or four (float32) for each weight.
        name: a name in `SHAPES`.
        dtype: of the weights, such as "bfloat16".
        device: where they are made.
    """
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification

    shape = SHAPES[name]
    tokenizer = make_tokenizer(shape)
    config = AutoConfig.for_model(
        shape.model_type, num_labels=1, pad_token_id=tokenizer.pad_token_id, problem_type="regression", **shape.values
    )
    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForSequenceClassification.from_config(config, dtype=getattr(torch, dtype))
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, torch.nn.Embedding)}
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                sharpness = HEAD_SHARPNESS if len(weight) == 1 else SHARPNESS
                weight.normal_(0, 1.0 if id(weight) in embeddings else sharpness * weight.shape[-1] ** -0.5)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    target, shape, place = sys.argv[1:]
    save_random_model(Path(target), shape, "float32" if place == "cpu" else "bfloat16", place)
