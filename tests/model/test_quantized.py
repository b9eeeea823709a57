"""Layers that multiply 8-bit numbers: against integer arithmetic, and whole classifiers against float32."""

import pytest
import torch
from fake_cuda import int_products_of_cuda
from scorers import config_of, loaded, needs_int8, texts
from torch import nn

from datatrove_quality.config import ScorerConfig
from datatrove_quality.model import quantized
from datatrove_quality.model.quantized import CudaInt8Linear, Float8Linear, Int8Linear, LastRows


@pytest.fixture
def of_cuda(monkeypatch):
    """The rows of each product of CUDA's int8, here by the CPU: whole numbers are the same everywhere."""
    return int_products_of_cuda(monkeypatch)


INT8 = [Int8Linear, CudaInt8Linear]


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
@pytest.mark.parametrize("kind", INT8)
def test_int8_products(of_cuda, kind, bias):
    """A layer gives what integers give, for rows and outputs of any size."""
    own, rows = linear(bias=bias), rows_of()
    found, right = kind(own, LastRows())(rows[None]), by_integers(own, rows)
    assert found.shape == (1, 5, 40) and found.dtype == torch.float32
    assert torch.allclose(found[0].double(), right, rtol=1e-5, atol=1e-6)
    assert (found[0] - own(rows)).norm() < 0.02 * own(rows).norm()


@needs_int8
@torch.inference_mode()
@pytest.mark.parametrize("number", [0, 1, 16, 17, 33])
def test_int8_products_of_cuda(of_cuda, number):
    """In bfloat16, of any number of rows: CUDA multiplies no fewer than 17."""
    own, rows = linear(bias=False, dtype=torch.bfloat16), rows_of().repeat(7, 1)[:number].bfloat16()
    found, right = CudaInt8Linear(own, LastRows())(rows), by_integers(own, rows)
    assert found.shape == (number, 40) and found.dtype == torch.bfloat16
    ties = 2**-10 * rows.double().abs() @ own.weight.double().abs().t()  # which float32 may round otherwise
    assert ((found - right).abs() <= 2**-7 * right.abs() + ties).all()
    assert of_cuda == [max(number, quantized.LEAST_ROWS)]


@needs_int8
@pytest.mark.parametrize(("inputs", "outputs", "fits"), [(96, 40, True), (96, 44, False), (100, 40, False)])
def test_a_layer_whose_widths_do_not_fit_stays(of_cuda, inputs, outputs, fits):
    """CUDA multiplies int8 in eights."""
    assert (quantized._quantized(linear(inputs, outputs), CudaInt8Linear, LastRows()) is not None) == fits
    assert bool(of_cuda) == fits


@needs_int8
@torch.inference_mode()
@pytest.mark.parametrize("kind", INT8)
def test_a_row_does_not_depend_on_those_beside_it(of_cuda, kind):
    """Alone or among others, beside a row that is not finite: the same numbers; and such a row gives no number."""
    layer, rows = kind(linear(), LastRows()), rows_of()
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
@pytest.mark.parametrize("family", ["qwen3", "bert"])
def test_scores_in_int8_of_cuda(model_folder, monkeypatch, of_cuda, family):
    """The whole classifier, as it is to be on CUDA, on the CPU: near the scores in bfloat16, and known as its own."""
    folder, inputs = model_folder(family), texts(12, seed=4)
    exact = torch.tensor([score.score for score in loaded(config_of(folder, dtype="bfloat16")).score(inputs)])
    monkeypatch.setattr(quantized, "why_unusable", lambda dtype, device: None)
    one = loaded(config_of(folder, dtype="int8_bfloat16", fused=False))  # as on CUDA: linear layers are torch's
    of_cuda.clear()
    scores = torch.tensor([score.score for score in one.score(inputs)])
    assert 0 < (scores - exact).norm() / exact.norm() < 0.15
    assert one.fingerprint.parts["dtype"] == "int8_bfloat16" and one.model.dtype == torch.bfloat16
    assert len(of_cuda) >= sum(isinstance(layer, CudaInt8Linear) for layer in one.model.modules()) > 0


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
    ("dtype", "said"),
    [
        ("int8", "the processor has neither VNNI nor AMX"),
        ("float8", "it is for GPUs with CUDA"),
        ("int8_bfloat16", "it is for GPUs with CUDA"),
    ],
)
def test_a_device_that_has_none(model_folder, monkeypatch, dtype, said):
    """Refused, with what is missing."""
    for name in ("_is_vnni_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: False)
    with pytest.raises(ValueError, match=rf"dtype='{dtype}' cannot be used on cpu: {said}\. Give another dtype"):
        loaded(config_of(model_folder("qwen3"), dtype=dtype))


@pytest.mark.parametrize(
    ("dtype", "capability", "said"),
    [
        ("float8", (8, 9), None),
        ("float8", (9, 0), None),
        ("float8", (8, 0), "its compute capability is 8.0, and 8.9 is needed"),
        ("int8_bfloat16", (8, 0), None),
        ("int8_bfloat16", (7, 5), "its compute capability is 7.5, and 8.0 is needed"),
        ("int8", (9, 0), "it is for CPUs; with CUDA it is int8_bfloat16"),
    ],
)
def test_which_gpus_have_them(monkeypatch, dtype, capability, said):
    """Float8 from sm_89 on, int8 from sm_80 on; there all else is computed in bfloat16."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert quantized.why_unusable(dtype, torch.device("cuda", 0)) == said


def test_not_with_the_compiler():
    """Said at once."""
    with pytest.raises(ValueError, match="compile=True does not go with dtype='int8': omit one of them"):
        ScorerConfig(model="x/y", dtype="int8", compile=True)


@needs_int8
def test_a_logit_does_not_depend_on_what_others_begin_with(model_folder):
    """Nothing is shared in 8 bits: attention in parts differs in the last bit, which a rounding makes a step of."""
    scorer = loaded(config_of(model_folder("qwen3"), dtype="int8", tokens_per_batch=500))
    assert scorer.replicas[0].prefixes is None
    inputs = [" ".join(texts(9)[:6])[:120] + text for text in texts(20)]
    alone = [scorer.score([text])[0].score for text in inputs]
    assert [score.score for score in scorer.score(inputs)] == pytest.approx(alone, abs=1e-5)
