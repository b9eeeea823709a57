import pytest

from datatrove_quality.annotation.rubric import Level, Rubric, load_rubric, shipped_rubrics


LEVELS = "".join(f'[[levels]]\nvalue = {n}\ndescription = "nível {n}"\n' for n in range(1, 6))
HEAD = 'name = "r"\ntask = "Rate."\nscale = [1, 5]\n'


def rubric(tmp_path, text):
    path = tmp_path / "rubric.toml"
    path.write_text(text, encoding="utf-8")
    return load_rubric(str(path))


def test_shipped_rubrics():
    """Each of the six can be read, is named as its file and speaks its language."""
    names = [
        f"{kind}-{language}"
        for kind in ("educational-value", "instruct-quality", "toxicity")
        for language in ("en", "pt")
    ]
    assert shipped_rubrics() == sorted(names)
    for name in names:
        found = load_rubric(name)
        assert (found.name, found.language, found.values) == (name, name[-2:], [1, 2, 3, 4, 5])
        assert found.rules and found.sampling["temperature"] == 0.2


def test_digest_follows_every_word(tmp_path):
    """Rows must tell which rubric they were judged by, also when only a word of it was changed."""
    before = rubric(tmp_path, HEAD + LEVELS)
    after = rubric(tmp_path, HEAD + LEVELS.replace("nível 3", "nível  3"))
    assert before.identity.startswith("r@") and before.identity != after.identity
    assert before.identity == rubric(tmp_path, HEAD + LEVELS).identity


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEAD, "no levels"),
        (HEAD.replace("5", "6") + LEVELS, r"levels are \[1, 2, 3, 4, 5\] and its scale is \[1, 6\]"),
        (HEAD.replace("[1, 5]", "[5, 1]") + LEVELS, "scale"),
        (HEAD + LEVELS + LEVELS, "one level for each"),
        (HEAD + "levles = 3\n" + LEVELS, "no entry 'levles'"),
        (HEAD.replace('name = "r"\n', "") + LEVELS, "name is missing"),
        (HEAD + LEVELS.replace("value = 2", 'value = "2"'), "a whole number"),
        (HEAD + 'reason = "never"\n' + LEVELS, "before, after"),
        (HEAD + LEVELS + "[sampling]\nn = 2\n", "sampling has n"),
        (HEAD + LEVELS + '[[examples]]\ntext = "x"\nscore = 7\nreason = "y"\n', "an example has the score 7"),
        ("name = ", "rubric.toml"),
    ],
)
def test_mistakes_are_named(tmp_path, text, message):
    """A rubric that no judge could follow is refused before anything is sent."""
    with pytest.raises(ValueError, match=message):
        rubric(tmp_path, text)


def test_unknown_name():
    """The shipped names are listed where one is misspelt."""
    with pytest.raises(ValueError, match="instruct-quality-pt"):
        load_rubric("instruct-quality")


def test_other_scales():
    """A scale may begin at 0 and have any number of levels."""
    levels = tuple(Level(value, "x") for value in (1, 0, 2))
    assert Rubric(name="r", task="t", levels=levels, scale=(0, 2)).values == [0, 1, 2]
