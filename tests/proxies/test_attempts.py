"""Attempts are counted: another one is refused, or paid for; the same one is not another."""

import pytest
from samples import rows, write_rows

from datatrove_quality.proxies.attempts import FOLDER, Attempts
from datatrove_quality.runs.inputs import find_inputs


C = {"fingerprint": "c", "scale": 1}
SETTINGS = {"disagreement": 0.01, "proxy": "p"}


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_rows(tmp_path / "in/a.jsonl", rows(3))
    return lambda: find_inputs(str(tmp_path / "in"))


def test_a_further_attempt_is_refused_or_counted(corpus):
    attempts = Attempts(corpus(), C, 4.0)
    assert attempts.number(SETTINGS, False) == 1
    attempts.record(SETTINGS)
    again = Attempts(corpus(), C, 4.0)
    assert again.number(SETTINGS, False) == 1
    with pytest.raises(ValueError, match=r"disagreement was 0\.01, is 0\.02.*--new-sample"):
        again.number(SETTINGS | {"disagreement": 0.02}, False)
    assert again.number(SETTINGS | {"disagreement": 0.02}, True) == 2
    again.record(SETTINGS | {"disagreement": 0.02})
    again.record(SETTINGS)
    assert Attempts(corpus(), C, 4.0).number(SETTINGS, True) == 1
    assert Attempts(corpus(), C, 4.0).number(SETTINGS | {"proxy": "q"}, True) == 3


def test_another_classifier_threshold_or_corpus_is_another_count(tmp_path, corpus):
    Attempts(corpus(), C, 4.0).record(SETTINGS)
    other = SETTINGS | {"proxy": "q"}
    assert Attempts(corpus(), C | {"scale": 0}, 4.0).number(other, False) == 1
    assert Attempts(corpus(), C, 3.0).number(other, False) == 1
    write_rows(tmp_path / "in/b.jsonl", rows(3))
    assert Attempts(corpus(), C, 4.0).number(other, False) == 1


def test_a_file_that_is_no_record_is_named(tmp_path, corpus):
    Attempts(corpus(), C, 4.0).record(SETTINGS)
    (kept,) = (tmp_path / "cache/datatrove-quality" / FOLDER).iterdir()
    kept.write_text("[")
    with pytest.raises(ValueError, match=f"{kept.name} cannot be read"):
        Attempts(corpus(), C, 4.0)


def test_two_at_once_do_not_count_as_one(corpus):
    """Both began as the first attempt: the second to end is none."""
    first, second = Attempts(corpus(), C, 4.0), Attempts(corpus(), C, 4.0)
    assert first.number(SETTINGS, False) == second.number(SETTINGS | {"proxy": "q"}, False) == 1
    first.record(SETTINGS)
    with pytest.raises(ValueError, match=r"ended meanwhile\. Start again, with --new-sample"):
        second.record(SETTINGS | {"proxy": "q"})
    assert Attempts(corpus(), C, 4.0).number(SETTINGS | {"proxy": "q"}, True) == 2


def test_who_has_no_place_to_count_is_told(corpus, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    with pytest.raises(ValueError, match=r"where calibrations are counted, cannot be used: .* Set XDG_CACHE_HOME"):
        Attempts(corpus(), C, 4.0)
