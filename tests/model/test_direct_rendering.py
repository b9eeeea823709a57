"""What skips transformers' copies gives the same text, or is not taken."""

import pytest
from tiny_models import CHATML, chatml_tokenizer, conversations, llama_tokenizer

from datatrove_quality.model.direct_rendering import direct_rendering, is_plain
from datatrove_quality.model.rendering import Renderer


@pytest.mark.parametrize("make", [chatml_tokenizer, llama_tokenizer])
def test_plain_conversations_render_as_by_the_tokenizer(make):
    """Special tokens included, which templates may name."""
    tokenizer = make()
    render = direct_rendering(tokenizer, None)
    for conversation in conversations(30):
        assert render(conversation) == tokenizer.apply_chat_template(conversation, tokenize=False)


def test_a_tokenizer_with_a_method_of_its_own_renders_by_it():
    """What it does beside the template is not known."""
    plain = chatml_tokenizer()

    class Own(type(plain)):
        def apply_chat_template(self, conversation, **options):
            return super().apply_chat_template(conversation, **options) + "!"

    plain.__class__ = Own
    assert direct_rendering(plain, None) is None
    assert Renderer(plain, 100).render([{"role": "user", "content": "Oi"}]).endswith("!")


def test_a_template_whose_texts_differ_is_rendered_by_the_tokenizer():
    """A version of transformers may give it more than is known here."""
    tokenizer = chatml_tokenizer()
    assert direct_rendering(tokenizer, CHATML) is not None
    tokenizer.apply_chat_template = lambda conversation, **options: "other"
    assert direct_rendering(tokenizer, CHATML) is None


def test_a_message_with_more_keys_is_not_plain():
    """A reasoning, a name and calls of tools go the usual way, which makes plain data of them."""
    message = {"role": "assistant", "content": "Oi"}
    assert is_plain([message]) and not is_plain([message, message | {"name": "x"}])
