"""Our forward pass against the model's own, on a few texts, before the first score: this lets us take any decoder."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from loguru import logger

from datatrove_quality.model.architectures import is_packable
from datatrove_quality.model.devices import current_device
from datatrove_quality.model.fingerprint import ProbeLogits
from datatrove_quality.model.forward import pool_after_last_layer, pool_in_last_layer, with_attention
from datatrove_quality.model.prefixes import MIN_SHARED
from datatrove_quality.model.rendering import Renderer
from datatrove_quality.model.shared_rows import SharedPrefixes
from datatrove_quality.model.trunk import all_logits


if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    Logits = Callable[..., torch.Tensor]


# What the check may cost on each kind of device, in floating-point operations: about two seconds.
AFFORDABLE_FLOPS = {"cpu": 2e11, "mps": 4e12, "cuda": 2e14}
LONGEST_PROBE = 8_192
# Three segments, one behind the other, that are long enough to be shared.
SHARED_PROBE = 3 * MIN_SHARED
TOLERANCE = {"float64": 1e-4, "float32": 1e-4, "float16": 0.1, "bfloat16": 0.1}
# Of different texts: what a model gives that does not look at them; a trained one is far from it in any dtype.
SAME = 1e-6
TEXTS = (
    "Qual é a capital de Portugal?",
    "A resposta curta nem sempre é a melhor: quem pergunta quer saber também por quê.",
    "One text is short; the next has numbers (3.14, 1,000,000), accents (àéîõü), code `f(x) = x**2`, an emoji 🙂.\n",
)


def probe_logits(model: "PreTrainedModel", logits: "Logits", inputs: list[Any]) -> ProbeLogits:
    """What our forward pass gives for the probes, all in one batch.

    Args:
        model: the loaded classifier.
        logits: our forward pass.
        inputs: the probes.

    Returns:
        The number of tokens and the logits of each.

    Raises:
        ValueError: the model's attention needs something that is not computed here.
    """
    sequences = [probe["input_ids"][0].tolist() for probe in inputs]
    with _scorable(model):
        return list(zip(map(len, sequences), logits(model, sequences).tolist(), strict=True))


def can_pool_in_last_layer(model: "PreTrainedModel", logits: "Logits", inputs: list[Any]) -> bool:
    """Whether `pool_in_last_layer`, which stays applied if so, changes nothing about the probes' logits.

    Args:
        model: a decoder with packed attention.
        logits: our forward pass.
        inputs: the probes.

    Raises:
        ValueError: the model cannot be scored with at all, see `probe_logits`.
    """
    plain = probe_logits(model, logits, inputs)
    try:
        pool_in_last_layer(model)
        pooled = probe_logits(model, logits, inputs)
        if all(_near(here, there, model.dtype) for (_, here), (_, there) in zip(pooled, plain, strict=True)):
            return True
        why = "it would change its scores"
    except Exception as error:  # a layer may use its cache, or its arguments, in any way of its own
        why = str(error) or repr(error)
    pool_after_last_layer(model)
    logger.info(f"{type(model).__name__} computes all tokens in its last layer too: {why:.200}")
    return False


def shared_prefixes(
    model: "PreTrainedModel", logits: "Logits", inputs: list[Any], max_tokens: int
) -> SharedPrefixes | None:
    """What computes once what sequences begin with alike; None where that would change logits, which the log says.

    Args:
        model: a decoder with packed attention, as it will score.
        logits: our forward pass.
        inputs: the probes.
        max_tokens: the longest sequence that the model will be given; short ones share too little.
    """
    ids = [token for probe in inputs for token in probe["input_ids"][0].tolist()]
    window = getattr(model.config.get_text_config(), "sliding_window", None) or 0
    beyond_window = min(window + SHARED_PROBE, max_tokens)
    lengths = {SHARED_PROBE, beyond_window if 2 * beyond_window <= _affordable_tokens(model) else SHARED_PROBE}
    if not ids or max_tokens < SHARED_PROBE:
        return None
    prefixes = SharedPrefixes(model)
    try:
        for length in sorted(lengths):
            repeated = ids * (length // len(ids) + 1)
            differences = _differences_by_sharing(model, logits, prefixes, repeated[:length])
            if differences:
                raise ValueError(f"it would change a logit from {differences[0][0]} to {differences[0][1]}")
    except Exception as error:  # a layer may take attention's arguments in any way of its own
        logger.info(f"{type(model).__name__} computes what texts begin with alike for each text: {error!s:.300}")
        return None
    return prefixes


def _differences_by_sharing(
    model: "PreTrainedModel", logits: "Logits", prefixes: SharedPrefixes, ids: list[int]
) -> list[tuple[str, str]]:
    """Logits without and with sharing that differ, of texts that share two levels, in their batch and the next."""
    most, least = len(ids) - MIN_SHARED // 2, len(ids) // 2
    texts = [ids, ids[:most] + ids[:8], ids[:least] + ids[:12]]
    with _scorable(model):
        row = prefixes.row(texts, kept=least)
        shared = logits(model, texts, row=row).tolist()
        prefixes.hold(row)
        row = prefixes.row(texts[:2])
        shared += logits(model, texts[:2], row=row).tolist()
        prefixes.hold(row)
        whole = logits(model, texts).tolist()
    pairs = zip([*whole, *whole[:2]], shared, strict=True)
    return [(_shown(one), _shown(other)) for one, other in pairs if not _near(other, one, model.dtype)]


def own_logits(
    model: "PreTrainedModel", inputs: list[Any], own_attention: str, heads: "Sequence[PreTrainedModel]" = ()
) -> list[list[float] | None]:
    """What the model's own forward pass gives for the probes, one at a time; None where memory is too small for it.

    Without a kernel that spares it, attention to a long probe takes more memory than a batch of ours ever does.

    Args:
        model: the loaded classifier.
        inputs: the probes.
        own_attention: the attention implementation that transformers chose for the model.
        heads: further ones of the same trunk; their logits come after the model's own.

    Raises:
        ValueError: the model cannot be scored with at all.
    """
    import torch

    def logits(probe: Any) -> list[float] | None:
        try:
            return all_logits(model, heads, **probe)[0].float().tolist()
        except torch.OutOfMemoryError:
            logger.info(f"The self-check leaves out a probe: plain attention to it does not fit into {model.device}.")
            return None

    attention = with_attention(model, own_attention if is_packable(model) else None)
    with _scorable(model), torch.inference_mode(), attention:
        return [logits(probe) for probe in inputs]


def require_own_logits(model: "PreTrainedModel", ours: ProbeLogits, own: list[list[float] | None]) -> None:
    """Compare our logits with the model's own.

    Args:
        model: the loaded classifier.
        ours: what `probe_logits` gave.
        own: what `own_logits` gave.

    Raises:
        ValueError: two logits differ by more than the dtype's noise, or are not finite.
    """
    for (tokens, mine), reference in zip(ours, own, strict=True):
        if reference is None or _near(mine, reference, model.dtype):
            continue
        where = f"({type(model).__name__}, {model.dtype}, {model.device})"
        failed = f"model={model.name_or_path!r}: self-check failed on a probe of {tokens} tokens"
        if not all(map(math.isfinite, reference)):
            raise ValueError(
                f"{failed}: the model's own forward pass gives the logit {_shown(reference)} {where}. Its weights are "
                "damaged, unless they need another dtype: fetch or save it again, or try dtype='float32'."
            )
        raise ValueError(
            f"{failed}: our forward pass gives the logit {_shown(mine)}, the model's own {_shown(reference)}, more "
            f"than {_tolerance(model.dtype)} apart {where}. Try dtype='float32' or another version of transformers or "
            "torch, and report the model. In Python, ScorerConfig(self_check=False) scores anyway."
        )


def require_varied_logits(model: "PreTrainedModel", ours: ProbeLogits) -> None:
    """Refuse a model that gives every probe the same logit, as one whose head or body is zeros or was cut does.

    Args:
        model: the loaded classifier.
        ours: what `probe_logits` gave.

    Raises:
        ValueError: all logits are the same.
    """
    outputs = list(zip(*(logits for _, logits in ours), strict=True))
    if len(ours) > 1 and all(map(_is_constant, outputs)):
        raise ValueError(
            f"model={model.name_or_path!r} gives {len(ours)} different texts one and the same logit, "
            f"{_shown(ours[0][1])}: its weights are damaged or were never trained. Fetch or save it again; "
            "allow_constant_scores=True (--allow-constant-scores) scores anyway."
        )


def require_same_logits(
    model: "PreTrainedModel", logits: "Logits", inputs: list[Any], expected: ProbeLogits, otherwise: str
) -> None:
    """Compare what a model gives, copied to another device or compiled, with what it gave before.

    Args:
        model: the copied or compiled model.
        logits: our forward pass.
        inputs: the probes, on any device.
        expected: what `probe_logits` gave before for these probes, and maybe for more behind them.
        otherwise: what is wrong, and what to do, if it gives something else.

    Raises:
        ValueError: two logits differ by more than the dtype's noise.
    """
    for (tokens, here), (_, there) in zip(probe_logits(model, logits, inputs), expected, strict=False):
        if not _near(here, there, model.dtype):
            raise ValueError(
                f"model={model.name_or_path!r}: on a probe of {tokens} tokens {model.device} gives the logit "
                f"{_shown(here)} where {_shown(there)} is right: {otherwise}"
            )


def far_apart(ours: ProbeLogits, expected: ProbeLogits, allowed: float) -> tuple[str, str] | None:
    """The first logits, ours and those expected, that are further apart than a share of their size; None: no two."""
    pairs = zip(ours, expected, strict=True)
    far = ((_shown(mine), _shown(other)) for (_, mine), (_, other) in pairs if not _within(mine, other, allowed))
    return next(far, None)


def agree(ours: ProbeLogits, others: ProbeLogits, dtype: "torch.dtype") -> bool:
    """Whether two versions of the libraries give the same on the probes, but for the dtype's noise.

    Only the short probes run on every device; a long one is compared where both have it.
    """
    if len(ours) < len(TEXTS) or len(others) < len(TEXTS):
        return False
    pairs = list(zip(ours, others, strict=False))
    same_texts = all(mine[0] == other[0] for mine, other in pairs[: len(TEXTS)])
    return same_texts and all(_near(mine[1], other[1], dtype) for mine, other in pairs if mine[0] == other[0])


def probes(model: "PreTrainedModel", renderer: Renderer) -> list[Any]:
    """Probe texts as the tokenizer alone prepares them: short ones, one beyond the window, one at `max_tokens`.

    Long ones are left out where they would take the model more than a few seconds.
    """
    window = getattr(model.config.get_text_config(), "sliding_window", None) or 0
    longest = min(LONGEST_PROBE, _affordable_tokens(model))
    lengths = [length for length in (window + 7, renderer.max_tokens) if length <= longest]
    texts = [(text, renderer.max_tokens) for text in TEXTS]
    # Sixteen tokens are less than the texts together make with any tokenizer, so that each length is filled.
    texts += [(" ".join(TEXTS) * (length // 16 + 1), min(length, renderer.max_tokens)) for length in lengths]
    tokenized = [renderer.model_inputs(text, length) for text, length in texts]
    return [probe.to(model.device) for probe in tokenized if probe["input_ids"].shape[1] > 0]


@contextmanager
def _scorable(model: "PreTrainedModel") -> Iterator[None]:
    before = _settings(model)
    try:
        with current_device(model.device):
            yield
    except Exception as error:  # a forward pass raises whatever comes of a configuration that is nonsense
        said = str(error) if isinstance(error, ValueError | RuntimeError) else f"{type(error).__name__}: {error}"
        raise ValueError(f"model={model.name_or_path!r} cannot be scored with: {said}") from error
    after = _settings(model)
    if changed := sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name)):
        raise ValueError(
            f"model={model.name_or_path!r} cannot be scored with: scoring a text changes its own settings "
            f"({changed[0]} was {before.get(changed[0])!r}, is now {after.get(changed[0])!r}), so that scores would "
            "depend on the texts before."
        )


def _settings(model: "PreTrainedModel") -> dict[str, Any]:
    """All plain values that the modules and the configuration hold, by name; a forward pass must leave them alone."""
    found = {
        f"{name}.{key}".lstrip("."): value
        for name, module in model.named_modules()
        for key, value in vars(module).items()
        if not key.startswith("_") and isinstance(value, str | int | float | None)
    }
    return found | {f"config.{key}": repr(value) for key, value in model.config.to_dict().items()}


def _near(one: list[float], other: list[float], dtype: "torch.dtype") -> bool:
    return _within(one, other, _tolerance(dtype))


def _within(one: list[float], other: list[float], tolerance: float) -> bool:
    # Not `>`: a NaN on either side must fail.
    pairs = zip(one, other, strict=False)
    return len(one) == len(other) and all(abs(a - b) <= tolerance * max(1.0, abs(b)) for a, b in pairs)


def _is_constant(values: Sequence[float]) -> bool:
    """Whether an output is the same for all probes."""
    return all(map(math.isfinite, values)) and max(values) - min(values) <= SAME * max(1.0, abs(values[0]))


def _shown(logits: Sequence[float]) -> str:
    return ", ".join(f"{logit:.5f}" for logit in logits)


def _tolerance(dtype: "torch.dtype") -> float:
    return TOLERANCE[str(dtype).removeprefix("torch.")]


def _affordable_tokens(model: "PreTrainedModel") -> int:
    """How long a probe may be: two passes cost 4 operations a weight and token, and attention grows by the square."""
    config = model.config.get_text_config()
    per_token = 4 * model.num_parameters()
    per_pair = 8 * (getattr(config, "num_hidden_layers", None) or 1) * (getattr(config, "hidden_size", None) or 1)
    budget = AFFORDABLE_FLOPS[model.device.type]
    return int((math.sqrt(per_token**2 + 4 * per_pair * budget) - per_token) / (2 * per_pair))
