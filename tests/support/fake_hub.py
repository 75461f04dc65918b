"""A Hugging Face Hub on this machine: enough of its HTTP interface for the real client to upload and download."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import urlsplit

COMMIT = "c0ffee" + 34 * "0"


@dataclass
class FakeHub:
    """What the test sets up and looks at.

    Attributes:
        url: where it listens.
        repositories: files by name of repository and path.
        refusal: status and error code with which all requests are answered; None lets them through.
        gated: repositories whose files ask for a licence first, while their listing is open, as on the real Hub.
        visibility: what the last repository to be made was asked to have.
    """

    url: str
    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refusal: tuple[int, str] | None = None
    gated: set[str] = field(default_factory=set)
    visibility: str | None = None


@contextmanager
def running_hub() -> Iterator[FakeHub]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    hub = _Handler.hub = FakeHub(f"http://127.0.0.1:{server.server_port}")
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._read()

    def do_HEAD(self) -> None:
        self._read()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        parts = urlsplit(self.path).path.strip("/").split("/")
        if self._refused():
            return
        match parts:
            case ["api", "repos", "create"]:
                asked = json.loads(body)
                name = f"{asked.get('organization') or 'someone'}/{asked['name']}"
                self.hub.repositories.setdefault(name, {})
                self.hub.visibility = asked.get("visibility")
                self._json({"url": f"{self.hub.url}/{name}", "name": name})
            case ["api", "validate-yaml"]:
                self._json({"warnings": [], "errors": []})
            case ["api", "models" | "datasets", _, _, "preupload", _]:
                names = [file["path"] for file in json.loads(body)["files"]]
                files = [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in names]
                self._json({"files": files})
            case ["api", "models" | "datasets", owner, name, "commit", branch]:
                repository = self.hub.repositories[f"{owner}/{name}"]
                for line in map(json.loads, body.splitlines()):
                    if line["key"] == "file":
                        repository[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
                self._json({"commitOid": COMMIT, "commitUrl": f"{self.hub.url}/{owner}/{name}/commit/{branch}"})
            case _:
                self._answer(404)

    def _read(self) -> None:
        parts = urlsplit(self.path).path.strip("/").split("/")
        if self._refused():
            return
        match parts:
            case ["api", "models" | "datasets", owner, name, "revision", _] if (
                repository := self._repository(owner, name)
            ) is not None:
                self._json({"id": f"{owner}/{name}", "sha": COMMIT, "siblings": [{"rfilename": f} for f in repository]})
            case ["api", "models" | "datasets", owner, name, "tree", _] if (
                repository := self._repository(owner, name)
            ) is not None:
                files = [
                    {"type": "file", "path": path, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                    for path, content in repository.items()
                ]
                self._json(files)
            case [owner, name, "resolve", *_] if f"{owner}/{name}" in self.hub.gated:
                self._answer(403, headers={"X-Error-Code": "GatedRepo"})
            case [owner, name, "resolve", _, *path] if "/".join(path) in (self._repository(owner, name) or {}):
                content = self.hub.repositories[f"{owner}/{name}"]["/".join(path)]
                etag = hashlib.sha1(content).hexdigest()
                self._answer(200, content, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT})
            case [owner, name, "resolve", *_] if self._repository(owner, name) is not None:
                self._answer(404, headers={"X-Error-Code": "EntryNotFound"})
            case _:
                self._answer(404, headers={"X-Error-Code": "RepoNotFound"})

    def _repository(self, owner: str, name: str) -> dict[str, bytes] | None:
        return self.hub.repositories.get(f"{owner}/{name}")

    def _refused(self) -> bool:
        if self.hub.refusal is None:
            return False
        status, code = self.hub.refusal
        self._answer(status, headers={"X-Error-Code": code} if code else {})
        return True

    def _json(self, value: object) -> None:
        self._answer(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _answer(self, status: int, content: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass
