"""The model that training starts from: its config and tokenizer made those of a classifier, then its weights."""

from dataclasses import asdict, dataclass
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from datatrove_quality.config import ScorerConfig
from datatrove_quality.model.found_model import MAX_TOKENS_KEY, find_model
from datatrove_quality.model.rendering import Renderer
from datatrove_quality.model.tokenizer import load_tokenizer, settle_tokens
from datatrove_quality.training.config import TrainingConfig


if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class BaseModel:
    """A base model without its weights, set up as the classifier will be saved.

    Args:
        config: with one output and the score scale.
        tokenizer: with chat template, pad token and maximum length; never used to tokenize, since truncation is state
            on it that would be saved too.
        renderer: what the scorer will make of the two above.
    """

    config: "PreTrainedConfig"
    tokenizer: "PreTrainedTokenizerBase"
    renderer: Renderer


def find_base(config: TrainingConfig) -> BaseModel:
    """Load the base model's config and tokenizer, set them up as the classifier's, and read them as the scorer will.

    Args:
        config: for its `model`, `revision`, `scale`, `max_tokens`, and all that affects how texts are tokenized.

    Raises:
        ValueError: it cannot be loaded, has no pad token and none is chosen, or cannot be scored with.
    """
    model_config, tokenizer = _load(config)
    model_config.architectures = None  # those of the base model: another class is saved
    model_config.problem_type = "regression"
    model_config.score_scale = asdict(config.scale)  # any attribute is kept
    model_config.get_text_config().pad_token_id = _pad_token_id(config, tokenizer)
    tokenizer.chat_template = config.chat_template or tokenizer.chat_template
    tokenizer.padding_side = "right"
    tokenizer.model_max_length = config.max_tokens
    setattr(model_config, MAX_TOKENS_KEY, None)  # that of a base model that is a classifier
    with TemporaryDirectory() as folder:
        model_config.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        try:
            renderer = find_model(ScorerConfig(model=folder, template_date=config.template_date)).renderer
        except ValueError as error:
            raise ValueError(str(error).replace(folder, config.model)) from error
    tokenizer.model_max_length = renderer.max_tokens
    setattr(model_config, MAX_TOKENS_KEY, renderer.max_tokens)
    return BaseModel(model_config, tokenizer, renderer)


def _load(config: TrainingConfig) -> "tuple[PreTrainedConfig, PreTrainedTokenizerBase]":
    from transformers import AutoConfig

    source: dict[str, Any] = {"revision": config.revision or "main"}
    try:
        model_config = AutoConfig.from_pretrained(config.model, num_labels=1, **source)
        tokenizer, stored = load_tokenizer(config.model, **source)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"model={config.model!r} (--model) cannot be loaded as a base model: {error}") from error
    # The tokenizer that is saved needs no choice: it adds the token, and has no sampling.
    settle_tokens(ScorerConfig(model=config.model, add_bos_token=config.add_bos_token), tokenizer, stored)
    return model_config, tokenizer


def _pad_token_id(config: TrainingConfig, tokenizer: "PreTrainedTokenizerBase") -> int:
    """The chosen pad token, else the tokenizer's. The head reads the last token before the padding."""
    token = config.pad_token or tokenizer.pad_token
    if token is None or token not in tokenizer.get_vocab():
        problem = "the base model's tokenizer has none" if token is None else f"{token!r} is not in its vocabulary"
        raise ValueError(
            f"pad_token (--pad-token TOKEN): {problem}. Choose a token that occurs in no training text; its "
            f"special tokens are {', '.join(map(repr, tokenizer.all_special_tokens)) or 'none'}."
        )
    tokenizer.pad_token = token
    return int(tokenizer.get_vocab()[token])


def load_model(config: TrainingConfig, base: BaseModel) -> "PreTrainedModel":
    """Load the classifier with the base model's weights in float32 and its head; a new head where it has none.

    Args:
        config: for its `model`, `revision`, `freeze` and `seed`.
        base: what `find_base` gave for it.

    Raises:
        ValueError: the weights cannot be loaded.
    """
    import torch
    from transformers import AutoModelForSequenceClassification, set_seed

    from datatrove_quality.model.forward import keep_head_in_float32

    set_seed(config.seed)
    source: dict[str, Any] = {"revision": config.revision or "main", "use_safetensors": True}
    try:
        model = AutoModelForSequenceClassification.from_pretrained(
            config.model, config=base.config, dtype=torch.float32, **source
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise ValueError(f"model={config.model!r} (--model) cannot be loaded as a base model: {error}") from error
    _freeze(model, config.freeze)
    keep_head_in_float32(model)
    return model


def _freeze(model: "PreTrainedModel", what: str) -> None:
    from torch import nn

    if what == "backbone":
        model.base_model.requires_grad_(False)
    elif what == "embeddings":
        for module in model.modules():
            if isinstance(module, nn.Embedding):
                module.requires_grad_(False)
