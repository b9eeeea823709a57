"""Layers that multiply 8-bit numbers: against integer arithmetic, and whole classifiers against float32."""

import pytest
import torch
from scorers import config_of, loaded, needs_int8, texts
from torch import nn

from datatrove_quality.config import ScorerConfig
from datatrove_quality.model import quantized
from datatrove_quality.model.quantized import Float8Linear, Int8Linear, LastRows


def linear(inputs=96, outputs=40, bias=True, dtype=torch.float32):
    torch.manual_seed(1)
    own = nn.Linear(inputs, outputs, bias=bias).requires_grad_(False)
    own.weight.data *= torch.logspace(-3, 3, outputs)[:, None]  # outputs of very different sizes
    return own.to(dtype)


def rows_of(inputs=96):
    rows = torch.randn(5, inputs, generator=torch.Generator().manual_seed(2))
    rows[1] *= 1000
    rows[2, 7] = 80.0
    rows[3] = 0.0
    return rows


def by_integers(own, rows):
    """The same in whole numbers: each row, and each output's weights, from -127 to 127 times a scale."""
    row_scales = rows.abs().amax(1, keepdim=True).clamp_min(1e-30).double() / 127
    scales = own.weight.abs().amax(1).double() / 127
    products = (rows.double() / row_scales).round().long() @ (own.weight.double() / scales[:, None]).round().long().t()
    return products.double() * row_scales * scales + (0 if own.bias is None else own.bias)


@needs_int8
@torch.inference_mode()
@pytest.mark.parametrize("bias", [True, False])
def test_int8_products(bias):
    """A layer gives what integers give, for rows and outputs of any size."""
    own, rows = linear(bias=bias), rows_of()
    found, right = Int8Linear(own, LastRows())(rows[None]), by_integers(own, rows)
    assert found.shape == (1, 5, 40) and found.dtype == torch.float32
    assert torch.allclose(found[0].double(), right, rtol=1e-5, atol=1e-6)
    assert (found[0] - own(rows)).norm() < 0.02 * own(rows).norm()


@needs_int8
@torch.inference_mode()
def test_a_row_does_not_depend_on_those_beside_it():
    """Alone or among others, beside a row that is not finite: the same numbers; and such a row gives no number."""
    layer, rows = Int8Linear(linear(), LastRows()), rows_of()
    rows[4, 3], rows[2, 1] = torch.nan, torch.inf
    together = layer(rows)
    for at in (0, 1, 3):
        assert torch.equal(layer(rows[at : at + 1])[0], together[at])
    assert not together[[2, 4]].isfinite().any()


@needs_int8
@torch.inference_mode()
def test_rows_are_quantized_once_for_several_layers():
    """Layers that follow each other and are given one tensor share its numbers; another tensor has its own."""
    last = LastRows()
    layers = [Int8Linear(linear(outputs=outputs), last) for outputs in (8, 16)]
    first, second = rows_of(), rows_of() * 2
    for rows in (first, second, first):
        for layer in layers:
            assert torch.equal(layer(rows), Int8Linear(linear(outputs=layer.out_features), LastRows())(rows))


@torch.inference_mode()
def test_float8_products():
    """As they are to be on CUDA, by torch's own float8 product on the CPU."""
    own, rows = linear(32, 48, dtype=torch.bfloat16), rows_of(32).bfloat16()
    layer = Float8Linear(own, LastRows())
    try:
        found = layer(rows).double()
    except (RuntimeError, NotImplementedError) as error:
        pytest.skip(f"this torch has no float8 products on CPUs: {error!s:.80}")

    def numbers(values):
        scales = values.double().abs().amax(1, keepdim=True).clamp_min(1e-30) / 448
        return (values.double() / scales).float().to(torch.float8_e4m3fn).double() * scales

    right = numbers(rows) @ numbers(own.weight).t() + own.bias.double()
    assert ((found - right).abs() <= 2**-6 * right.abs().amax(1, keepdim=True)).all()
    assert layer.numbers.dtype == torch.float8_e4m3fn


@needs_int8
@pytest.mark.parametrize("family", ["qwen3", "gemma2", "bert"])
def test_scores_in_int8(model_folder, family):
    """Near those of float32, not the same; the same in any batch; and known as their own."""
    folder, inputs = model_folder(family), texts(12, seed=4)
    exact = [score.score for score in loaded(config_of(folder)).score(inputs)]
    one = loaded(config_of(folder, dtype="int8", tokens_per_batch=200))
    scores = [score.score for score in one.score(inputs)]
    far = (torch.tensor(scores) - torch.tensor(exact)).norm() / torch.tensor(exact).norm()
    assert 0 < far < 0.15  # random classifiers are more sensitive than trained ones
    assert [one.score([text])[0].score for text in inputs] == pytest.approx(scores, abs=0.01)
    assert one.fingerprint.parts["dtype"] == "int8"
    assert any(isinstance(layer, Int8Linear) for layer in one.model.modules())
    assert type(getattr(one.model, "score", None) or one.model.classifier) is nn.Linear


@needs_int8
def test_wrong_products_are_found(model_folder, monkeypatch):
    """Such as a processor without VNNI gives, whose sums of two products overflow, whatever it says of itself."""
    real = Int8Linear.product

    def wrong(self, rows, row_scales, dtype):
        return real(self, rows, row_scales, dtype) * 1.001

    monkeypatch.setattr(Int8Linear, "product", wrong)
    with pytest.raises(ValueError, match=r"dtype='int8' cannot be used on cpu .*products of .* are wrong"):
        loaded(config_of(model_folder("qwen3"), dtype="int8"))


@needs_int8
def test_a_layer_that_needs_more_bits_stays():
    """One weight a hundred times the others of its output leaves too little of them in 8 bits."""
    own = linear(inputs=1024)
    own.weight.data[:, 0] = own.weight.data.abs().amax(1) * 100
    assert quantized._quantized(own, Int8Linear, LastRows()) is None
    assert quantized._quantized(linear(inputs=1024), Int8Linear, LastRows()) is not None


@needs_int8
def test_a_model_that_int8_changes_too_much_is_refused(model_folder, monkeypatch):
    """The probes' logits are compared with those of float32."""
    monkeypatch.setattr(quantized, "ALLOWED", 1e-9)
    with pytest.raises(
        ValueError, match=r"dtype='int8' moves the logit of a probe from .* to .*\. Give another dtype"
    ):
        loaded(config_of(model_folder("qwen3"), dtype="int8"))


@pytest.mark.parametrize(
    ("dtype", "said"), [("int8", "the processor has neither VNNI nor AMX"), ("float8", "it is for GPUs with CUDA")]
)
def test_a_device_that_has_none(model_folder, monkeypatch, dtype, said):
    """Refused, with what is missing."""
    for name in ("_is_vnni_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: False)
    with pytest.raises(ValueError, match=rf"dtype='{dtype}' cannot be used on cpu: {said}\. Give another dtype"):
        loaded(config_of(model_folder("qwen3"), dtype=dtype))


@pytest.mark.parametrize(("capability", "said"), [((8, 9), None), ((9, 0), None), ((8, 0), "8.0, and 8.9 is needed")])
def test_which_gpus_have_float8(monkeypatch, capability, said):
    """From sm_89 on."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    why = quantized.why_unusable("float8", torch.device("cuda", 0))
    assert why is None if said is None else why.endswith(said)
    assert quantized.why_unusable("int8", torch.device("cuda", 0)) == "it is for CPUs"


def test_not_with_the_compiler():
    """Said at once."""
    with pytest.raises(ValueError, match="compile=True does not go with dtype='int8': omit one of them"):
        ScorerConfig(model="x/y", dtype="int8", compile=True)
