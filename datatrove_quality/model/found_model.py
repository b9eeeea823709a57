"""A classifier without its weights: found, and checked to fit together, before any work starts."""

import json
import math
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from copy import deepcopy
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loguru import logger

from datatrove_quality.config import QUANTIZED, ScorerConfig, ScoreScale
from datatrove_quality.model.devices import is_native_dtype
from datatrove_quality.model.digests import hub_digests, wrong_files
from datatrove_quality.model.hub import Fetched, fetch, fetch_weights, is_path, resolve_commit
from datatrove_quality.model.load_errors import (
    advice_on_config,
    advice_on_tokenizer,
    explained,
    fetch_command,
    require_possible_sizes,
)
from datatrove_quality.model.outputs import Outputs, outputs_of
from datatrove_quality.model.rendering import Renderer
from datatrove_quality.model.tokenizer import SAMPLE_TEXT, load_tokenizer, settle_tokens
from datatrove_quality.model.weights import (
    ADAPTER_CONFIG,
    LONE_ADAPTER,
    missing_weights,
    model_files,
    require_no_pointers,
)


if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase


# Where neither tokenizer nor model has a limit; tokenizers count in 64 bits and transformers would hand them 1e30.
NO_TOKEN_LIMIT = 2**31 - 1
# Of a scale in a config.json: beyond it, it is a mistake.
MAX_SCALE = 1_000
# In a config.json, beside `score_scale`: the most tokens of a text that the classifier was trained with.
MAX_TOKENS_KEY = "score_max_tokens"
# Parts of a config.json that are about the text, in transformers' `get_text_config`.
TEXT_CONFIGS = ("text_config", "text_encoder", "decoder", "generator")


@dataclass(frozen=True)
class FoundModel:
    """All that is known of a classifier without its weights, found to fit together.

    Args:
        config: of the model, as transformers reads it.
        renderer: its tokenizer, ready to render and cut texts; each `find_model` gives one of its own.
        outputs: what its outputs mean.
        scale: how its logit becomes a score.
        packable: whether its forward pass takes sequences end to end, without padding.
        folder: where its files lie on this machine: its own folder, or that of its commit in the hub's cache.
        commit: of the hub's repository; None: it is a local folder.
        adapter: whether an adapter's files are beside the model's, which peft then applies to it.
        tokenizing: what of the tokenizer was changed or is unusual, by name, see `settle_tokens`.
        told: what the hub tells of the files, see `hub.Fetched`.
    """

    config: "PreTrainedConfig"
    renderer: Renderer
    outputs: Outputs
    scale: ScoreScale
    packable: bool
    folder: Path
    commit: str | None = None
    adapter: bool = False
    tokenizing: Mapping[str, Any] = field(default_factory=dict)
    told: Mapping[str, str | None] = field(default_factory=dict)


def find_model(config: ScorerConfig) -> FoundModel:
    """Find a classifier and check that it can be scored with, before any work starts; reads no weights.

    Args:
        config: which classifier, and how.

    Raises:
        ValueError: there is no such model, or its scores would not be true; the message says what to do.
    """
    commit = resolve_commit(config)
    folder, told = fetch(config, commit) if commit else Fetched(Path(config.model).absolute(), {})
    if commit:
        _require_right_files(config, folder, told)
    require_classifier(config, folder)
    from datatrove_quality.model.architectures import is_packable, why_not_scorable

    model_config = _load_model_config(config, folder)
    outputs = outputs_of(config, model_config)
    empty = skeleton(config, model_config, folder)
    tokenizer, tokenizing = _load_tokenizer(config, empty, folder)
    max_tokens = _token_limit(config, tokenizer, empty)
    if reason := why_not_scorable(empty, max_tokens):
        raise ValueError(f"model={config.model!r}: {reason}")
    embeddings = _num_embeddings(empty)
    known_tokens = embeddings if max(tokenizer.get_vocab().values()) >= embeddings else None
    special = config.add_special_tokens
    renderer = Renderer(
        tokenizer, max_tokens, config.chat_template, special, known_tokens, dated(config).template_date
    )
    renderer.require_known_tokens([SAMPLE_TEXT])
    # With peft transformers applies an adapter that is beside the model's files, without it says nothing.
    adapter = (folder / ADAPTER_CONFIG).is_file()
    scale, packable = _scale(config, model_config, outputs), is_packable(empty)
    return FoundModel(model_config, renderer, outputs, scale, packable, folder, commit, adapter, tokenizing, told)


def computing_dtype(config: ScorerConfig, found: FoundModel, device: "torch.device") -> str | None:
    """What the classifier will compute in on a device, such as "float32"; None: only its weights say."""
    import torch

    if config.dtype != "auto":
        return config.dtype
    stored = found.config.dtype
    stored = getattr(torch, stored, None) if isinstance(stored, str) else stored
    if stored is None:
        return None
    return str(stored if is_native_dtype(device, stored) else torch.float32).removeprefix("torch.")


def computed_in(config: ScorerConfig, model: "PreTrainedModel") -> str:
    """What a loaded classifier computes in, such as "float32"."""
    return config.dtype if config.dtype in QUANTIZED else str(model.dtype).removeprefix("torch.")


def pinned(config: ScorerConfig) -> ScorerConfig:
    """The config with its hub model's commit as revision, so that every process loads the same; loads nothing.

    Args:
        config: which classifier, and how.

    Returns:
        The config itself where its model is a folder, or a path that may be one elsewhere.

    Raises:
        ValueError: the hub does not know the model, or cannot be reached and the model is not in its cache.
    """
    if is_path(config.model) or os.path.isdir(config.model) or re.fullmatch(r"[0-9a-f]{40}", config.revision or ""):
        return config
    return replace(config, revision=resolve_commit(config))


def dated(config: ScorerConfig) -> ScorerConfig:
    """The config with today as the date of its chat template, so that every process renders the same."""
    return config if config.template_date else replace(config, template_date=date.today().isoformat())


def prepare_for_nodes(config: ScorerConfig) -> ScorerConfig:
    """Fetch a classifier for other machines, which share this one's files and may reach no hub.

    What they could resolve otherwise than this machine is settled: the revision becomes a commit, a folder an absolute
    path, and `dtype="auto"` what the checkpoint is stored in: the machines' GPUs are taken to compute in it (bfloat16:
    from Ampere on), since this machine may have none. With `device="cpu"` this machine's processor decides.

    Args:
        config: which classifier, and how.

    Returns:
        The config for the nodes.

    Raises:
        ValueError: as `find_model`; or its weights are not here and cannot be fetched.
    """
    import torch

    found = find_model(config)
    folder = found.folder
    if found.commit:
        fetch_weights(config, found.commit, folder)
    if missing := missing_weights(folder):
        raise ValueError(
            f"model={config.model!r}: {missing} is not in {folder}. "
            + (fetch_command(config, found.commit) if found.commit else "Copy the whole classifier there.")
        )
    dtype = found.config.dtype if config.device != "cpu" else None
    dtype = str(dtype or computing_dtype(config, found, torch.device("cpu"))).removeprefix("torch.")
    if config.dtype == "auto" and dtype == "None":
        raise ValueError(f"model={config.model!r}: its config.json names no dtype: set dtype='bfloat16' or 'float32'.")
    return replace(
        config,
        model=config.model if found.commit else str(folder),
        revision=found.commit or config.revision,
        dtype=dtype if config.dtype == "auto" else config.dtype,
    )


def require_classifier(config: ScorerConfig, folder: Path) -> None:
    """Refuse a folder whose config.json is no classifier's, before transformers is imported.

    Args:
        config: which classifier.
        folder: of its files.

    Raises:
        ValueError: names what is wrong in config.json, or the files that are pointers of git-lfs.
    """
    require_no_pointers(config, folder)
    require_possible_sizes(config, folder)
    path = folder / "config.json"
    if not path.is_file() and (folder / ADAPTER_CONFIG).is_file():
        raise ValueError(f"model={config.model!r} {LONE_ADAPTER}")
    with explained(config, partial(advice_on_config, folder)):
        values = json.loads(path.read_bytes()) if path.is_file() else {}
        # Early versions of transformers 5 guess the type from the path.
        if not values.keys() & {"model_type", "auto_map"}:
            raise ValueError("There is no config.json with a model_type.")
    names = values.get("architectures") or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"model={config.model!r}: architectures={names!r} in its config.json is no list of names.")
    if names and not any(name.endswith("ForSequenceClassification") for name in names):
        raise ValueError(
            f"model={config.model!r} is a {', '.join(names)}: give a sequence classifier, such as "
            "Polygl0t/portuguese-qwen3-4b-instruct-quality-classifier."
        )
    _require_positions(config, _stored_positions(values))


def _stored_positions(values: dict[str, Any]) -> float:
    """The positions that a config.json names; infinite where only the model's class tells, as `_positions` does."""
    text = next((part for name in TEXT_CONFIGS if isinstance(part := values.get(name), dict)), values)
    named = [text.get(name) for name in ("max_position_embeddings", "n_positions")]  # n_positions: GPT-2 and kin
    return max((limit for limit in named if isinstance(limit, int) and limit > 0), default=math.inf)


def _require_positions(config: ScorerConfig, positions: float) -> None:
    if config.max_tokens is not None and config.max_tokens > positions:
        raise ValueError(
            f"model={config.model!r}, max_tokens={config.max_tokens}: the model has positions for {positions} tokens; "
            "set at most that."
        )


def _load_model_config(config: ScorerConfig, folder: Path) -> "PreTrainedConfig":
    from transformers import AutoConfig

    with explained(config, partial(_advice_on_code, config, folder)):
        return AutoConfig.from_pretrained(folder, trust_remote_code=config.trust_remote_code)


def _advice_on_code(config: ScorerConfig, folder: Path, error: BaseException) -> str | None:
    """What to do about a config.json, or where a model comes with code of its own and transformers has none for it."""
    from transformers import CONFIG_MAPPING, PreTrainedConfig

    if config.trust_remote_code or not isinstance(error, ValueError):
        return advice_on_config(folder, error)
    values: dict[str, Any] = {}
    with suppress(Exception):  # what cannot be read names no code
        values, _ = PreTrainedConfig.get_config_dict(folder)
    if "auto_map" not in values or values.get("model_type") in CONFIG_MAPPING:
        return advice_on_config(folder, error)
    return "It comes with code of its own, which is not run unless you set trust_remote_code=True."


def skeleton(config: ScorerConfig, model_config: "PreTrainedConfig", folder: Path) -> "PreTrainedModel":
    """The model without memory for its weights: its class, modules and shapes."""
    import torch
    from transformers import AutoModelForSequenceClassification

    with explained(config, partial(_advice_on_code, config, folder)), torch.device("meta"):
        skeleton = AutoModelForSequenceClassification.from_config(
            deepcopy(model_config), trust_remote_code=config.trust_remote_code
        )
    skeleton.name_or_path = config.model
    return skeleton


def _load_tokenizer(
    config: ScorerConfig, skeleton: "PreTrainedModel", folder: Path
) -> "tuple[PreTrainedTokenizerBase, dict[str, Any]]":
    """The tokenizer, found to belong to the model, and what affects its tokens beside its files."""
    with explained(config, partial(advice_on_tokenizer, folder)):
        tokenizer, stored = load_tokenizer(folder, trust_remote_code=config.trust_remote_code)
    tokenizer.name_or_path = config.model
    own_code = (tokenizer.init_kwargs.get("auto_map") or {}).get("AutoTokenizer")
    # Where transformers has a class for the model's type it takes that instead, without a word.
    if own_code and not config.trust_remote_code:
        raise ValueError(
            f"model={config.model!r}: its tokenizer comes with code of its own, {own_code}, which is not run unless "
            "you set trust_remote_code=True; without it, texts may become other tokens than in training."
        )
    limit = tokenizer.model_max_length
    if isinstance(limit, bool) or not isinstance(limit, int | float) or not limit >= 1:
        raise ValueError(
            f"model={config.model!r}: model_max_length={limit!r} in its tokenizer_config.json is no number of tokens: "
            "correct it, or omit it for no limit."
        )
    # Where a folder has no tokenizer files, transformers makes up a tokenizer with an empty vocabulary.
    if not tokenizer(SAMPLE_TEXT, add_special_tokens=False)["input_ids"]:
        raise ValueError(
            f"model={config.model!r}: its tokenizer makes no token of {SAMPLE_TEXT!r}; copy the classifier's own "
            "tokenizer files (tokenizer.json, tokenizer_config.json) into the model's folder."
        )
    embeddings = _num_embeddings(skeleton)
    # Tokens that were added to a vocabulary may be unknown to the model: Gemma 3's text models have one for images.
    if tokenizer.vocab_size > embeddings:
        raise ValueError(
            f"model={config.model!r}: its tokenizer has {tokenizer.vocab_size} tokens and the model embeddings for "
            f"{embeddings}: they do not belong together; copy the classifier's own tokenizer files."
        )
    return tokenizer, settle_tokens(config, tokenizer, stored)


def _num_embeddings(skeleton: "PreTrainedModel") -> int:
    embeddings = skeleton.get_input_embeddings()
    count = getattr(embeddings, "num_embeddings", None)
    if count is None:
        raise ValueError(
            f"model={skeleton.name_or_path!r}: {type(skeleton).__name__} has embeddings of its own kind "
            f"({type(embeddings).__name__}), which is not supported: give a classifier of another architecture."
        )
    return int(count)


def _token_limit(config: ScorerConfig, tokenizer: "PreTrainedTokenizerBase", skeleton: "PreTrainedModel") -> int:
    """How many tokens of a text are scored: the configured number, checked, or the most that the model takes."""
    positions = _positions(skeleton)
    if config.max_tokens is None:
        own = _own_limit(config, skeleton)
        return int(min(tokenizer.model_max_length if own is None else own, positions, NO_TOKEN_LIMIT))
    _require_positions(config, positions)
    return config.max_tokens


def _own_limit(config: ScorerConfig, skeleton: "PreTrainedModel") -> int | None:
    """The limit that the classifier names in its config.json."""
    own = getattr(skeleton.config, MAX_TOKENS_KEY, None)
    if own is not None and (isinstance(own, bool) or not isinstance(own, int) or own < 1):
        raise ValueError(
            f"model={config.model!r}: {MAX_TOKENS_KEY}={own!r} in its config.json is no number of tokens: give a "
            "whole number from 1, or set max_tokens=."
        )
    return own


def _positions(skeleton: "PreTrainedModel") -> float:
    """The most tokens that the model numbers; infinite where its positions are relative."""
    from torch import nn

    limits = [getattr(skeleton.config.get_text_config(), "max_position_embeddings", None) or math.inf]
    for name, module in skeleton.named_modules():
        # RoBERTa and kin number positions from the padding index on, so that their first rows are never used.
        if (
            name.endswith("position_embeddings")
            and isinstance(module, nn.Embedding)
            and module.padding_idx is not None
        ):
            limits.append(module.num_embeddings - module.padding_idx - 1)
    # DeBERTa writes -1 for "as many as max_position_embeddings".
    return min((limit for limit in limits if limit > 0), default=math.inf)


def _require_right_files(config: ScorerConfig, folder: Path, told: Mapping[str, str | None]) -> None:
    """What is read from the hub's cache, beside the weights, is what the hub says."""
    files = [path for path in model_files(folder) if path.suffix != ".safetensors"]
    if wrong := wrong_files(hub_digests(folder, files, told)):
        raise ValueError(
            f"model={config.model!r}: {', '.join(str(path.resolve()) for path in wrong)}: the bytes are not those "
            f"that the hub names ({', '.join(path.name for path in wrong)}). Delete them and fetch the model again."
        )


def _scale(config: ScorerConfig, model_config: "PreTrainedConfig", outputs: Outputs) -> ScoreScale:
    """The configured scale; else that of probabilities where they make the score; else config.json's or the card's."""
    own = outputs.scale  # of probabilities
    if config.scale is not None:
        if own is not None and config.scale.offset:
            raise ValueError(
                f"model={config.model!r}, scale={config.scale}: an offset is added to logits, and this score is made "
                f"of probabilities ({outputs.problem_type}): omit scale (--scale), or give it the offset 0."
            )
        return config.scale
    stored = getattr(model_config, "score_scale", None)
    if own is not None:
        if stored not in (None, asdict(own)):
            logger.warning(
                f"{config.model}: score_scale={stored!r} in its config.json is about logits, and is not used: this "
                f"score is made of probabilities ({outputs.problem_type}), on a scale from {own.low} to {own.high}."
            )
        return own
    if stored is None:
        logger.info(f"{config.model} names no score_scale: using the model card's, {ScoreScale()}.")
        return ScoreScale()
    return stored_scale(config.model, stored)


def stored_scale(model: str, stored: Any) -> ScoreScale:
    """What the `score_scale` of a config.json says.

    Args:
        model: for the message.
        stored: JSON values.

    Raises:
        ValueError: it is no scale.
    """
    try:
        if missing := [name for name in ("offset", "low", "high") if name not in stored]:
            raise ValueError(f"it has no {' and no '.join(missing)}")
        scale = ScoreScale(**stored)
        if scale.high - scale.low > MAX_SCALE or not -MAX_SCALE <= scale.offset - scale.low <= MAX_SCALE:
            raise ValueError(f"offset, low and high are more than {MAX_SCALE:,} apart")
        return scale
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(
            f"model={model!r}: score_scale={stored!r} in its config.json is no ScoreScale: {error}. Correct "
            'it, such as {"offset": 1, "low": 1, "high": 5}, or set scale=.'
        ) from error
