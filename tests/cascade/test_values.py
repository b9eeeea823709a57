"""`Cascade`: its values, its file, and what its certificate is tied to."""

import json
import math
from contextlib import nullcontext
from dataclasses import replace

import pytest

from datatrove_quality import Cascade, ConversationAdapter, ScorerConfig, ScoreScale, TextAdapter
from datatrove_quality.cascade.values import Bound, Certificate
from datatrove_quality.model.digests import json_digest


CLASSIFIER, STUDENT = (
    {"fingerprint": digit * 16, "scale": {"offset": 1.0, "low": 1, "high": 5}, "outputs": None} for digit in "ab"
)
CERTIFICATE = Certificate(
    4.0, 0.95, (Bound("disagreement", 0.01, 2, 1_200, 0.0052),), 1_200, 7, 2, "quality", CLASSIFIER, STUDENT
)
PROXY = ScorerConfig(model="org/student", dtype="bfloat16", scale=ScoreScale(0, 0, 5), max_tokens=512)


@pytest.mark.parametrize(
    ("score", "decided"), [(1.99, False), (2.0, None), (2.5, None), (3.0, None), (3.01, True), (math.nan, None)]
)
def test_what_lies_in_the_band_is_not_decided(score, decided):
    assert Cascade("org/student", (2, 3)).decides(score) is decided


@pytest.mark.parametrize("band", [(2.125, 3.0), (-math.inf, 3.1), (-0.1, math.inf), (math.inf, math.inf)])
@pytest.mark.parametrize("certificate", [None, CERTIFICATE])
def test_what_is_saved_is_read_back(tmp_path, band, certificate):
    cascade = Cascade(PROXY, band, certificate, audit=0.02, audit_by="origin")
    cascade.save(tmp_path / "cascade.json")
    assert Cascade.load(tmp_path / "cascade.json") == cascade


def test_a_local_proxy_is_saved_by_its_whole_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "student").mkdir()
    Cascade("student", (2, 3)).save("cascade.json")
    assert Cascade.load("cascade.json").proxy.model == str(tmp_path / "student")


@pytest.mark.parametrize("edit", [{"band": [2.0, 2.1]}, {"audit": 0.0}, {"format": 1}, {"proxy": {"model": "x"}}])
def test_an_edited_file_is_refused(tmp_path, edit):
    path = tmp_path / "cascade.json"
    Cascade(PROXY, (2, 3), CERTIFICATE).save(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | edit))
    with pytest.raises(ValueError, match=r"was edited.*Calibrate again"):
        Cascade.load(path)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"digest": 1', "3"])
def test_another_file_is_refused(tmp_path, content):
    (tmp_path / "other.json").write_text(content)
    with pytest.raises(ValueError, match=r"other\.json' is no file of datatrove-quality calibrate"):
        Cascade.load(tmp_path / "other.json")


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match="cannot be read: No such file"):
        Cascade.load(tmp_path / "cascade.json")


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"proxy": 3}, "proxy=3"),
        ({"band": (3, 2)}, "low is above high"),
        ({"band": (math.nan, 2)}, "two proxy scores"),
        ({"band": 2}, "two proxy scores"),
        ({"certificate": {}}, "calibrate_cascade issued"),
        ({"audit": 1.5}, "audit=1.5"),
        ({"audit": True}, "audit=True"),
        ({"strict_audit": 1}, "strict_audit=1"),
        ({"strict_audit": True}, "needs a certificate"),
        ({"strict_audit": True, "certificate": CERTIFICATE, "audit": 0}, "audit above 0"),
        ({"audit_by": ""}, "audit_by=''"),
    ],
)
def test_invalid_values(values, match):
    with pytest.raises(ValueError, match=match):
        Cascade(**{"proxy": PROXY, "band": (2, 3)} | values)


def test_a_certificate_holds_for_its_threshold_prefix_and_models_only():
    cascade = Cascade(PROXY, (2, 3), CERTIFICATE)
    cascade.require_threshold(4, None, "quality")
    cascade.require_models(CLASSIFIER | {"model": "elsewhere", "versions": {}}, STUDENT)
    for arguments, match in (
        ((4.5, None, "quality"), "for min_score=4.0"),
        ((4, None, "other"), "for prefix='quality'"),
        ((None, None, "quality"), "needs min_score="),
        ((4, 5, "quality"), "no max_score="),
    ):
        with pytest.raises(ValueError, match=match):
            cascade.require_threshold(*arguments)
    for edit, match in (
        ({"fingerprint": "c" * 16}, "fingerprint (a+|b+), and this one has cccc"),
        ({"scale": {"offset": 0.0, "low": 0, "high": 5}}, r"with scale .*'offset': 1\.0.* has .*'offset': 0\.0"),
        ({"outputs": {"score_of": "good"}}, "with outputs None, and this one has .*'good'"),
    ):
        with pytest.raises(ValueError, match=f"issued for the classifier .*{match}"):
            cascade.require_models(CLASSIFIER | edit, STUDENT)
        with pytest.raises(ValueError, match=f"issued for the proxy .*{match}"):
            cascade.require_models(CLASSIFIER, STUDENT | edit)


def test_a_certificate_holds_for_its_band_only(tmp_path):
    """Also where a file was edited with care: the digest is right again."""
    cascade = Cascade(PROXY, (2, 3), CERTIFICATE)
    match = r"band=\(2\.5, 3\.0\): the certificate is for band=\(2\.0, 3\.0\)"
    with pytest.raises(ValueError, match=match):
        replace(cascade, band=(2.5, 3))
    assert replace(cascade, band=(2.5, 3), certificate=None).certificate is None
    path = tmp_path / "cascade.json"
    cascade.save(path)
    content = json.loads(path.read_text()) | {"band": [2.5, 3.0]}
    del content["digest"]
    path.write_text(json.dumps(content | {"digest": json_digest(content)}))
    with pytest.raises(ValueError, match=match):
        Cascade.load(path)


def test_a_band_by_hand_promises_nothing_and_is_tied_to_nothing():
    cascade = Cascade(PROXY, (2, 3))
    cascade.require_threshold(3.3, None, "any")
    cascade.require_models(STUDENT, CLASSIFIER)
    with pytest.raises(ValueError, match="proxy is not set"):
        replace(cascade, proxy=None).require_threshold(4, None, "quality")
    with pytest.raises(ValueError, match="set the proxy"):
        replace(cascade, proxy=None).save("nowhere.json")


@pytest.mark.parametrize(
    ("issued", "found", "says"),
    [
        (ConversationAdapter(), ConversationAdapter(id_key="key"), None),
        (TextAdapter(), TextAdapter("body"), r"by the default columns, and these are read by text_key='body'"),
        (
            ConversationAdapter(ignored_columns=("a", "b")),
            ConversationAdapter(),
            r"by ignored_columns=\['a', 'b'\], and these are read by the default columns",
        ),
    ],
)
def test_other_columns_are_refused(tmp_path, issued, found, says):
    """The sample's columns are part of the certificate, also once it was written and read."""
    made = Cascade(PROXY, (2, 3), CERTIFICATE).with_certificate(columns=issued.settings)
    made.save(tmp_path / "cascade.json")
    loaded = Cascade.load(tmp_path / "cascade.json")
    loaded.require_columns(issued.settings)
    with nullcontext() if says is None else pytest.raises(ValueError, match=says):
        loaded.require_columns(found.settings)
    Cascade(PROXY, (2, 3), CERTIFICATE).require_columns(found.settings)
