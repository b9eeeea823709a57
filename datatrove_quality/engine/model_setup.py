"""A model with its weights becomes replicas that are ready to score: packed attention, fast norms, copies, checks."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from datatrove_quality.config import QUANTIZED, ScorerConfig
from datatrove_quality.engine.batching import packed_batches, padded_batches
from datatrove_quality.engine.lazy_model import LoadedModel
from datatrove_quality.engine.replicas import Forward, Replica, copy_to
from datatrove_quality.model.fingerprint import ProbeLogits
from datatrove_quality.model.found_model import FoundModel
from datatrove_quality.model.token_budget import tokens_per_batch


if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from datatrove_quality.model.shared_rows import SharedPrefixes


COPIED_WRONG = (
    "that device computes wrongly, or differs from the first. Leave it out of CUDA_VISIBLE_DEVICES, or set "
    "device='cuda:0'."
)
COMPILED_WRONG = "the compiled model computes something else."


def set_up(
    config: ScorerConfig, found: FoundModel, model: "PreTrainedModel", devices: "list[torch.device]"
) -> LoadedModel:
    """Make a model ready to score, and compare it with its own plain forward pass.

    Args:
        config: which classifier, and how.
        found: what `find_model` gave for the config.
        model: with its weights, on the first device. It is changed.
        devices: one for each replica.

    Raises:
        ValueError: our forward pass, a copy or the compiled model gives other logits; the message says what to do.
    """
    setup = _Setup(config, found, model)
    expected = setup.expected_before_norms()
    models = setup.replicate(devices)
    ours = setup.compare(models, expected)
    if config.compile:
        for one in models:
            setup.compile(one, ours)
    plan = packed_batches if found.packable else padded_batches
    budgets = [config.tokens_per_batch or tokens_per_batch(one) for one in models]
    replicas = [
        Replica(one, setup.forward, plan, budget, prefixes)
        for one, budget, prefixes in zip(models, budgets, setup.share_prefixes(models), strict=True)
    ]
    if config.dtype in QUANTIZED:
        ours = setup.quantize(models, ours)
    return LoadedModel(replicas, ours, setup.attention, setup.own_attention)


def own_attention(model: "PreTrainedModel") -> str:
    """The attention implementation with which a model's own forward pass is right.

    Before 5.22 transformers chose SDPA for Gemma 2, which drops its soft cap.
    """
    chosen: str = model.config._attn_implementation
    has_soft_cap = getattr(model.config.get_text_config(), "attn_logit_softcapping", None) is not None
    return "eager" if has_soft_cap and chosen == "sdpa" else chosen


class _Setup:
    """The steps of `set_up`, in order, and what they share.

    Args:
        config: which classifier, and how.
        found: what `find_model` gave for the config.
        model: on the first device.
    """

    def __init__(self, config: ScorerConfig, found: FoundModel, model: "PreTrainedModel"):
        from datatrove_quality.model.attention import PACKED
        from datatrove_quality.model.forward import packed_logits, padded_logits
        from datatrove_quality.model.self_check import probes

        self._self_check = config.self_check
        self._refuse_constant = not config.allow_constant_scores
        self._fused = config.fused and not config.compile
        self._packed = found.packable
        self._dtype = config.dtype
        self._max_tokens = found.renderer.max_tokens
        self._model = model
        self.own_attention = own_attention(model)
        self.forward: Forward = packed_logits if self._packed else padded_logits
        if self._packed:
            model.set_attn_implementation(PACKED)
        self._probes: list[Any] = probes(model, found.renderer)

    @property
    def attention(self) -> str:
        """What attention runs on, for the log."""
        from datatrove_quality.model.attention import kernel_name

        return kernel_name(self._model) if self._packed else self.own_attention

    def expected_before_norms(self) -> list[list[float] | None] | None:
        """The model's own logits with its own norms; None where they say nothing about ours.

        In half precision a norm that rounds otherwise moves a logit further than the check allows between two forward
        passes with the same norms: there both sides are computed with the replaced norms.
        """
        return self._own_logits() if self._self_check and self._model.dtype.itemsize > 2 else None

    def replicate(self, devices: "list[torch.device]") -> "list[PreTrainedModel]":
        """The model with fused parts, and a copy of it on each further device; they pool early where they can."""
        from datatrove_quality.model.forward import pool_in_last_layer
        from datatrove_quality.model.fused import use_fused_functions
        from datatrove_quality.model.norms import use_fast_norms
        from datatrove_quality.model.self_check import can_pool_in_last_layer

        use_fast_norms(self._model)
        if self._fused:
            use_fused_functions(self._model, self.forward, self._probes)
        copies = [copy_to(self._model, device) for device in devices[1:]]
        if self._packed and can_pool_in_last_layer(self._model, self.forward, self._probes):
            for copied in copies:
                pool_in_last_layer(copied)
        return [self._model, *copies]

    def compare(self, models: "list[PreTrainedModel]", expected: list[list[float] | None] | None) -> ProbeLogits:
        """What the first replica gives on the probes, compared with the model's own logits and with each copy's.

        Raises:
            ValueError: they differ by more than rounding, or are the same for all probes.
        """
        from datatrove_quality.model import self_check

        ours = self_check.probe_logits(self._model, self.forward, self._probes)
        if self._refuse_constant:
            self_check.require_varied_logits(self._model, ours)
        if self._self_check:
            self_check.require_own_logits(self._model, ours, expected or self._own_logits())
            for copied in models[1:]:
                self_check.require_same_logits(copied, self.forward, self._probes, ours, COPIED_WRONG)
        return ours

    def compile(self, model: "PreTrainedModel", expected: ProbeLogits) -> None:
        """Compile a replica's layers and compare it with what it gave before.

        Raises:
            ValueError: there is no compiler, it fails, or what it made gives other logits.
        """
        from datatrove_quality.model.forward import compile_layers
        from datatrove_quality.model.self_check import require_same_logits

        try:
            compile_layers(model)
            # The compiler makes code of its own for a batch of one.
            for some in (self._probes, self._probes[:1]):
                require_same_logits(model, self.forward, some, expected, COMPILED_WRONG)
        except Exception as error:  # no compiler, one that fails, or code that is wrong
            raise ValueError(f"compile=True does not work here: {error!s:.500}\nSet compile=False.") from error

    def quantize(self, models: "list[PreTrainedModel]", expected: ProbeLogits) -> ProbeLogits:
        """What the first replica gives on the probes once all multiply in 8 bits; comes after all exact checks."""
        from datatrove_quality.model.quantized import quantize

        ours = [quantize(one, self._dtype, self.forward, self._probes, expected) for one in models]
        return ours[0]

    def share_prefixes(self, models: "list[PreTrainedModel]") -> "Sequence[SharedPrefixes | None]":
        """What has each replica compute once what texts begin with alike; None for all where one cannot.

        Attention in parts differs in the last bit, which rounding to 8 bits may turn into a whole step: there a logit
        would depend on what is shared, and a proxy's scores would not be those that it was calibrated with.
        """
        from datatrove_quality.model.self_check import shared_prefixes

        if not self._packed or self._dtype in QUANTIZED:
            return [None] * len(models)
        found = [shared_prefixes(model, self.forward, self._probes, self._max_tokens) for model in models]
        return found if all(found) else [None] * len(models)

    def _own_logits(self) -> list[list[float] | None]:
        from datatrove_quality.model.self_check import own_logits

        return own_logits(self._model, self._probes, self.own_attention)
