"""A Hugging Face hub on this machine: repositories of files at commits, and answers as a bad day gives them."""

import hashlib
import json
import re
import threading
import types
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest


_ROUTES = (
    re.compile(r"/api/models/(?P<name>[^/]+/[^/]+)(?:/revision/(?P<revision>[^/?]+))?"),
    re.compile(r"/(?P<name>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>[^?]+)"),
)


@dataclass
class Fault:
    """An answer other than the right one.

    Args:
        path: matches the paths of the requests.
        status: of the answer; 200: the file, but damaged.
        code: the hub's own word for the error, such as "GatedRepo".
        share: how much of a file comes before the connection breaks off.
        wrong: whether a file's last bytes come as zeros.
        times: how often; None: always.
    """

    path: str
    status: int = 200
    code: str | None = None
    share: float = 1.0
    wrong: bool = False
    times: int | None = None


class LoopbackHub:
    """What the hub has, and what was asked of it.

    Attributes:
        address: of the server.
        requests: "METHOD PATH" of each, in order.
        faults: the first one that matches a request decides.
        on_request: called with each, before it is answered.
    """

    def __init__(self, address: str):
        self.address = address
        self.requests: list[str] = []
        self.faults: list[Fault] = []
        self.on_request = lambda request: None
        self._commits: dict[tuple[str, str], dict[str, bytes]] = {}
        self._branches: dict[tuple[str, str], str] = {}

    def publish(self, name: str, folder: Path, branch: str = "main") -> str:
        """Have a branch point to a new commit with a folder's files; gives the commit."""
        files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        hashed = hashlib.sha1(b"".join(key.encode() + files[key] for key in sorted(files))).hexdigest()
        self._commits[name, hashed] = files
        self._branches[name, branch] = hashed
        return hashed

    def downloads(self, ending: str = "") -> list[str]:
        """The files that were asked for, not counting questions for their size."""
        return [
            path for path in self.requests if path.startswith("GET") and "/resolve/" in path and path.endswith(ending)
        ]

    def fault(self, path: str) -> Fault | None:
        """The fault that a request meets."""
        for fault in self.faults:
            if re.search(fault.path, path) and fault.times != 0:
                fault.times = None if fault.times is None else fault.times - 1
                return fault
        return None

    def find(self, name: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """The commit of a revision, and its files."""
        commit = self._branches.get((name, revision), revision)
        return (commit, self._commits[name, commit]) if (name, commit) in self._commits else None

    def has(self, name: str) -> bool:
        """Whether there is such a repository."""
        return any(known == name for known, _ in self._commits)


class _Handler(BaseHTTPRequestHandler):
    hub: LoopbackHub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/api/agent-harnesses":  # huggingface_hub's own question, of no model
            return self._answer(404, {})
        self.hub.requests.append(f"{self.command} {self.path}")
        self.hub.on_request(self.hub.requests[-1])
        fault = self.hub.fault(self.path)
        if fault and fault.status != 200:
            return self._answer(fault.status, {"X-Error-Code": fault.code} if fault.code else {})
        match = next(filter(None, (route.fullmatch(self.path.partition("?")[0]) for route in _ROUTES)), None)
        if match is None or not self.hub.has(match["name"]):
            return self._answer(401, {"X-Error-Code": "RepoNotFound"})
        found = self.hub.find(match["name"], match["revision"] or "main")
        if found is None:
            return self._answer(404, {"X-Error-Code": "RevisionNotFound"})
        commit, files = found
        if "file" not in match.groupdict():
            blobs = "blobs=true" in self.path.lower()
            siblings = [{"rfilename": file} | (_digests(file, files[file]) if blobs else {}) for file in sorted(files)]
            return self._answer(
                200, {}, json.dumps({"id": match["name"], "sha": commit, "siblings": siblings}).encode()
            )
        if match["file"] not in files:
            return self._answer(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
        return self._file(commit, match["file"], files[match["file"]], fault or Fault(""))

    do_HEAD = do_GET  # noqa: N815  # the name that http.server looks for

    def _file(self, commit: str, name: str, content: bytes, fault: Fault) -> None:
        digests = _digests(name, content)
        tag = digests["lfs"]["sha256"] if "lfs" in digests else digests["blobId"]
        sent = content[:-50] + bytes(50) if fault.wrong else content
        self._answer(200, {"X-Repo-Commit": commit, "ETag": f'"{tag}"'}, sent, fault.share)

    def _answer(self, status: int, headers: dict[str, str], content: bytes = b"", share: float = 1.0) -> None:
        self.send_response(status)
        if status >= 400:
            headers = headers | {"Connection": "close"}
        for key, value in (headers | {"Content-Length": str(len(content))}).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content[: int(share * len(content))])
        self.close_connection = share < 1 or status >= 400  # the client would wait for what does not come

    def log_message(self, *arguments: object) -> None: ...


def _digests(name: str, content: bytes) -> dict[str, Any]:
    """What the hub says of a file: git's digest, and of a large one (here: of weights) that of its content."""
    git = hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()
    sha256 = hashlib.sha256(content).hexdigest()
    large = {"lfs": {"sha256": sha256, "size": len(content), "pointerSize": 134}}
    return {"blobId": git, "size": len(content)} | (large if name.endswith(".safetensors") else {})


@contextmanager
def serving() -> Iterator[LoopbackHub]:
    """A hub while the block runs."""
    handler = type("Handler", (_Handler,), {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    handler.hub = hub = LoopbackHub(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


def use(hub: LoopbackHub, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have this process ask the hub, with an empty cache, and without pauses between attempts."""
    from huggingface_hub import constants, file_download
    from huggingface_hub.utils import _http

    monkeypatch.setattr(constants, "ENDPOINT", hub.address)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.address + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    import time

    without_pauses = types.SimpleNamespace(**{**vars(time), "sleep": lambda seconds: None})
    for module in (file_download, _http):
        monkeypatch.setattr(module, "time", without_pauses)
