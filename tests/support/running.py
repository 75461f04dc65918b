"""The real page, served over HTTP by this process."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gradio as gr
import httpx
import pytest

from refgc.page.app import build_demo, launch_settings
from refgc.page.service.runs import Service


@dataclass(frozen=True)
class Served:
    """A running page.

    Attributes:
        address: such as http://127.0.0.1:40000, without a slash at its end.
        uploads: the folder that its uploads and results go to.
        demo: what is served.
        client: asks for everything.
    """

    address: str
    uploads: Path
    demo: gr.Blocks
    client: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=60))

    def get(self, path: str, **options: Any) -> httpx.Response:
        """Asks for a path exactly as it is written: httpx would take dots and backslashes out of it."""
        url = httpx.URL(self.address).copy_with(raw_path=path.encode())
        return self.client.get(url, **options)

    def post(self, path: str, **options: Any) -> httpx.Response:
        """Posts to a path."""
        return self.client.post(self.address + path, **options)

    def upload(self, name: str, content: bytes) -> str:
        """Uploads a file; the answer is its path on the server."""
        answer = self.post("/gradio_api/upload", files={"files": (name, content)})
        answer.raise_for_status()
        (path,) = answer.json()
        return str(path)


@contextmanager
def served(
    folder: Path, make_service: Callable[[], Service] = Service.from_environment, **variables: str
) -> Iterator[Served]:
    """Serves the page on a free port, with its uploads in `folder`, for as long as the context lasts.

    Args:
        folder: of uploads and results.
        make_service: makes the service that runs the engines, when the environment is set.
        variables: of the environment, which hold while the page is built and started.
    """
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("GRADIO_TEMP_DIR", str(folder))
        environment.setenv("GRADIO_ANALYTICS_ENABLED", "False")
        for name, value in variables.items():
            environment.setenv(name, value)
        service = make_service()
        demo = build_demo(service)
        try:
            demo.launch(
                **launch_settings(service),
                server_name="127.0.0.1",
                server_port=free_port(),
                prevent_thread_lock=True,
                quiet=True,
            )
            yield Served(str(demo.local_url).rstrip("/"), folder, demo)
        finally:
            demo.close()


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
