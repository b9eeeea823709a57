"""Sequences that begin alike, computed once up to there: logits are those of each sequence alone."""

import random
from functools import partialmethod

import pytest
import torch
from scorers import assert_like_the_card, config_of, loaded
from tiny_models import DECODERS
from transformers import AutoModelForSequenceClassification

from datatrove_quality.model import attention, forward, self_check
from datatrove_quality.model.prefixes import MIN_SHARED
from datatrove_quality.model.shared_rows import SharedPrefixes, SharedRow


def ids(seed, count):
    """Tokens of a text, none of them a special one."""
    return random.Random(seed).choices(range(10, 250), k=count)


PAD = 0
PROMPT, TURN = ids(1, 70), ids(2, 50)
BATCHES = {
    "several answers": [PROMPT + ids(seed, 9) for seed in range(3, 7)],
    "two levels": [PROMPT + TURN + ids(3, 5), PROMPT + ids(4, 20), PROMPT + TURN + ids(5, 1), ids(6, 30)],
    "the whole of another": [PROMPT, PROMPT + TURN, PROMPT + TURN + ids(3, 40)],
    "equal": [PROMPT, ids(3, 40), PROMPT, PROMPT],
    "one token more": [[*PROMPT, 11], [*PROMPT, 12]],
    "pads behind": [[*PROMPT, 11, PAD, PAD], [*PROMPT, PAD], [*PROMPT, PAD, 12]],
}


@pytest.fixture
def own_logits(model_folder):
    """What plain transformers gives for each sequence alone: `own_logits("qwen3", sequences)`."""
    models = {}

    @torch.inference_mode()
    def logits(family, sequences):
        if family not in models:
            models[family] = AutoModelForSequenceClassification.from_pretrained(model_folder(family)).eval()
            models[family].set_attn_implementation("eager")
            models[family].config.pad_token_id = PAD
        return torch.cat([models[family](input_ids=torch.tensor([one])).logits for one in sequences])

    return logits


@pytest.fixture
def packed_model(model_folder):
    """A family's model with packed attention: `packed_model("qwen3", pooled=True)`."""

    def load(family, pooled=True, **options):
        model = AutoModelForSequenceClassification.from_pretrained(model_folder(family), **options).eval()
        model.config.pad_token_id = PAD
        model.set_attn_implementation(attention.PACKED)
        if pooled:
            forward.pool_in_last_layer(model)
        return model

    return load


def shared_logits(model, prefixes, sequences, kept=0):
    """The logits of a batch, and the row that gave them."""
    row = prefixes.row(sequences, kept)
    logits = forward.packed_logits(model, sequences, row=row)
    prefixes.hold(row)
    return logits, row


@pytest.mark.parametrize("pooled", [True, False], ids=["pooled", "all"])
@pytest.mark.parametrize("family", DECODERS)
def test_logits_are_each_sequences_own(packed_model, own_logits, family, pooled):
    """Of every architecture, with windows, soft caps and sinks; whatever texts share."""
    model = packed_model(family, pooled)
    prefixes = SharedPrefixes(model)
    for name, sequences in BATCHES.items():
        logits, row = shared_logits(model, prefixes, sequences)
        assert row.num_saved >= MIN_SHARED, name
        torch.testing.assert_close(logits, own_logits(family, sequences), atol=1e-4, rtol=1e-5, msg=name)


@pytest.mark.parametrize("family", ["qwen3", "gemma2", "gpt_oss"])
def test_what_is_held_is_not_computed_again(packed_model, own_logits, family):
    """Batch after batch: of the beginning of the last, of a part of it, and where nothing begins like it."""
    model = packed_model(family)
    prefixes = SharedPrefixes(model)
    held = PROMPT + TURN
    batches = [
        ([ids(3, 40), [*held, 11]], len(held), 0),
        ([[*held, 12], [*held, 13, 14]], len(held), 2 * len(held)),
        ([PROMPT, held, [*PROMPT, 15], [*held[:-1], 16]], len(PROMPT), None),
        ([ids(4, 30), PROMPT + ids(5, 30)], 5, len(PROMPT)),
        ([[*PROMPT, 17], ids(6, 20)], 0, None),
    ]
    for sequences, kept, saved in batches:
        row = prefixes.row(sequences, kept)
        logits = forward.packed_logits(model, sequences, row=row)
        prefixes.hold(row)
        assert row is None or saved is None or row.num_saved == saved
        torch.testing.assert_close(logits, own_logits(family, sequences), atol=1e-4, rtol=1e-5)
    assert prefixes._held is None


def test_little_in_common_is_no_row(packed_model):
    """Below some per cent of the tokens, and below a number of them, sequences are computed whole."""
    prefixes = SharedPrefixes(packed_model("qwen3"))
    few = PROMPT[: MIN_SHARED - 1]
    assert prefixes.row([few + ids(3, 9), few + ids(4, 9)]) is None
    assert prefixes.row([PROMPT + ids(3, 900), PROMPT + ids(4, 900)]) is None
    assert prefixes.row([PROMPT + ids(3, 90), PROMPT + ids(4, 90)]) is not None


def test_further_heads_get_the_same_rows(packed_model):
    """One trunk, two heads: both see the sequences in their order."""
    model, other = packed_model("qwen3"), packed_model("qwen3")
    other.score.weight.data *= -2
    sequences = BATCHES["the whole of another"]
    row = SharedPrefixes(model).row(sequences)
    logits = forward.packed_logits(model, sequences, [other], row)
    torch.testing.assert_close(logits, forward.packed_logits(model, sequences, [other]), atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(logits[:, 1], -2 * logits[:, 0])


@pytest.mark.parametrize("family", ["qwen3", "mistral"])
def test_a_kernel_gets_each_segments_keys(packed_model, own_logits, monkeypatch, family):
    """What CUDA's kernels would get: of each segment its queries, and all keys that they see, its own the last."""
    model = packed_model(family)
    calls = []

    def kernel(query, key, value, spans, terms):
        assert (spans.queries[-1], spans.keys[-1]) == (len(query), len(key)) and len(key) == len(value)
        assert spans.longest_query == spans.queries.diff().max() and spans.longest_key == spans.keys.diff().max()
        assert spans.queries.dtype == spans.keys.dtype == torch.int32
        assert (spans.queries.diff() <= spans.keys.diff()).all()
        calls.append((spans.queries.diff().tolist(), spans.keys.diff().tolist()))
        return attention.per_sequence_attention(query, key, value, spans, terms)

    monkeypatch.setattr(attention, "kernel_for", lambda *arguments: kernel)
    prefixes = SharedPrefixes(model)
    sequences = [PROMPT + TURN + ids(3, 5), PROMPT + ids(4, 20), [*PROMPT, *TURN, 11], ids(6, 30)]
    logits, _ = shared_logits(model, prefixes, sequences)
    torch.testing.assert_close(logits, own_logits(family, sequences), atol=1e-4, rtol=1e-5)
    (queries, keys), last = calls[0], calls[-1]
    assert sorted(zip(queries, keys, strict=True)) == sorted(
        [(70, 70), (50, 120), (5, 125), (1, 121), (20, 90), (30, 30)]
    )
    assert last[0] == [1] * 4 and sorted(last[1]) == [30, 90, 121, 125]


def test_half_precision_is_within_its_noise(packed_model):
    """Parts of attention are put together in float32."""
    model = packed_model("qwen3", dtype=torch.bfloat16)
    sequences = BATCHES["two levels"]
    logits, _ = shared_logits(model, SharedPrefixes(model), sequences)
    torch.testing.assert_close(logits.float(), forward.packed_logits(model, sequences).float(), atol=0.1, rtol=0.02)


def test_nan_in_one_text_is_in_no_other(packed_model):
    """A token of one continuation that overflows; one of the prefix is in all that have it."""
    model = packed_model("qwen3")
    prefixes = SharedPrefixes(model)
    sequences = [[*PROMPT, 251, 11], [*PROMPT, 12], [*ids(7, 40), 13], PROMPT]
    with torch.no_grad():
        model.model.embed_tokens.weight[251] = float("nan")
    logits, row = shared_logits(model, prefixes, sequences)
    assert row is not None and logits.isnan().flatten().tolist() == [True, False, False, False]
    with torch.no_grad():
        model.model.embed_tokens.weight[PROMPT[40]] = float("nan")
    logits, _ = shared_logits(model, prefixes, sequences)
    affected = [PROMPT[40] in one or 251 in one for one in sequences]
    assert logits.isnan().flatten().tolist() == affected


@pytest.mark.parametrize("family", ["qwen3", "mistral"])
def test_nan_at_the_end_of_a_batch_is_not_held_for_the_next(packed_model, own_logits, family):
    """What is held is the beginning of the last text, whose own end may be the one that is not finite."""
    model = packed_model(family)
    with torch.no_grad():
        model.model.embed_tokens.weight[251] = float("nan")
    prefixes = SharedPrefixes(model)
    first = [ids(6, 30), [*PROMPT, 251, 11]]
    logits, _ = shared_logits(model, prefixes, first, kept=70)
    assert logits.isnan().flatten().tolist() == [False, True]
    for number in (12, 14):
        sequences = [[*PROMPT, number], [*PROMPT, number + 1]]
        logits, _ = shared_logits(model, prefixes, sequences, kept=70)
        torch.testing.assert_close(logits, own_logits(family, sequences), atol=1e-4, rtol=1e-5)


# --- the check at load -----------------------------------------------------------------------------------------------


def test_every_family_shares_but_encoders(model_folder):
    """Checked with the scorer's own probes, one of them beyond the window."""
    for family in DECODERS:
        assert loaded(config_of(model_folder(family))).replicas[0].prefixes is not None, family
    assert loaded(config_of(model_folder("bert"))).replicas[0].prefixes is None


def test_texts_too_short_to_share_anything(model_folder, log):
    """With `max_tokens` below three segments there is nothing to check, and nothing to gain."""
    assert loaded(config_of(model_folder("qwen3"), max_tokens=50)).replicas[0].prefixes is None


def wrong_order(row, *arguments, attend):
    """Attention in which a segment does not see the prefix."""
    row._before = []
    return attend(row, *arguments)


def blind_to_what_is_held(row, *arguments, attend):
    """Held keys are those of another text."""
    if row._held is not None:
        for key, value in row._held.states.values():
            key.mul_(-1), value.mul_(-1)
    return attend(row, *arguments)


def raising(row, *arguments, attend):
    """A layer that does not give attention what it was given."""
    raise ValueError("no such rows")


@pytest.mark.parametrize("fault", [wrong_order, blind_to_what_is_held, raising])
def test_a_wrong_path_falls_back(model_folder, monkeypatch, log, fault, card):
    """One line in the log; scores are the card's, and no text shares anything."""
    monkeypatch.setattr(SharedRow, "attend", partialmethod(fault, attend=SharedRow.attend))
    one = loaded(config_of(model_folder("qwen3")))
    assert one.replicas[0].prefixes is None
    said = [line for line in log if "computes what texts begin with alike for each text" in line.replace("\n", " ")]
    assert len(said) == 1 and ("would change a logit" in said[0] or "no such rows" in said[0])
    inputs = ["um texto que se repete " * 10 + end for end in ("a", "b", "")]
    assert_like_the_card(one.score(inputs), card("qwen3"), inputs)


def test_an_ignored_window_falls_back(model_folder, monkeypatch, log):
    """A probe's prefix is longer than the window."""
    own = SharedRow.attend

    def without_window(row, module, kernel, query, key, value, spans, terms):
        return own(row, module, kernel, query, key, value, spans, attention.AttentionTerms(terms.scale))

    monkeypatch.setattr(SharedRow, "attend", without_window)
    assert loaded(config_of(model_folder("mistral"))).replicas[0].prefixes is None


def test_a_layer_that_sees_ahead_is_refused(packed_model):
    """Tokens of a prefix would depend on what follows it."""
    model = packed_model("qwen3", pooled=False)
    for layer in model.model.layers:
        layer.self_attn.is_causal = False
    row = SharedPrefixes(model).row(BATCHES["equal"])
    with pytest.raises(ValueError, match="not causal"):
        forward.packed_logits(model, BATCHES["equal"], row=row)


def test_the_check_is_affordable(packed_model):
    """A window that is too long to try on this device is left out; the short texts are still compared."""
    model = packed_model("mistral")
    tried = []

    def watched(model, sequences, row=None):
        tried.append(max(map(len, sequences)))
        return forward.packed_logits(model, sequences, row=row)

    probe = [{"input_ids": torch.tensor([PROMPT])}]
    for flops, longest in ((0, 3 * MIN_SHARED), (1e12, 3 * MIN_SHARED + 24)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(self_check, "AFFORDABLE_FLOPS", {"cpu": flops})
            tried.clear()
            assert self_check.shared_prefixes(model, watched, probe, 500) is not None
            assert max(tried) == longest
