"""Training: what it learns from, what it leaves alone, what it saves, and that it can be stopped at any time."""

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny_models
import torch
from safetensors.torch import load_file
from training_runs import RECIPE, WORDS, annotated, config
from transformers import AutoModelForSequenceClassification, AutoTokenizer, get_cosine_schedule_with_warmup

from datatrove_quality import ScorerConfig, ScoreScale, evaluate_scores, load_scorer
from datatrove_quality.training import train_classifier
from datatrove_quality.training.base_model import find_base, load_model
from datatrove_quality.training.batches import Order
from datatrove_quality.training.examples import Example, read_examples, split_examples
from datatrove_quality.training.hf_trainer import logits_to_scores


REPOSITORY = Path(__file__).parents[2]


# --- the classifier's folder ----------------------------------------------------------------------------------------


def test_the_folder_scores_as_it_is(trained):
    """`ScorerConfig(model=folder)` needs nothing else: template, pad token, maximum length and scale come along."""
    scores = load_scorer(ScorerConfig(model=str(trained))).score([item for item, _ in annotated(5)])
    assert all(math.isfinite(score.score) for score in scores)
    values = json.loads((trained / "config.json").read_text())
    assert values["architectures"] == ["Qwen3ForSequenceClassification"]
    assert values["problem_type"] == "regression"
    assert values["score_scale"] == {"offset": 1.0, "low": 1, "high": 5}
    assert values["score_max_tokens"] == 96  # as many as there are positions
    tokenizer = AutoTokenizer.from_pretrained(trained)
    assert values["pad_token_id"] == tokenizer.pad_token_id
    assert tokenizer.model_max_length == 96
    assert tokenizer.chat_template == tiny_models.CHATML
    assert json.loads((trained / "tokenizer.json").read_text())["truncation"] is None
    assert {path.name for path in trained.iterdir()} >= {
        "model.safetensors",
        "README.md",
        "curves.png",
        "training.json",
    }
    assert not (trained / "checkpoints").exists()


def test_scoring_the_held_out_rows_gives_the_figures_of_training(trained, base):
    """No skew between training and scoring: every figure agrees to 1e-4 in fp32."""
    rows = annotated(100)
    settings = config(base, **RECIPE)
    examples = [Example(np.array([number]), level, False) for number, (_, level) in enumerate(rows)]
    held_out = [int(example.ids[0]) for example in split_examples(examples, settings)[1]]
    scores = load_scorer(ScorerConfig(model=str(trained))).score([rows[number][0] for number in held_out])
    labels, values = [rows[number][1] for number in held_out], [score.score for score in scores]
    edges = [abs(value * 4 - round(value * 4)) / 4 for value in values]
    assert min(edges) > 1e-4, "no row stands on an edge of rounding or of a threshold"
    again = evaluate_scores(labels, values, ScoreScale(), [score.tokens for score in scores]).to_dict()
    assert_close(again, json.loads((trained / "training.json").read_text())["evaluation"])


def assert_close(one: object, two: object) -> None:
    """Two nested values with the same shape and numbers within 1e-4."""
    if isinstance(one, dict) and isinstance(two, dict):
        assert one.keys() == two.keys()
        for key in one:
            assert_close(one[key], two[key])
    elif isinstance(one, list | tuple) and isinstance(two, list | tuple):
        for left, right in zip(one, two, strict=True):
            assert_close(left, right)
    else:
        assert one == pytest.approx(two, abs=1e-4)


def test_it_learns(trained):
    """The loss on held-out rows falls below that of always giving the mean (2.0 for five equal levels)."""
    log = json.loads((trained / "training.json").read_text())["log"]
    assert min(entry["eval_loss"] for entry in log if "eval_loss" in entry) < 1.5


def test_texts_and_other_scales_and_encoders(tmp_path):
    """Plain text needs no template, labels follow any scale, and a BERT is trained like a decoder."""
    model = tiny_models.save_family(tmp_path / "bert", "bert")
    rows = [(f"{WORDS[level + 1]} {number}", str(level)) for number in range(40) for level in (0, 3)]
    scale = ScoreScale(offset=0, low=0, high=3)
    record = train_classifier(config(model, scale=scale), rows, tmp_path / "classifier")
    assert record["rows"]["levels"] == {"0": 40, "3": 40}
    scorer = load_scorer(ScorerConfig(model=str(tmp_path / "classifier")))
    assert scorer.scale == scale
    scorer.score(["uma frase"])


# --- frozen weights -------------------------------------------------------------------------------------------------


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    common = before.keys() & after.keys()
    return {name for name in common if not torch.equal(before[name], after[name])}


def test_frozen_embeddings_are_bit_identical_and_all_else_is_trained(trained, base):
    """The card's recipe: the embedding layer alone is left as it is, also where the base model ties it to its head."""
    before, after = weights(base), weights(trained)
    assert "model.embed_tokens.weight" in before.keys() & after.keys()
    assert changed(before, after) == before.keys() & after.keys() - {"model.embed_tokens.weight"}


def test_a_frozen_backbone_is_bit_identical(tmp_path):
    """With freeze="backbone" the head is trained alone, from the head that the base model has."""
    model = tiny_models.save_family(tmp_path / "base", "qwen3")
    train_classifier(config(model, freeze="backbone"), annotated(60), tmp_path / "out")
    assert changed(weights(model), weights(tmp_path / "out")) == {"score.weight"}


def test_nothing_frozen_trains_the_embeddings(base, tmp_path):
    """freeze="none" trains a model from random weights."""
    train_classifier(config(base, freeze="none"), annotated(60), tmp_path / "out")
    assert "model.embed_tokens.weight" in changed(weights(base), weights(tmp_path / "out"))


def test_every_embedding_of_an_encoder_is_frozen(tmp_path):
    """BERT has three embedding tables: words, positions, token types."""
    model = tiny_models.save_family(tmp_path / "bert", "bert")
    train_classifier(config(model), [(str(item), level) for item, level in annotated(60)], tmp_path / "out")
    names = changed(weights(model), weights(tmp_path / "out"))
    assert names
    assert not {name for name in names if name.endswith("_embeddings.weight")}


# --- steps and metrics ----------------------------------------------------------------------------------------------


def test_each_step_is_that_of_a_plain_loop(base, tmp_path):
    """The Trainer adds nothing of its own: AdamW on the mean squared error, a cosine, gradients cut at 1."""
    settings = config(base, freeze="none", weight_decay=0.0, order="given", epochs=2)
    record = train_classifier(settings, annotated(80), tmp_path / "out")
    found = find_base(settings)
    training, _ = split_examples(read_examples(annotated(80), found.renderer, settings).kept, settings)
    model = load_model(settings, found).train()
    order = list(Order([len(example.ids) for example in training], 2, "given", 16, seed=0))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0)
    schedule = get_cosine_schedule_with_warmup(optimizer, 1, 8)
    plain = []
    for start in range(0, len(order), 16):
        batch = [training[row] for row in order[start : start + 16]]
        logits = torch.stack([model(torch.tensor([one.ids.tolist()])).logits[0, 0] for one in batch])
        loss = ((logits - torch.tensor([one.label - 1.0 for one in batch])) ** 2).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        plain.append(loss.item())
    assert [entry["loss"] for entry in record["log"] if "loss" in entry] == pytest.approx(plain, abs=1e-2)


def test_a_loss_of_the_models_own_is_added_while_it_trains(base, tmp_path):
    """`prepare` attaches hooks; what the model then gives as its loss counts in training and not in evaluation."""

    def prepare(model) -> None:
        def add_loss(model, args, outputs) -> None:
            if model.training:
                outputs["loss"] = model.model.norm.weight.mean() * 0 + 100

        model.register_forward_hook(add_loss)

    record = train_classifier(config(base), annotated(60), tmp_path / "out", prepare=prepare)
    assert min(entry["loss"] for entry in record["log"] if "loss" in entry) > 100
    assert max(entry["eval_loss"] for entry in record["log"] if "eval_loss" in entry) < 100


def test_rows_to_evaluate_on_may_be_given(base, tmp_path):
    """A validation set of one's own takes the place of the split: all other rows are trained on, bad ones counted."""
    rows, own = annotated(80)[:60], [*annotated(80)[60:], ([], 3)]
    record = train_classifier(config(base), rows, tmp_path / "out", own)
    counts = record["rows"]
    assert (counts["training"], counts["held_out"]) == (60, 20)
    assert sum(counts["refused"].values()) == 1
    assert record["evaluation"]["documents"] == 20


def test_gradient_checkpointing_and_bfloat16_train_and_save(base, tmp_path):
    """Options for large models: frozen embeddings still get gradients to the layers above, bf16 is saved as bf16."""
    settings = config(base, gradient_checkpointing=True, dtype="bfloat16")
    train_classifier(settings, annotated(60), tmp_path / "out")
    after = weights(tmp_path / "out")
    assert {tensor.dtype for tensor in after.values()} == {torch.bfloat16}
    assert "model.layers.0.mlp.up_proj.weight" in changed(weights(base), after)
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")
    assert model.dtype == torch.bfloat16


def test_logits_that_are_not_finite_are_an_error_that_says_what_to_set():
    """A diverged training must not go on and select a model by NaN."""
    assert logits_to_scores(np.array([[1.5], [2.0]], np.float32), ScoreScale(offset=0.5)).tolist() == [2.0, 2.5]
    with pytest.raises(ValueError, match="--learning-rate"):
        logits_to_scores(np.array([[1.5], [np.nan]]), ScoreScale())


# --- stopped, resumed, on several devices ---------------------------------------------------------------------------


RUN = """\
import sys
from training_runs import annotated, config
from datatrove_quality.training import train_classifier
train_classifier(config({base!r}, {values}), annotated(160), sys.argv[1])
"""


def command(folder: Path, base: Path, values: str) -> list[str]:
    """A script that trains into the folder given as its argument."""
    script = folder / "run.py"
    script.write_text(RUN.format(base=str(base), values=values))
    return [str(script)]


def environment() -> dict[str, str]:
    """Of a process that imports what this one does."""
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests")])}


def last_loss(folder: Path, name: str = "loss") -> float:
    log = json.loads((folder / "training.json").read_text())["log"]
    return [entry[name] for entry in log if name in entry][-1]


def test_killed_and_resumed_it_ends_as_if_undisturbed(base, tmp_path):
    """A SIGKILL in the second epoch costs the steps since the last checkpoint, and changes no result."""
    values = "epochs=4, evaluations=8"
    run = [sys.executable, *command(tmp_path, base, values)]
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    with subprocess.Popen([*run, str(killed)], stderr=subprocess.PIPE, text=True, env=environment()) as process:
        for line in process.stderr:
            if "step 20 of 32" in line:
                process.send_signal(signal.SIGKILL)
                break
    assert process.wait() == -signal.SIGKILL
    assert "evaluation" not in json.loads((killed / "training.json").read_text())
    train_classifier(config(base, epochs=4, evaluations=8), annotated(160), killed)
    train_classifier(config(base, epochs=4, evaluations=8), annotated(160), whole)
    for name in ("loss", "eval_loss", "eval_macro_f1"):
        assert last_loss(killed, name) == pytest.approx(last_loss(whole, name), abs=1e-3)
    assert_close(*(weights_sum(folder) for folder in (killed, whole)))


def weights_sum(folder: Path) -> dict[str, float]:
    return {name: tensor.double().abs().mean().item() for name, tensor in weights(folder).items()}


def test_two_processes_match_one(base, tmp_path):
    """torchrun with two processes of half a batch each makes the same steps as one process, and one of them writes."""
    values = "order='random', batch_size=64, epochs=4, per_device_batch_size=32"
    run = command(tmp_path, base, values)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    start = [*torchrun, *run, str(tmp_path / "two")]
    subprocess.run(start, check=True, capture_output=True, timeout=120, env=environment())
    settings = config(base, order="random", batch_size=64, epochs=4, per_device_batch_size=32)
    train_classifier(settings, annotated(160), tmp_path / "one")
    one, two = (losses(tmp_path / name) for name in ("one", "two"))
    assert len(one) == len(two) == 8
    assert one == pytest.approx(two, abs=1e-2)
    assert last_loss(tmp_path / "two", "eval_loss") == pytest.approx(
        last_loss(tmp_path / "one", "eval_loss"), abs=1e-2
    )


def losses(folder: Path) -> list[float]:
    return [entry["loss"] for entry in json.loads((folder / "training.json").read_text())["log"] if "loss" in entry]
