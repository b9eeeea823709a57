"""Training: what it learns from, what it leaves alone, what it saves, and that it can be stopped at any time."""

import json
import math
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tiny_models
import torch
from commands import run_command
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer, get_cosine_schedule_with_warmup

from datatrove_quality import ScorerConfig, ScoreScale, load_scorer
from datatrove_quality.config import Unscorable
from datatrove_quality.evaluation.metrics import evaluate_scores
from datatrove_quality.training import TrainingConfig, train_classifier
from datatrove_quality.training.base_model import find_base, load_model
from datatrove_quality.training.batches import Order, batches_per_step
from datatrove_quality.training.config import ORDERS
from datatrove_quality.training.data import Example, read_examples, split_examples


REPOSITORY = Path(__file__).parents[2]


WORDS = {1: "azul verde", 2: "talvez acho", 3: "capital Portugal", 4: "Lisboa Lisboa", 5: "plantas luz do sol"}


RECIPE = {"epochs": 8, "learning_rate": 3e-3}


def annotated(count: int, levels: tuple[int, ...] = (1, 2, 3, 4, 5)) -> list[tuple]:
    """Conversations of different lengths whose words tell their level, no two alike."""
    rows = []
    for number in range(count):
        level = levels[number % len(levels)]
        answer = " ".join([WORDS[level]] * (1 + number % 7)) + f" {number}"
        messages = [{"role": "user", "content": "Qual é a capital?"}, {"role": "assistant", "content": answer}]
        rows.append((messages, level))
    return rows


def config(model: Path, **values) -> TrainingConfig:
    """A run of a few steps on the CPU."""
    small = {"batch_size": 16, "warmup_steps": 1, "learning_rate": 1e-3, "holdout": 0.2, "evaluations": 2}
    return TrainingConfig(model=str(model), device="cpu", **(small | values))


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """A base model as users have it: a causal language model with tied embeddings and no score head."""
    return causal_model(tmp_path_factory.mktemp("base"))


def causal_model(folder: Path, **tokenizer_values) -> Path:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    tokenizer = tiny_models.chatml_tokenizer()
    for name, value in tokenizer_values.items():
        setattr(tokenizer, name, value)
    torch.manual_seed(0)
    values = tiny_models.DECODER | {"max_position_embeddings": 96}
    Qwen3ForCausalLM(Qwen3Config(vocab_size=len(tokenizer), tie_word_embeddings=True, **values)).save_pretrained(
        folder
    )
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def trained(base, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "classifier"
    train_classifier(config(base, **RECIPE), annotated(100), folder)
    return folder


# --- what comes out --------------------------------------------------------------------------------------------------


def test_the_folder_scores_as_it_is(trained):
    """`ScorerConfig(model=folder)` needs nothing else: template, pad token, maximum length and scale come along."""
    scores = load_scorer(ScorerConfig(model=str(trained))).score([item for item, _ in annotated(5)])
    assert all(math.isfinite(score.score) for score in scores)
    values = json.loads((trained / "config.json").read_text())
    assert values["architectures"] == ["Qwen3ForSequenceClassification"]
    assert values["problem_type"] == "regression"
    assert values["score_scale"] == {"offset": 1.0, "low": 1, "high": 5}
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


def test_the_model_card_says_how_it_was_made_and_how_good_it_is(trained, base):
    """Recipe, counts and figures stand in the README, so that a folder explains itself."""
    card = (trained / "README.md").read_text()
    record = json.loads((trained / "training.json").read_text())
    assert str(base) in card
    assert "| learning rate | 0.003 |" in card
    assert "| held out | 20 |" in card
    assert "| rows of level 5 | 20 |" in card
    assert record["evaluation"]["macro_f1"] == pytest.approx(best(record["log"]), abs=1e-9)


def best(log: list[dict]) -> float:
    return max(entry["eval_macro_f1"] for entry in log if "eval_macro_f1" in entry)


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


# --- frozen means frozen ---------------------------------------------------------------------------------------------


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


# --- rows ------------------------------------------------------------------------------------------------------------


def test_bad_rows_are_counted_and_never_trained_on(base, tmp_path):
    """Labels of any spelling count; what is outside the scale, missing or unscorable is refused, by its reason."""
    good = annotated(50)
    spelled = [(item, [str(level), float(level), level][number % 3]) for number, (item, level) in enumerate(good)]
    messages = good[0][0]
    bad = [(messages, 9), (messages, 4.5), (messages, math.nan), (messages, None), (messages, "gut")]
    bad += [(Unscorable("null_column", "null"), 3), ([{"role": "narrador", "content": "x"}], 3), ([], 3)]
    record = train_classifier(config(base), spelled + bad, tmp_path / "out")
    assert record["rows"]["training"] + record["rows"]["held_out"] == 50
    assert sum(record["rows"]["refused"].values()) == len(bad)
    assert record["rows"]["refused"].keys() >= {"null_column", "template_error"}


def test_no_usable_row_is_an_error_that_says_why(base, tmp_path):
    """A wrong label column must not end in an empty training."""
    with pytest.raises(ValueError, match=r"no row to train on: .*: 10"):
        train_classifier(config(base), [(item, 77) for item, _ in annotated(10)], tmp_path / "out")
    with pytest.raises(ValueError, match=r"no row to evaluate on: .*: 10"):
        train_classifier(config(base), annotated(10), tmp_path / "out", [(item, 77) for item, _ in annotated(10)])


def test_one_level_is_an_error(base, tmp_path):
    """A regression on a constant learns nothing."""
    with pytest.raises(ValueError, match="all 20 rows are of level 4"):
        train_classifier(config(base), annotated(20, levels=(4,)), tmp_path / "out")


def test_too_few_rows_of_a_level_are_an_error_with_the_counts(base, tmp_path):
    """Macro F1 needs each level on both sides of the split."""
    with pytest.raises(ValueError, match=r"--holdout.*1: 20, 2: 1"):
        train_classifier(config(base), annotated(20, levels=(1,)) + annotated(1, levels=(2,)), tmp_path / "out")


def test_the_split_keeps_the_shares_of_the_levels():
    """Rare levels stand on both sides in proportion, the same ones on every run."""
    examples = [Example(np.array([number]), 5 if number % 10 else 1, False) for number in range(200)]
    settings = TrainingConfig(model="x", holdout=50)
    training, held_out = split_examples(examples, settings)
    assert Counter(example.label for example in held_out) == {5: 45, 1: 5}
    assert not {int(one.ids[0]) for one in training} & {int(one.ids[0]) for one in held_out}
    assert split_examples(examples, settings)[1] == held_out


def test_duplicates_across_the_split_are_warned_of_and_dedup_removes_them(base, tmp_path, log):
    """A held-out row that was trained on flatters the figures."""
    rows = annotated(40) * 2
    train_classifier(config(base), rows, tmp_path / "twice")
    assert "look the same to the model" in "\n".join(log)
    record = train_classifier(config(base, dedup=True), rows, tmp_path / "once")
    assert record["rows"]["repeated"] == 40
    assert record["rows"]["training"] + record["rows"]["held_out"] == 40


# --- mistakes that are found before any work -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("freeze", "head"), ("epochs", 0), ("batch_size", 1.5), ("learning_rate", 0), ("learning_rate", math.nan),
        ("warmup_steps", -1), ("weight_decay", -0.1), ("max_tokens", 0), ("holdout", 1.5), ("holdout", 0),
        ("dtype", "int8"), ("device", "tpu"), ("per_device_batch_size", 0), ("evaluations", True), ("adam_beta2", 1),
        ("learning_rate", "5e-5"), ("weight_decay", None), ("adam_beta2", "0.9"), ("holdout", "0.1"), ("scale", None),
    ],
)  # fmt: skip
def test_bad_values_name_the_field_and_the_option(field, value):
    """A typo costs a second, not a night."""
    with pytest.raises(ValueError, match=rf"{field}=.*--{field.replace('_', '-')}"):
        TrainingConfig(model="x", **{field: value})


def test_a_step_is_shared_by_the_devices():
    """batch size = rows per device x accumulation x devices, worked out; what does not divide names what does."""
    assert batches_per_step(TrainingConfig(model="x"), 1) == (8, 8)
    assert batches_per_step(TrainingConfig(model="x"), 4) == (8, 2)
    assert batches_per_step(TrainingConfig(model="x", per_device_batch_size=32), 2) == (32, 1)
    with pytest.raises(ValueError, match=r"--batch-size.*3 devices: set 63 or 66"):
        batches_per_step(TrainingConfig(model="x"), 3)
    with pytest.raises(ValueError, match=r"--per-device-batch-size.*set 4 or 8"):
        batches_per_step(TrainingConfig(model="x", per_device_batch_size=5), 1)


def test_more_warmup_than_steps_names_the_option(base, tmp_path):
    """The card's 100 warm-up steps do not fit a small data set."""
    with pytest.raises(ValueError, match=r"--warmup-steps.* 10 steps"):
        train_classifier(config(base, warmup_steps=100), annotated(100), tmp_path / "out")


def test_a_tokenizer_without_template_or_pad_token_asks_for_a_choice(tmp_path):
    """Neither is ever made up; the choice is saved with the classifier."""
    bare = causal_model(tmp_path / "bare", chat_template=None, pad_token=None)
    with pytest.raises(ValueError, match=r"--pad-token TOKEN.*<\|im_end\|>"):
        train_classifier(config(bare), annotated(50), tmp_path / "out")
    with pytest.raises(ValueError, match="'<pad>' is not in its vocabulary"):
        train_classifier(config(bare, pad_token="<pad>"), annotated(50), tmp_path / "out")
    with pytest.raises(ValueError, match="--chat-template FILE"):
        train_classifier(config(bare, pad_token="<|endoftext|>"), annotated(50), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    chosen = config(bare, pad_token="<|endoftext|>", chat_template=tiny_models.CHATML)
    train_classifier(chosen, annotated(50), tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert (tokenizer.pad_token, tokenizer.chat_template) == ("<|endoftext|>", tiny_models.CHATML)


def test_a_base_model_that_is_not_there_is_an_error(tmp_path):
    """The message names the option, and no traceback of transformers is needed."""
    with pytest.raises(ValueError, match=r"--model.*cannot be loaded as a base model"):
        train_classifier(config(tmp_path / "nothing"), annotated(50), tmp_path / "out")


def test_a_folder_that_holds_something_else_is_refused(base, tmp_path):
    """Nobody's files are overwritten, and no two trainings mix."""
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"--output.*no training wrote"):
        train_classifier(config(base), annotated(50), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_another_config_in_the_same_folder_is_refused_and_the_same_one_is_finished(trained, base):
    """A rerun of a finished training is no work; one that was asked something else says what differs."""
    before = (trained / "model.safetensors").stat().st_mtime_ns
    record = train_classifier(config(base, **RECIPE), annotated(100), trained)
    assert "evaluation" in record
    assert (trained / "model.safetensors").stat().st_mtime_ns == before
    with pytest.raises(ValueError, match=r"learning_rate: was 0.003, is now 0.01"):
        train_classifier(config(base, **RECIPE | {"learning_rate": 0.01}), annotated(100), trained)
    with pytest.raises(ValueError, match="rows: was"):
        train_classifier(config(base, **RECIPE), annotated(105), trained)


# --- the order of rows -----------------------------------------------------------------------------------------------


def test_every_row_comes_once_an_epoch_grouped_or_not():
    """Whatever the order, an epoch is an epoch, and the next one is another order."""
    lengths = [1 + number * 7 % 50 for number in range(203)]
    for kind in ORDERS:
        order = list(Order(lengths, 2, kind, 16, seed=0))
        assert sorted(order[:203]) == sorted(order[203:]) == list(range(203))
        assert order == list(Order(lengths, 2, kind, 16, seed=0))
        if kind == "given":
            assert order == [*range(203), *range(203)]
            continue
        assert order[:203] != order[203:]
        assert order != list(Order(lengths, 2, kind, 16, seed=1))


def test_grouped_steps_are_of_similar_length():
    """Which is what grouping is for: little padding."""
    lengths = [1 + number * 37 % 400 for number in range(800)]
    order = list(Order(lengths, 1, "grouped", 16, seed=0))
    spreads = [np.ptp([lengths[row] for row in order[start : start + 16]]) for start in range(0, 800, 16)]
    assert max(spreads) < 40


def test_a_curriculum_keeps_its_order():
    """Rows in the order given move within a window of fifty steps at most."""
    order = list(Order([1 + number * 37 % 400 for number in range(2_000)], 1, "given", 16, seed=0))
    assert [sorted(order[:800]), sorted(order[800:1600])] == [list(range(800)), list(range(800, 1600))]


def test_gradient_checkpointing_and_bfloat16_train_and_save(base, tmp_path):
    """Options for large models: frozen embeddings still get gradients to the layers above, bf16 is saved as bf16."""
    settings = config(base, gradient_checkpointing=True, dtype="bfloat16")
    train_classifier(settings, annotated(60), tmp_path / "out")
    after = weights(tmp_path / "out")
    assert {tensor.dtype for tensor in after.values()} == {torch.bfloat16}
    assert "model.layers.0.mlp.up_proj.weight" in changed(weights(base), after)
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")
    assert model.dtype == torch.bfloat16


# --- the script ------------------------------------------------------------------------------------------------------


@pytest.fixture
def annotated_file(tmp_path) -> Path:
    """A JSONL file as users have it, with one line that is no JSON, beside a file that nobody asked for."""
    lines = [json.dumps({"messages": item, "stars": str(level)}) for item, level in annotated(60)]
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "rows.jsonl").write_text("\n".join([*lines, "{"]) + "\n")
    (tmp_path / "data" / "other.jsonl").write_text("{}\n" * 5)
    return tmp_path / "data" / "rows.jsonl"


def test_the_script_trains_on_a_file_and_says_where_everything_is(annotated_file, base, tmp_path, capsys):
    """One command from annotated rows to a classifier; what is not asked for is `TrainingConfig`'s default."""
    options = ["--batch-size", "16", "--warmup-steps", "2", "--device", "cpu", "--holdout", "10"]
    arguments = [str(annotated_file), "--labels", "stars", "--model", str(base), "--output", str(tmp_path / "out")]
    run_command("train", *arguments, *options)
    printed = capsys.readouterr().out
    assert "50 rows; on 10 held out" in printed
    assert f"--model {tmp_path / 'out'}" in printed
    record = json.loads((tmp_path / "out" / "training.json").read_text())
    assert record["rows"]["refused"] == {"invalid_json": 1}
    assert record["asked"]["learning_rate"] == 5e-5


def test_a_missing_label_column_is_an_error_that_names_those_there_are(annotated_file, base, tmp_path):
    """Found before the base model is looked at."""
    arguments = [str(annotated_file), "--labels", "quality", "--model", str(base), "--output", str(tmp_path / "out")]
    with pytest.raises(ValueError, match=r"--labels quality: none of the first 61 rows .* are file_path.*stars"):
        run_command("train", *arguments)


def test_options_without_effect_are_a_mistake(annotated_file, base, tmp_path):
    """Of two ways to say what a row holds, or what is held out, one would be ignored."""
    arguments = [str(annotated_file), "--labels", "stars", "--model", str(base), "--output", str(tmp_path / "out")]
    with pytest.raises(ValueError, match="--schema and --messages-key do not go with it"):
        run_command("train", *arguments, "--text", "--schema", "alpaca")
    with pytest.raises(ValueError, match="omit --holdout"):
        run_command("train", *arguments, "--held-out", annotated_file, "--holdout", 0.2)
    assert not (tmp_path / "out").exists()


# --- stopped, resumed, shared ----------------------------------------------------------------------------------------


RUN = """\
import os, sys
sys.path[:0] = {path!r}
from test_training import annotated, config
from datatrove_quality.training import train_classifier
train_classifier(config({base!r}, {values}), annotated(160), sys.argv[1])
"""


def command(folder: Path, base: Path, values: str) -> list[str]:
    """A script that trains into the folder given as its argument."""
    script = folder / "run.py"
    path = [str(REPOSITORY), str(REPOSITORY / "tests"), str(REPOSITORY / "tests/training")]
    script.write_text(RUN.format(path=path, base=str(base), values=values))
    return [str(script)]


def last_loss(folder: Path, name: str = "loss") -> float:
    log = json.loads((folder / "training.json").read_text())["log"]
    return [entry[name] for entry in log if name in entry][-1]


def test_killed_and_resumed_it_ends_as_if_undisturbed(base, tmp_path):
    """A SIGKILL in the second epoch costs the steps since the last checkpoint, and changes no result."""
    values = "epochs=4, evaluations=8"
    run = [sys.executable, *command(tmp_path, base, values)]
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    with subprocess.Popen([*run, str(killed)], stderr=subprocess.PIPE, text=True) as process:
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
    subprocess.run([*torchrun, *run, str(tmp_path / "two")], check=True, capture_output=True, timeout=120)
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
