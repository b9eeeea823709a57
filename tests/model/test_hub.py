"""Models by their names: what can only be a path is refused at once; the hub's answers, moves and faults; errors."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from loopback_hub import Fault, serving, use
from safetensors.torch import load_file, save_file

from datatrove_quality.config import ScorerConfig
from datatrove_quality.engine.scorer import Scorer
from datatrove_quality.model.found_model import find_model, pinned
from datatrove_quality.model.hub import require_folder
from datatrove_quality.model.staging import STAGE_VARIABLE


NAME = "org/classifier"
TEXTS = ["Qual é a capital?", "Minha cor favorita é azul."]


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub of this test's own, and an empty cache."""
    with serving() as one:
        use(one, tmp_path / "hub", monkeypatch)
        yield one


def config(model=NAME, **options):
    return ScorerConfig(model=str(model), dtype="float32", device="cpu", **options)


def values(model=NAME, **options):
    return [score.score for score in Scorer(config(model, **options)).score(TEXTS)]


def other_weights(folder):
    """The same classifier with another head."""
    weights = load_file(folder / "model.safetensors")
    save_file(weights | {"score.weight": -weights["score.weight"]}, folder / "model.safetensors", {"format": "pt"})


# --- answers of the hub ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "code", "todo", "or_a_folder"),
    [
        (403, "GatedRepo", "Ask for access on its hub page, then run `hf auth login`", False),
        (403, None, "Ask for access on its hub page, then run `hf auth login`", False),
        (401, None, "Ask for access on its hub page, then run `hf auth login`|The hub has no such model", None),
        (401, "RepoNotFound", "The hub has no such model, or a private one: check the name", True),
        (404, "RevisionNotFound", "revision='v2': its hub page has no such branch, tag or commit", False),
        (503, None, "The hub cannot be reached from here. Run `hf download org/classifier --revision v2`", True),
        (429, None, "The hub cannot be reached from here. Run `hf download org/classifier --revision v2`", True),
    ],
)
def test_each_answer_of_the_hub_says_what_to_do(hub, folder, status, code, todo, or_a_folder):
    """By the types of the errors; where the name could be a folder's too, that there is none is said as well."""
    hub.publish(NAME, folder, branch="v2")
    hub.faults = [Fault("/api/", status=status, code=code)]
    with pytest.raises(ValueError, match=f"model='org/classifier' cannot be loaded\\. ({todo})") as error:
        find_model(config(revision="v2"))
    if or_a_folder is not None:
        assert (f"There is no folder {os.path.abspath(NAME)} either." in str(error.value)) == or_a_folder
    assert len(hub.requests) == 1  # it is not tried again


def test_a_repository_of_something_else(hub, tmp_path, folder):
    """A data set's files, say; and a name that no repository can have."""
    (folder / "config.json").unlink()
    hub.publish(NAME, folder)
    with pytest.raises(
        ValueError, match=r"Check the name and the revision on the hub\.\nThe repository has no config"
    ):
        find_model(config())
    with pytest.raises(ValueError, match=r"It is no hub id 'org/name'.*There is no folder"):
        find_model(config("no hub id"))


def test_a_hub_name_without_network():
    """A hub name on a node without network says how to get the model there, and that no folder has this name."""
    name = "no-such-org/no-such-model"
    with pytest.raises(ValueError, match=rf"hf download {name}` .*There is no folder {os.path.abspath(name)} either"):
        find_model(ScorerConfig(model=name))


def test_a_server_that_refuses_connections(hub, folder, monkeypatch):
    """The client's own error is explained, too."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ValueError, match="The hub cannot be reached from here"):
        find_model(config())


# --- commits ---------------------------------------------------------------------------------------------------------


def test_the_scores_are_those_of_the_commit_that_was_found(hub, folder):
    """The branch moves after the model was found, and before its weights are fetched."""
    right = values(folder)
    commit = hub.publish(NAME, folder)
    one = Scorer(config())
    assert one.fingerprint.parts["commit"] == commit
    other_weights(folder)
    moved = hub.publish(NAME, folder)
    assert [score.score for score in one.score(TEXTS)] == right
    assert values() == values(folder) != right
    assert pinned(config()).revision == moved


def test_the_branch_moves_while_files_are_fetched(hub, folder):
    """Every file is that of the commit of the first answer."""
    right = values(folder)
    hub.publish(NAME, folder)
    template = (folder / "chat_template.jinja").read_text()

    def move(request):
        if "/resolve/" in request and len(hub.downloads()) == 1:
            (folder / "chat_template.jinja").write_text("{{ messages }}")
            other_weights(folder)
            hub.publish(NAME, folder)

    hub.on_request = move
    one = Scorer(config())
    assert one.renderer.tokenizer.chat_template == template
    assert [score.score for score in one.score(TEXTS)] == right


def test_a_model_that_was_fetched_is_there_without_the_hub(hub, folder, monkeypatch):
    """By its branch and by its commit, while the hub is down, and offline."""
    from huggingface_hub import constants

    commit = hub.publish(NAME, folder)
    right = values()
    hub.faults = [Fault("", status=503)]
    assert values() == values(revision=commit) == right
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.requests.clear()
    assert values() == values(revision=commit) == right
    assert not hub.requests


@pytest.mark.parametrize("missing", ["tokenizer_config.json", "chat_template.jinja", "adapter_config.json"])
def test_a_part_of_a_commit_is_not_taken_for_the_whole_when_the_hub_is_down(hub, folder, missing, log):
    """Another program may have fetched some files; which there are, only what was fetched here tells."""
    (folder / "adapter_config.json").write_text("{}")
    commit = hub.publish(NAME, folder)
    find_model(config())
    hub.faults = [Fault("", status=503)]
    find_model(config())
    assert not any("it is not known whether they are all" in line for line in log)
    [snapshot] = (folder.parent / "hub").glob("*/snapshots/*")
    (snapshot / missing).unlink()
    with pytest.raises(ValueError, match=rf"hf download org/classifier` .*\nOf its files {missing} are not in"):
        find_model(config())
    shutil.rmtree(snapshot.parents[1] / "datatrove-quality")
    if missing == "tokenizer_config.json":
        with pytest.raises(ValueError, match=rf"Of its files {missing} are not in this machine's cache"):
            find_model(config(revision=commit))
    assert not any("it is not known whether they are all" in line for line in log[:-1])


def test_a_cache_that_another_program_filled_is_used_with_a_warning(hub, folder, log):
    """As `hf download` fills it for nodes without network."""
    hub.publish(NAME, folder)
    find_model(config())
    [noted] = (folder.parent / "hub").glob("*/datatrove-quality")
    shutil.rmtree(noted)
    hub.faults = [Fault("", status=503)]
    find_model(config())
    assert sum("it is not known whether they are all that the commit has" in line for line in log) == 1


def test_what_is_there_is_not_fetched_again(hub, folder):
    """A second process asks for the list of files alone; after a move, for what has changed."""
    hub.publish(NAME, folder)
    values()
    hub.requests.clear()
    values()
    assert all("/api/" in request for request in hub.requests) and len(hub.requests) <= 2
    other_weights(folder)
    hub.publish(NAME, folder)
    values()
    assert [request.rpartition("/")[2] for request in hub.downloads()] == ["model.safetensors"]


# --- downloads that go wrong -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["chat_template.jinja", "tokenizer_config.json", "tokenizer.json", "config.json"])
@pytest.mark.parametrize("fault", [{"status": 503}, {"status": 403}, {"share": 0.5}])
def test_a_file_that_does_not_come_is_not_left_out(hub, folder, name, fault):
    """transformers would go on without it: with another template, or the tokenizer's settings missing."""
    hub.publish(NAME, folder)
    hub.faults = [Fault(f"/resolve/.*{name}", **fault)]
    todo = "Ask for access" if fault == {"status": 403} else "could not be fetched whole: start again"
    for _ in range(2):  # nor is the second start content with what the first one has fetched
        with pytest.raises(ValueError, match=f"model='org/classifier' cannot be loaded.*{todo}"):
            find_model(config())
    hub.faults = [Fault("/api/", status=503)]
    with pytest.raises(ValueError, match="The hub cannot be reached"):
        find_model(config(revision=hub.publish(NAME, folder)))
    hub.faults = []
    assert values() == values(folder)


@pytest.mark.parametrize("fault", [{"share": 0.4}, {"status": 500}])
def test_a_download_of_weights_that_breaks_off_says_to_start_again(hub, folder, fault):
    """Not to convert the model."""
    hub.publish(NAME, folder)
    hub.faults = [Fault("safetensors", **fault)]
    with pytest.raises(ValueError, match="could not be fetched whole: start again") as error:
        values()
    assert "convert" not in str(error.value)
    hub.faults = []
    assert values() == values(folder)


def test_one_break_in_a_download_is_overcome(hub, folder):
    """huggingface_hub tries again."""
    hub.publish(NAME, folder)
    hub.faults = [Fault("GET|safetensors", share=0.4, times=2)]
    assert values() == values(folder)


@pytest.mark.parametrize("name", ["tokenizer.json", "chat_template.jinja", "model.safetensors"])
def test_wrong_bytes_of_the_right_size_are_refused(hub, folder, name):
    """On the way, or on the disk: the hub names each file by its digest."""
    hub.publish(NAME, folder)
    hub.faults = [Fault(f"/resolve/.*{name}", wrong=True)]
    for _ in range(2):
        with pytest.raises(ValueError, match=r"blobs/[0-9a-f]+: the bytes are not those that the hub names"):
            values()


@pytest.mark.parametrize("name", ["tokenizer.json", "model.safetensors"])
@pytest.mark.parametrize("is_staged", [False, True])
def test_copies_without_links_are_compared_with_what_the_hub_tells(
    hub, folder, tmp_path, monkeypatch, log, name, is_staged
):
    """While it can be reached, and later without it: where no name of a blob says what the bytes are."""
    if is_staged:
        monkeypatch.setenv(STAGE_VARIABLE, str(tmp_path / "disk"))
    hub.publish(NAME, folder)
    right = values()
    [snapshot] = (tmp_path / "hub").glob("*/snapshots/*")
    for path in snapshot.iterdir():
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content)
    assert values() == right
    hub.faults = [Fault("", status=503)]
    assert values() == right
    assert not any("hf cache verify" in line for line in log)
    content = (snapshot / name).read_bytes()
    for faults in ([Fault("", status=503)], []):
        hub.faults = faults
        (snapshot / name).write_bytes(content[:-40] + b"\0" * 30 + content[-10:])
        with pytest.raises(ValueError, match=rf"snapshots/\w+/{name}: the bytes are not those that the hub names"):
            values()
    (snapshot / name).write_bytes(content)
    assert values() == right


def test_a_list_of_names_that_an_earlier_version_kept_is_read(hub, folder):
    """It has no digests."""
    hub.publish(NAME, folder)
    right = values()
    [noted] = (folder.parent / "hub").glob("*/datatrove-quality/*.json")
    noted.write_text(
        json.dumps([name for name in json.loads(noted.read_bytes()) if not name.endswith(".safetensors")])
    )
    hub.faults = [Fault("", status=503)]
    assert values() == right


def test_a_repository_without_safetensors(hub, folder):
    """Pickled weights are not fetched."""
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    hub.publish(NAME, folder)
    with pytest.raises(ValueError, match=r"no safetensors weights \(model\.safetensors\).*convert"):
        values()
    assert not hub.downloads(".bin")


# --- adapters --------------------------------------------------------------------------------------------------------


@pytest.fixture
def adapted(folder):
    """A classifier with a LoRA adapter beside its weights, whose configuration names a base model on the hub."""
    peft = pytest.importorskip("peft")
    pytest.importorskip("transformers", minversion="5.22", reason="the extra `adapters` needs it")
    from transformers import AutoModelForSequenceClassification

    base = AutoModelForSequenceClassification.from_pretrained(folder)
    base.name_or_path = "org/base"
    settings = peft.LoraConfig(task_type="SEQ_CLS", r=4, target_modules=["q_proj"], init_lora_weights=False)
    settings.modules_to_save = None
    peft.get_peft_model(base, settings).save_pretrained(folder)
    return folder


def test_an_adapter_of_the_hub_is_applied_to_the_base_beside_it(hub, adapted, folder):
    """Not to that which its configuration names, at a commit that no run knows."""
    assert '"org/base"' in (adapted / "adapter_config.json").read_text()
    commit = hub.publish(NAME, adapted)
    other_weights(shutil.copytree(adapted, adapted.parent / "base"))
    hub.publish("org/base", adapted.parent / "base")
    one = Scorer(config())
    assert [score.score for score in one.score(TEXTS)] == values(adapted)
    assert one.fingerprint.parts["adapter"] == "merged" and one.fingerprint.parts["commit"] == commit
    assert not any("org/base" in request for request in hub.requests)


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_an_adapter_whose_file_does_not_come_is_not_left_out(hub, adapted, name):
    """Without it the scores would be the base model's."""
    hub.publish(NAME, adapted)
    hub.faults = [Fault(f"/resolve/.*{name}", status=503)]
    with pytest.raises(ValueError, match="could not be fetched whole: start again"):
        values()


def test_weights_of_an_adapter_without_its_configuration_are_refused(hub, folder):
    """They would not even be fetched."""
    (folder / "adapter_model.safetensors").write_bytes(b"")
    hub.publish(NAME, folder)
    with pytest.raises(ValueError, match=r"no adapter_config\.json"):
        values()


def test_an_adapter_without_its_base_is_refused(hub, adapted):
    """The base model that its configuration names is on the hub, too, and is not what is meant by the commit."""
    hub.publish("org/base", adapted)
    (adapted / "model.safetensors").unlink()
    hub.publish(NAME, adapted)
    with pytest.raises(ValueError, match="without the model that it belongs to"):
        values()
    (adapted / "config.json").unlink()
    hub.publish(NAME, adapted)
    with pytest.raises(
        ValueError, match=r"is an adapter \(adapter_config\.json\) without the model that it belongs to"
    ):
        values()


# --- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["/nowhere/model", "./nowhere", "..", "~/nowhere", "a/b/c", "org/name/"])
def test_a_path_without_a_folder_is_refused_at_once(name, monkeypatch, tmp_path):
    """What can only be a path is looked for on this machine alone, and shown in full."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "transformers", None)
    if name == "..":
        require_folder(name)
        return
    with pytest.raises(ValueError, match=r"cannot be loaded\. There is no folder ") as error:
        require_folder(name)
    assert os.path.abspath(name) in str(error.value) and repr(name) in str(error.value)


def test_what_may_be_a_hub_id_is_left_to_the_hub(monkeypatch, tmp_path):
    """A name of one or two parts may be either; a folder of that name goes before the hub; a file is no classifier."""
    monkeypatch.chdir(tmp_path)
    for name in ("org/name", "name"):
        require_folder(name)
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(ValueError, match=r"'model\.safetensors' is a file: give the folder"):
        require_folder("model.safetensors")


def test_a_name_is_checked_without_heavy_imports():
    """A command can do so within its first second."""
    code = (
        "import sys\nfrom datatrove_quality.model.hub import require_folder\n"
        "try: require_folder('/nowhere')\nexcept ValueError: pass\n"
        "print([name for name in ('torch', 'transformers', 'huggingface_hub') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
