"""The model that training starts from."""

from dataclasses import asdict, dataclass
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from datatrove_quality.config import ScorerConfig
from datatrove_quality.model.files import find_model
from datatrove_quality.model.rendering import Renderer
from datatrove_quality.training.config import TrainingConfig


if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class _Base:
    """A base model without its weights, as the classifier will be.

    Args:
        config: with one output and the score scale.
        tokenizer: as it is saved: with its template, pad token and maximum length; never used to tokenize, since
            truncation is state on it that would be saved too.
        renderer: as the scorer will make it of the two above.
    """

    config: "PreTrainedConfig"
    tokenizer: "PreTrainedTokenizerBase"
    renderer: Renderer


def find_base(config: TrainingConfig) -> _Base:
    """The base model's config and tokenizer, turned into the classifier's, and read again as the scorer will."""
    from transformers import AutoConfig, AutoTokenizer

    source: dict[str, Any] = {"revision": config.revision or "main"}
    try:
        model_config = AutoConfig.from_pretrained(config.model, num_labels=1, **source)
        tokenizer = AutoTokenizer.from_pretrained(config.model, **source)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"model={config.model!r} (--model) cannot be loaded as a base model: {error}") from error
    model_config.architectures = None  # of the base model; it is not what is saved
    model_config.problem_type = "regression"
    model_config.score_scale = asdict(config.scale)  # any attribute is kept
    model_config.get_text_config().pad_token_id = _pad_token_id(config, tokenizer)
    tokenizer.chat_template = config.chat_template or tokenizer.chat_template
    tokenizer.padding_side = "right"
    tokenizer.model_max_length = config.max_tokens
    with TemporaryDirectory() as folder:
        model_config.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        try:
            renderer = find_model(ScorerConfig(model=folder)).renderer
        except ValueError as error:
            raise ValueError(str(error).replace(folder, config.model)) from error
    tokenizer.model_max_length = renderer.max_tokens
    return _Base(model_config, tokenizer, renderer)


def _pad_token_id(config: TrainingConfig, tokenizer: "PreTrainedTokenizerBase") -> int:
    """The token that pads, at whose first neighbour the head reads: the tokenizer's, or the one that was chosen."""
    token = config.pad_token or tokenizer.pad_token
    if token is None or token not in tokenizer.get_vocab():
        problem = "the base model's tokenizer names none" if token is None else f"{token!r} is not in its vocabulary"
        raise ValueError(
            f"pad_token (--pad-token TOKEN): {problem}. Choose a token that stands in no text; its special tokens are "
            f"{', '.join(map(repr, tokenizer.all_special_tokens)) or 'none'}."
        )
    tokenizer.pad_token = token
    return int(tokenizer.get_vocab()[token])


def load_model(config: TrainingConfig, base: _Base) -> "PreTrainedModel":
    """The classifier with the base model's weights in float32 and, where it has no trained head, a new one."""
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
