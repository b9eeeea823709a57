"""A classifier's tokenizer, made to give one text the same tokens on each call and under each version of transformers.

Two things are settled here. Subword sampling (BPE dropout, SentencePiece's `enable_sampling`) is for training language
models; with it one text has another score on each call. And where tokenizer_config.json and the tokens themselves
contradict each other about the BOS token, versions of transformers do too, and only the user knows how the model was
trained.
"""

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loguru import logger

from datatrove_quality.config import ScorerConfig


if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


SAMPLE_TEXT = "Qual é a capital de Portugal?"
# Long enough that random tokens differ in some call, and short enough to cost nothing.
RANDOM_SAMPLE = 8 * f"{SAMPLE_TEXT} Explique a fotossíntese em três frases, por favor. "
CALLS = 4
SAMPLING = ("enable_sampling", "nbest_size", "alpha")


def load_tokenizer(place: str | Path, **source: Any) -> "tuple[PreTrainedTokenizerBase, dict[str, Any]]":
    """A tokenizer without SentencePiece's sampling, and what its tokenizer_config.json says.

    Args:
        place: hub id or folder.
        source: further arguments of `from_pretrained`, such as the revision.
    """
    from transformers import AutoTokenizer
    from transformers.models.auto.tokenization_auto import get_tokenizer_config

    stored = get_tokenizer_config(place, **source)
    if not _samples(stored):
        return AutoTokenizer.from_pretrained(place, **source), stored
    certain = {name: value for name, value in stored["sp_model_kwargs"].items() if name not in SAMPLING}
    return AutoTokenizer.from_pretrained(place, **source, sp_model_kwargs=certain), stored


def settle_tokens(
    config: ScorerConfig, tokenizer: "PreTrainedTokenizerBase", stored: dict[str, Any]
) -> dict[str, Any]:
    """Make a tokenizer give the same tokens on each call, with the chosen BOS token.

    Args:
        config: for its `model`, `add_special_tokens` and `add_bos_token`.
        tokenizer: is changed.
        stored: what its tokenizer_config.json says.

    Returns:
        What affects its tokens beside its files, by name, for the fingerprint.

    Raises:
        ValueError: its files contradict each other and nothing was chosen, the choice cannot be applied, or its tokens
            are random; names the model and the fix.
    """
    changes: dict[str, Any] = {}
    if _switch_sampling_off(tokenizer, stored):
        changes["sampling"] = "off"
        _say_sampling_is_off(config.model)
    _require_same_tokens(config.model, tokenizer)
    if config.add_special_tokens:
        if _settle_bos(config.model, tokenizer, stored, config.add_bos_token):
            changes["add_bos_token"] = config.add_bos_token
        _require_stored_eos(config.model, tokenizer, stored)
    if tokenizer.truncation_side == "left":
        changes["truncation_side"] = "left"
    return changes


@cache
def _say_sampling_is_off(model: str) -> None:
    """Say it once per process."""
    logger.warning(
        f"{model}: its tokenizer has subword sampling switched on (BPE dropout, enable_sampling), which gives one "
        "text other tokens on each call. It is switched off."
    )


def _samples(stored: dict[str, Any]) -> bool:
    """Whether a tokenizer_config.json switches SentencePiece's sampling on."""
    arguments = stored.get("sp_model_kwargs")
    return isinstance(arguments, dict) and bool(arguments.get("enable_sampling"))


def _switch_sampling_off(tokenizer: "PreTrainedTokenizerBase", stored: dict[str, Any]) -> bool:
    """Switch BPE dropout off; gives whether that or SentencePiece's sampling, which is off already, was on."""
    if not tokenizer.is_fast:
        return _samples(stored)
    model = tokenizer.backend_tokenizer.model
    if not getattr(model, "dropout", None):
        return False
    model.dropout = None
    return True


def _settle_bos(model: str, tokenizer: "PreTrainedTokenizerBase", stored: dict[str, Any], chosen: bool | None) -> bool:
    """Give texts the BOS token or not, as chosen; gives whether the choice decided anything."""
    bos = tokenizer.bos_token_id
    if bos is None:
        if chosen:
            raise ValueError(f"model={model!r}, add_bos_token=True: its tokenizer has no BOS token; omit it.")
        return False
    gives, says = _gives(tokenizer, bos, 0), stored.get("add_bos_token")
    is_contradictory = isinstance(says, bool) and says != gives
    if chosen is None and is_contradictory:
        raise ValueError(
            f'model={model!r}: its tokenizer_config.json says "add_bos_token": {json.dumps(says)}, and its tokens '
            f"{'begin' if gives else 'do not begin'} with {tokenizer.bos_token!r}. Versions of transformers differ in "
            "which of the two they follow: set add_bos_token=True (--add-bos-token) if the classifier was trained "
            "with that token before each text, else add_bos_token=False (--no-add-bos-token)."
        )
    if chosen is None or (chosen == gives and not is_contradictory):
        return False
    if chosen != gives:
        _set_bos(tokenizer, chosen)
        if _gives(tokenizer, bos, 0) != chosen:
            raise ValueError(
                f"model={model!r}, add_bos_token={chosen}: its tokenizer, a {type(tokenizer).__name__}, does not take "
                "that; save it with a post-processor that does."
            )
    return True


def _set_bos(tokenizer: "PreTrainedTokenizerBase", adds: bool) -> None:
    if not tokenizer.is_fast:
        setattr(tokenizer, "add_bos_token", adds)  # noqa: B010  # where the class knows it
        return
    from tokenizers import Tokenizer, processors

    backend, token = tokenizer.backend_tokenizer, str(tokenizer.bos_token)
    if not adds:
        state = json.loads(backend.to_str())
        _remove_first(state["post_processor"], token)
        backend.post_processor = Tokenizer.from_str(json.dumps(state)).post_processor
        return
    special = [(token, tokenizer.bos_token_id)]
    first = processors.TemplateProcessing(single=[token, "$A"], pair=[token, "$A", "$B:1"], special_tokens=special)
    before = backend.post_processor
    backend.post_processor = first if before is None else processors.Sequence([before, first])


def _remove_first(processor: Any, token: str) -> None:
    """Take a token from the beginning of what the state of a post-processor puts around a text."""
    if not isinstance(processor, dict):
        return
    for inner in processor.get("processors", ()):
        _remove_first(inner, token)
    for kind in ("single", "pair"):
        pieces = processor.get(kind)
        if pieces and pieces[0].get("SpecialToken", {}).get("id") == token:
            del pieces[0]


def _require_stored_eos(model: str, tokenizer: "PreTrainedTokenizerBase", stored: dict[str, Any]) -> None:
    """The same contradiction about the last token, on which a decoder's score is computed."""
    eos = tokenizer.eos_token_id
    if stored.get("add_eos_token") is True and eos is not None and not _gives(tokenizer, eos, -1):
        raise ValueError(
            f"model={model!r}: its tokenizer_config.json says add_eos_token=True, and its tokens do not end with "
            f"{tokenizer.eos_token!r}. Versions of transformers differ in which of the two they follow: if the "
            "classifier was trained with that token, load the tokenizer, set tokenizer.add_eos_token = True and save "
            "it; else remove add_eos_token from tokenizer_config.json."
        )


def _gives(tokenizer: "PreTrainedTokenizerBase", token: int, place: int) -> bool:
    """Whether the tokenizer puts a token before (place 0) or behind (place -1) a text."""
    ids = tokenizer(SAMPLE_TEXT, verbose=False)["input_ids"]
    return bool(ids) and ids[place] == token


def _require_same_tokens(model: str, tokenizer: "PreTrainedTokenizerBase") -> None:
    first, *others = (tokenizer(RANDOM_SAMPLE, verbose=False)["input_ids"] for _ in range(CALLS))
    if any(ids != first for ids in others):
        raise ValueError(
            f"model={model!r}: its tokenizer gives one and the same text other tokens on each call: switch subword "
            "sampling off in its files; scores would be random."
        )
