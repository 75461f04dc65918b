"""A real HTTP server that speaks OpenAI's protocol, and the answers of a model that keeps everything."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any


class Server:
    """An OpenAI-compatible server in this process.

    Attributes:
        replies: what it says, the last for ever.
        answer: what it says to a question, in place of `replies`.
        questions: that it has answered.
        goes_after: after so many questions it drops every further one.
        address: for its clients.
    """

    def __init__(self) -> None:
        self.answer: Callable[[dict[str, Any]], str] | None = None
        self.goes_after: int | None = None
        self.replies: list[Callable[[], tuple[int, bytes]]] = []
        self.questions: list[dict[str, Any]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                assert self.path == "/v1/models"
                self._send(200, json.dumps({"object": "list", "data": [{"id": "tiny-vl", "object": "model"}]}).encode())

            def do_POST(self) -> None:
                assert self.path == "/v1/chat/completions"
                question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if outer.goes_after is not None and len(outer.questions) >= outer.goes_after:
                    self.close_connection = True
                    return
                outer.questions.append(question)
                if outer.answer is not None:
                    reply = says(outer.answer(question))
                else:
                    reply = outer.replies.pop(0) if len(outer.replies) > 1 else outer.replies[0]
                self._send(*reply())

            def _send(self, status: int, content: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

            def handle(self) -> None:
                with suppress(BrokenPipeError, ConnectionResetError):  # the client has waited long enough
                    super().handle()

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}/v1"
        self._thread = Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def says(text: str | None) -> Callable[[], tuple[int, bytes]]:
    message = {"role": "assistant", "content": text}
    completion = {
        "id": "1",
        "object": "chat.completion",
        "created": 1,
        "model": "tiny-vl",
        "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
    }
    return lambda: (200, json.dumps(completion).encode())


def kind_of(question: dict[str, Any]) -> str:
    """Which question it is: "Description", "FrameScores" or "PairScores"."""
    return str(question["response_format"]["json_schema"]["name"])


def pictures_of(question: dict[str, Any]) -> str:
    """A hash of its pictures, the same however often it is asked."""
    content = question["messages"][0]["content"]
    return hashlib.sha256("".join(part["image_url"]["url"] for part in content[:-1]).encode()).hexdigest()


def good_answer(question: dict[str, Any]) -> str:
    """What a model says that finds everything good."""
    points = {"quality": 4, "structure": 5, "reason": "It is a little soft."}
    answers: dict[str, dict[str, Any]] = {
        "Description": {
            "object_name": "bright poster",
            "category": "furniture_interior",
            "caption": "A poster with shapes.",
            "keep": True,
            "reason": "It is sharp.",
        },
        "FrameScores": {"object": 5, **points},
        "PairScores": {"same_object": 5, **points},
    }
    return json.dumps(answers[kind_of(question)])
