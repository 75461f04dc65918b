"""The page in a process of its own, and visitors who ask it over HTTP as `gradio_client` would, but lighter."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self
from uuid import uuid4

import httpx
from gradio_client.utils import apply_diff

ROOT = Path(__file__).resolve().parents[1]
START_SECONDS = 300
API = "/gradio_api"


class PageServer:
    """app.py on a port of this machine that nobody else can reach."""

    def __init__(
        self, folder: Path, *, port: int | None = None, before: Sequence[str] = (), **variables: object
    ) -> None:
        """Starts nothing yet.

        Args:
            folder: holds its uploads, its results and its log.
            port: None takes a free one.
            before: what runs the server's command, such as a wrapper that mounts something.
            variables: of its environment.
        """
        self.folder = folder
        self.port = port or free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self.log = folder / "log.txt"
        self._before = list(before)
        self._variables = {name: str(value) for name, value in variables.items()}

    def __enter__(self) -> Self:
        """Starts it and waits until it serves.

        Raises:
            RuntimeError: it did not start.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        environment = {
            **os.environ,
            "GRADIO_SERVER_NAME": "127.0.0.1",
            "GRADIO_SERVER_PORT": str(self.port),
            "GRADIO_TEMP_DIR": str(self.folder / "uploads"),
            "GRADIO_ANALYTICS_ENABLED": "False",
            **self._variables,
        }
        command = [*self._before, sys.executable, str(ROOT / "app.py")]
        with self.log.open("a") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
        try:
            self._wait_until_up()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends it, if it still runs."""
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """Ends it as a lack of memory would: without a word."""
        self.process.kill()
        self.process.wait(20)

    def health(self) -> httpx.Response:
        """What a load balancer is told."""
        return httpx.get(f"{self.address}/healthz", timeout=30)

    def notes(self) -> list[dict[str, Any]]:
        """What it has noted so far."""
        lines = self.log.read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def _wait_until_up(self) -> None:
        ends_at = time.monotonic() + START_SECONDS
        while time.monotonic() < ends_at and self.process.poll() is None:
            try:
                if self.health().status_code in (200, 503):
                    return
            except httpx.TransportError:
                time.sleep(0.2)
        raise RuntimeError(f"The page did not start:\n{self.log.read_text(encoding='utf-8')}")


class RefusedError(Exception):
    """The page's sentence for a request that it did not serve."""


class Visitor:
    """One session."""

    # The same for every visitor of a page, and large.
    _known: ClassVar[dict[tuple[str, str], dict[str, Any]]] = {}

    def __init__(self, address: str, *, session: str | None = None, timeout: float = 300.0) -> None:
        """Asks nothing yet.

        Args:
            address: of the page.
            session: None opens a new one.
            timeout: seconds without any word from the page after which it is given up.
        """
        self.session = session or uuid4().hex
        self._http = httpx.Client(base_url=address, timeout=timeout)

    def close(self) -> None:
        """Leaves."""
        self._http.close()

    def upload(self, name: str, content: bytes) -> str:
        """The path on the server of a picture that is uploaded."""
        answer = self._http.post(f"{API}/upload", files={"files": (name, content)})
        answer.raise_for_status()
        return str(answer.json()[0])

    def refine(self, reference: str, generated: str, **options: Any) -> dict[str, Any]:
        """The report of a refinement, with the address of its picture as "url"; see `told`."""
        *_, data = self.told(reference, generated, **options)
        picture, report = data
        return {**report, "url": picture["url"]}

    def told(self, reference: str, generated: str, **options: Any) -> Generator[list[Any], None, None]:
        """What the endpoint `/refine` returns on the way and at last; leaving the iterator drops the connection.

        Args:
            reference: the path of an upload.
            generated: the same.
            options: the endpoint's, by name.

        Raises:
            RefusedError: the page's sentence.
        """
        known: list[Any] = []
        event = self._joined(reference, generated, **options)
        with self._stream() as messages:
            for message in messages:
                if message.get("event_id") != event or message["msg"] not in (
                    "process_generating",
                    "process_completed",
                ):
                    continue
                if not message["success"]:
                    raise RefusedError(str(message["output"].get("error")))
                data = message["output"]["data"]
                # While it goes on, only what has changed since the last time is sent.
                is_change = known and message["msg"] == "process_generating"
                known = [apply_diff(*pair) for pair in zip(known, data, strict=True)] if is_change else data
                yield known
                if message["msg"] == "process_completed":
                    return

    def refine_together(self, reference: str, generated: str, options: Sequence[dict[str, Any]]) -> list[str]:
        """Asks for several refinements at once; returns the page's sentence for each in the order they end.

        The sentence is empty for one that was served.
        """
        events = {self._joined(reference, generated, **each) for each in options}
        ended: list[str] = []
        with self._stream() as messages:
            for message in messages:
                if message["msg"] == "process_completed" and message["event_id"] in events:
                    ended.append("" if message["success"] else str(message["output"].get("error")))
                    if len(ended) == len(events):
                        break
        return ended

    def download(self, url: str) -> bytes:
        """The content of a result's file."""
        answer = self._http.get(url)
        answer.raise_for_status()
        return answer.content

    def _joined(self, reference: str, generated: str, **options: Any) -> str:
        """The event of a refinement that is now asked for."""
        endpoint = self._endpoint("refine")
        given = {"reference": _file(reference), "generated": _file(generated), **options}
        defaults = {parameter["parameter_name"]: parameter.get("parameter_default") for parameter in endpoint["inputs"]}
        data = [given.get(name, default) for name, default in defaults.items()]
        body = {"data": data, "fn_index": endpoint["id"], "session_hash": self.session}
        joined = self._http.post(f"{API}/queue/join", json=body)
        if joined.status_code != 200:
            raise RefusedError(joined.text)
        return str(joined.json()["event_id"])

    def _endpoint(self, name: str) -> dict[str, Any]:
        """Number and parameters of an endpoint."""
        known = self._known.get((str(self._http.base_url), name))
        if known is not None:
            return known
        config = self._http.get("/config").json()
        number = next(entry["id"] for entry in config["dependencies"] if entry["api_name"] == name)
        described = self._http.get(f"{API}/info").json()["named_endpoints"][f"/{name}"]
        self._known[str(self._http.base_url), name] = {"id": number, "inputs": described["parameters"]}
        return self._known[str(self._http.base_url), name]

    @contextmanager
    def _stream(self) -> Iterator[Iterator[dict[str, Any]]]:
        """All messages of this session; a second stream would take some of them away."""
        with self._http.stream("GET", f"{API}/queue/data", params={"session_hash": self.session}) as answer:
            lines = (line.removeprefix("data: ") for line in answer.iter_lines() if line.startswith("data: "))
            yield (json.loads(line) for line in lines)


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _file(path: str) -> dict[str, Any]:
    return {"path": path, "meta": {"_type": "gradio.FileData"}}
