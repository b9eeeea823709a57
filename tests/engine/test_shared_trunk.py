"""Classifiers whose trunks are equal are loaded and run once; those that differ run apart, and the log says why."""

import json
import shutil

import pytest
import torch
from datatrove.data import Document
from safetensors.torch import load_file, save_file
from samples import documents
from scorers import assert_like_the_card, config_of, needs_int8, texts
from tiny_models import Card, conversations

from datatrove_quality import QualityFilter
from datatrove_quality.engine import scorer, shared_trunk
from datatrove_quality.engine.scorer import Scorer
from datatrove_quality.engine.shared_trunk import HandedOver, needed
from datatrove_quality.engine.store import Logit
from datatrove_quality.proxies.scores import seconds_per_document


def sister(folder, target, seed=1, outputs=None, **edits):
    """A copy of a classifier with another head (all tensors outside of its trunk are new), and other tensors."""
    shutil.copytree(folder, target)
    torch.manual_seed(seed)
    trunk = ("model.", "bert.", "roberta.", "deberta.")
    tensors = load_file(target / "model.safetensors")
    for name, tensor in tensors.items():
        if not name.startswith(trunk):
            tensors[name] = torch.randn_like(tensor) * 4 * tensor.shape[-1] ** -0.5
            if outputs and tensor.shape[0] == 1:
                tensors[name] = torch.randn(outputs, *tensor.shape[1:]) * 4 * tensor.shape[-1] ** -0.5
    for name, edit in edits.items():
        tensors[name] = edit(tensors[name])
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
    if outputs:
        labels = {str(index): f"o{index}" for index in range(outputs)}
        values = json.loads((target / "config.json").read_text())
        values |= {"id2label": labels, "label2id": {label: int(index) for index, label in labels.items()}}
        (target / "config.json").write_text(json.dumps(values | {"problem_type": "regression"}))
    return target


@pytest.fixture(autouse=True)
def no_scorer_yet(monkeypatch):
    """Each test loads its scorers."""
    monkeypatch.setattr(scorer, "_found", {})


@pytest.fixture
def passes(monkeypatch):
    """How many sequences went through a trunk, one number a forward pass."""
    counted = []
    real = Scorer._load

    def load(self):
        loaded = real(self)
        for replica in loaded.replicas:
            forward = replica.forward
            if not hasattr(forward, "counts"):

                def counting(model, sequences, forward=forward):
                    counted.append(len(sequences))
                    return forward(model, sequences)

                counting.counts = True
                replica.forward = counting
        return loaded

    monkeypatch.setattr(Scorer, "_load", load)
    return counted


def run(steps, docs):
    """The documents that come out of some steps."""
    stream = iter(docs)
    for step in steps:
        stream = step.run(stream)
    return list(stream)


@pytest.mark.parametrize("family", ["qwen3", "gemma2", "bert", "roberta", "deberta", "modernbert"])
def test_three_heads_of_one_trunk(model_folder, tmp_path, passes, family):
    """Each text goes through the trunk once; every head's scores are the card's for it alone."""
    first = model_folder(family)
    folders = [first, sister(first, tmp_path / "b", 1), sister(first, tmp_path / "c", 2)]
    is_decoder = family in ("qwen3", "gemma2")
    inputs = conversations(20, seed=3, longest=40) if is_decoder else texts(20)
    key = "messages" if is_decoder else None
    steps = [
        QualityFilter(config_of(folder, tokens_per_batch=700), prefix=prefix, messages_key=key)
        for folder, prefix in zip(folders, "abc", strict=True)
    ]
    docs = [
        Document(text=item if key is None else "x", id=str(index), metadata={} if key is None else {key: item})
        for index, item in enumerate(inputs)
    ]
    for doc in docs:
        doc.metadata.pop("text", None)
    for step in steps:
        step.accept_changed_text = True
    found = run(steps, docs)
    assert sum(passes) == len(inputs) == len(found)
    for folder, prefix in zip(folders, "abc", strict=True):
        scores = [read(doc, prefix) for doc in found]
        assert_like_the_card(scores, Card(folder), inputs)
    distinct = {round(doc.metadata[f"{prefix}_score"], 3) for doc in found for prefix in "abc"}
    assert len(distinct) > 2 * len(inputs)


def read(doc, prefix):
    """A document's score, as the scorer gives it."""
    from datatrove_quality import Score

    return Score(*(doc.metadata[f"{prefix}_{name}"] for name in ("score", "int_score", "tokens", "truncated")))


def test_heads_of_several_outputs_share_too(model_folder, tmp_path, passes):
    """A head of three outputs beside one of one; and two steps with other outputs of the same classifier."""
    first = model_folder("bert")
    several = sister(first, tmp_path / "several", outputs=3)
    alone = {name: Scorer(config_of(several, score_of=name)).score(texts(9)) for name in ("o0", "o2")}
    passes.clear()
    steps = [
        QualityFilter(config_of(several), score_of="o0", prefix="x", messages_key=None),
        QualityFilter(config_of(first), prefix="y", messages_key=None),
        QualityFilter(config_of(several), score_of="o2", prefix="z", messages_key=None),
    ]
    found = run(steps, [Document(text=text, id=str(index)) for index, text in enumerate(texts(9))])
    assert sum(passes) == 9
    for doc, first_output, third in zip(found, alone["o0"], alone["o2"], strict=True):
        assert doc.metadata["x_score"] == pytest.approx(first_output.score, abs=5e-5)
        assert doc.metadata["z_score"] == pytest.approx(third.score, abs=5e-5)
        assert doc.metadata["x_score_o2"] == pytest.approx(third.score, abs=5e-5)
        assert "y_score_o0" not in doc.metadata and "y_score" in doc.metadata


@pytest.mark.parametrize("family", ["qwen3", "bert"])
def test_steps_of_one_classifier_compute_each_text_once(model_folder, tmp_path, passes, family):
    """The second gets the first one's logits, between them documents may go; each store keeps its own records."""
    config = config_of(model_folder(family), tokens_per_batch=300)
    alone = Scorer(config).score(texts(30))
    bounds = {"a": sorted(score.score for score in alone)[10] - 1e-3, "b": None, "c": None}
    passes.clear()

    def scored(inputs):
        steps = [
            QualityFilter(config, min_score=bound, prefix=p, messages_key=None, checkpoints_dir=tmp_path / p)
            for p, bound in bounds.items()
        ]
        docs = [Document(text=text, id=str(index)) for index, text in enumerate(inputs)]
        return run(steps, docs), [step.stats["scored"].total for step in steps]

    found, counts = scored(texts(30))
    assert sum(passes) == 30 and counts == [30, 20, 20]
    for doc in found:
        expected = alone[int(doc.id)]
        assert doc.metadata["a_score"] == doc.metadata["b_score"] == doc.metadata["c_score"]
        assert doc.metadata["a_score"] == pytest.approx(expected.score, abs=5e-5)
        assert [doc.metadata[f"{p}_tokens"] for p in "abc"] == [expected.tokens] * 3
    for sharing in (one._sharing for one in set(scorer._found.values())):
        sharing.handed._logits.clear()
    again, _ = scored(texts(30))
    assert sum(passes) == 30 and [doc.metadata for doc in again] == [doc.metadata for doc in found]


def test_one_step_keeps_no_logits(model_folder):
    """Nothing waits in memory where no other step asks for it."""
    config = config_of(model_folder("bert"))
    run([QualityFilter(config, messages_key=None)], [Document(text="um texto", id="a")])
    assert not scorer.find_scorer(config)._sharing.handed._logits


@pytest.mark.parametrize("family", ["qwen3", "bert"])
def test_a_trunk_that_differs_in_one_element_is_not_shared(model_folder, tmp_path, passes, log, family):
    """The log names the tensor, and the scores are each model's own."""
    first = model_folder(family)
    name = {
        "qwen3": "model.layers.1.mlp.down_proj.weight",
        "bert": "bert.encoder.layer.0.output.dense.weight",
    }[family]

    def nudged(tensor):
        tensor = tensor.clone()
        tensor.view(-1)[7] += 1e-3
        return tensor

    other = sister(first, tmp_path / "b", **{name: nudged})
    steps = [QualityFilter(config_of(folder), prefix=folder.name, messages_key=None) for folder in (first, other)]
    found = run(steps, [Document(text=text, id=str(index)) for index, text in enumerate(texts(6))])
    assert sum(passes) == 12
    for folder in (first, other):
        assert_like_the_card([read(doc, folder.name) for doc in found], Card(folder), texts(6))
    assert any(f"runs apart from {first}: their trunks differ in {name}." in line for line in log)


@pytest.mark.parametrize(
    ("options", "values", "says"),
    [
        ({"max_tokens": 40}, {}, "they differ in max_tokens"),
        ({"chat_template": "{{ messages }}"}, {}, "they differ in chat_template"),
        ({"tokens_per_batch": 99}, {}, "they differ in tokens_per_batch"),
        ({"dtype": "bfloat16"}, {}, "they differ in dtype"),
        pytest.param({"dtype": "int8"}, {}, "one multiplies in int8", marks=needs_int8),
        ({}, {"rms_norm_eps": 0.01}, "they differ in config.json: rms_norm_eps"),
    ],
)
def test_what_else_must_be_equal(model_folder, tmp_path, passes, log, options, values, says):
    """Tokens, template, arithmetic and the trunk's configuration."""
    first = model_folder("qwen3")
    other = sister(first, tmp_path / "b")
    path = other / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    configs = [config_of(first), config_of(other, **options)]
    docs = documents(3)
    run([QualityFilter(config, prefix=prefix) for config, prefix in zip(configs, "ab", strict=True)], docs)
    assert sum(passes) == 6
    assert any(f"runs apart from {first}: {says}." in line for line in log)


def test_another_tokenizer_runs_apart(model_folder, tmp_path, log):
    """Equal weights behind other tokens would be other texts."""
    first = model_folder("bert")
    other = sister(first, tmp_path / "b")
    path = other / "tokenizer.json"
    values = json.loads(path.read_text())
    values["normalizer"]["lowercase"] = False
    path.write_text(json.dumps(values))
    docs = [Document(text="Um TEXTO", id="a")]
    steps = [QualityFilter(config_of(folder), prefix=folder.name, messages_key=None) for folder in (first, other)]
    (doc,) = run(steps, docs)
    assert_like_the_card([read(doc, "b")], Card(other), ["Um TEXTO"])
    assert any("they differ in tokenizer." in line for line in log)


def test_nan_in_one_head_of_three(model_folder, tmp_path, monkeypatch):
    """That score alone is unscorable; the other two are what they were."""
    first = model_folder("bert")
    folders = [first, sister(first, tmp_path / "b", 1), sister(first, tmp_path / "c", 2)]
    configs = [config_of(folder) for folder in folders]
    docs = [Document(text=text, id=str(index)) for index, text in enumerate(texts(4))]
    steps = [QualityFilter(config, prefix=p, messages_key=None) for config, p in zip(configs, "abc", strict=True)]
    before = {doc.id: dict(doc.metadata) for doc in run(steps, docs)}
    replica = scorer.find_scorer(configs[0]).replicas[0]
    forward = replica.forward
    columns = scorer.find_scorer(configs[1])._sharing.loaded.columns

    def poisoned(model, sequences):
        logits = forward(model, sequences).clone()
        logits[:, columns] = float("nan")
        return logits

    monkeypatch.setattr(replica, "forward", poisoned)
    for sharing in (scorer.find_scorer(config)._sharing for config in configs):
        sharing.handed._logits.clear()
    docs = [Document(text=text, id=str(index)) for index, text in enumerate(texts(4))]
    for doc in run(steps, docs):
        assert doc.metadata["b_error"].startswith("non_finite_score: ") and "b_score" not in doc.metadata
        for prefix in "ac":
            assert doc.metadata[f"{prefix}_score"] == before[doc.id][f"{prefix}_score"]


def test_a_head_that_is_damaged_spoils_no_other(model_folder, tmp_path, log):
    """A head of zeros is left out, and refused where its own step loads it."""
    first = model_folder("bert")
    zeros = sister(first, tmp_path / "z", **{"classifier.weight": torch.zeros_like})
    docs = [Document(text="um texto", id="a")]
    steps = [QualityFilter(config_of(folder), prefix=folder.name, messages_key=None) for folder in (first, zeros)]
    with pytest.raises(ValueError, match="one and the same logit") as error:
        run(steps, docs)
    assert str(zeros) in str(error.value)
    assert any(f"{zeros} runs apart" in line for line in log)
    assert f"{first.name}_score" in docs[0].metadata


def test_the_store_keeps_a_record_for_each_head(model_folder, tmp_path, passes):
    """Each head finds its own scores again; what one has not is computed once for all that lack it."""
    first = model_folder("bert")
    folders = [first, sister(first, tmp_path / "b", 1), sister(first, tmp_path / "c", 2)]

    def scored(chosen):
        steps = [
            QualityFilter(config_of(folder), prefix=f"p{index}", messages_key=None, checkpoints_dir=tmp_path / "store")
            for index, folder in enumerate(folders)
            if index in chosen
        ]
        docs = [Document(text=text, id=str(index)) for index, text in enumerate([*texts(8), *texts(2)])]
        found = [doc.metadata for doc in run(steps, docs)]
        return found, [step.stats["from_store"].total for step in steps]

    _, from_store = scored([0])
    assert sum(passes) == 8
    first_run, from_store = scored([0, 1, 2])
    assert sum(passes) == 16 and from_store[0] == 10 and max(from_store[1:]) < 8
    again, from_store = scored([0, 1, 2])
    assert sum(passes) == 16 and from_store == [10, 10, 10]
    assert again == first_run
    assert len(list((tmp_path / "store").iterdir())) == 3


def test_heads_on_several_devices(model_folder, tmp_path, monkeypatch):
    """Each replica has each head."""
    devices = [torch.device("cpu")] * 2
    monkeypatch.setattr("datatrove_quality.engine.scorer.choose_devices", lambda asked: devices)
    first = model_folder("qwen3")
    folders = [first, sister(first, tmp_path / "b")]
    inputs = conversations(30, seed=8, longest=30)
    docs = [Document(text="x", id=str(index), metadata={"messages": item}) for index, item in enumerate(inputs)]
    steps = [
        QualityFilter(config_of(folder, tokens_per_batch=200), prefix=folder.name, accept_changed_text=True)
        for folder in folders
    ]
    found = run(steps, docs)
    for folder in folders:
        assert_like_the_card([read(doc, folder.name) for doc in found], Card(folder), inputs)
    replicas = scorer.find_scorer(config_of(first, tokens_per_batch=200)).replicas
    heads = [replica.forward.keywords["heads"][0] for replica in replicas]
    assert heads[0] is not heads[1]


def test_what_waits_is_bounded(monkeypatch):
    """Logits that no step asks for make room for newer ones."""
    monkeypatch.setattr(shared_trunk, "MAX_WAITING", 3)
    handed = HandedOver()
    for index in range(5):
        handed.put(str(index), Logit((float(index),), 1, False))
    assert {text: logit.values for text, logit in handed.take("01234").items()} == {
        "2": (2.0,),
        "3": (3.0,),
        "4": (4.0,),
    }


def test_steps_of_another_pipeline_are_not_waited_for(model_folder, tmp_path):
    """A scorer whose step has ended is not loaded with the next one."""
    config = config_of(model_folder("bert"))
    with needed(config), needed(None):
        assert shared_trunk.needed_configs() == [config]
    assert not shared_trunk.needed_configs()


def test_what_a_model_takes_is_that_of_its_own_passes(model_folder, tmp_path, passes):
    """A proxy on the classifier's trunk leaves its logits here: to look them up is not what they cost."""
    first = model_folder("qwen3")
    steps = [
        QualityFilter(config_of(folder), prefix=name)
        for folder, name in ((first, "a"), (sister(first, tmp_path / "b"), "b"))
    ]
    inputs = conversations(12, seed=3, longest=40)
    run(steps, [Document(text="x", id=str(at), metadata={"messages": item}) for at, item in enumerate(inputs)])
    for step in steps:
        passes.clear()
        assert seconds_per_document(scorer.find_scorer(step.scorer), inputs) > 0
        assert sum(passes) == 8 + 12
