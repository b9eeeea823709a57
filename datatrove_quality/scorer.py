"""Token ids in, scores out, on one device; and the cache that loads a model once per process."""

import math
import os
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from typing import TYPE_CHECKING, Any, cast

from loguru import logger

from datatrove_quality.batching import packed_batches, padded_batches, windows
from datatrove_quality.config import Score, ScorerConfig, ScoreScale, Unscorable
from datatrove_quality.conversation import Conversation
from datatrove_quality.devices import choose_device, default_tokens_per_batch, native_dtype
from datatrove_quality.rendering import Renderer, TokenizedText


if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase


Input = Conversation | str | Unscorable

# A window is what the scorer holds at once: enough to sort encoders' batches well, little enough to forget about.
WINDOW_ITEMS = 1_024
WINDOW_CHARACTERS = 16_000_000

# What the self-check may cost, in floating-point operations: about two seconds on each kind of device.
SELF_CHECK_FLOPS = {"cpu": 2e11, "mps": 4e12, "cuda": 2e14}
SELF_CHECK_TOLERANCE = {"float32": 1e-4, "float16": 0.1, "bfloat16": 0.1}
# Where neither tokenizer nor model has a limit; tokenizers count in 64 bits and transformers would hand them 1e30.
NO_TOKEN_LIMIT = 2**31 - 1
PROBES = (
    "Qual é a capital de Portugal?",
    "A resposta curta nem sempre é a melhor: quem pergunta quer saber também por quê.",
    "One text is short; the next has numbers (3.14, 1,000,000), accents (àéîõü), code `f(x) = x**2`, an emoji 🙂.\n",
)

_loaded: dict[ScorerConfig, "Scorer"] = {}
_loading = threading.Lock()


def load_scorer(config: ScorerConfig) -> "Scorer":
    """The scorer of a config, loaded once per process, whatever DataTrove copies or pickles.

    Args:
        config: which classifier, and how.

    Returns:
        A scorer that is ready to score.

    Raises:
        ValueError: the model cannot be found, loaded, or scored with truly; the message says what to do.
    """
    with _loading:
        if config not in _loaded:
            _loaded[config] = Scorer(config)
        return _loaded[config]


def check_model(config: ScorerConfig) -> None:
    """Find out before any work starts whether a model is there and can be scored with; reads no weights.

    Raises:
        ValueError: as `load_scorer`, as far as it shows without the weights.
    """
    _Checked(config)


class _Checked:
    """All of a scorer that is known without the weights, found to fit together."""

    def __init__(self, config: ScorerConfig):
        from datatrove_quality.packed import why_not_scorable

        self.model_config = _load_model_config(config)
        skeleton = _skeleton(config, self.model_config)
        tokenizer = _load_tokenizer(config, skeleton)
        max_tokens = _token_limit(config, tokenizer, skeleton)
        if reason := why_not_scorable(skeleton, max_tokens):
            raise ValueError(f"model={config.model!r}: {reason}")
        self.scale = _scale(config, self.model_config)
        self.renderer = Renderer(tokenizer, max_tokens, config.chat_template, config.add_special_tokens)


class Scorer:
    """A classifier on one device. Use `load_scorer`, which loads each config once per process.

    Args:
        config: which classifier, and how.

    Raises:
        ValueError: as `load_scorer`.
    """

    def __init__(self, config: ScorerConfig):
        from datatrove_quality.packed import PACKED, is_packable, kernel_name, packed_logits, padded_logits

        started = time.perf_counter()
        device = choose_device(config.device)
        checked = _Checked(config)
        self.config = config
        self.scale = checked.scale
        self.renderer = checked.renderer
        self.tokens_per_batch = config.tokens_per_batch or default_tokens_per_batch(device)
        self.model = _load_model(config, checked.model_config, device)
        self.packed = is_packable(self.model)
        self._logits = packed_logits if self.packed else padded_logits
        self._plan = packed_batches if self.packed else padded_batches
        self._own_attention = self.model.config._attn_implementation
        if self.packed:
            self.model.set_attn_implementation(PACKED)
        if config.self_check:
            self._check_against_own_forward()
        logger.info(
            f"Loaded {config.model} ({type(self.model).__name__}, {self.model.num_parameters():,} parameters, "
            f"{self.model.dtype}) on {device} in {time.perf_counter() - started:.1f} s; "
            f"attention: {kernel_name(self.model) if self.packed else self._own_attention}; "
            f"max_tokens={self.renderer.max_tokens}, tokens_per_batch={self.tokens_per_batch}"
        )

    def score(self, inputs: Sequence[Conversation | str]) -> list[Score]:
        """Score conversations (lists of messages) or plain texts.

        Args:
            inputs: what to score, in any order and of any lengths.

        Returns:
            One score per input, in their order.

        Raises:
            Unscorable: an input cannot be scored; the message names its index.
        """
        if isinstance(inputs, str) or (inputs and isinstance(inputs[0], dict)):
            raise ValueError("inputs: give a list of conversations or texts; a single one goes into a list of one.")
        scores: list[Score] = []
        for result in self.stream(inputs):
            if isinstance(result, Unscorable):
                raise Unscorable(result.reason, f"inputs[{len(scores)}]: {result}")
            scores.append(result)
        return scores

    def stream(self, inputs: Iterable[Input]) -> Iterator[Score | Unscorable]:
        """Score a stream of any length, holding a bounded part of it.

        Args:
            inputs: conversations, texts, or what is known to be unscorable already.

        Yields:
            For each input, in order, its score or why there is none.
        """
        for window in windows(inputs, _characters, WINDOW_ITEMS, WINDOW_CHARACTERS):
            yield from self._score_window(window)

    def _score_window(self, window: list[Input]) -> list[Score | Unscorable]:
        results: list[Any] = self.renderer.encode(window)
        places = [place for place, result in enumerate(results) if isinstance(result, TokenizedText)]
        for batch in self._plan([len(results[place].ids) for place in places], self.tokens_per_batch):
            texts = [results[places[index]] for index in batch]
            logits = self._logits(self.model, [text.ids for text in texts]).tolist()
            for index, text, logit in zip(batch, texts, logits, strict=True):
                results[places[index]] = self._score(text, logit)
        return results

    def _score(self, text: TokenizedText, logit: float) -> Score | Unscorable:
        if not math.isfinite(logit):
            return Unscorable(
                "non_finite_score", f"the model's output for the text's {len(text.ids)} tokens is {logit}"
            )
        return Score(self.scale.score(logit), self.scale.int_score(logit), len(text.ids), text.truncated)

    def _check_against_own_forward(self) -> None:
        """Compare our logits in one batch with the model's own, one text at a time, on probes of different lengths.

        Raises:
            ValueError: they differ by more than the dtype's noise, or are not finite.
        """
        import torch

        probes = self._probes()
        sequences = [probe["input_ids"][0].tolist() for probe in probes]
        try:
            ours = self._logits(self.model, sequences).tolist()
            self.model.set_attn_implementation(self._own_attention)
            with torch.inference_mode():
                own = [self.model(**probe).logits[0, 0].item() for probe in probes]
        except ValueError as error:
            raise ValueError(f"model={self.config.model!r} cannot be scored with: {error}") from error
        finally:
            if self.packed:
                from datatrove_quality.packed import PACKED

                self.model.set_attn_implementation(PACKED)
        tolerance = SELF_CHECK_TOLERANCE[str(self.model.dtype).removeprefix("torch.")]
        for mine, reference, sequence in zip(ours, own, sequences, strict=True):
            # Not `>`: a NaN on either side must fail.
            if not abs(mine - reference) <= tolerance * max(1.0, abs(reference)):
                raise ValueError(
                    f"model={self.config.model!r}: self-check failed on a probe of {len(sequence)} tokens: our "
                    f"forward pass gives the logit {mine:.5f}, the model's own {reference:.5f}, more than {tolerance} "
                    f"apart ({type(self.model).__name__}, {self.model.dtype}, {self.model.device}). "
                    "Try dtype='float32' or another transformers or torch version, and report the model. "
                    "self_check=False scores anyway."
                )

    def _probes(self) -> list[dict[str, "torch.Tensor"]]:
        """Probe texts as the tokenizer alone prepares them: short ones, one beyond the window, one at `max_tokens`."""
        config = self.model.config.get_text_config()
        affordable = SELF_CHECK_FLOPS[self.model.device.type] / (4 * self.model.num_parameters())
        window = getattr(config, "sliding_window", None) or 0
        lengths = [length for length in (window + 7, self.renderer.max_tokens) if length <= affordable]
        texts = [(text, self.renderer.max_tokens) for text in PROBES]
        texts += [(" ".join(PROBES) * (length // 16 + 1), length) for length in lengths]
        probes = [
            self.renderer.tokenizer(
                text,
                return_tensors="pt",
                **self.renderer.tokenizer_arguments | {"max_length": min(length, self.renderer.max_tokens)},
            ).to(self.model.device)
            for text, length in texts
        ]
        return [probe for probe in probes if probe["input_ids"].shape[1] > 0]


def _characters(item: Input) -> int:
    if isinstance(item, str):
        return len(item)
    if not isinstance(item, list):
        return 0
    contents = (message.get("content") for message in item if isinstance(message, dict))
    return sum(len(content) for content in contents if isinstance(content, str))


def _load_model_config(config: ScorerConfig) -> "PreTrainedConfig":
    from transformers import AutoConfig

    with _explained(config):
        model_config = AutoConfig.from_pretrained(config.model, **_source(config))
    names = model_config.architectures or []
    if names and not any(name.endswith("ForSequenceClassification") for name in names):
        raise ValueError(
            f"model={config.model!r} is a {', '.join(names)}: give a sequence classifier with one regression output, "
            "such as Polygl0t/portuguese-qwen3-4b-instruct-quality-classifier."
        )
    if model_config.num_labels != 1:
        raise ValueError(
            f"model={config.model!r} has {model_config.num_labels} outputs: a quality score needs a classifier with "
            "one regression output (num_labels=1)."
        )
    return model_config


def _skeleton(config: ScorerConfig, model_config: "PreTrainedConfig") -> "PreTrainedModel":
    """The model without memory for its weights: its class, modules and shapes."""
    import torch
    from transformers import AutoModelForSequenceClassification

    with _explained(config), torch.device("meta"):
        return AutoModelForSequenceClassification.from_config(
            deepcopy(model_config), trust_remote_code=config.trust_remote_code
        )


def _load_tokenizer(config: ScorerConfig, skeleton: "PreTrainedModel") -> "PreTrainedTokenizerBase":
    from transformers import AutoTokenizer

    with _explained(config):
        tokenizer = AutoTokenizer.from_pretrained(config.model, **_source(config))
    # Where a folder has no tokenizer files, transformers makes up a tokenizer with an empty vocabulary.
    if not tokenizer(PROBES[0], add_special_tokens=False)["input_ids"]:
        raise ValueError(
            f"model={config.model!r}: its tokenizer makes no token of {PROBES[0]!r}; copy the classifier's own "
            "tokenizer files (tokenizer.json, tokenizer_config.json) into the model's folder."
        )
    tokens = max(tokenizer.get_vocab().values()) + 1
    embeddings = cast("nn.Embedding", skeleton.get_input_embeddings()).num_embeddings
    if tokens > embeddings:
        raise ValueError(
            f"model={config.model!r}: its tokenizer has {tokens} tokens and the model embeddings for {embeddings}: "
            "they do not belong together; copy the classifier's own tokenizer files."
        )
    return tokenizer


def _load_model(config: ScorerConfig, model_config: "PreTrainedConfig", device: "torch.device") -> "PreTrainedModel":
    """The classifier with all its weights, in the dtype asked for, on the device, for inference only."""
    import torch
    from transformers import AutoModelForSequenceClassification

    with _explained(config):
        model, report = AutoModelForSequenceClassification.from_pretrained(
            config.model,
            config=model_config,
            dtype=config.dtype,
            use_safetensors=True,
            output_loading_info=True,
            **_source(config),
        )
    if missing := sorted(report["missing_keys"]):
        raise ValueError(
            f"model={config.model!r} lacks the weights {', '.join(missing[:5])}: it has no trained score head, or is "
            "another kind of model. Give the folder or hub id of the trained classifier."
        )
    if config.dtype == "auto" and not native_dtype(device, model.dtype):
        logger.warning(
            f"{device} does not compute in {model.dtype} natively: using float32. Set dtype to choose yourself."
        )
        model = model.to(torch.float32)
    return model.to(device).eval().requires_grad_(False)


def _source(config: ScorerConfig) -> dict[str, Any]:
    return {"revision": config.revision or "main", "trust_remote_code": config.trust_remote_code}


@contextmanager
def _explained(config: ScorerConfig) -> Iterator[None]:
    """Turn what transformers raises while loading into an error that says what to do."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
        raise ValueError(
            f"model={config.model!r} cannot be loaded. {_what_to_do(config, str(error))}\n{error}"
        ) from error


def _what_to_do(config: ScorerConfig, error: str) -> str:
    is_path = config.model.startswith((".", "/", "~")) or config.model.count("/") > 1
    if not os.path.isdir(config.model) and (is_path or "Repo id must be" in error):
        return f"There is no folder {os.path.abspath(config.model)}: correct the path, or give a hub id 'org/name'."
    if "trust_remote_code" in error:
        return "It comes with code of its own, which is not run unless you set trust_remote_code=True."
    if "model.safetensors" in error or "pytorch_model.bin" in error:
        return "It has no safetensors weights, the only kind that is read: convert it with save_pretrained()."
    if "gated" in error or "401" in error or "403" in error:
        return "Ask for access on its hub page, then run `hf auth login` where the weights are fetched."
    if "connect" in error or "offline" in error.lower() or "Name or service" in error:
        return (
            f"The hub cannot be reached from here: run `hf download {config.model}` on a node that can, "
            "or give a local folder."
        )
    if "ignore_mismatched_sizes" in error:
        return "Its weights have other shapes than its config.json says: fetch both from the same place."
    if "allocate memory" in error or "out of memory" in error:
        return "There is not enough memory for its weights."
    if os.path.isdir(config.model):
        return (
            "The folder is not a whole classifier: it needs config.json, model.safetensors and the tokenizer's files."
        )
    return "Check the name and the revision on the hub."


def _token_limit(config: ScorerConfig, tokenizer: "PreTrainedTokenizerBase", skeleton: "PreTrainedModel") -> int:
    """How many tokens of a text are scored: what is asked for, checked, or the most that tokenizer and model take."""
    positions = _positions(skeleton)
    if config.max_tokens is None:
        return int(min(tokenizer.model_max_length, positions, NO_TOKEN_LIMIT))
    if config.max_tokens > positions:
        raise ValueError(
            f"model={config.model!r}, max_tokens={config.max_tokens}: the model has positions for {positions} tokens; "
            "set at most that."
        )
    return config.max_tokens


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


def _scale(config: ScorerConfig, model_config: "PreTrainedConfig") -> ScoreScale:
    """The scale asked for, else the one in the model's config.json, else the model card's."""
    if config.scale is not None:
        return config.scale
    stored = getattr(model_config, "score_scale", None)
    if stored is None:
        logger.info(f"{config.model} names no score_scale: using the model card's, {ScoreScale()}.")
        return ScoreScale()
    try:
        return ScoreScale(**stored)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"model={config.model!r}: score_scale={stored!r} in its config.json is no ScoreScale: {error}"
        ) from error
