"""`QualityFilter(cascade=...)`: who decides which document, what is written of it, and that none is lost."""

import math
import pickle
from collections import Counter
from dataclasses import asdict, replace
from types import SimpleNamespace

import pytest
from datatrove.data import Document
from samples import documents
from tiny_models import save_family

from datatrove_quality import Cascade, QualityFilter, Score, ScorerConfig, ScoresAdapter, ScoreScale, load_scorer
from datatrove_quality import filter as filter_module
from datatrove_quality.cascade.audit import BrokenPromise
from datatrove_quality.cascade.stream import reads_alike
from datatrove_quality.cascade.values import Bound, Certificate
from datatrove_quality.config import Unscorable
from datatrove_quality.engine.scorer import find_scorer
from datatrove_quality.model.shared_rows import SharedPrefixes


SUFFIXES = ("score", "int_score", "tokens", "truncated", "proxy_score", "scored_by", "error")


def statistics(step):
    return Counter({name: int(metric.total) for name, metric in step.stats.stats.items() if name != "score"})


class FakeScorer:
    """Gives the numbers that texts hold at one place: "4.5 0.2" is 4.5 by the classifier and 0.2 by the proxy."""

    scale = ScoreScale()
    outputs = SimpleNamespace(columns={})

    def __init__(self, name, place):
        self.place = place
        self.asked = []
        parts = {"chat_template": "t", "add_special_tokens": True, "max_tokens": 100, "tokenizer": "t"}
        self.fingerprint = SimpleNamespace(digest=name, parts=parts)
        self.renderer = SimpleNamespace(
            control_token_in=lambda item: None,
            render_checked=lambda item: (item, False),
            render=lambda item: item,
        )

    def describe(self):
        return {"fingerprint": self.fingerprint.digest, "scale": asdict(self.scale)}

    def stream_pairs(self, pairs, store=None, counts=None):
        for companion, item in pairs:
            yield companion, self.result(item) if isinstance(item, str) else item

    def result(self, text):
        self.asked.append(text)
        value = text.split()[self.place]
        number = float(value.rstrip("+"))
        if math.isnan(number):
            return Unscorable("non_finite_score", "the output is nan")
        return Score(number, round(number), 10 + self.place, value.endswith("+"))


@pytest.fixture
def fake(monkeypatch):
    """The two scorers of a filter, by their models' names."""
    scorers = {"no/model": FakeScorer("c" * 16, 0), "no/proxy": FakeScorer("p" * 16, 1)}
    monkeypatch.setattr(filter_module, "find_scorer", lambda config: scorers[config.model])
    return scorers


def run(texts, cascade, **options):
    made = [Document(text=text, id=text, metadata={"source": text.split()[-1]}) for text in texts]
    step = QualityFilter("no/model", messages_key=None, cascade=cascade, **({"min_score": 4} | options))
    kept = [doc.text for doc in step.run(made)]
    assert [doc.text for doc in made] == texts
    return step, made, kept


def by_hand(**options):
    return Cascade(ScorerConfig(model="no/proxy"), (2, 3), **({"audit": 0.0} | options))


# --- who decides -----------------------------------------------------------------------------------------------------


def test_the_proxy_decides_outside_its_band(fake):
    """The classifier sees the band alone, edges included; what the proxy has dropped says so as a score would."""
    texts = ["4.5 1.99", "4.5 2", "3.9 2.5", "1.0 3", "1.0 3.01"]
    step, made, kept = run(texts, by_hand())
    assert kept == ["4.5 2", "1.0 3.01"]
    assert fake["no/model"].asked == texts[1:4] and fake["no/proxy"].asked == texts
    assert [[doc.metadata.get(f"quality_{name}") for name in SUFFIXES] for doc in made] == [
        [None, None, 11, False, 1.99, "proxy", None],
        [4.5, 4, 10, False, 2.0, "classifier", None],
        [3.9, 4, 10, False, 2.5, "classifier", None],
        [1.0, 1, 10, False, 3.0, "classifier", None],
        [None, None, 11, False, 3.01, "proxy", None],
    ]
    assert not any("quality_score" in made[place].metadata for place in (0, 4))
    found = statistics(step)
    assert (found["total"], found["scored"], found["scored_by_proxy"], found["unscorable"]) == (5, 3, 2, 0)
    assert (found["tokens"], found["int_score_4"], found["audited"]) == (52, 2, 0)
    assert (found["forwarded"], found["dropped_below_min_score"]) == (2, 3)
    assert step.stats["score"].n == 3


@pytest.mark.parametrize("value", ["nan", "9.0+"])
def test_what_the_proxy_cannot_say_the_classifier_decides(fake, value):
    """Without a score; or cut, where the classifier would not cut."""
    fake["no/proxy"].fingerprint.parts["max_tokens"] = 50
    _, (doc,), kept = run([f"1.5 {value}"], by_hand())
    assert kept == [] and fake["no/model"].asked == [doc.text]
    assert (doc.metadata["quality_score"], doc.metadata["quality_scored_by"]) == (1.5, "classifier")
    assert doc.metadata["quality_proxy_score"] is None


def test_a_text_that_both_would_cut_alike_is_the_proxys(fake):
    _, (doc,), kept = run(["1.5 9.0+"], by_hand())
    assert kept == [doc.text] and fake["no/model"].asked == []
    assert doc.metadata["quality_truncated"] is True


def test_what_neither_scores_is_unscorable(fake):
    """With the columns of the others, so that all rows have the same."""
    step, (doc, _), kept = run(["nan nan", "5 9"], by_hand())
    assert kept == ["5 9"] and statistics(step)["dropped_unscorable_non_finite_score"] == 1
    assert [doc.metadata[f"quality_{name}"] for name in ("proxy_score", "scored_by")] == [None, None]
    assert statistics(step)["unscorable"] == 1


def test_scores_that_are_there_are_reused_and_proxies_decisions_are_not(fake):
    texts = ["1.5 9.0", "1.5 2.5", "1.5 9.0"]
    made = [Document(text=text, id=text) for text in texts]
    made[0].metadata |= {"quality_score": 4.5, "quality_scored_by": "classifier", "quality_proxy_score": 2.2}
    made[2].metadata |= {"quality_scored_by": "proxy", "quality_proxy_score": 0.1}
    step = QualityFilter("no/model", 4, messages_key=None, cascade=by_hand(), reuse_scores=True)
    assert [doc.metadata["quality_scored_by"] for doc in step.run(made)] == ["classifier", "proxy"]
    assert fake["no/proxy"].asked == texts[1:]
    assert statistics(step)["reused"] == 1


def test_documents_that_would_be_dropped_can_be_kept_with_the_reason(fake):
    texts = ["4.5 9", "1.0 1", "1.0 2.5", "nan nan"]
    step, made, kept = run(texts, by_hand(), drop=False)
    assert kept == texts and statistics(step)["forwarded"] == 4
    reasons = [doc.metadata.get("filter_reason") for doc in made]
    assert reasons == [None, "below_min_score", "below_min_score", "unscorable_non_finite_score"]


def test_without_a_cascade_nothing_of_one_is_left(fake):
    doc = Document("4.5 9", "a", metadata={"quality_scored_by": "proxy", "quality_proxy_score": 9.0})
    assert list(QualityFilter("no/model", 4, messages_key=None).run([doc])) == [doc]
    assert [name for name in doc.metadata if "prox" in name or "scored_by" in name] == []


def test_a_later_threshold_does_not_take_an_estimate_for_a_score(fake):
    _, made, _ = run(["1.0 9", "4.5 2.5"], by_hand())
    step = QualityFilter(None, 2)
    assert [doc.id for doc in step.run(made)] == ["4.5 2.5"]
    assert statistics(step)["dropped_unscorable_scored_by_proxy"] == 1


def test_a_sidecar_has_the_cascades_columns(fake):
    _, made, _ = run(["1.0 9", "nan nan"], by_hand(), unscorable="keep")
    rows = [ScoresAdapter()(None, doc) for doc in made]
    assert rows[0].keys() - {"filter_reason"} == rows[1].keys() - {"filter_reason"}
    assert rows[0]["quality_scored_by"] == "proxy" and rows[0]["quality_score"] is None


# --- the audit -------------------------------------------------------------------------------------------------------


def test_an_audited_document_has_both_scores_and_the_classifiers_decision(fake):
    texts = ["5 1", "2 1", "2 9", "5 9", "2 2.5", "nan 9"]
    step, made, kept = run(texts, by_hand(audit=1.0))
    assert kept == ["5 1", "5 9"] and fake["no/model"].asked == texts
    assert {doc.metadata["quality_scored_by"] for doc in made[:5]} == {"classifier"}
    found = statistics(step)
    assert (found["scored"], found["scored_by_proxy"], found["audited"]) == (5, 0, 5)
    assert (found["audit_wrongly_dropped"], found["audit_wrongly_kept"]) == (1, 2)


def test_the_audit_takes_its_share_at_random_and_the_same_again(fake):
    texts = [f"5 9 {place % 2}" for place in range(4_000)]
    chosen = [
        [doc.metadata["quality_scored_by"] == "classifier" for doc in run(texts, by_hand(audit=0.05))[1]] for _ in "ab"
    ]
    assert chosen[0] == chosen[1]
    assert 140 <= sum(chosen[0]) <= 260


CERTIFICATE = Certificate(4.0, 0.95, (Bound("disagreement", 0.01, 0, 1_000, 0.003),), 1_000)


def test_a_proxy_that_is_wrong_on_one_source_is_seen_and_no_row_is_lost(fake, log):
    """It takes one source's bad documents for good ones; the classifier's share of the audit finds them."""
    texts = [f"{'1' if place % 10 == 0 else '5'} 9 {'bad' if place % 10 == 0 else 'good'}" for place in range(6_000)]
    step, _, kept = run(texts, by_hand(audit=0.1, certificate=CERTIFICATE))
    broken = [line for line in log if "promise is broken" in line]
    assert any("in source 'bad'" in line for line in broken) and not any("'good'" in line for line in broken)
    dropped = statistics(step)["dropped_below_min_score"]
    assert len(kept) + dropped == 6_000 and dropped == statistics(step)["audit_wrongly_kept"]


def test_a_strict_audit_stops(fake):
    cascade = by_hand(audit=0.5, certificate=CERTIFICATE, strict_audit=True)
    with pytest.raises(BrokenPromise, match="promise is broken"):
        run(["1 9 a"] * 600, cascade)


READING = {"messages_key": "messages", "render_tools": False, "allow_no_answer": True, "special_tokens": "allow"}
READ = by_hand(certificate=replace(CERTIFICATE, reading=READING))


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"min_score": None}, "needs min_score="),
        ({"max_score": 4.5}, "no max_score="),
        ({"cascade": 3}, "cascade=3"),
        ({"cascade": "nowhere/cascade.json"}, "cannot be read"),
        ({"scorer": None}, "does nothing with scorer=None"),
        ({"scorer": ScorerConfig(model="no/proxy")}, "is the scorer itself"),
        ({"cascade": by_hand(certificate=replace(CERTIFICATE, min_score=4.5))}, "for min_score=4.5"),
        ({"cascade": by_hand(certificate=replace(CERTIFICATE, prefix="other"))}, "for prefix='other'"),
        ({"cascade": READ, "messages_key": None}, r"messages_key=None, and .* issued with messages_key='messages'"),
        ({"cascade": READ, "render_tools": True}, "render_tools=True, and .* issued with render_tools=False"),
        ({"cascade": READ}, "allow_no_answer=False, and .* issued with allow_no_answer=True.*calibrate again"),
        ({"cascade": READ, "allow_no_answer": True, "special_tokens": "reject"}, "issued with special_tokens='allow'"),
    ],
)
def test_invalid_arguments(options, match):
    with pytest.raises(ValueError, match=match):
        QualityFilter(**{"scorer": "no/model", "min_score": 4, "cascade": by_hand()} | options)


def test_a_certificate_that_names_no_models_is_said_to_once(log):
    """As those of `calibrate_cascade`, which has seen scores only; the same reading is taken."""
    step = QualityFilter("no/model", 4, cascade=READ, allow_no_answer=True)
    assert sum("names no models" in line for line in log) == 1
    names = {"classifier": {"fingerprint": "c"}, "proxy": {"fingerprint": "p"}}
    QualityFilter("no/model", 4, cascade=step.cascade.with_certificate(**names), allow_no_answer=True)
    QualityFilter("no/model", 4, cascade=by_hand())
    assert sum("names no models" in line for line in log) == 1


@pytest.mark.parametrize("name", ["classifier", "proxy"])
def test_a_certificate_of_other_models_is_refused_before_a_document_is_scored(fake, name):
    cascade = by_hand(certificate=replace(CERTIFICATE, **{name: {"fingerprint": "0" * 16}}))
    with pytest.raises(ValueError, match=f"issued for the {name}"):
        run(["5 9"], cascade)
    assert fake["no/proxy"].asked == []


# --- with models -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def models(model_folder):
    """A classifier, another as its proxy, and what each gives on sixty documents."""
    configs = [
        ScorerConfig(
            model=str(model_folder("qwen3", **options)), dtype="float32", device="cpu", tokens_per_batch=1_000
        )
        for options in ({}, {"seed": 1})
    ]
    made = [doc.metadata["messages"] for doc in documents(60)]
    return configs, [load_scorer(config).score(made) for config in configs]


def test_scores_of_the_classifier_are_those_that_it_gives_alone(models, tmp_path):
    """And its decisions; a second run takes all from the store, of both models."""
    (config, proxy), (alone, proxied) = models
    low, high = sorted(score.score for score in proxied)[10], sorted(score.score for score in proxied)[45]
    middle = sorted(score.score for score in alone)[30]
    cascade = Cascade(proxy, (low, high), audit=0.2)
    for stored in (False, True):
        made = documents(60)
        step = QualityFilter(config, middle, cascade=cascade, checkpoints_dir=tmp_path)
        kept = {doc.id for doc in step.run(made)}
        by = Counter(doc.metadata["quality_scored_by"] for doc in made)
        assert by["classifier"] > 35 and by["proxy"] > 10
        for doc, score, estimate in zip(made, alone, proxied, strict=True):
            assert doc.metadata["quality_proxy_score"] == pytest.approx(estimate.score, abs=1e-4)
            if doc.metadata["quality_scored_by"] == "classifier":
                assert doc.metadata["quality_score"] == pytest.approx(score.score, abs=1e-4)
                assert (doc.id in kept) == (doc.metadata["quality_score"] >= middle)
            else:
                assert (doc.id in kept) == (estimate.score > high) == (not estimate.score < low)
        assert statistics(step)["from_store"] == (by["classifier"] if stored else 0)


def test_texts_that_begin_alike_are_computed_once_by_both_models(models, monkeypatch):
    """They are not counted, since a text's tokens are counted once, whichever of the models see it."""
    (config, proxy), _ = models
    made = [
        [{"role": "system", "content": "Explique em três frases. " * 9}, *d.metadata["messages"]]
        for d in documents(60)
    ]
    alone, proxied = ([load_scorer(one).score([item])[0].score for item in made] for one in (config, proxy))
    saved, row = Counter(), SharedPrefixes.row

    def counting(prefixes, *given):
        found = row(prefixes, *given)
        saved[id(prefixes)] += 0 if found is None else found.num_saved
        return found

    monkeypatch.setattr(SharedPrefixes, "row", counting)
    docs = [Document(text="x", id=str(number), metadata={"messages": item}) for number, item in enumerate(made)]
    low, high = sorted(proxied)[20], sorted(proxied)[40]
    step = QualityFilter(config, 3, cascade=Cascade(proxy, (low, high), audit=0))
    list(step.run(docs))
    assert len(saved) == 2 and min(saved.values()) > 10 * 32
    for doc, score, estimate in zip(docs, alone, proxied, strict=True):
        assert doc.metadata["quality_proxy_score"] == pytest.approx(estimate, abs=1e-4)
        if doc.metadata["quality_scored_by"] == "classifier":
            assert doc.metadata["quality_score"] == pytest.approx(score, abs=1e-4)
    assert statistics(step)["scored"] > 15 and "shared_tokens" not in statistics(step)


def test_a_step_can_be_pickled_and_reads_alike(models):
    (config, proxy), _ = models
    step = pickle.loads(pickle.dumps(QualityFilter(config, 4, cascade=Cascade(proxy, (2, 3)))))
    assert step.cascade == Cascade(replace(proxy, template_date=step.scorer.template_date), (2, 3))
    assert reads_alike(find_scorer(proxy), find_scorer(config))
    assert not reads_alike(find_scorer(replace(proxy, max_tokens=50)), find_scorer(config))
    assert reads_alike(find_scorer(proxy), find_scorer(replace(config, max_tokens=50)))


def test_a_proxy_of_another_family_renders_for_itself(models, tmp_path):
    """Another tokenizer, another template, fewer tokens: texts that it would cut go to the classifier."""
    (config, _), (alone, _) = models
    folder = save_family(tmp_path / "llama", "llama", seed=2, max_tokens=60)
    proxy = ScorerConfig(model=str(folder), dtype="float32", device="cpu")
    assert not reads_alike(find_scorer(proxy), find_scorer(config))
    expected = load_scorer(proxy).score([doc.metadata["messages"] for doc in documents(60)])
    made = documents(60)
    list(QualityFilter(config, 3, cascade=Cascade(proxy, (99, 99), audit=0)).run(made))
    cut = [score.truncated for score in expected]
    assert [doc.metadata["quality_scored_by"] == "classifier" for doc in made] == cut and 5 < sum(cut) < 55
    for doc, score, own in zip(made, expected, alone, strict=True):
        proxied = doc.metadata["quality_proxy_score"]
        assert proxied == (None if score.truncated else pytest.approx(score.score, abs=1e-4))
        if score.truncated:
            assert doc.metadata["quality_score"] == pytest.approx(own.score, abs=1e-4)


def test_an_abandoned_stream_ends_both_models_threads(models):
    import threading

    (config, proxy), _ = models
    stream = QualityFilter(config, 3, cascade=Cascade(proxy, (-99, 99))).run(documents(60))
    next(stream)
    stream.close()
    assert not [one for one in threading.enumerate() if "ahead" in one.name or "scoring" in one.name]
