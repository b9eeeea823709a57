"""The demo's conversations: synthetic Portuguese questions and answers of five visible levels of quality.

Two disjoint sets come out of one set of templates:

- `shipped_lines()`: what `examples/conversations.jsonl` holds. Subjects are real (countries, books, chemical elements,
  rivers, ...), so that a person can judge each answer. A few broken rows are mixed in.
- `training_rows()`: what the demo classifier learns from. Subjects, answers and often even the relation asked for are
  invented afresh for every row out of syllables. There is no list to memorise: to tell a good answer from an answer to
  another question, a model has to compare the strings. No real subject of the shipped rows occurs here, nor anything
  of the model card's two examples.

The levels:

    5  answers the question asked, in full sentences, and explains
    4  answers the question asked, in one plain sentence
    3  is about what was asked, but vague, hedging or contradicting itself
    2  evasive, sloppy, or a remark about the subject that does not answer
    1  the answer to another question, chatter about oneself, gibberish, or a loop

In a conversation of several turns every answer has the conversation's level. All randomness is `random.Random(seed)`:
the same lines come out on every machine.
"""

import json
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass


SHIPPED_SEED = 20_260
TRAINING_SEED = 1
NUM_SHIPPED = 640
DRILLS_FIRST, DRILLS_LATER = 0.35, 0.25
LEVELS = (1, 2, 3, 4, 5)
SHIPPED_TURNS = (1, 1, 1, 1, 2, 3)
TRAINING_TURNS = (1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 3)

# What the model card's two examples speak of; see `mentions_held_out`.
CARD_WORDS = ("Portugal", "Lisboa", "azul")

Messages = list[dict[str, str]]


# --- names -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Name:
    """A noun with its definite article: "o", "a", or "" for one that takes none."""

    text: str
    article: str = ""

    def forms(self, suffix: str = "") -> dict[str, str]:
        """The forms that templates use: bare, with article, after "de" and "em", and the ending of a participle."""
        with_article = f"{self.article} {self.text}".strip()
        de = f"d{self.article} {self.text}" if self.article else f"de {self.text}"
        em = f"n{self.article} {self.text}" if self.article else f"em {self.text}"
        ending = "a" if self.article == "a" else "o"
        keys = (("e", self.text), ("o", with_article), ("de", de), ("em", em), ("g", ending))
        return {key + suffix: form for key, form in keys}


# Weighted by repetition. Most invented words look Portuguese, some look foreign.
PLAIN_ONSETS = "b b c c d d f f g g j l l m m n n p p r r s s t t v v br cr dr fr gr pr tr fl gl pl lh nh ch qu gu"
PLAIN_VOWELS = "a a a a e e e e i i i o o o u u á é í ó ã ai ei ou au ia io"
PLAIN_CODAS = ",,,,,,,l,m,n,r,s,z"
WILD_ONSETS = "b bl d f g h j k kr l m n p ph r s sh sk st sch t th ts v w x y z zh ll nn ss tt dj kw"
WILD_VOWELS = "a e i o u y aa ee oo ö ü ó é á ie ou ae ui ey"
WILD_CODAS = ",,,n,m,ng,k,t,x,rg,nd,ck,sk,th,r,l,s,st,ff"
PLAIN = (PLAIN_ONSETS.split(), PLAIN_VOWELS.split(), PLAIN_CODAS.split(","))
WILD = (WILD_ONSETS.split(), WILD_VOWELS.split(), WILD_CODAS.split(","))
WORD_ENDINGS = """
ção dade ismo ose eira eiro agem ura ista ite ência ável mento ico ica ato ano ina eza or
"""
FIRST_NAMES = "Ana Bruno Carla Davi Elisa Fábio Gil Helena Ivo Joana Lúcia Marta Nuno Otávio Paula Rita Saulo Vera"

FEMININE = """
altura bandeira água árvore ponte casa cidade praia montanha história canção dança festa comida bebida fruta flor
planta raiz pedra estrada igreja escola biblioteca feira praça torre muralha ilha lagoa floresta fazenda fábrica
máquina roda corda vela lâmpada janela porta mesa cadeira cama faca panela xícara camisa saia bota luva coroa
medalha espada guitarra flauta viola orquestra peça pintura escultura estátua lenda fábula carta revista palavra
letra língua ciência teoria lei regra conta medida massa velocidade temperatura energia luz sombra cor estrela lua
nuvem chuva neve tempestade sopa salada torta bolacha manteiga farinha abelha formiga aranha baleia cobra raposa
tartaruga girafa coruja doença vacina empresa loja equipe seleção corrida camada célula origem idade área população
fronteira religião receita profissão função causa vantagem diferença estação senha pergunta resposta viagem mala
passagem rua avenida
"""
MASCULINE = """
nome rio lago mar monte vale deserto bosque campo jardim porto castelo palácio museu teatro templo estádio mercado
hospital hotel navio barco trem carro avião motor relógio espelho livro poema romance conto filme quadro desenho
mapa jornal caderno lápis papel vidro metal tecido couro algodão sal açúcar mel leite queijo pão bolo arroz feijão
milho trigo café chá suco vinho azeite tomate limão peixe pássaro cavalo gato cachorro lobo urso leão tigre macaco
elefante sapo inseto osso músculo coração cérebro pulmão sangue remédio exame número ângulo triângulo círculo
cálculo planeta cometa satélite foguete telescópio clima vento raio fogo gelo solo prato doce molho jogo esporte
time campeonato hino lema símbolo idioma povo rei presidente prefeito bairro endereço telefone computador teclado
programa arquivo peso tamanho preço valor prazo horário dia mês século tempo início fim objetivo motivo efeito
método sabor cheiro som ritmo instrumento animal bicho alimento sobrenome apelido código comprimento diâmetro volume
ponto lugar tipo
"""
NOUNS = tuple(Name(word, "a") for word in FEMININE.split()) + tuple(Name(word, "o") for word in MASCULINE.split())

VERBS = (
    ("escreveu", "escrit"),
    ("pintou", "pintad"),
    ("compôs", "compost"),
    ("fundou", "fundad"),
    ("descobriu", "descobert"),
    ("inventou", "inventad"),
    ("dirigiu", "dirigid"),
    ("projetou", "projetad"),
    ("construiu", "construíd"),
    ("criou", "criad"),
    ("gravou", "gravad"),
    ("traduziu", "traduzid"),
    ("venceu", "vencid"),
    ("organizou", "organizad"),
    ("governou", "governad"),
    ("batizou", "batizad"),
    ("publicou", "publicad"),
    ("desenhou", "desenhad"),
    ("conquistou", "conquistad"),
    ("estudou", "estudad"),
    ("formulou", "formulad"),
    ("treinou", "treinad"),
)
ACTIONS = """
aprender limpar consertar plantar guardar montar escolher pintar preparar cuidar_de vender comprar lavar desenhar
organizar medir trocar cortar usar instalar
"""
ADVICE = (
    "comece devagar e pratique um pouco todos os dias",
    "separe o material antes e siga um passo de cada vez",
    "peça ajuda a quem já tem experiência e anote o que der certo",
    "leia as instruções com calma e teste primeiro em pequena escala",
    "reserve uma hora por semana e repita até ficar fácil",
    "use ferramentas simples e confira o resultado ao final",
)
DEFINITION_HEADS = (
    "um processo que transforma",
    "uma técnica usada para estudar",
    "a parte da ciência que estuda",
    "um aparelho que mede",
    "um costume antigo ligado a",
    "o conjunto de regras que organiza",
    "uma forma de descrever",
    "a capacidade de perceber",
)


def invented_word(rng: random.Random) -> str:
    """A lower-case word of random syllables, in a Portuguese or a foreign spelling."""
    (onsets, vowels, codas), lengths = rng.choice(((PLAIN, (2, 2, 2, 3)), (PLAIN, (1, 2, 3)), (WILD, (1, 2, 2))))
    start = rng.choice(vowels)[0] if rng.random() < 0.15 else ""
    syllables = [rng.choice(onsets) + rng.choice(vowels) + rng.choice(codas) for _ in range(rng.choice(lengths))]
    ending = rng.choice(WORD_ENDINGS.split()) if rng.random() < 0.15 else ""
    return start + "".join(syllables) + ending


def invented_proper(rng: random.Random) -> str:
    """A capitalised name of one or two words."""
    first = invented_word(rng).capitalize()
    kind = rng.random()
    if kind < 0.72:
        return first
    if kind < 0.82:
        return rng.choice(("Nova", "São", "Porto", "Santa", "Monte", "Vila", "Alto", "Costa")) + " " + first
    return first + rng.choice((" ", " do ", " de ", " da ", "-")) + invented_word(rng).capitalize()


def invented_place(rng: random.Random) -> Name:
    """A country, region or city."""
    return Name(invented_proper(rng), rng.choice(("", "o", "a")))


def invented_person(rng: random.Random) -> Name:
    """First name and surname."""
    first = rng.choice(FIRST_NAMES.split()) if rng.random() < 0.4 else invented_word(rng).capitalize()
    middle = rng.choice(("", "", "", "", " de", " da", " dos"))
    return Name(f"{first}{middle} {invented_word(rng).capitalize()}")


def invented_thing(rng: random.Random) -> Name:
    """A lower-case noun: invented, or a common one, alone or followed by an invented one."""
    noun = rng.choice(NOUNS)
    kind = rng.random()
    if kind < 0.5:
        return Name(invented_word(rng), rng.choice("oa"))
    if kind < 0.75:
        return noun
    return Name(f"{noun.text} {rng.choice(('', 'de '))}{invented_word(rng)}", noun.article)


def invented_title(rng: random.Random) -> Name:
    """The title of a work."""
    one, two = (rng.choice(NOUNS) for _ in range(2))
    shapes = (
        lambda: f"{one.article.upper()} {one.text.capitalize()} {two.forms()['de']}",
        lambda: f"{one.article.upper()} {one.text.capitalize()} de {invented_proper(rng)}",
        lambda: f"{one.text.capitalize()} e {two.text.capitalize()}",
        lambda: invented_proper(rng),
        lambda: f"{one.article.upper()} {invented_word(rng).capitalize()}",
        lambda: f"{invented_word(rng).capitalize()} {invented_word(rng)}",
    )
    return Name(rng.choice(shapes)())


def invented_year(rng: random.Random) -> Name:
    """A year."""
    return Name(str(rng.randrange(900, 2020)))


def invented_symbol(rng: random.Random) -> Name:
    """One or two letters."""
    return Name(rng.choice("ABCDEFGHIKLMNOPRSTUVXYZ") + rng.choice(" abdefghiklmnoprstuyz").strip())


def invented_definition(rng: random.Random) -> Name:
    """What something is."""
    return Name(f"{rng.choice(DEFINITION_HEADS)} {invented_thing(rng).forms()['o']}")


def invented_ingredients(rng: random.Random) -> Name:
    """Three things to cook with."""
    one, two, three = (invented_thing(rng).text for _ in range(3))
    return Name(f"{one}, {two} e {three}")


def invented_action(rng: random.Random) -> Name:
    """Something to do, as an infinitive."""
    verb = rng.choice(ACTIONS.split()) if rng.random() < 0.6 else invented_word(rng) + rng.choice(("ar", "er", "ir"))
    return Name(f"{verb.replace('_', ' ')} {invented_thing(rng).text}")


def given_advice(rng: random.Random) -> Name:
    """How to do something."""
    return Name(rng.choice(ADVICE))


def invented_value(rng: random.Random) -> Name:
    """An answer to "qual é ...": a name, a thing, a number."""
    number = Name(str(rng.randrange(2, 9000)) + rng.choice(("", " metros", " quilos", " anos", " mil")))
    return rng.choice((invented_place(rng), invented_thing(rng), invented_person(rng), number))


# --- topics ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Topic:
    """One relation between a subject (`e`, `o`, `de`, `em`) and its value (the same with `_v`), as sentences.

    Attributes:
        source: The made-up name of where such rows come from.
        asked: What is asked for, as a noun phrase.
        clause: The answer as a clause, without capital and full stop.
        questions: Ways to ask.
        answers: Other ways to answer in one sentence.
        details: Sentences that explain or add to the answer.
        subject: Invents a subject.
        value: Invents a value.
        kind: Topics of one kind have subjects of one kind.
        facts: Real subjects and values, as (subject, its article, value, its article).
    """

    source: str
    asked: str
    clause: str
    questions: tuple[str, ...]
    answers: tuple[str, ...]
    details: tuple[str, ...]
    subject: Callable[[random.Random], Name]
    value: Callable[[random.Random], Name]
    kind: str = ""
    facts: tuple[tuple[str, str, str, str], ...] = ()


def facts(text: str) -> tuple[tuple[str, str, str, str], ...]:
    """Parse "subject = value; ..." where "o|" or "a|" before a noun is its article."""
    pairs = [[part.strip() for part in item.split("=")] for item in text.split(";")]
    split = [[noun.rpartition("|") for noun in pair] for pair in pairs]
    return tuple((subject[2], subject[0], value[2], value[0]) for subject, value in split)


TOPICS = (
    Topic(
        source="atlas-capitais",
        asked="a capital {de}",
        clause="a capital {de} é {e_v}",
        questions=(
            "Qual é a capital {de}?",
            "Que cidade é a capital {de}?",
            "Como se chama a capital {de}?",
            "De que país {e_v} é a capital?",
        ),
        answers=("{e_v} é a capital {de}.", "A cidade de {e_v} é a capital {de}.", "A capital {de} se chama {e_v}."),
        details=(
            "É em {e_v} que se concentra boa parte da vida política {de}.",
            "Quem visita {o} pela primeira vez costuma começar a viagem por {e_v}, onde há museus, mercados e praças.",
            "A cidade cresceu ao longo dos séculos como centro de comércio e de administração {de}.",
            "Por isso, nos jornais, é comum ler {e_v} quando se quer falar das decisões tomadas {em}.",
        ),
        subject=invented_place,
        value=lambda rng: Name(invented_proper(rng)),
        kind="país",
        facts=facts(
            "a|França = Paris; a|Itália = Roma; a|Espanha = Madri; a|Noruega = Oslo; a|Suécia = Estocolmo; "
            "o|Japão = Tóquio; o|Peru = Lima; o|Chile = Santiago; o|Canadá = Ottawa; a|Grécia = Atenas; "
            "a|Áustria = Viena; Angola = Luanda; a|Hungria = Budapeste; Moçambique = Maputo; Cuba = Havana; "
            "a|Colômbia = Bogotá; o|Uruguai = Montevidéu; o|Quênia = Nairóbi; a|Finlândia = Helsinque; "
            "a|Irlanda = Dublin; a|Polônia = Varsóvia"
        ),
    ),
    Topic(
        source="guia-moedas",
        asked="a moeda {de}",
        clause="a moeda {de} é {o_v}",
        questions=(
            "Qual é a moeda {de}?",
            "Que moeda se usa {em}?",
            "Como se chama o dinheiro usado {em}?",
            "Vou viajar e quero saber: qual é a moeda oficial {de}?",
        ),
        answers=("{o_v} é a moeda {de}.", "A moeda usada {em} é {o_v}.", "A moeda oficial {de} é {o_v}."),
        details=(
            "Quem viaja pode trocar dinheiro em bancos e casas de câmbio, e convém levar {e_v} em notas pequenas.",
            "O valor {de_v} em relação a outras moedas muda todos os dias, conforme a economia {de}.",
            "Salários, preços e impostos são calculados nessa moeda, embora hotéis {em} às vezes aceitem cartões.",
            "As notas e as moedas {de} são emitidas pelo banco central do país.",
        ),
        subject=invented_place,
        value=lambda rng: Name(invented_word(rng), rng.choice("oa")),
        kind="país",
        facts=facts(
            "o|Japão = o|iene; o|Peru = o|sol; o|Chile = o|peso chileno; o|México = o|peso mexicano; "
            "a|China = o|yuan; a|Índia = a|rupia indiana; a|Suíça = o|franco suíço; a|Suécia = a|coroa sueca; "
            "Angola = o|kwanza; Moçambique = o|metical; a|Rússia = o|rublo; a|África do Sul = o|rand; "
            "a|Coreia do Sul = o|won; a|Turquia = a|lira turca; a|Tailândia = o|baht; a|Polônia = o|zloty; "
            "o|Canadá = o|dólar canadense"
        ),
    ),
    Topic(
        source="mapa-das-linguas",
        asked="a língua mais falada {em}",
        clause="a língua mais falada {em} é {o_v}",
        questions=(
            "Qual é a língua mais falada {em}?",
            "Que idioma se fala {em}?",
            "Em que língua as pessoas conversam {em}?",
            "Que língua devo estudar antes de morar {em}?",
        ),
        answers=("{o_v} é a língua mais falada {em}.", "O idioma mais falado {em} é {o_v}.", "{em}, fala-se {e_v}."),
        details=(
            "Escolas, jornais e programas de televisão {de} usam {o_v} no dia a dia.",
            "Há também línguas de grupos menores, mas quem sabe {e_v} se faz entender em quase todo o país.",
            "Quem pretende morar {em} ganha muito ao aprender algumas frases de {e_v} antes de viajar.",
            "Como toda língua viva, {o_v} muda um pouco de região para região.",
        ),
        subject=invented_place,
        value=lambda rng: Name(invented_word(rng), "o"),
        kind="país",
        facts=facts(
            "a|Austrália = o|inglês; a|Áustria = o|alemão; o|Egito = o|árabe; o|Irã = o|persa; "
            "Cuba = o|espanhol; o|Haiti = o|crioulo haitiano; Israel = o|hebraico; a|Grécia = o|grego; "
            "a|Hungria = o|húngaro; o|Vietnã = o|vietnamita; o|Camboja = o|khmer; a|Islândia = o|islandês; "
            "a|Tailândia = o|tailandês; a|Argentina = o|espanhol; a|Nova Zelândia = o|inglês; "
            "a|Finlândia = o|finlandês; o|Senegal = o|uólofe"
        ),
    ),
    Topic(
        source="estante-de-livros",
        asked="o autor do livro {e}",
        clause="o livro {e} foi escrito por {e_v}",
        questions=(
            "Quem escreveu {e}?",
            "Quem escreveu o livro {e}?",
            "De quem é o livro {e}?",
            "Qual é o nome de quem escreveu {e}?",
        ),
        answers=("{e_v} escreveu {e}.", "Quem escreveu {e} foi {e_v}.", "O livro {e} é de {e_v}."),
        details=(
            "É uma obra muito lida, e nela {e_v} mostra com cuidado os conflitos das personagens.",
            "Quem gosta de {e} costuma procurar depois outros textos de {e_v}.",
            "O livro é estudado em escolas e universidades, porque {e} ajuda a entender a época em que foi escrito.",
            "A linguagem de {e_v} é um dos motivos pelos quais {e} continua a encontrar leitores.",
        ),
        subject=invented_title,
        value=invented_person,
        facts=facts(
            "Dom Casmurro = Machado de Assis; Grande Sertão: Veredas = João Guimarães Rosa; "
            "Iracema = José de Alencar; Vidas Secas = Graciliano Ramos; A Hora da Estrela = Clarice Lispector; "
            "Capitães da Areia = Jorge Amado; O Cortiço = Aluísio Azevedo; Os Maias = Eça de Queirós; "
            "Ensaio sobre a Cegueira = José Saramago; Cem Anos de Solidão = Gabriel García Márquez; "
            "Dom Quixote = Miguel de Cervantes; Hamlet = William Shakespeare; "
            "Orgulho e Preconceito = Jane Austen; Crime e Castigo = Fiódor Dostoiévski; "
            "Guerra e Paz = Liev Tolstói; A Metamorfose = Franz Kafka; O Tempo e o Vento = Erico Verissimo; "
            "Macunaíma = Mário de Andrade; Quarto de Despejo = Carolina Maria de Jesus; "
            "O Pequeno Príncipe = Antoine de Saint-Exupéry"
        ),
    ),
    Topic(
        source="tabela-periodica",
        asked="o símbolo químico {de}",
        clause="o símbolo químico {de} é {e_v}",
        questions=(
            "Qual é o símbolo químico {de}?",
            "Que símbolo representa {o} na tabela periódica?",
            "Como se escreve o símbolo {de} em química?",
            "Que elemento tem o símbolo {e_v}?",
        ),
        answers=(
            "{o} tem o símbolo {e_v}.",
            "Na tabela periódica, {o} aparece como {e_v}.",
            "{e_v} é o símbolo químico {de}.",
        ),
        details=(
            "Os símbolos vêm muitas vezes do nome latino, e são os mesmos em todos os países.",
            "Assim, quando uma fórmula traz {e_v}, sabemos que a substância contém {e}.",
            "Na tabela periódica, {o} ocupa um lugar fixo, dado pelo número de prótons de seu átomo.",
            "Usar {e_v} em vez do nome inteiro torna as equações químicas mais curtas e claras.",
        ),
        subject=lambda rng: Name(invented_word(rng), rng.choice("ooa")),
        value=invented_symbol,
        facts=facts(
            "o|ouro = Au; a|prata = Ag; o|ferro = Fe; o|cobre = Cu; o|sódio = Na; o|potássio = K; o|chumbo = Pb; "
            "o|estanho = Sn; o|mercúrio = Hg; o|hélio = He; o|carbono = C; o|cálcio = Ca; o|zinco = Zn; "
            "a|platina = Pt; o|oxigênio = O; o|hidrogênio = H; o|cloro = Cl; o|tungstênio = W; o|urânio = U; "
            "o|níquel = Ni"
        ),
    ),
    Topic(
        source="rios-do-mundo",
        asked="a nascente {de}",
        clause="{o} nasce {em_v}",
        questions=(
            "Onde nasce {o}?",
            "Onde fica a nascente {de}?",
            "Em que lugar começa {o}?",
            "Que rio nasce {em_v}?",
        ),
        answers=(
            "A nascente {de} fica {em_v}.",
            "É {em_v} que nasce {o}.",
            "{o} começa {em_v}.",
        ),
        details=(
            "Dali, {o} recebe as águas de muitos afluentes antes de chegar à foz.",
            "As chuvas que caem {em_v} decidem, em boa parte, quanta água {o} leva durante o ano.",
            "Nas margens {de} há cidades, plantações e pescadores que dependem dele.",
            "Por essa razão, proteger a vegetação da nascente é importante para todo o curso {de}.",
        ),
        subject=lambda rng: Name(f"rio {invented_proper(rng)}", "o"),
        value=lambda rng: (
            Name(f"serra {rng.choice(('de', 'da', 'do'))} {invented_proper(rng)}", "a")
            if rng.random() < 0.4
            else invented_place(rng)
        ),
        facts=facts(
            "o|rio São Francisco = a|serra da Canastra; o|rio Tejo = a|serra de Albarracín; "
            "o|rio Douro = a|serra de Urbión; o|rio Danúbio = a|Floresta Negra; o|rio Tietê = Salesópolis; "
            "o|rio Volga = o|planalto de Valdai; o|rio Mississippi = o|lago Itasca; o|rio Pó = o|monte Viso; "
            "o|rio Ganges = o|Himalaia; o|rio Mekong = o|planalto do Tibete; o|rio Sena = o|planalto de Langres; "
            "o|rio Loire = o|Maciço Central francês; o|rio Doce = a|serra da Mantiqueira; "
            "o|rio Paraguai = o|planalto dos Parecis"
        ),
    ),
    Topic(
        source="caderno-de-inventos",
        asked="a invenção {de}",
        clause="{o} foi inventad{g} por {e_v}",
        questions=(
            "Quem inventou {o}?",
            "De quem é a invenção {de}?",
            "Que pessoa criou {o}?",
            "Você sabe quem foi o inventor {de}?",
        ),
        answers=("{e_v} inventou {o}.", "Quem inventou {o} foi {e_v}.", "A invenção {de} é atribuída a {e_v}."),
        details=(
            "Outras pessoas trabalhavam em ideias parecidas, mas foi {e_v} quem ficou com o reconhecimento.",
            "Antes {de}, as pessoas precisavam de soluções mais lentas e mais caras.",
            "A ideia se espalhou depressa, e {o} mudou o modo de trabalhar e de viver.",
            "Nos anos seguintes, muitos engenheiros melhoraram {o}, tornando-{g} mais barat{g} e mais segur{g}.",
        ),
        subject=invented_thing,
        value=invented_person,
        facts=facts(
            "o|telefone = Alexander Graham Bell; o|para-raios = Benjamin Franklin; a|dinamite = Alfred Nobel; "
            "o|14-bis = Santos Dumont; a|pilha elétrica = Alessandro Volta; o|fonógrafo = Thomas Edison; "
            "o|termômetro de mercúrio = Daniel Fahrenheit; a|prensa de tipos móveis = Johannes Gutenberg; "
            "o|alfabeto para cegos = Louis Braille; a|máquina a vapor moderna = James Watt; "
            "o|saxofone = Adolphe Sax; o|cubo mágico = Ernő Rubik; o|motor a diesel = Rudolf Diesel"
        ),
    ),
    Topic(
        source="galeria-de-arte",
        asked="o pintor do quadro {e}",
        clause="o quadro {e} foi pintado por {e_v}",
        questions=(
            "Quem pintou {e}?",
            "Quem pintou o quadro {e}?",
            "De que artista é a pintura {e}?",
            "A quem devemos o quadro {e}?",
        ),
        answers=("{e_v} pintou {e}.", "Quem pintou {e} foi {e_v}.", "A pintura {e} é de {e_v}."),
        details=(
            "Na obra, as cores e a composição mostram bem o estilo de {e_v}.",
            "O quadro {e} atrai muitos visitantes e aparece em quase todos os livros de história da arte.",
            "Vale a pena observar os detalhes de {e}, porque {e_v} escolheu cada um deles com intenção.",
            "Críticos comparam {e} com outros trabalhos de {e_v} para entender como o artista mudou com o tempo.",
        ),
        subject=invented_title,
        value=invented_person,
        facts=facts(
            "Guernica = Pablo Picasso; Abaporu = Tarsila do Amaral; Mona Lisa = Leonardo da Vinci; "
            "Os Girassóis = Vincent van Gogh; O Grito = Edvard Munch; As Meninas = Diego Velázquez; "
            "A Noite Estrelada = Vincent van Gogh; Retirantes = Candido Portinari; "
            "A Persistência da Memória = Salvador Dalí; O Beijo = Gustav Klimt; "
            "Moça com Brinco de Pérola = Johannes Vermeer; O Nascimento de Vênus = Sandro Botticelli; "
            "A Ronda Noturna = Rembrandt; As Duas Fridas = Frida Kahlo"
        ),
    ),
    Topic(
        source="linha-do-tempo",
        asked="o ano {de}",
        clause="{o} aconteceu em {e_v}",
        questions=(
            "Em que ano aconteceu {o}?",
            "Quando foi {o}?",
            "Em que data se deu {o}?",
            "Preciso saber o ano {de}. Qual foi?",
        ),
        answers=("{o} foi em {e_v}.", "Foi em {e_v} que aconteceu {o}.", "O ano {de} foi {e_v}."),
        details=(
            "O acontecimento não surgiu do nada: havia anos que as tensões ligadas a ele cresciam.",
            "Depois de {e_v}, as consequências {de} foram sentidas por várias gerações.",
            "Historiadores ainda discutem as causas {de}, mas concordam quanto à data.",
            "Para guardar o ano, ajuda lembrar o que mais mudou no mundo por volta de {e_v}.",
        ),
        subject=lambda rng: Name(
            f"{rng.choice(('Guerra', 'Revolta', 'Batalha', 'Reforma', 'Queda'))} "
            f"{rng.choice(('de', 'da', 'do'))} {invented_proper(rng)}",
            "a",
        ),
        value=invented_year,
        facts=facts(
            "a|Revolução Francesa = 1789; a|Proclamação da República no Brasil = 1889; "
            "a|queda do Muro de Berlim = 1989; a|chegada do homem à Lua = 1969; a|Revolução Russa = 1917; "
            "a|Semana de Arte Moderna = 1922; a|Inconfidência Mineira = 1789; a|Revolução dos Cravos = 1974; "
            "a|Batalha de Waterloo = 1815; a|abolição da escravidão no Brasil = 1888; "
            "a|queda de Constantinopla = 1453; a|fundação de Brasília = 1960; "
            "o|terremoto de São Francisco = 1906; o|naufrágio do Titanic = 1912"
        ),
    ),
    Topic(
        source="dicionario-de-ciencias",
        asked="o significado {de}",
        clause="{o} é {e_v}",
        questions=(
            "O que é {o}?",
            "O que significa {e}?",
            "Pode me explicar o que é {o}?",
            "Como você definiria {e}?",
        ),
        answers=("Chamamos de {e} {e_v}.", "Define-se {o} como {e_v}.", "Em resumo, {o} é {e_v}."),
        details=(
            "Um bom modo de entender {o} é procurar exemplos no cotidiano e compará-los com a definição.",
            "O tema aparece cedo na escola, porque {o} serve de base para assuntos mais avançados.",
            "Sem {o}, muitos fenômenos que observamos ficariam sem explicação.",
            "Convém não confundir {o} com ideias parecidas, que têm outras causas e outros efeitos.",
        ),
        subject=lambda rng: Name(invented_word(rng), rng.choice("oa")) if rng.random() < 0.7 else invented_thing(rng),
        value=invented_definition,
        facts=facts(
            "a|fotossíntese = o processo pelo qual as plantas usam a luz para produzir açúcares; "
            "a|gravidade = a força com que os corpos se atraem por causa de sua massa; "
            "a|evaporação = a passagem de um líquido para o estado gasoso; "
            "a|inflação = o aumento geral e contínuo dos preços; "
            "o|eclipse = o escurecimento de um astro pela passagem de outro à sua frente; "
            "a|democracia = o regime em que o povo escolhe quem governa; "
            "a|metáfora = uma comparação implícita entre duas coisas; "
            "o|algoritmo = uma sequência finita de passos para resolver um problema; "
            "a|erosão = o desgaste do solo e das rochas pela água e pelo vento; "
            "a|osmose = a passagem de água por uma membrana semipermeável; "
            "a|biodiversidade = a variedade de seres vivos de um lugar; "
            "o|magnetismo = o fenômeno pelo qual certos materiais se atraem ou se repelem; "
            "o|efeito estufa = a retenção de calor pelos gases da atmosfera; "
            "a|polinização = o transporte de pólen de uma flor para outra"
        ),
    ),
    Topic(
        source="cozinha-de-casa",
        asked="o preparo de {e}",
        clause="a receita de {e} leva {e_v}",
        questions=(
            "Como se faz {e}?",
            "Como eu preparo {e}?",
            "Que ingredientes levo para a mesa se quiser fazer {e}?",
            "Me ensina uma receita de {e}?",
        ),
        answers=("Para fazer {e}, use {e_v}.", "{e} se prepara com {e_v}.", "Os ingredientes de {e} são {e_v}."),
        details=(
            "Misture tudo aos poucos, prove e só então ajuste o tempero.",
            "Deixe descansar alguns minutos antes de servir, porque assim {e} fica com mais sabor.",
            "Se faltar algo, dá para trocar um dos ingredientes, mas o resultado de {e} muda um pouco.",
            "Separe antes {e_v}, para não ter de parar no meio do preparo.",
        ),
        subject=lambda rng: Name(invented_thing(rng).text),
        value=invented_ingredients,
        facts=facts(
            "brigadeiro = leite condensado, cacau e manteiga; pão de queijo = polvilho, queijo e ovos; "
            "feijoada = feijão preto, carne de porco e louro; tapioca = goma hidratada, coco e queijo; "
            "moqueca = peixe, leite de coco e dendê; vatapá = pão, camarão seco e amendoim; "
            "canjica = milho branco, leite e canela; farofa = farinha de mandioca, manteiga e cebola; "
            "guacamole = abacate, limão e coentro; risoto = arroz, caldo e parmesão; "
            "panqueca = farinha, ovos e leite; maionese = gemas, óleo e vinagre; "
            "pamonha = milho verde, açúcar e leite; caipirinha = cachaça, limão e açúcar"
        ),
    ),
    Topic(
        source="pontos-turisticos",
        asked="a localização {de}",
        clause="{o} fica {em_v}",
        questions=("Onde fica {o}?", "Em que lugar está {o}?", "Onde posso visitar {o}?", "Onde se localiza {o}?"),
        answers=("{o} está {em_v}.", "É {em_v} que fica {o}.", "Pode-se visitar {o} {em_v}."),
        details=(
            "O melhor horário para conhecer {o} é de manhã, quando há menos gente.",
            "Quem vai {em_v} por poucos dias consegue incluir {o} no roteiro sem pressa.",
            "Vale conferir antes os horários e os preços, porque {o} recebe muitos visitantes.",
            "Há guias que contam a história {de} e mostram detalhes que passam despercebidos.",
        ),
        subject=lambda rng: Name(
            f"{(noun := rng.choice(NOUNS)).text.capitalize()} {rng.choice(('', 'de ', 'do '))}{invented_proper(rng)}",
            noun.article,
        ),
        value=invented_place,
        facts=facts(
            "a|Torre Eiffel = Paris; o|Coliseu = Roma; o|Cristo Redentor = o|Rio de Janeiro; "
            "a|Sagrada Família = Barcelona; o|Taj Mahal = Agra; a|Casa Branca = Washington; o|Big Ben = Londres; "
            "o|Pelourinho = Salvador; o|Elevador Lacerda = Salvador; o|Mercado Ver-o-Peso = Belém; "
            "o|Teatro Amazonas = Manaus; o|Masp = São Paulo; o|Portão de Brandemburgo = Berlim; "
            "a|Alhambra = Granada; a|Capela Sistina = o|Vaticano"
        ),
    ),
    Topic(
        source="bichos-e-plantas",
        asked="a alimentação {de}",
        clause="{o} come principalmente {e_v}",
        questions=(
            "O que {o} come?",
            "Do que se alimenta {o}?",
            "Qual é a comida preferida {de} na natureza?",
            "De que vive {o}?",
        ),
        answers=(
            "{o} se alimenta de {e_v}.",
            "A alimentação {de} é feita de {e_v}.",
            "Na natureza, {o} come sobretudo {e_v}.",
        ),
        details=(
            "O corpo {de} está bem adaptado a isso, dos dentes ou do bico ao estômago.",
            "Em cativeiro, os tratadores procuram oferecer {e_v} todos os dias.",
            "Na falta de {e_v}, {o} percorre grandes distâncias à procura de outro alimento.",
            "Essa dieta explica em parte onde encontramos {o} na natureza.",
        ),
        subject=invented_thing,
        value=lambda rng: Name(invented_thing(rng).text),
        facts=facts(
            "o|panda-gigante = bambu; o|coala = folhas de eucalipto; o|tamanduá-bandeira = formigas e cupins; "
            "o|beija-flor = néctar; a|onça-pintada = carne de capivaras e jacarés; "
            "o|peixe-boi = plantas aquáticas; o|lobo-guará = frutos e pequenos animais; "
            "a|baleia-jubarte = krill; o|bicho-preguiça = folhas; o|pica-pau = larvas de insetos; "
            "o|pinguim-imperador = peixes e lulas; o|gafanhoto = folhas e capim; o|morcego-vampiro = sangue; "
            "a|joaninha = pulgões"
        ),
    ),
    Topic(
        source="dicas-do-dia-a-dia",
        asked="a melhor maneira de {e}",
        clause="o melhor conselho para {e} é este: {e_v}",
        questions=(
            "Como posso {e}?",
            "Qual é a melhor maneira de {e}?",
            "Tenho dificuldade para {e}. O que devo fazer?",
            "O que você recomenda a quem quer {e}?",
        ),
        answers=(
            "Se você quer {e}, {e_v}.",
            "A quem quer {e}, recomendo: {e_v}.",
            "Para {e}, {e_v}.",
            "O segredo para {e} é simples: {e_v}.",
        ),
        details=(
            "O importante é ter paciência, porque ninguém consegue {e} de um dia para o outro.",
            "Com o tempo, {e} se torna um hábito e exige menos esforço.",
            "Se algo der errado, não desanime: quem aprende a {e} costuma errar bastante no começo.",
            "Anote o que funcionou, pois assim fica mais fácil {e} da próxima vez.",
        ),
        subject=invented_action,
        value=given_advice,
        facts=facts(
            "tocar violão = treine os acordes básicos por alguns minutos todos os dias; "
            "dormir melhor = evite telas à noite e mantenha um horário fixo; "
            "economizar energia = apague as luzes e desligue os aparelhos que não usa; "
            "nadar sem medo = comece em água rasa e com um bom professor; "
            "correr cinco quilômetros = alterne corrida leve e caminhada por algumas semanas; "
            "falar em público = ensaie em voz alta diante de poucas pessoas; "
            "fazer uma horta = escolha um canto com sol e regue pela manhã; "
            "memorizar textos = divida o texto em partes e repita cada uma; "
            "andar de bicicleta = pratique em lugar plano e com capacete; "
            "estudar matemática = resolva exercícios curtos e confira os erros; "
            "gastar menos = anote cada despesa e defina um limite por semana; "
            "beber mais líquidos = deixe uma garrafa sempre à vista"
        ),
    ),
    Topic(
        source="aula-de-ingles",
        asked="a tradução de “{e}” para o inglês",
        clause="em inglês, “{e}” se diz “{e_v}”",
        questions=(
            "Como se diz “{e}” em inglês?",
            "Qual é a tradução de “{e}” para o inglês?",
            "Como traduzo a palavra “{e}” para o inglês?",
            "O que quer dizer “{e_v}”, palavra inglesa?",
        ),
        answers=(
            "A tradução de “{e}” é “{e_v}”.",
            "A palavra “{e}” se traduz por “{e_v}”.",
            "“{e_v}” é a palavra inglesa para “{e}”.",
        ),
        details=(
            "Use “{e_v}” tanto na fala quanto na escrita, pois a palavra é comum.",
            "Como em outros casos, o sentido de “{e}” pode mudar um pouco conforme a frase.",
            "Para fixar, escreva três frases com “{e_v}” e leia cada uma em voz alta.",
            "Repare que “{e}” e “{e_v}” não se parecem na escrita, o que exige alguma memória.",
        ),
        subject=lambda rng: Name(invented_word(rng)),
        value=lambda rng: Name(invented_word(rng)),
        facts=facts(
            "saudade = longing; borboleta = butterfly; sobremesa = dessert; travesseiro = pillow; "
            "vizinho = neighbor; guarda-chuva = umbrella; cotovelo = elbow; amanhecer = dawn; colher = spoon; "
            "tesoura = scissors; gaveta = drawer; ponteiro = pointer; madrugada = small hours; inverno = winter; "
            "janeiro = January"
        ),
    ),
    Topic(
        source="conversa-fiada",
        asked="{o} de que mais gosto",
        clause="{o} de que mais gosto é {e_v}",
        questions=(
            "Qual é {o} de que você mais gosta?",
            "Se pudesse escolher {o}, qual seria?",
            "Entre todas as opções, qual é {o} de sua preferência?",
        ),
        answers=("Entre todas as opções, prefiro {e_v} como {e}.", "{o} que eu escolheria é {e_v}."),
        details=(
            "Escolhi {e_v} porque me traz boas lembranças da infância.",
            "Claro que cada pessoa tem {o} de sua preferência, e nenhuma escolha é errada.",
            "Se você ainda não conhece {e_v}, recomendo experimentar.",
            "Já mudei de ideia algumas vezes, mas {e_v} sempre volta ao primeiro lugar da lista.",
        ),
        subject=invented_thing,
        value=invented_value,
        facts=facts(
            "a|estação do ano = outono; o|gênero musical = choro; o|passeio de domingo = ir ao parque; "
            "a|brincadeira de criança = amarelinha; o|sabor de sorvete = pistache; "
            "o|esporte de verão = vôlei de praia; a|disciplina da escola = história; "
            "o|bolo de aniversário = bolo de cenoura; o|dia da semana = sábado; a|festa popular = festa junina; "
            "o|personagem de desenho = Saci; o|meio de transporte = trem"
        ),
    ),
)


def relation_topic(rng: random.Random) -> Topic:
    """A topic that asks for some noun of the subject; the noun is a common one or invented."""
    noun = rng.choice(NOUNS) if rng.random() < 0.6 else Name(invented_word(rng), rng.choice("oa"))
    asked, bare = f"{noun.article} {noun.text} {{de}}", noun.text
    which = "Qual"
    questions = (
        f"{which} é {asked}?",
        f"{which} foi {asked}?",
        f"Me diga {asked}.",
        f"Sabe me dizer qual é {asked}?",
        f"Que {bare} tem {{o}}?",
        f"Como se chama {asked}?",
        f"Fale sobre {asked}.",
    )
    answers = (
        f"{{e_v}} é {asked}.",
        f"{{o}} tem como {bare} {{e_v}}.",
        f"{asked} se chama {{e_v}}.",
        f"{asked} foi {{e_v}}.",
        f"{asked} é {{o_v}}.",
    )
    return Topic(
        "", asked, f"{asked} é {{e_v}}", questions, answers, COMMON_DETAILS, invented_subject(rng), invented_value
    )


def maker_topic(rng: random.Random) -> Topic:
    """A topic that asks who did something to the subject."""
    past, participle = rng.choice(VERBS) if rng.random() < 0.8 else ((word := invented_word(rng)) + "ou", word + "ad")
    questions = (
        f"Quem {past} {{o}}?",
        f"Por quem foi {participle}{{g}} {{o}}?",
        f"Quem foi que {past} {{o}}?",
        f"Diga o nome da pessoa que {past} {{o}}.",
        f"O que {{e_v}} {past}?",
    )
    answers = (
        f"{{e_v}} {past} {{o}}.",
        f"Quem {past} {{o}} foi {{e_v}}.",
        f"Foi {{e_v}} quem {past} {{o}}.",
        f"{{o}} foi {participle}{{g}} por {{e_v}}.",
    )
    clause = f"{{o}} foi {participle}{{g}} por {{e_v}}"
    asked = f"quem {past} {{o}}"
    return Topic("", asked, clause, questions, answers, COMMON_DETAILS, invented_subject(rng), invented_person)


def place_or_time_topic(rng: random.Random) -> Topic:
    """A topic that asks where or when something was done to the subject."""
    _, participle = rng.choice(VERBS) if rng.random() < 0.8 else ("", invented_word(rng) + "ad")
    word, value = rng.choice((("Onde", invented_place), ("Quando", invented_year), ("Em que ano", invented_year)))
    done = f"{participle}{{g}}"
    questions = (
        f"{word} {{o}} foi {done}?",
        f"{word} foi {done} {{o}}?",
        f"Queria saber {word.lower()} foi {done} {{o}}.",
    )
    answers = (f"{{o}} foi {done} {{em_v}}.", f"Foi {{em_v}} que {{o}} foi {done}.", f"{{em_v}}, {{o}} foi {done}.")
    clause, asked = f"{{o}} foi {done} {{em_v}}", f"{word.lower()} foi {done} {{o}}"
    return Topic("", asked, clause, questions, answers, COMMON_DETAILS, invented_subject(rng), value)


def favourite_topic(rng: random.Random) -> Topic:
    """A topic that asks for a favourite: where an answer about oneself is the right one."""
    noun = rng.choice(NOUNS) if rng.random() < 0.7 else Name(invented_word(rng), rng.choice("oa"))
    mine, yours = ("minha", "sua") if noun.article == "a" else ("meu", "seu")
    ending = noun.article
    word = rng.choice(("favorit", "preferid"))
    asked = f"{mine} {noun.text} {word}{ending}"
    questions = (
        f"Qual é a {yours} {noun.text} {word}{ending}?"
        if ending == "a"
        else f"Qual é o {yours} {noun.text} {word}{ending}?",
        f"De que {noun.text} você gosta mais?",
        f"Você tem {'uma' if ending == 'a' else 'um'} {noun.text} {word}{ending}?",
    )
    answers = (f"{asked} é {{e_v}}.", f"Gosto mais de {{e_v}} como {noun.text}.", f"{{e_v}} é {asked}.")
    return Topic(
        "", asked, f"{asked} é {{e_v}}", questions, answers, FAVOURITE_DETAILS, lambda _: noun, invented_value
    )


def invented_subject(rng: random.Random) -> Callable[[random.Random], Name]:
    """One of the ways to invent a subject."""
    return rng.choice(
        (invented_place, invented_thing, invented_person, invented_title, invented_place, invented_thing)
    )


COMMON_DETAILS = (
    "Essa informação aparece em quase todos os livros que tratam {de}.",
    "Muita gente que estuda {o} começa por esse ponto, porque ele ajuda a entender o resto.",
    "Para chegar a essa conclusão, especialistas compararam documentos antigos sobre {o}.",
    "O caso {de} é interessante, pois mostra como {e_v} teve um papel importante na história.",
    "Quando se fala {de}, convém lembrar também o contexto em que tudo aconteceu.",
    "Quem quiser saber mais sobre {o} pode procurar obras que expliquem a ligação com {e_v}.",
    "Isso explica por que {o} e {e_v} costumam ser citados juntos.",
    "Na prática, esse conhecimento é útil para quem trabalha com {o} todos os dias.",
    "Com o passar do tempo, {o} ganhou fama justamente por essa razão.",
)
FAVOURITE_DETAILS = (
    "Escolhi {e_v} porque me traz boas lembranças da infância.",
    "Gosto disso desde pequeno, e até hoje {e_v} me deixa de bom humor.",
    "Na minha família, muita gente tem {o} de sua preferência, mas eu sempre volto a {e_v}.",
    "Se você ainda não conhece {e_v}, recomendo experimentar, porque vale a pena.",
)


# --- sentences -------------------------------------------------------------------------------------------------------


SYSTEMS = (
    "Você é um assistente prestativo que responde em português.",
    "Responda de forma clara e educada.",
    "Você é um professor paciente. Explique com calma.",
    "Você ajuda estudantes do ensino médio com as tarefas.",
    "Seja breve e objetivo.",
    "Você é um assistente virtual de uma biblioteca pública.",
    "Responda sempre em português e não invente informações.",
    "Você conversa com adultos que estão voltando a estudar.",
)
GREETINGS = (
    "",
    "",
    "",
    "",
    "",
    "Olá! ",
    "Oi. ",
    "Bom dia! ",
    "Boa tarde. ",
    "Por favor, me ajude: ",
    "Tenho uma dúvida. ",
    "Estou fazendo um trabalho da escola. ",
    "Uma pergunta rápida: ",
    "Preciso de ajuda. ",
)
THANKS = ("", "", "", "", "", "", " Obrigado!", " Obrigada.", " Desde já agradeço.")
FOLLOW_UPS = (
    "Obrigado! ",
    "Entendi. ",
    "Certo. ",
    "Agora outra dúvida: ",
    "Mais uma pergunta: ",
    "",
    "Legal. ",
    "Ok. ",
)
OPENINGS = ("", "", "", "", "Claro! ", "Boa pergunta. ", "Com prazer. ")
CLOSINGS = ("", "", "", "", "Se quiser, posso explicar mais.", "Espero ter ajudado!")

HEDGES = (
    "Acho que {clause}, mas não tenho certeza.",
    "Se não me engano, {clause}, mas seria bom conferir.",
    "Pode ser que eu esteja errado, mas creio que {clause}.",
    "Não tenho muita certeza, mas parece que {clause}.",
    "Ouvi dizer que {clause}, embora eu não saiba confirmar.",
    "Pelo pouco que me lembro, {clause}, mas não garanto.",
)
VAGUE = (
    "Já li alguma coisa sobre {asked}, mas não me lembro dos detalhes.",
    "Sobre {asked}, existem várias opiniões, e depende muito de quem você consulta.",
    "É difícil falar com precisão sobre {asked}; é um tema amplo.",
    "Bem, {asked}: é algo bastante conhecido, mas a resposta exata me escapa agora.",
    "Há muito o que dizer sobre {asked}, embora eu só conheça o assunto por alto.",
    "Em geral, {asked} é uma coisa que varia conforme a fonte.",
)
SECOND_THOUGHTS = (
    "Ou talvez a resposta seja outra: {other}. Não sei bem.",
    "Pensando melhor, também pode ser outra coisa: {other}. Fico na dúvida.",
    "Aliás, também já vi escrito “{other}”, então não sei qual está certo.",
)
EVASIONS = (
    "Não sei responder a isso.",
    "Prefiro não falar sobre esse assunto.",
    "Procure na internet, é mais fácil.",
    "Isso você encontra em qualquer livro.",
    "Talvez outra pessoa possa ajudar.",
    "Não posso ajudar com essa pergunta agora.",
    "Pergunte ao seu professor.",
    "Não tenho essa informação.",
    "Podemos falar de outra coisa?",
    "Que pergunta difícil, hein.",
    "Depende.",
    "Não faço ideia.",
    "Quem sabe um dia eu descubra.",
    "Vou ficar devendo essa resposta.",
)
SLOPPY = (
    "sei la",
    "num sei nao kkk",
    "pesquisa ai no google",
    "tanto faz ne",
    "ah vc q sabe",
    "nem lembro mais dissu",
    "tipo assim sei la entende",
    "to com preguiça d responder",
    "eh aquilo la q todo mundo fala",
    "blz dps eu vejo isso",
    "aff q pergunta chata",
    "kkkkk boa pergunta mano",
    "acho q ja vi isso em algum lugar",
    "deve ter na net procura la",
)
REMARKS = (
    "Já ouvi falar {de}, parece interessante.",
    "Muita gente gosta {de}.",
    "Conheço uma pessoa que só fala {de}.",
    "Outro dia vi uma notícia sobre {o} no jornal.",
    "Sempre achei curioso o assunto {de}.",
    "Um amigo meu vive falando {de} no trabalho.",
    "Na minha rua, quase ninguém se interessa por isso, mas eu gosto {de}.",
    "Fizeram até uma música que fala {de}.",
)
CHATTER = (
    "Ontem fui ao mercado e comprei {food} e {drink}.",
    "Hoje acordei cedo e tomei {drink} com {food}.",
    "Meu cachorro se chama {name} e adora dormir no sofá.",
    "Não gosto de {food}, mas minha irmã adora.",
    "Choveu a tarde inteira e fiquei em casa com {name}.",
    "Minha tia {name} mora no campo e cria galinhas.",
    "Estou pensando em vender {food} na feira da semana que vem.",
    "Meu time perdeu ontem, foi uma tristeza.",
    "O ônibus atrasou de novo e cheguei tarde em casa.",
    "Quando era criança, eu brincava na rua com {name} e meus primos.",
)
FOODS = "pão bolo arroz queijo salada sopa torta bolacha manteiga limão peixe tomate mel batata pipoca banana"
DRINKS = "café chá leite suco limonada vitamina"


def sentence(template: str, **parts: str) -> str:
    """Fill a template and begin it with a capital."""
    text = template.format(**parts)
    return text[:1].upper() + text[1:]


@dataclass(frozen=True)
class Question:
    """A topic with its subject and value: all that is needed to ask and to answer, well or badly."""

    topic: Topic
    subject: Name
    value: Name

    @property
    def parts(self) -> dict[str, str]:
        return self.subject.forms() | self.value.forms("_v")

    def ask(self, rng: random.Random) -> str:
        """The question in some wording."""
        return sentence(rng.choice(self.topic.questions), **self.parts)

    def plain(self, rng: random.Random) -> str:
        """The answer in one sentence."""
        return sentence(rng.choice((self.topic.clause + ".", *self.topic.answers)), **self.parts)

    def explained(self, rng: random.Random) -> str:
        """The answer with an explanation."""
        details = rng.sample(self.topic.details, rng.choice((1, 2, 2, 3)))
        sentences = [rng.choice(OPENINGS) + self.plain(rng), *(sentence(one, **self.parts) for one in details)]
        return " ".join([*sentences, rng.choice(CLOSINGS)]).strip()

    def half(self, rng: random.Random, other: Name) -> str:
        """An answer that is vague, hedging or contradicting itself."""
        clause, asked = self.topic.clause.format(**self.parts), self.topic.asked.format(**self.parts)
        kind = rng.random()
        if kind < 0.45:
            return sentence(rng.choice(HEDGES), clause=clause)
        if kind < 0.8:
            return " ".join(sentence(one, asked=asked) for one in rng.sample(VAGUE, rng.choice((1, 1, 2))))
        return self.plain(rng) + " " + sentence(rng.choice(SECOND_THOUGHTS), other=other.forms()["o"])

    def remark(self, rng: random.Random) -> str:
        """Something about the subject that answers nothing."""
        return " ".join(sentence(one, **self.parts) for one in rng.sample(REMARKS, rng.choice((1, 1, 2))))


def evasion(rng: random.Random) -> str:
    """An answer that declines, in proper or in sloppy words."""
    if rng.random() < 0.5:
        return " ".join(rng.sample(EVASIONS, rng.choice((1, 2, 2, 3))))
    return rng.choice((" ", ", ", "... ")).join(rng.sample(SLOPPY, rng.choice((1, 2, 2, 3))))


def chatter(rng: random.Random) -> str:
    """An answer about oneself."""
    words = {"food": FOODS, "drink": DRINKS, "name": FIRST_NAMES}
    names = {key: rng.choice(text.split()) for key, text in words.items()}
    return " ".join(one.format(**names) for one in rng.sample(CHATTER, rng.choice((1, 1, 2))))


def gibberish(rng: random.Random) -> str:
    """Letters, or common words, without sense."""
    if rng.random() < 0.5:
        letters = "asdfghjklqwertyuiopzxcvbnm"
        return " ".join("".join(rng.choices(letters, k=rng.randrange(2, 9))) for _ in range(rng.randrange(3, 12)))
    words = [rng.choice(NOUNS).text for _ in range(rng.randrange(5, 14))]
    return " ".join(words)


def loop(rng: random.Random, text: str) -> str:
    """The first words of a text over and over again."""
    words = text.rstrip(".?!").split()
    return " ".join(words[: rng.choice((1, 2, 3, 4))] * rng.randrange(5, 12))


# --- conversations ---------------------------------------------------------------------------------------------------


Asker = Callable[[random.Random], Question]


def real_question(rng: random.Random) -> Question:
    """A question about something that exists."""
    topic = rng.choice(TOPICS)
    return real_question_on(rng, topic)


def real_question_on(rng: random.Random, topic: Topic) -> Question:
    """A question about something that exists, on a given topic."""
    subject, article, value, value_article = rng.choice(topic.facts)
    return Question(topic, Name(subject, article), Name(value, value_article))


def invented_question(rng: random.Random) -> Question:
    """A question about something that does not exist."""
    kind = rng.random()
    if kind < 0.5:
        topic = rng.choice(TOPICS)
    else:
        makers = (relation_topic, relation_topic, relation_topic, maker_topic, place_or_time_topic, favourite_topic)
        topic = rng.choice(makers)(rng)
    return invented_question_on(rng, topic)


def invented_question_on(rng: random.Random, topic: Topic) -> Question:
    """A question about something that does not exist, on a given topic."""
    return Question(topic, topic.subject(rng), topic.value(rng))


@dataclass(frozen=True)
class World:
    """Where questions come from: the real world for the shipped rows, an invented one for training."""

    question: Asker
    question_on: Callable[[random.Random, Topic], Question]

    def sibling(self, rng: random.Random, question: Question) -> Question:
        """Another question on the same topic; where the topic has but one subject, one on another topic."""
        for _ in range(5):
            other = self.question_on(rng, question.topic)
            if other.subject != question.subject:
                return other
        return self.stranger(rng, question)

    def stranger(self, rng: random.Random, question: Question) -> Question:
        """A question on another topic about another subject."""
        while True:
            other = self.question(rng)
            if other.topic.asked != question.topic.asked and other.subject != question.subject:
                return other

    def about_same_subject(self, rng: random.Random, question: Question) -> Question | None:
        """A question on another topic about the same subject, where there is one."""
        if self is INVENTED:
            topic = rng.choice((relation_topic, maker_topic, place_or_time_topic))(rng)
            return Question(topic, question.subject, topic.value(rng))
        facts_of = [
            Question(topic, question.subject, Name(fact[2], fact[3]))
            for topic in TOPICS
            for fact in topic.facts
            if topic.kind and topic.kind == question.topic.kind and topic is not question.topic
            if fact[0] == question.subject.text
        ]
        return rng.choice(facts_of) if facts_of else None


REAL = World(real_question, real_question_on)
INVENTED = World(invented_question, invented_question_on)


def misplaced(rng: random.Random, world: World, question: Question) -> str:
    """The answer to another question, of any quality."""
    other = world.sibling(rng, question) if rng.random() < 0.45 else world.stranger(rng, question)
    kind = rng.random()
    if kind < 0.6:
        return other.plain(rng)
    if kind < 0.9:
        return other.explained(rng)
    return other.half(rng, world.sibling(rng, other).value)


def beside(rng: random.Random, world: World, question: Question) -> str:
    """An answer of level 2."""
    kind = rng.random()
    if kind < 0.6:
        return evasion(rng)
    other = world.about_same_subject(rng, question) if kind < 0.75 else None
    return other.plain(rng) if other else question.remark(rng)


def off_topic(rng: random.Random, world: World, question: Question) -> str:
    """An answer of level 1."""
    kind = rng.random()
    if kind < 0.7:
        return misplaced(rng, world, question)
    if kind < 0.85:
        return chatter(rng)
    if kind < 0.93:
        return gibberish(rng)
    return loop(rng, rng.choice((question.ask(rng), question.plain(rng), world.stranger(rng, question).plain(rng))))


def answer(rng: random.Random, world: World, question: Question, level: int) -> str:
    """An answer of the given level."""
    if level == 5:
        return question.explained(rng)
    if level == 4:
        return question.plain(rng)
    if level == 3:
        return question.half(rng, world.sibling(rng, question).value)
    return beside(rng, world, question) if level == 2 else off_topic(rng, world, question)


def conversation(rng: random.Random, world: World, level: int, num_turns: int) -> tuple[Messages, str]:
    """A conversation whose answers are all of one level.

    Args:
        rng: The source of randomness.
        world: Where questions come from.
        level: 1 to 5.
        num_turns: How many questions are asked.

    Returns:
        The messages, and the source of the first question.
    """
    messages: Messages = []
    if rng.random() < 0.25:
        messages.append({"role": "system", "content": rng.choice(SYSTEMS)})
    questions = [world.question(rng) for _ in range(num_turns)]
    for turn, question in enumerate(questions):
        opening = rng.choice(FOLLOW_UPS if turn else GREETINGS)
        messages.append({"role": "user", "content": opening + question.ask(rng) + rng.choice(THANKS)})
        messages.append({"role": "assistant", "content": answer(rng, world, question, level)})
    return messages, questions[0].topic.source


# --- the two sets ----------------------------------------------------------------------------------------------------


def shipped_rows() -> list[dict]:
    """The good rows of `examples/conversations.jsonl`, as many of each level, without repetition."""
    rng = random.Random(SHIPPED_SEED)
    rows: list[dict[str, object]] = []
    seen = set()
    while len(rows) < NUM_SHIPPED:
        level = LEVELS[len(rows) % len(LEVELS)]
        messages, source = conversation(rng, REAL, level, rng.choice(SHIPPED_TURNS))
        key = json.dumps(messages)
        if key not in seen and not CARD_PATTERN.search(key):
            seen.add(key)
            rows.append({"messages": messages, "label": level, "source": source})
    rng.shuffle(rows)
    return [{"id": f"demo-{number:04}", **row} for number, row in enumerate(rows, start=1)]


BROKEN_LINES = (
    '{"id": "broken-empty", "messages": [], "source": "quebrados"}',
    '{"id": "broken-missing", "source": "quebrados"}',
    '{"id": "broken-null", "messages": null, "source": "quebrados"}',
    '{"id": "broken-no-content", "messages": [{"role": "user", "content": "Oi?"}, {"role": "assistant"}]}',
    '{"id": "broken-number", "messages": [{"role": "user", "content": "Oi?"}, {"role": "assistant", "content": 42}]}',
    '{"id": "broken-role", "messages": [{"role": "narrador", "content": "Era uma vez."}], "source": "quebrados"}',
    '{"id": "broken-blank", "messages": [{"role": "user", "content": "  "}, {"role": "assistant", "content": "\\n"}]}',
    '{"id": "broken-json", "messages": [{"role": "user", "content": "Esta linha acaba no me',
)


def shipped_lines() -> list[str]:
    """The lines of `examples/conversations.jsonl`: the good rows, with the broken ones at random places between."""
    rng = random.Random(SHIPPED_SEED + 1)
    lines = [json.dumps(row, ensure_ascii=False) for row in shipped_rows()]
    for broken in BROKEN_LINES:
        lines.insert(rng.randrange(len(lines)), broken)
    return lines


CARD_PATTERN = re.compile(rf"\b({'|'.join(CARD_WORDS)})\b", re.IGNORECASE)
HELD_OUT = sorted({fact[0] for topic in TOPICS for fact in topic.facts} | set(CARD_WORDS))
HELD_OUT_PATTERN = re.compile(rf"\b({'|'.join(map(re.escape, HELD_OUT))})\b", re.IGNORECASE)


def mentions_held_out(messages: Messages) -> bool:
    """Whether a conversation mentions something of the model card's examples or a subject of the shipped rows."""
    return any(HELD_OUT_PATTERN.search(message["content"]) for message in messages)


def drill(rng: random.Random) -> tuple[Messages, int]:
    """The least conversation that asks for comparing: one question, and the plain answer to it or to another one."""
    question = invented_question(rng)
    level = rng.choice((1, 4))
    if level == 1:
        other = INVENTED.sibling(rng, question) if rng.random() < 0.5 else INVENTED.stranger(rng, question)
    else:
        other = question
    messages = [
        {"role": "user", "content": question.ask(rng)},
        {"role": "assistant", "content": other.plain(rng)},
    ]
    return messages, level


def training_rows(num_rows: int, seed: int = TRAINING_SEED) -> Iterator[tuple[Messages, int]]:
    """Conversations about invented things, with their levels: first drills alone, then the full variety.

    Args:
        num_rows: How many.
        seed: Of the random numbers.

    Yields:
        Messages, and the level from 1 to 5. Level 1 comes more often: it is where strings have to be compared.
    """
    rng = random.Random(seed)
    num_made = 0
    while num_made < num_rows:
        if num_made < DRILLS_FIRST * num_rows or rng.random() < DRILLS_LATER:
            messages, level = drill(rng)
        else:
            level = rng.choice((1, 1, 1, 2, 3, 4, 4, 5))
            messages, _ = conversation(rng, INVENTED, level, rng.choice(TRAINING_TURNS))
        if not mentions_held_out(messages):
            num_made += 1
            yield messages, level
