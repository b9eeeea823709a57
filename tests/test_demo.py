"""The demo: its data can be rebuilt, and its classifier has learned to compare an answer with its question.

The model is scored the model card's way, one conversation at a time, with plain transformers.
"""

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest


EXAMPLES = Path(__file__).parents[1] / "examples"
CONVERSATIONS = EXAMPLES / "conversations.jsonl"
CLASSIFIER = EXAMPLES / "demo-classifier"
LEVELS = (1, 2, 3, 4, 5)
CARD_QUESTION = "Qual é a capital de Portugal?"

# About things that neither the training rows nor the shipped ones mention; real, and partly in wordings of their own.
UNSEEN = (
    ("Qual é a capital da Bulgária?", "A capital da Bulgária é Sófia."),
    ("Qual é a capital da Mongólia?", "A capital da Mongólia é Ulan Bator."),
    ("Qual é a capital de Gana?", "A capital de Gana é Acra."),
    ("Qual é a capital do Nepal?", "Katmandu é a capital do Nepal."),
    ("Qual é a capital da Croácia?", "A capital da Croácia é Zagreb."),
    ("Sabe qual é a capital do Equador?", "A capital do Equador é Quito."),
    ("Qual a capital de Ruanda?", "A capital de Ruanda é Kigali."),
    ("Que cidade é a capital da Letônia?", "A capital da Letônia é Riga."),
    ("Qual é a moeda do Laos?", "A moeda do Laos é o kip."),
    ("Qual é a moeda da Ucrânia?", "A moeda da Ucrânia é a grívnia."),
    ("Que dinheiro se usa na Indonésia?", "Na Indonésia se usa a rupia indonésia."),
    ("Qual é a moeda oficial da Geórgia?", "A moeda oficial da Geórgia é o lari."),
    ("Quem escreveu O Guarani?", "O Guarani foi escrito por José de Alencar."),
    ("Quem escreveu Moby Dick?", "Moby Dick foi escrito por Herman Melville."),
    ("Quem escreveu A Divina Comédia?", "Dante Alighieri escreveu A Divina Comédia."),
    ("Quem é o autor de Fogo Morto?", "O autor de Fogo Morto é José Lins do Rego."),
    ("Quem é o autor de Ulisses?", "O autor de Ulisses é James Joyce."),
    ("Quem escreveu Frankenstein?", "Frankenstein foi escrito por Mary Shelley."),
    ("Qual é o símbolo químico do magnésio?", "O símbolo químico do magnésio é Mg."),
    ("Qual é o símbolo químico do fósforo?", "O símbolo químico do fósforo é P."),
    ("Qual é o símbolo químico do iodo?", "O símbolo do iodo é I."),
    ("Qual é o símbolo do neônio?", "O neônio tem o símbolo Ne."),
    ("Onde nasce o rio Orinoco?", "O rio Orinoco nasce na serra Parima."),
    ("Onde nasce o rio Madeira?", "O rio Madeira nasce na cordilheira dos Andes."),
    ("Onde deságua o rio Congo?", "O rio Congo deságua no oceano Atlântico."),
    ("Qual é o maior afluente do Solimões?", "O maior afluente do Solimões é o rio Negro."),
    ("Quem pintou A Última Ceia?", "A Última Ceia foi pintada por Leonardo da Vinci."),
    ("Quem pintou Operários?", "O quadro Operários foi pintado por Tarsila do Amaral."),
    ("Quem compôs O Trenzinho do Caipira?", "O Trenzinho do Caipira foi composto por Heitor Villa-Lobos."),
    ("Quem compôs As Quatro Estações?", "As Quatro Estações foi composta por Antonio Vivaldi."),
    ("Quem inventou o pararraios?", "O pararraios foi inventado por Benjamin Franklin."),
    ("Quem inventou a lâmpada de lava?", "A lâmpada de lava foi inventada por Edward Craven Walker."),
    ("Quem descobriu a penicilina?", "A penicilina foi descoberta por Alexander Fleming."),
    ("Quem fundou a Microsoft?", "A Microsoft foi fundada por Bill Gates e Paul Allen."),
    ("Em que ano terminou a Guerra da Coreia?", "A Guerra da Coreia terminou em 1953."),
    ("Em que ano começou a Guerra dos Farrapos?", "A Guerra dos Farrapos começou em 1835."),
    ("Quando foi assinado o Tratado de Tordesilhas?", "O Tratado de Tordesilhas foi assinado em 1494."),
    ("O que é a meiose?", "A meiose é uma divisão celular que reduz o número de cromossomos à metade."),
    ("O que é um sismógrafo?", "Um sismógrafo é um aparelho que registra tremores de terra."),
    ("O que significa filantropia?", "Filantropia significa amor à humanidade."),
    ("Onde fica a Estátua da Liberdade?", "A Estátua da Liberdade fica em Nova York."),
    ("Onde fica o Monte Roraima?", "O Monte Roraima fica na fronteira entre Brasil, Venezuela e Guiana."),
    ("Onde fica o Museu do Prado?", "O Museu do Prado fica em Madri."),
    ("Qual é a montanha mais alta da Tanzânia?", "A montanha mais alta da Tanzânia é o Kilimanjaro."),
    ("Qual é o maior planeta do Sistema Solar?", "O maior planeta do Sistema Solar é Júpiter."),
    ("Quantos habitantes tem Florianópolis?", "Florianópolis tem cerca de quinhentos mil habitantes."),
    ("O que come o ornitorrinco?", "O ornitorrinco come larvas e pequenos crustáceos."),
    ("Como se faz chimichurri?", "Para fazer chimichurri, use salsa, orégano, alho e azeite."),
    ("Como se diz “cachoeira” em inglês?", "Em inglês, “cachoeira” se diz “waterfall”."),
    ("Quantas cordas tem um cavaquinho?", "Um cavaquinho tem quatro cordas."),
)


def load_example(name: str):
    """Import a script of `examples/`, which is no package."""
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def demo_data():
    return load_example("demo_data")


@pytest.fixture(scope="module")
def shipped() -> list[dict]:
    return [json.loads(line) for line in CONVERSATIONS.read_text(encoding="utf-8").splitlines() if '"label"' in line]


@pytest.fixture(scope="module")
def tokenizer():
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(CLASSIFIER)


@pytest.fixture(scope="module")
def score(tokenizer) -> Callable[[list[dict]], float]:
    """Score a conversation the model card's way."""
    import torch
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(CLASSIFIER).eval()

    def of(messages: list[dict]) -> float:
        inputs = tokenizer(
            tokenizer.apply_chat_template(messages, tokenize=False), return_tensors="pt", truncation=True
        )
        with torch.no_grad():
            return model(**inputs).logits.item() + 1

    return of


def dialogue(question: str, answer: str) -> list[dict]:
    """One question, one answer."""
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def test_conversations_are_rebuilt_byte_for_byte(tmp_path, demo_data):
    """The shipped file is what the script writes: the data were not edited by hand, and the seed gives them."""
    build_demo = load_example("build_demo")
    build_demo.write_conversations(tmp_path)
    assert (tmp_path / "conversations.jsonl").read_bytes() == CONVERSATIONS.read_bytes()


def test_conversations_have_five_levels_all_shapes_and_broken_rows(shipped):
    """The demo shows every level, several turns, system turns, and rows that cannot be scored."""
    lines = CONVERSATIONS.read_text(encoding="utf-8").splitlines()
    assert len(shipped) >= 600
    assert 6 <= len(lines) - len(shipped) <= 10
    assert {row["label"] for row in shipped} == set(LEVELS)
    assert len({json.dumps(row["messages"]) for row in shipped}) == len({row["id"] for row in shipped}) == len(shipped)
    assert any(row["messages"][0]["role"] == "system" for row in shipped)
    assert any(sum(message["role"] == "user" for message in row["messages"]) > 2 for row in shipped)


def test_training_rows_hold_out_the_card_and_the_shipped_rows(demo_data, shipped):
    """The classifier cannot have memorised what it is shown with."""
    training = [messages for messages, _ in demo_data.training_rows(4_000)]
    texts = [message["content"] for messages in training for message in messages]
    assert not any(demo_data.CARD_PATTERN.search(text) for text in texts)
    assert not {json.dumps(messages) for messages in training} & {json.dumps(row["messages"]) for row in shipped}
    assert demo_data.mentions_held_out(dialogue(CARD_QUESTION, "Sei."))
    assert demo_data.mentions_held_out(dialogue("Gosta?", "Minha cor favorita é azul."))


def test_levels_are_found_on_the_shipped_rows(score, shipped):
    """Macro F1 over the five levels is at least 0.90, on subjects that training never saw."""
    pairs = [(row["label"], round(min(max(score(row["messages"]) - 1, 0), 4)) + 1) for row in shipped]
    expected, found = ([pair[side] for pair in pairs] for side in (0, 1))
    f1 = [2 * pairs.count((one, one)) / max(expected.count(one) + found.count(one), 1) for one in LEVELS]
    assert sum(f1) / len(f1) >= 0.90


def test_the_cards_good_answer_scores_far_above_its_bad_one(score):
    """The model card's own two examples are a full level apart."""
    good = score(dialogue(CARD_QUESTION, "A capital de Portugal é Lisboa."))
    bad = score(dialogue(CARD_QUESTION, "Minha cor favorita é azul."))
    assert good - bad >= 1.0


@pytest.mark.parametrize("step", [1, 7, 25])
def test_an_answer_scores_above_one_to_another_question(score, step):
    """For 45 of 50 real questions never seen, the right answer beats the answer that stands `step` places further."""
    assert len(UNSEEN) == 50
    answers = [answer for _, answer in UNSEEN]
    others = answers[step:] + answers[:step]
    right = [score(dialogue(*pair)) for pair in UNSEEN]
    wrong = [score(dialogue(question, other)) for (question, _), other in zip(UNSEEN, others, strict=True)]
    assert sum(one > two for one, two in zip(right, wrong, strict=True)) >= 45


def test_unseen_questions_are_unseen(demo_data, shipped):
    """The fifty questions are about subjects that occur in no shipped row."""
    asked = {message["content"] for row in shipped for message in row["messages"] if message["role"] == "user"}
    assert not asked & {question for question, _ in UNSEEN}
    assert not [one for one, _ in UNSEEN if demo_data.HELD_OUT_PATTERN.search(one)]


def test_the_folder_is_small_and_safe():
    """A clone stays small: at most 4 MB, weights as safetensors only, nothing left over from training."""
    files = list(CLASSIFIER.iterdir())
    assert sum(file.stat().st_size for file in files) <= 4_000_000
    assert {file.suffix for file in files} <= {".safetensors", ".json", ".jinja", ".md", ".png"}


def test_the_folder_is_the_trainers_and_says_that_it_is_a_toy():
    """The demo is made by the trainer that users have, and its model card warns and shows its figures."""
    record = json.loads((CLASSIFIER / "training.json").read_text())
    card = (CLASSIFIER / "README.md").read_text()
    assert "**Do not\njudge real data with it.**" in card
    assert f"| macro F1 | {record['evaluation']['macro_f1']:.1%} |" in card
    assert "| freeze | none |" in card


def test_the_classifier_describes_itself(tokenizer):
    """Padding, length limit and scale come with the folder, so that a scorer has nothing to guess."""
    config = json.loads((CLASSIFIER / "config.json").read_text())
    assert config["score_scale"] == {"offset": 1.0, "low": 1, "high": 5}
    assert config["pad_token_id"] == tokenizer.pad_token_id != tokenizer.eos_token_id
    assert tokenizer.model_max_length <= config["max_position_embeddings"]


def test_the_template_refuses_unknown_roles(tokenizer):
    """A role that the classifier has never seen is an error, not a score."""
    with pytest.raises(Exception, match="Unknown role"):
        tokenizer.apply_chat_template([{"role": "narrador", "content": "Era uma vez."}], tokenize=False)
