"""The page's endpoints as MCP tools, called by MCP's own client over HTTP."""

from __future__ import annotations

import ast
import base64
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import httpx
import PIL.Image
import pytest
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client
from mcp.types import CallToolResult, ImageContent, TextContent, Tool

from refgc.errors import InputError
from refgc.page.api import tools
from refgc.page.api.tools import NOT_INSTALLED, set_up_tools
from refgc.page.examples import EXAMPLES_FOLDER
from refgc.page.service.payload import NOT_FETCHED, NOT_UPLOADED
from tests.support.coroutines import completed
from tests.support.running import Served, free_port, served
from tests.support.synthetic import make_synthetic_pair

ROOT = EXAMPLES_FOLDER.parent


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("site") / "uploads", REFGC_MCP="1") as running:
        yield running


def session(site: Served, ask: Any, message_handler: Any = None, **headers: str) -> Any:
    async def run() -> Any:
        async with (
            httpx.AsyncClient(headers=headers, timeout=60) as http,
            streamable_http_client(f"{site.address}/gradio_api/mcp/", http_client=http) as (read, write, *_),
            ClientSession(read, write, message_handler=message_handler) as asking,
        ):
            await asking.initialize()
            return await ask(asking)

    return completed(run())


def call(site: Served, name: str, **arguments: Any) -> CallToolResult:
    answer = session(site, lambda asking: asking.call_tool(name, arguments))
    assert isinstance(answer, CallToolResult)
    return answer


def text(answer: CallToolResult, number: int = -1) -> str:
    content = answer.content[number]
    assert isinstance(content, TextContent)
    return content.text


def picture(answer: CallToolResult) -> PIL.Image.Image:
    content = answer.content[0]
    assert isinstance(content, ImageContent)
    return PIL.Image.open(io.BytesIO(base64.b64decode(content.data)))


@pytest.fixture(scope="module")
def pair() -> dict[str, str]:
    drawn = make_synthetic_pair(reference_side=320, generated_side=96)
    return {"reference": data_address(drawn.reference), "generated": data_address(drawn.generated)}


def data_address(pixels: Any) -> str:
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def test_the_tools_are_the_endpoints_described(site: Served) -> None:
    listed: list[Tool] = session(site, lambda asking: asking.list_tools()).tools
    assert [tool.name for tool in listed] == ["refine", "preview", "examples"]
    for tool in listed:
        assert len(tool.description or "") > 40
        for parameter in tool.inputSchema["properties"].values():
            assert len(parameter["description"]) > 10
    assert listed[0].inputSchema["required"] == ["reference", "generated"]


def test_an_example_is_refined_by_its_addresses(site: Served) -> None:
    listed = ast.literal_eval(text(call(site, "examples")))
    mug = next(one for one in listed if one["name"] == "mug")
    assert site.client.get(mug["reference"]).content == (EXAMPLES_FOLDER / "mug" / "hrri.jpg").read_bytes()
    given = {name: mug[name] for name in ("reference", "generated", "reference_mask")}
    answer = call(site, "refine", **given, generated_mask=mug["scene_mask"], scale=2, object_name="mug")
    assert not answer.isError
    assert picture(answer).size == (512, 512)
    report = ast.literal_eval(text(answer))
    assert report["placed"]
    exact = site.client.get(report["files"]["refined picture"])
    assert PIL.Image.open(io.BytesIO(exact.content)).format == "PNG"
    assert PIL.Image.open(io.BytesIO(exact.content)).size == (512, 512)


def test_pictures_may_come_within_the_call(site: Served, pair: dict[str, str]) -> None:
    answer = call(site, "refine", **pair, scale=1)
    assert not answer.isError, text(answer)
    assert picture(answer).size == (96, 96)


def test_a_preview_tells_where_its_files_are(site: Served) -> None:
    listed = ast.literal_eval(text(call(site, "examples")))
    book = next(one for one in listed if one["name"] == "paperback")
    masks = {name: book[name] for name in ("reference_mask", "scene_mask")}
    answer = call(site, "preview", reference=book["reference"], scene=book["scene"], **masks)
    assert not answer.isError, text(answer)
    report = ast.literal_eval(text(answer))
    assert picture(answer).size == tuple(report["generated_size"])
    truth = PIL.Image.open(io.BytesIO(site.client.get(report["files"]["truth"]).content))
    assert truth.size == tuple(report["truth_size"])


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"scale": 3}, "The scale is 3; choose 1, 2 or 4."),
        ({"reference": "https://example.com/a.png"}, NOT_FETCHED),
        ({"reference": "http://127.0.0.1:9/a.png"}, NOT_FETCHED),
        ({"reference": "https://example.com/gradio_api/file=/etc/passwd"}, NOT_UPLOADED),
        ({"reference": "/etc/passwd"}, "Invalid file data format"),
    ],
)
def test_a_tool_tells_what_cannot_be_used(
    changed: dict[str, Any], sentence: str, site: Served, pair: dict[str, str]
) -> None:
    answer = call(site, "refine", **{**pair, **changed})
    assert answer.isError
    assert sentence in text(answer)
    assert "Traceback" not in text(answer)


def test_progress_is_told_to_those_who_ask_for_it(site: Served, pair: dict[str, str]) -> None:
    told: list[Any] = []

    async def hear(message: Any) -> None:
        told.append(message)

    async def hear_progress(progress: float, total: float | None, message: str | None) -> None:
        told.append(message)

    answer = session(site, lambda asking: asking.call_tool("refine", {**pair, "scale": 1, "seed": 3}), hear)
    assert picture(answer).size == (96, 96)
    assert told == []
    arguments = {**pair, "scale": 1, "seed": 4}
    answer = session(site, lambda asking: asking.call_tool("refine", arguments, progress_callback=hear_progress))
    assert picture(answer).size == (96, 96)
    assert "Processing" in told


def test_nobody_can_pass_for_a_tool(site: Served, pair: dict[str, str]) -> None:
    uploaded = {
        name: {"path": site.upload("a.png", base64.b64decode(address.partition(",")[2]))}
        for name, address in pair.items()
    }
    forged = {"x-gradio-user": "mcp", "x-refgc-tool-caller": "0 mcp-session another"}
    event = site.post("/gradio_api/call/v2/refine", json={**uploaded, "scale": 1}, headers=forged).json()["event_id"]
    assert '"files"' not in site.get(f"/gradio_api/call/v2/refine/{event}").text


def test_calls_of_tools_count_as_one_visit(tmp_path: Path, pair: dict[str, str]) -> None:
    with served(tmp_path / "uploads", REFGC_MCP="1", REFGC_VISIT_JOBS_PER_HOUR="1") as strict:

        def refine(**headers: str) -> CallToolResult:
            arguments = {**pair, "scale": 1}
            answer = session(strict, lambda asking: asking.call_tool("refine", arguments), **headers)
            assert isinstance(answer, CallToolResult)
            return answer

        for headers in ({}, {"mcp-session-id": "another-visit"}):
            assert not refine(**headers).isError
            refused = refine(**headers)
            assert refused.isError
            assert "as many as one visit may" in text(refused)


def test_stderr_is_a_line_of_json_for_each_run_and_nothing_else(tmp_path: Path, pair: dict[str, str]) -> None:
    port, log = free_port(), tmp_path / "stderr.txt"
    environment = {**os.environ, "REFGC_MCP": "1", "GRADIO_TEMP_DIR": str(tmp_path / "uploads")}
    command = [sys.executable, str(ROOT / "app.py"), "--host", "127.0.0.1", "--port", str(port)]
    with log.open("w") as stderr:
        page = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=stderr, text=True)
        try:
            assert page.stdout is not None
            page.stdout.readline()
            alone = Served(f"http://127.0.0.1:{port}", tmp_path, gr.Blocks())
            for given in ({"scale": 1}, {"scale": 3}):
                call(alone, "refine", **pair, **given)
        finally:
            page.terminate()
            page.wait(timeout=30)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    told = [(line["event"], line.get("outcome")) for line in lines]
    assert told == [("started", None), ("refine", "done"), ("ended", None)]
    assert page.returncode == -signal.SIGTERM
    assert lines[0]["mcp"] is True


def test_without_being_switched_on_there_are_no_tools(tmp_path: Path) -> None:
    with served(tmp_path, REFGC_MCP="0") as plain:
        assert plain.post("/gradio_api/mcp/", json={}).status_code in (404, 405)


def test_the_switch_says_yes_or_no(monkeypatch: pytest.MonkeyPatch) -> None:
    for said, wanted in (("1", True), (" Yes ", True), ("0", False), ("", False), ("off", False)):
        monkeypatch.setenv("REFGC_MCP", said)
        assert set_up_tools() is wanted
    monkeypatch.setenv("REFGC_MCP", "please")
    with pytest.raises(InputError, match="REFGC_MCP is 'please'; set it to 1 or 0"):
        set_up_tools()


def test_without_the_package_the_app_ends_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['mcp'] = None\n")
    environment = {**os.environ, "REFGC_MCP": "1", "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, str(ROOT / "app.py")]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stderr.strip()) == (2, f"refgc: {NOT_INSTALLED}")


def test_the_package_is_looked_for_and_not_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFGC_MCP", "1")
    monkeypatch.setattr(tools, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install"):
        set_up_tools()
