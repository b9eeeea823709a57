"""Names of models: what can only be a path is refused at once, and each error of the hub says what to do."""

import json
import os
import subprocess
import sys
import textwrap
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from datatrove_quality.config import ScorerConfig
from datatrove_quality.model.files import find_model
from datatrove_quality.model.hub import require_folder


ANSWERS = {
    "gated": (403, "GatedRepo"),
    "missing": (401, "RepoNotFound"),
    "without-revision": (404, "RevisionNotFound"),
    "without-config": (404, "EntryNotFound"),
    "forbidden": (403, None),
    "broken": (503, None),
}


class Hub(BaseHTTPRequestHandler):
    """A hub whose answer follows from the repository's name."""

    def do_HEAD(self):
        status, code = ANSWERS.get(self.path.split("/")[2], (404, None)) if self.path.count("/") > 1 else (404, None)
        self.send_response(status)
        if code is not None:
            self.send_header("X-Error-Code", code)
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_HEAD  # noqa: N815  # the name that http.server looks for

    def log_message(self, *arguments): ...


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What a process tells of each repository of such a hub, and of one more name."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    code = """
        import json, sys, time
        time.sleep = lambda seconds: None  # between two attempts
        from datatrove_quality.config import ScorerConfig
        from datatrove_quality.model.files import find_model
        told = {}
        for name in sys.argv[1:]:
            try:
                find_model(ScorerConfig(model=name, revision="v2", device="cpu"))
            except ValueError as error:
                told[name] = str(error)
        print(json.dumps(told))
    """
    names = [*(f"org/{name}" for name in ANSWERS), "no hub id"]
    environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    environment |= {
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
        "HF_HOME": str(tmp_path_factory.mktemp("hf")),
    }
    command = [sys.executable, "-c", textwrap.dedent(code), *names]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=300)
    server.shutdown()
    server.server_close()
    return json.loads(run.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    ("name", "todo", "or_a_folder"),
    [
        ("org/gated", "Ask for access on its hub page, then run `hf auth login`", False),
        ("org/forbidden", "Ask for access on its hub page, then run `hf auth login`", False),
        ("org/missing", "The hub has no such model, or a private one: check the name", True),
        ("org/without-revision", "revision='v2': its hub page has no such branch, tag or commit", False),
        (
            "org/without-config",
            "Check the name and the revision on the hub.\nThe repository has no config.json",
            False,
        ),
        ("org/broken", "The hub cannot be reached from here. Run `hf download org/broken --revision v2`", True),
        ("no hub id", "It is no hub id 'org/name'", True),
    ],
)
def test_each_answer_of_the_hub_says_what_to_do(told, name, todo, or_a_folder):
    """By the types of the errors; where the name could be a folder's too, that there is none is said as well."""
    first = f"model={name!r} cannot be loaded. {todo}"
    assert told[name].startswith(first)
    assert (f"There is no folder {os.path.abspath(name)} either." in told[name]) == or_a_folder


def test_a_hub_name_without_network():
    """A hub name on a node without network says how to get the model there, and that no folder has this name."""
    name = "no-such-org/no-such-model"
    with pytest.raises(ValueError, match=rf"hf download {name}` .*There is no folder {os.path.abspath(name)} either"):
        find_model(ScorerConfig(model=name))


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
