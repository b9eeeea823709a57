"""Small random classifiers of every kind that the tests need, saved as complete folders."""

import random
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)


CHATML = (
    "{% for message in messages %}"
    "{% if message.role not in ('system', 'user', 'assistant', 'tool') %}"
    "{{ raise_exception('unknown role') }}{% endif %}"
    "{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}"
    "{% if message.name is defined %}{{ '(' + message.name + ')' }}{% endif %}"
    "{% endfor %}"
)
LLAMA = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '[' + message.role + '] ' + message.content + eos_token }}{% endfor %}"
)
CORPUS = [
    "Qual é a capital de Portugal? A capital de Portugal é Lisboa.",
    "Explique a fotossíntese em três frases, por favor. Claro! As plantas usam a luz do sol.",
    "Minha cor favorita é azul. user assistant system tool",
    "def soma(a, b): return a + b  # código também aparece",
]
WORDS = [*" ".join(CORPUS).split(), "🙂", "日本語", "—", "\n\n", "x" * 40, "1234567890"]

# Widths that suit any decoder family; each family adds what sets it apart.
DECODER = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 512,
}  # fmt: skip
# Flash kernels take heads of 64.
WIDE_HEADS = {"hidden_size": 256, "head_dim": 64, "num_attention_heads": 4, "num_key_value_heads": 2}
ENCODER = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "max_position_embeddings": 256,
}  # fmt: skip


def byte_level_tokenizer(special_tokens: list[str], template: str | None, **named: str) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer trained on the corpus above."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=special_tokens,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **named)
    fast.chat_template = template
    return fast


def chatml_tokenizer() -> PreTrainedTokenizerFast:
    """As Qwen's: no BOS, a pad token of its own."""
    return byte_level_tokenizer(
        ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], CHATML, pad_token="<|endoftext|>", eos_token="<|im_end|>"
    )


def llama_tokenizer() -> PreTrainedTokenizerFast:
    """As Llama's: a BOS that template and tokenizer both add, and a pad token equal to the end token."""
    fast = byte_level_tokenizer(["<s>", "</s>"], LLAMA, bos_token="<s>", eos_token="</s>", pad_token="</s>")
    fast.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", fast.bos_token_id)]
    )
    return fast


def encoder_tokenizer(roberta: bool = False) -> PreTrainedTokenizerFast:
    """As BERT's (or RoBERTa's): special tokens at both ends, no chat template."""
    first, last, pad = ("<s>", "</s>", "<pad>") if roberta else ("[CLS]", "[SEP]", "[PAD]")
    names = [first, pad, last, "<unk>"] if roberta else [pad, "[UNK]", first, last]
    fast = byte_level_tokenizer(names, None, pad_token=pad, cls_token=first, sep_token=last)
    if not roberta:
        fast.backend_tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    ids = [(name, fast.convert_tokens_to_ids(name)) for name in (first, last)]
    fast.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}", special_tokens=ids
    )
    return fast


def save_model(
    folder: Path,
    model_type: str,
    tokenizer: PreTrainedTokenizerBase,
    max_tokens: int | None = 160,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
    **config_values: object,
) -> Path:
    """Save a random classifier with one output, large enough weights to tell inputs apart, and its tokenizer."""
    torch.manual_seed(seed)
    values = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id, "num_labels": 1} | config_values
    if model_type == "modernbert":
        values |= {"cls_token_id": tokenizer.cls_token_id, "sep_token_id": tokenizer.sep_token_id}
    model = AutoModelForSequenceClassification.from_config(AutoConfig.for_model(model_type, **values))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                # Wide enough that attention is not uniform, and the logit of the order of a score, whatever the width.
                parameter.normal_(0, (4 if name.endswith("score.weight") else 1.6) * parameter.shape[-1] ** -0.5)
    if max_tokens is not None:
        tokenizer.model_max_length = max_tokens
    model.to(dtype).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def conversations(count: int, seed: int = 0, longest: int = 80) -> list[list[dict[str, str]]]:
    """Random conversations from one word to beyond `max_tokens`, with emoji, empty turns and trailing white space."""
    rng = random.Random(seed)

    def text(words: int) -> str:
        return " ".join(rng.choice(WORDS) for _ in range(words)) + rng.choice(["", "", " ", "\n", " \t "])

    made = []
    for _ in range(count):
        system = [{"role": "system", "content": text(5)}] if rng.random() < 0.2 else []
        turns = []
        for _ in range(rng.choice([1, 1, 1, 2, 3])):
            words = int(longest ** rng.random())
            turns.append({"role": "user", "content": text(words)})
            turns.append({"role": "assistant", "content": "" if rng.random() < 0.1 else text(words)})
        made.append(system + turns)
    return made


# What each family has that another lacks; a window of 24 tokens, so that short and long texts lie on both sides of it.
LONGROPE = {
    "rope_type": "longrope",
    "short_factor": [1.0] * 8,
    "long_factor": [4.0] * 8,
    "rope_theta": 10_000.0,
    "original_max_position_embeddings": 64,
}
WINDOW = {"sliding_window": 24}
DECODERS = {
    "qwen3": ("qwen3", chatml_tokenizer, DECODER),
    "llama": ("llama", llama_tokenizer, DECODER),
    "mistral": ("mistral", chatml_tokenizer, DECODER | WINDOW),
    "gemma2": (
        "gemma2",
        chatml_tokenizer,
        DECODER | WINDOW | {"attn_logit_softcapping": 2.0, "query_pre_attn_scalar": 16},
    ),
    "gemma3": (
        "gemma3_text",
        chatml_tokenizer,
        DECODER
        | WINDOW
        | {
            "query_pre_attn_scalar": 16,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        },
    ),
    "gpt_oss": ("gpt_oss", chatml_tokenizer, DECODER | WINDOW | {"num_local_experts": 4, "num_experts_per_tok": 2}),
    "qwen3_moe": (
        "qwen3_moe",
        chatml_tokenizer,
        DECODER | {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 48},
    ),
}
ENCODERS = {
    "bert": ("bert", encoder_tokenizer, ENCODER),
    "roberta": ("roberta", lambda: encoder_tokenizer(roberta=True), ENCODER),
    "deberta": (
        "deberta-v2",
        encoder_tokenizer,
        ENCODER
        | {
            "relative_attention": True,
            "pos_att_type": ["p2c", "c2p"],
            "position_biased_input": False,
            "max_relative_positions": -1,
            "norm_rel_ebd": "layer_norm",
            "share_att_key": True,
            "position_buckets": 32,
        },
    ),
    "modernbert": (
        "modernbert",
        encoder_tokenizer,
        ENCODER | {"local_attention": 16, "global_attn_every_n_layers": 2},
    ),
}
UNSUPPORTED = {
    "qwen3_next": (
        "qwen3_next",
        chatml_tokenizer,
        DECODER | {"num_experts": 4, "moe_intermediate_size": 48, "shared_expert_intermediate_size": 48},
    ),
    "jamba": ("jamba", chatml_tokenizer, DECODER | {"num_hidden_layers": 8, "num_experts": 2}),
    "minimax": ("minimax", chatml_tokenizer, DECODER | {"num_local_experts": 4}),
    "longrope": (
        "phi3",
        chatml_tokenizer,
        DECODER | {"original_max_position_embeddings": 64, "rope_parameters": LONGROPE},
    ),
    "dynamic_rope": (
        "llama",
        llama_tokenizer,
        DECODER
        | {
            "max_position_embeddings": 64,
            "rope_parameters": {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 10_000.0},
        },
    ),
    "doge": ("doge", chatml_tokenizer, DECODER),
    "t5": (
        "t5",
        chatml_tokenizer,
        {"d_model": 32, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 4, "eos_token_id": 2},
    ),
}
FAMILIES = DECODERS | ENCODERS | UNSUPPORTED


def save_family(folder: Path, family: str, **options: object) -> Path:
    """Save a random model of a family of the tables above; options go to `save_model`."""
    model_type, make_tokenizer, values = FAMILIES[family]
    return save_model(folder, model_type, make_tokenizer(), **(values | options))  # type: ignore[arg-type]


@dataclass(frozen=True)
class CardScore:
    """What the model card's usage example gives for one input."""

    score: float
    int_score: int
    tokens: int
    truncated: bool


class Card:
    """The model card's usage example in plain transformers, float32, one input at a time; nothing of ours is in it."""

    def __init__(self, folder: Path, max_tokens: int | None = None, chat_template: str | None = None):
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
        if getattr(self.model.config, "attn_logit_softcapping", None) is not None:
            self.model.set_attn_implementation("eager")  # before 5.22 transformers chose SDPA, which drops the cap
        self.chat_template = chat_template
        if max_tokens is not None:
            self.tokenizer.model_max_length = max_tokens

    def render(self, item: list[dict[str, str]] | str) -> str:
        """The text of a conversation."""
        if isinstance(item, str):
            return item
        return self.tokenizer.apply_chat_template(item, tokenize=False, chat_template=self.chat_template)

    def __call__(self, item: list[dict[str, str]] | str) -> CardScore:
        """Score one conversation or text."""
        text = self.render(item)
        inputs = self.tokenizer(text, return_tensors="pt", padding="longest", truncation=True)
        with torch.no_grad():
            outputs = self.model(**inputs)
        logit = outputs.logits.squeeze(-1).float().cpu().numpy().tolist()[0]
        tokens = inputs["input_ids"].shape[1]
        limit = self.tokenizer.model_max_length
        # No token of these tokenizers is longer than 100 characters: a huge text need not be counted.
        truncated = tokens == limit and (len(text) > 100 * limit or len(self.tokenizer(text)["input_ids"]) > limit)
        return CardScore(logit + 1, round(max(0, min(logit, 4))) + 1, tokens, truncated)
