"""The CUDA path on a real device: the card's scores, through a flash kernel, whatever the batch."""

from collections import Counter

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import DECODERS, WIDE_HEADS, conversations, save_model

from datatrove_quality.config import ScorerConfig
from datatrove_quality.engine.scorer import Scorer
from datatrove_quality.model import attention, forward, quantized


pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

# The soft cap needs the flash-attn package.
FAMILIES = ("qwen3", "mistral", "gemma2")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A function that gives the folder of a family's model with wide heads, its window and its soft cap."""
    made = {}

    def of(family):
        if family not in made:
            model_type, make_tokenizer, values = DECODERS[family]
            path = tmp_path_factory.mktemp("gpu") / family
            save_model(path, model_type, make_tokenizer(), **(values | WIDE_HEADS))
            # A quarter of the logits: as wide as they are, the noise of bfloat16 alone is what the self-check allows.
            weights = load_file(path / "model.safetensors")
            weights["score.weight"] /= 4
            save_file(weights, path / "model.safetensors", metadata={"format": "pt"})
            made[family] = str(path)
        return made[family]

    return of


def scorer(model, dtype, **options):
    return Scorer(ScorerConfig(model=model, dtype=dtype, device="cuda", **options))


def card_logits(path, dtype, inputs):
    """The card's usage example on the same device, by the model's own attention, one input at a time."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(path)
    model = AutoModelForSequenceClassification.from_pretrained(path, dtype=dtype)
    model = model.to("cuda").eval()
    logits = []
    for item in inputs:
        text = tokenizer.apply_chat_template(item, tokenize=False)
        batch = tokenizer(text, return_tensors="pt", padding="longest", truncation=True).to("cuda")
        with torch.no_grad():
            logits.append(model(**batch).logits.squeeze(-1).float().item())
    return torch.tensor(logits)


def logits_of(scores):
    return torch.tensor([score.score - 1 for score in scores])


@pytest.mark.parametrize("family", FAMILIES)
def test_float32_scores_are_the_cards(folder, family):
    """In float32 a GPU gives the card's scores to 1e-4."""
    inputs = conversations(60)
    one = scorer(folder(family), "float32", tokens_per_batch=2_000)
    assert (logits_of(one.score(inputs)) - card_logits(folder(family), "float32", inputs)).abs().max() < 1e-4


@pytest.mark.parametrize("family", FAMILIES)
def test_bfloat16_scores_are_as_near_as_the_models_own(folder, family):
    """In bfloat16 our scores are no further from float32 than twice the model's own."""
    inputs = conversations(60)
    one = scorer(folder(family), "bfloat16", tokens_per_batch=2_000)
    exact = card_logits(folder(family), "float32", inputs)
    own_noise = (card_logits(folder(family), "bfloat16", inputs) - exact).abs()
    our_noise = (logits_of(one.score(inputs)) - exact).abs()
    assert our_noise.mean() <= 2 * own_noise.mean() + 0.01
    assert our_noise.max() <= 2 * own_noise.max() + 0.02


@pytest.mark.parametrize("family", ["qwen3", "mistral"])
def test_bfloat16_runs_on_a_flash_kernel(folder, family, monkeypatch):
    """In bfloat16 no attention runs sequence by sequence, in name and in fact."""
    one = scorer(folder(family), "bfloat16")
    assert attention.kernel_name(one.model) != "per_sequence_attention"

    def slow(*arguments):
        raise AssertionError("per_sequence_attention was used")

    monkeypatch.setattr(attention, "per_sequence_attention", slow)
    one.score(conversations(10))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_score_does_not_depend_on_its_batch(folder, family, dtype):
    """Alone or among others: within float32's noise, and in bfloat16 within the model's own."""
    inputs = conversations(40, seed=1)
    one = scorer(folder(family), dtype, tokens_per_batch=100_000)
    together = logits_of(one.score(inputs))
    one.replicas[0].tokens_per_batch = 1
    difference = (together - logits_of(one.score(inputs))).abs()
    if dtype == "float32":
        assert difference.max() < 5e-5
    else:
        exact = card_logits(folder(family), "float32", inputs)
        assert difference.max() <= max(0.02, (card_logits(folder(family), dtype, inputs) - exact).abs().max().item())


@pytest.mark.parametrize("family", ["qwen3", "mistral"])
@pytest.mark.parametrize("kernel", ["torch_varlen_attention", "torch_flash_attention", "flash_attn_attention"])
def test_each_kernel_that_is_installed(kernel, family):
    """Each flash kernel that is installed here computes what one SDPA call per sequence computes."""
    terms = attention.AttentionTerms(scale=0.1, window=16 if family == "mistral" else None)
    function = getattr(attention, kernel)
    if not attention._offers(function, terms):
        pytest.skip(f"{kernel} is not installed here")
    lengths = [1, 40, 7, 200]
    boundaries = torch.tensor([0, *lengths]).cumsum(0).to("cuda", torch.int32)
    states = [torch.randn(sum(lengths), heads, 64, device="cuda", dtype=torch.bfloat16) for heads in (8, 2, 2)]
    spans = attention.Spans(boundaries, boundaries, max(lengths), max(lengths))
    expected = attention.per_sequence_attention(*states, spans, terms)
    torch.testing.assert_close(function(*states, spans, terms), expected, atol=2e-2, rtol=2e-2)
    last = attention.Spans(torch.arange(5, device="cuda", dtype=torch.int32), boundaries, 1, max(lengths))
    rows = boundaries[1:].long() - 1
    got = function(states[0][rows], *states[1:], last, terms)
    torch.testing.assert_close(got, expected[rows], atol=2e-2, rtol=2e-2)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_texts_that_begin_alike(folder, family, dtype):
    """The kernels take gathered keys: scores are those of texts that are computed whole."""
    system = {"role": "system", "content": "Explique a fotossíntese em três frases. " * 8}
    inputs = [[system, *one] for one in conversations(60, seed=3, longest=20) if one[0]["role"] == "user"]
    one = scorer(folder(family), dtype)
    counts = Counter()
    shared = [score for _, score in one.stream_pairs(((None, item) for item in inputs), counts=counts)]
    assert counts["shared_tokens"] > 32 * len(inputs)
    one.replicas[0].prefixes = None
    difference = (logits_of(shared) - logits_of(one.score(inputs))).abs()
    if dtype == "float32":
        assert difference.max() < 5e-5
    else:
        exact = card_logits(folder(family), "float32", inputs)
        assert difference.max() <= max(0.02, (card_logits(folder(family), dtype, inputs) - exact).abs().max().item())


@pytest.mark.parametrize("family", FAMILIES)
def test_the_last_layer_pools(folder, family):
    """On a GPU too the last layer computes only what is read."""
    assert forward.pools_in_last_layer(scorer(folder(family), "bfloat16").model)


def test_a_full_gpu_halves_the_batch(folder):
    """Where another process holds the memory, batches are halved until they fit, and every score is there."""
    inputs = conversations(400, seed=2)
    one = scorer(folder("qwen3"), "float32", tokens_per_batch=1_000_000)
    expected = logits_of(one.score(inputs))
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    one.score(inputs)
    peak = torch.cuda.max_memory_allocated() / torch.cuda.get_device_properties(0).total_memory
    now = torch.cuda.memory_allocated() / torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(now + (peak - now) / 2)
    try:
        halved = logits_of(one.score(inputs))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert (halved - expected).abs().max() < 5e-5
    assert one.replicas[0]._limit < 1_000_000


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_every_gpu_computes(folder):
    """`device="auto"` has a replica on each GPU, and all of them take part."""
    one = Scorer(ScorerConfig(model=folder("qwen3"), dtype="float32", device="auto", tokens_per_batch=500))
    inputs = conversations(400, seed=3)
    expected = scorer(folder("qwen3"), "float32").score(inputs)
    assert [score.score for score in one.score(inputs)] == pytest.approx([s.score for s in expected], abs=5e-5)
    assert {replica.model.device.index for replica in one.replicas} == set(range(torch.cuda.device_count()))


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_the_last_gpu_alone_computes(folder, log):
    """A worker's only GPU need not be the current one, to which Triton's kernels go."""
    last = f"cuda:{torch.cuda.device_count() - 1}"
    one = Scorer(ScorerConfig(model=folder("qwen3"), dtype="float32", device=last))
    inputs = conversations(20)
    scores = one.score(inputs)
    assert any("uses fused functions" in line for line in log), log
    assert (logits_of(scores) - card_logits(folder("qwen3"), "float32", inputs)).abs().max() < 1e-4


@pytest.mark.parametrize("dtype", ["int8_bfloat16", "float8"])
def test_products_of_8_bits(folder, dtype, log):
    """Scores are near those of bfloat16, in a batch as alone, where few rows are filled up."""
    inputs = conversations(40, seed=5)
    one = scorer(folder("qwen3"), dtype)
    together = logits_of(one.score(inputs))
    assert any("linear layers multiply in" in line for line in log), log
    plain = logits_of(scorer(folder("qwen3"), "bfloat16").score(inputs))
    assert (together - plain).abs().max() <= quantized.ALLOWED * plain.abs().clamp_min(1).max()
    one.replicas[0].tokens_per_batch = 1
    assert (together - logits_of(one.score(inputs))).abs().max() <= 0.2  # roundings to 8 bits that noise turns round


def test_the_budget_fits_beside_the_model(folder):
    """The budget that is chosen is the cap on an empty GPU, and is smaller on one that is nearly full."""
    from datatrove_quality.model.token_budget import MAX_TOKENS, tokens_per_batch

    model = scorer(folder("qwen3"), "bfloat16").model
    torch.cuda.empty_cache()  # what other tests left there counts as free
    assert tokens_per_batch(model) == MAX_TOKENS["cuda"]
    free, _ = torch.cuda.mem_get_info()
    filler = torch.empty(free - 200_000_000, dtype=torch.uint8, device="cuda")
    assert tokens_per_batch(model) < MAX_TOKENS["cuda"]
    del filler
    torch.cuda.empty_cache()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_fused_functions_run_and_change_nothing(folder, family, dtype, log):
    """Norms, rotary embeddings and gates are the Triton kernels here, and scores stay within the dtype's noise."""
    from datatrove_quality.model import fused

    inputs = conversations(40, seed=4)
    one = scorer(folder(family), dtype)
    assert any(isinstance(module, fused.FusedGate) for module in one.model.modules()), log
    assert any(isinstance(module, fused.FusedNorm) for module in one.model.modules()), log
    plain = scorer(folder(family), dtype, fused=False)
    difference = (logits_of(one.score(inputs)) - logits_of(plain.score(inputs))).abs()
    exact = card_logits(folder(family), "float32", inputs)
    noise = 0.0 if dtype == "float32" else (card_logits(folder(family), dtype, inputs) - exact).abs().max().item()
    assert difference.max() <= max(1e-4, 2 * noise)
