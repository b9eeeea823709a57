"""A conversation becomes the tokens that the model card's example would give, or a reason why it cannot."""

import random

import pytest
from tiny_models import CHATML, chatml_tokenizer, conversations, encoder_tokenizer, llama_tokenizer
from tokenizers import AddedToken, Regex, pre_tokenizers

from datatrove_quality.config import Unscorable
from datatrove_quality.model.rendering import Renderer, TokenizedText
from datatrove_quality.rows.normal_form import parsed


TURNS = [{"role": "user", "content": "Qual é a capital?"}, {"role": "assistant", "content": "Lisboa. "}]


def renderer(tokenizer=None, max_tokens=100, **options):
    return Renderer(tokenizer or chatml_tokenizer(), max_tokens, **options)


def test_rendered_as_the_card_renders():
    """The text is the template's, character for character, trailing white space included."""
    plain = chatml_tokenizer()
    for conversation in conversations(30):
        assert renderer().render(conversation) == plain.apply_chat_template(conversation, tokenize=False)


@pytest.mark.parametrize("make", [chatml_tokenizer, llama_tokenizer])
def test_tokens_are_the_cards(make):
    """Ids and the cut are those of `tokenizer(text, truncation=True)`, a doubled BOS included."""
    plain = make()
    plain.model_max_length = 50
    made = conversations(40)
    for conversation, result in zip(made, renderer(make(), 50).encode(made), strict=True):
        text = plain.apply_chat_template(conversation, tokenize=False)
        assert result.ids == plain(text, truncation=True)["input_ids"]
        assert result.truncated == (len(plain(text)["input_ids"]) > 50)


@pytest.mark.parametrize("length", [19, 20, 21])
def test_truncated_only_beyond_the_limit(length):
    """A text of exactly `max_tokens` tokens lost nothing."""
    text = "".join("qz#"[index % 3] for index in range(length))
    (result,) = renderer(max_tokens=20).encode([text])
    assert (len(result.ids), result.truncated) == (min(length, 20), length > 20)


def test_null_keys_are_not_passed_to_the_template():
    """A conversation renders alike from JSONL and from Parquet, which fills in null keys."""
    filled = parsed([message | {"name": None, "tool_calls": None} for message in TURNS])
    assert "None" not in renderer().render(filled)
    assert renderer().render(filled) == renderer().render(TURNS)
    assert renderer().render([TURNS[0] | {"name": "Ana"}]).endswith("(Ana)")


def test_the_input_is_not_changed():
    """A conversation still has all its keys after it was scored, since it goes on to the writer."""
    filled = [message | {"name": None} for message in TURNS]
    before = [dict(message) for message in filled]
    renderer().encode([filled])
    assert filled == before


def test_a_template_that_raises():
    """A role that the template rejects makes one document unscorable and says what the template said."""
    result = renderer().render([{"role": "critic", "content": "a"}])
    assert isinstance(result, Unscorable)
    assert result.reason == "template_error"
    assert "unknown role" in str(result)


@pytest.mark.parametrize(
    "template",
    [
        "{{ messages[0].content + 1 }}",
        "{{ messages[7].content }}",
        "{{ undefined_function() }}",
        "{{ 1 // 0 }}",
        "{% for m in %}",
    ],
)
def test_a_template_that_breaks(template):
    """Whatever kind of error a template raises, it is a reason and not a crash."""
    result = renderer(chat_template=template).render(TURNS)
    assert isinstance(result, Unscorable)
    assert result.reason == "template_error"


def test_a_missing_template_is_the_users_error():
    """Without a chat template no conversation can be scored, so this stops at once and says what to set."""
    with pytest.raises(ValueError, match=r"chat_template.*messages_key=None") as error:
        renderer(encoder_tokenizer()).encode([TURNS])
    assert not isinstance(error.value, Unscorable)


def test_text_needs_no_template():
    """Plain text is tokenized as it is."""
    (result,) = renderer(encoder_tokenizer()).encode(["Qual é a capital?"])
    assert result.ids == encoder_tokenizer()("Qual é a capital?")["input_ids"]


def test_a_template_of_ones_own():
    """A chat template that is given stands in place of the tokenizer's, and also where that has none."""
    template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    expected = "<user>Qual é a capital?<assistant>Lisboa. "
    assert renderer(chat_template=template).render(TURNS) == expected
    assert renderer(encoder_tokenizer(), chat_template=template).render(TURNS) == expected


def test_special_tokens_can_be_left_out():
    """`add_special_tokens=False` leaves out the tokenizer's BOS and keeps the template's."""
    (with_them,) = renderer(llama_tokenizer()).encode([TURNS])
    (without,) = renderer(llama_tokenizer(), add_special_tokens=False).encode([TURNS])
    bos = llama_tokenizer().bos_token_id
    assert with_them.ids == [bos, *without.ids]
    assert without.ids[0] == bos != without.ids[1]


def test_truncation_keeps_the_last_special_token():
    """A cut text still ends in [SEP], as the encoder was trained to see it."""
    tokenizer = encoder_tokenizer()
    (result,) = renderer(tokenizer, 10).encode(["Explique a fotossíntese em três frases, por favor."])
    assert len(result.ids) == 10
    assert result.truncated
    assert (result.ids[0], result.ids[-1]) == (tokenizer.cls_token_id, tokenizer.sep_token_id)


def keeping_the_end(make=chatml_tokenizer):
    """A tokenizer that was saved with truncation on the left."""
    tokenizer = make()
    tokenizer.truncation_side = "left"
    return tokenizer


@pytest.mark.parametrize("make", [chatml_tokenizer, llama_tokenizer, encoder_tokenizer])
def test_the_cut_is_where_the_tokenizer_has_it(make):
    """A tokenizer saved with truncation on the left keeps the end of a text, and its special tokens."""
    plain = keeping_the_end(make)
    for text in ("abcdefghijkl", "ab"):
        expected = plain(text, truncation=True, max_length=6)["input_ids"]
        (cut,) = renderer(keeping_the_end(make), 6).encode([text])
        assert (cut.ids, cut.truncated) == (expected, len(plain(text)["input_ids"]) > 6)


@pytest.mark.parametrize("max_tokens", [1, 2])
def test_no_room_beside_the_special_tokens(max_tokens):
    """A limit that leaves no token of the text is refused with the least that works."""
    with pytest.raises(ValueError, match=f"max_tokens={max_tokens}.*at least 3"):
        renderer(encoder_tokenizer(), max_tokens)
    assert renderer(encoder_tokenizer(), 3).encode(["abc"])[0].truncated


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        ([], "no_messages"),
        (None, "null_column"),
        (7, "not_a_list"),
        ({"role": "user", "content": "a"}, "not_a_list"),
        ([["user", "a"]], "invalid_message"),
        ([{"content": "a"}], "missing_role"),
        ([{"role": "user"}], "missing_content"),
        ([{"role": "user", "content": 3}], "invalid_content"),
        ([{"role": "user", "content": {"a": 1}}], "invalid_content"),
        ([{"role": "user", "content": " \n"}, {"role": "assistant", "content": ""}], "empty_conversation"),
        ([{"role": "user", "content": "\ud800"}], "lone_surrogate"),
        ("", "empty_text"),
        (" \n\t", "empty_text"),
        ("a\udfff", "lone_surrogate"),
    ],
)
def test_bad_inputs_have_a_reason(item, reason):
    """What is no conversation and no text gets one reason and a sentence, and stops nothing."""
    good, bad, again = renderer().encode([TURNS, item, TURNS])
    assert isinstance(good, TokenizedText)
    assert good == again
    assert isinstance(bad, Unscorable)
    assert bad.reason == reason
    assert len(str(bad)) > 10


def test_what_is_known_to_be_unscorable_passes():
    """A reason found earlier keeps its place and is not replaced."""
    known = Unscorable("damaged_file", "found by the reader")
    assert renderer().encode([known, TURNS])[0] is known


def test_no_tokens():
    """A text of which the tokenizer makes nothing is unscorable, and never an empty sequence in a batch."""
    from tokenizers import normalizers

    tokenizer = chatml_tokenizer()
    tokenizer.backend_tokenizer.normalizer = normalizers.Replace("x", "")
    (result,) = renderer(tokenizer).encode(["xxx"])
    assert isinstance(result, Unscorable)
    assert result.reason == "no_tokens"


def test_a_slow_tokenizer_counts_alike():
    """A tokenizer without Rust encodings still knows exactly whether it cut."""
    fast = renderer(max_tokens=20)
    slow = renderer(max_tokens=20)
    call = slow.tokenizer.__class__.__call__

    class Slow(slow.tokenizer.__class__):
        """Hides the Rust encodings."""

        def __call__(self, *args, **options):
            encoded = call(self, *args, **options)
            encoded._encodings = None
            return encoded

    slow.tokenizer.__class__ = Slow
    texts = ["qz#" * count for count in (1, 6, 7, 30)]
    assert [result.truncated for result in slow.encode(texts)] == [result.truncated for result in fast.encode(texts)]


def test_template_survives_any_message_key():
    """A message key named like a template's own variable changes nothing."""
    extra = [message | {"messages": "x", "tools": [1], "weight": 0.5} for message in TURNS]
    assert renderer(chat_template=CHATML).render(extra) == renderer().render(TURNS)


@pytest.mark.parametrize(
    ("tokenizer", "template", "message"),
    [
        (encoder_tokenizer, None, "no chat template"),
        (chatml_tokenizer, "{% for message in messages %}", "no Jinja template"),
        (chatml_tokenizer, "# README {{ unrelated }}", "renders all messages alike"),
    ],
)
def test_a_template_that_cannot_be_right_is_refused(tokenizer, template, message):
    """A missing or broken template, or a file that is no template, is found before any work."""
    with pytest.raises(ValueError, match=message):
        renderer(tokenizer(), chat_template=template).require_template()


@pytest.mark.parametrize(
    "template",
    [
        None,
        "{{ raise_exception('wants a system turn') }}",
        "{% for m in messages %}{{ m.content.upper().strip() }}{% endfor %}",
        "{{ messages[-1].content }} {% for m in messages[:-1] %}[{{ m.content }}]{% endfor %}",
    ],
)
def test_a_template_that_may_be_right_passes(template):
    """A template may move, trim and wrap contents, or refuse the probe: documents will show."""
    renderer(chat_template=template).require_template()


# --- texts far too long ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [chatml_tokenizer, llama_tokenizer, encoder_tokenizer])
def test_cutting_a_long_text_first_changes_no_token(make, monkeypatch):
    """Of a text many times too long only its beginning is tokenized, and the tokens are those of the whole text."""
    rng = random.Random(0)
    for _ in range(150):
        pieces = ["palavra ", "a" * 90, " ", "\n" * 30, "🙂", "e\u0301", "123456", "<|im_end|>", "\t", "não, é"]
        text = "".join(rng.choice(pieces) for _ in range(rng.randrange(900))) + "fim"
        tokenizer = make()
        tokenizer.truncation_side = rng.choice(["left", "right"])
        renderer = Renderer(tokenizer, rng.choice([3, 9, 40]))
        (cut,) = renderer.tokenize([text])
        monkeypatch.setattr(Renderer, "_decisive_part", lambda self, text: text)
        assert renderer.tokenize([text]) == [cut]
        monkeypatch.undo()


def grouped_digits():
    """As some recent tokenizers do, digits are grouped from the right, however many there are."""
    tokenizer = chatml_tokenizer()
    digits = pre_tokenizers.Split(Regex(r"\d{1,3}(?=(?:\d{3})*(?:\D|$))"), "isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, byte_level])
    return tokenizer


def greedy_mask():
    """As XLM-RoBERTa's <mask>, a token swallows the white space before it, however much there is."""
    tokenizer = chatml_tokenizer()
    tokenizer.backend_tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True, special=True)])
    return tokenizer


def long_token():
    """A control token that a cut may tear into many words."""
    tokenizer = chatml_tokenizer()
    tokenizer.backend_tokenizer.add_special_tokens([AddedToken("<|reserved_special_token_1|>", special=True)])
    return tokenizer


@pytest.mark.parametrize("make", [grouped_digits, greedy_mask, long_token])
def test_what_stands_behind_a_cut_may_reach_far_back(make, monkeypatch):
    """Where a tokenizer looks ahead without limit, the early cut must not show."""
    rng = random.Random(0)
    pieces = [
        "1234567 ",
        "9" * 400,
        " " * 400 + "<mask> a ",
        "x" * 17,
        "!!",
        "<|reserved_special_token_1|>",
        "um texto, ",
    ]
    ends = Renderer(make(), 5), Renderer(keeping_the_end(make), 5)
    for number in range(400):
        one = ends[number % 2]
        texts = ["".join(rng.choice(pieces) for _ in range(rng.randrange(1, 20))) for _ in range(2)]
        texts.append("a" + rng.choice(pieces) * rng.randrange(1, 20))
        cut = one.tokenize(texts)
        with monkeypatch.context() as patch:
            patch.setattr(Renderer, "_decisive_part", lambda self, text: text)
            assert one.tokenize(texts) == cut


@pytest.mark.parametrize("make", [chatml_tokenizer, keeping_the_end])
def test_a_hundred_megabytes_are_not_tokenized(monkeypatch, make):
    """A message of 100 MB costs what the end that is kept costs."""
    seen = []
    renderer = Renderer(make(), 50)
    real = renderer._call_tokenizer
    monkeypatch.setattr(renderer, "_call_tokenizer", lambda texts: seen.extend(map(len, texts)) or real(texts))
    (tokenized,) = renderer.tokenize(["uma palavra " * 9_000_000])
    assert len(tokenized.ids) == 50
    assert tokenized.truncated
    assert max(seen) <= 50 * 16


@pytest.mark.parametrize("make", [chatml_tokenizer, keeping_the_end])
def test_a_text_without_words_is_tokenized_whole(make):
    """Where a text is one word to the tokenizer, nothing is cut off before it is tokenized."""
    tokenizer = make()
    tokenizer.backend_tokenizer.pre_tokenizer = None
    text = "uma palavra e outra " * 100
    (tokenized,) = Renderer(tokenizer, 5).tokenize([text])
    assert tokenized.ids == tokenizer(text, truncation=True, max_length=5)["input_ids"]
    assert tokenized.truncated


# --- the date --------------------------------------------------------------------------------------------------------

DATED = "{{ strftime_now('%d %b %Y %H:%M') }}{% for m in messages %}{{ m.role + m.content }}{% endfor %}"


def test_a_template_takes_the_date_that_is_given():
    """Not the clock's; two renderers of one template do not disturb each other."""
    first, second = (renderer(chat_template=DATED, date=date) for date in ("2020-02-03", "2021-12-31 23:45"))
    texts = [one.render(TURNS) for one in (first, second, first)]
    assert [text[:17] for text in texts] == ["03 Feb 2020 00:00", "31 Dec 2021 23:45", "03 Feb 2020 00:00"]


@pytest.mark.parametrize(
    ("template", "writes"),
    [
        (DATED, True),
        ("{{ strftime_now('%Y')[:2] }}{{ messages[0].content }}", True),
        ("{% if tools %}{{ strftime_now('%p') }}{% endif %}{{ messages[0].content }}", True),
        ("{% if messages[0].role == 'system' %}{{ strftime_now('%A') }}{% endif %}{{ messages[0].content }}", True),
        (
            "{% if strftime_now is defined %}{% set d = strftime_now('%d') %}{% endif %}{{ messages[0].content }}",
            False,
        ),
        ("{% set now = strftime_now('%d') %}{{ raise_exception('at ' + now) }}", True),
        ("{% for m in messages %}{{ m.content }}{% endfor %}", False),
        (CHATML, False),
    ],
)
def test_a_template_that_writes_the_date_is_known(template, writes):
    """By what it renders under two dates, with a system turn, with tools, or where it refuses."""
    assert renderer(chat_template=template).writes_date is writes


def test_no_template_writes_no_date():
    """A classifier of plain texts needs no template."""
    assert not renderer(encoder_tokenizer()).writes_date
