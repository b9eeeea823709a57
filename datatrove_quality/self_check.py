"""Our forward pass against the model's own, on a few texts, before the first score: this lets us take any decoder."""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from datatrove_quality.packed import is_packable, with_attention
from datatrove_quality.rendering import Renderer


if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


# What the check may cost on each kind of device, in floating-point operations: about two seconds.
AFFORDABLE_FLOPS = {"cpu": 2e11, "mps": 4e12, "cuda": 2e14}
LONGEST_PROBE = 8_192
TOLERANCE = {"float64": 1e-4, "float32": 1e-4, "float16": 0.1, "bfloat16": 0.1}
TEXTS = (
    "Qual é a capital de Portugal?",
    "A resposta curta nem sempre é a melhor: quem pergunta quer saber também por quê.",
    "One text is short; the next has numbers (3.14, 1,000,000), accents (àéîõü), code `f(x) = x**2`, an emoji 🙂.\n",
)


def require_own_logits(
    model: "PreTrainedModel",
    logits: "Callable[[PreTrainedModel, Sequence[Sequence[int]]], torch.Tensor]",
    renderer: Renderer,
    own_attention: str,
) -> None:
    """Compare our logits, all probes in one batch, with the model's own, one probe at a time.

    Args:
        model: the loaded classifier.
        logits: our forward pass.
        renderer: tokenizes the probes as it will tokenize documents.
        own_attention: the attention implementation that transformers chose for the model.

    Raises:
        ValueError: two logits differ by more than the dtype's noise, or are not finite; or the model asks attention
            for something that is not computed here.
    """
    inputs = probes(model, renderer)
    sequences = [probe["input_ids"][0].tolist() for probe in inputs]
    try:
        ours = logits(model, sequences).tolist()
        own = _own_logits(model, inputs, own_attention)
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"model={model.name_or_path!r} cannot be scored with: {error}") from error
    tolerance = TOLERANCE[str(model.dtype).removeprefix("torch.")]
    for mine, reference, sequence in zip(ours, own, sequences, strict=True):
        # Not `>`: a NaN on either side must fail.
        if not abs(mine - reference) <= tolerance * max(1.0, abs(reference)):
            raise ValueError(
                f"model={model.name_or_path!r}: self-check failed on a probe of {len(sequence)} tokens: our forward "
                f"pass gives the logit {mine:.5f}, the model's own {reference:.5f}, more than {tolerance} apart "
                f"({type(model).__name__}, {model.dtype}, {model.device}). Try dtype='float32' or another version of "
                "transformers or torch, and report the model. self_check=False scores anyway."
            )


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
    tokenized = [
        renderer.tokenizer(text, return_tensors="pt", **renderer.tokenizer_arguments | {"max_length": length})
        for text, length in texts
    ]
    return [probe.to(model.device) for probe in tokenized if probe["input_ids"].shape[1] > 0]


def _own_logits(model: "PreTrainedModel", inputs: list[Any], own_attention: str) -> list[float]:
    import torch

    with torch.inference_mode(), with_attention(model, own_attention if is_packable(model) else None):
        return [model(**probe).logits[0, 0].item() for probe in inputs]


def _affordable_tokens(model: "PreTrainedModel") -> int:
    """How long a probe may be: two passes cost 4 operations a weight and token, and attention grows by the square."""
    config = model.config.get_text_config()
    per_token = 4 * model.num_parameters()
    per_pair = 8 * (getattr(config, "num_hidden_layers", None) or 1) * (getattr(config, "hidden_size", None) or 1)
    budget = AFFORDABLE_FLOPS[model.device.type]
    return int((math.sqrt(per_token**2 + 4 * per_pair * budget) - per_token) / (2 * per_pair))
