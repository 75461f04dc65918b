"""The whole page."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from refgc.cli.page import port_of_environment
from refgc.page.app import build_demo, launch_settings
from refgc.page.service.runs import Service
from refgc.webui.theme import build_theme
from tests.support.command import assert_one_sentence, run_inside


def test_page_is_built_without_analytics_and_asks_no_other_host() -> None:
    assert build_demo(Service()).analytics_enabled is False
    settings = launch_settings(Service())
    assert settings["share"] is False
    assert "http" not in settings["head"]
    for path in settings["css_paths"]:
        assert "//" not in path.read_text(encoding="utf-8")
    assert build_theme()._stylesheets == []


def test_page_does_without_torch() -> None:
    code = "import sys; import refgc.page.app; print(sorted({'torch', 'diffusers', 'transformers'} & set(sys.modules)))"
    finished = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True
    )
    assert finished.stdout.strip() == "[]"


def test_a_port_that_is_taken_is_told_in_one_sentence(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = run_inside("page", "--host", "127.0.0.1", "--port", port, GRADIO_TEMP_DIR=str(tmp_path))
    assert_one_sentence(done, 2, f"Port {port} of 127.0.0.1 is taken or not ours; set GRADIO_SERVER_PORT")


@pytest.mark.parametrize("empty", [{}, {"GRADIO_TEMP_DIR": ""}], ids=["not set", "empty"])
def test_a_taken_port_of_the_environment_is_not_replaced_and_the_folder_of_uploads_is_our_own(
    empty: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Python looks at TMPDIR only once in a process.
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = run_inside("page", "--host", "127.0.0.1", GRADIO_SERVER_PORT=port, **empty)
    assert_one_sentence(done, 2, f"Port {port} of 127.0.0.1 is taken or not ours; set GRADIO_SERVER_PORT")
    assert {path.name for path in tmp_path.iterdir()} >= {"refgc-results"}
    assert not list(tmp_path.glob("gradio*"))


@pytest.mark.parametrize("port", ["abc", "0", "-1", "70000", "0000099999", "9" * 5000])
def test_a_port_of_the_environment_that_is_none_is_told_in_one_sentence(port: str, tmp_path: Path) -> None:
    done = run_inside("page", GRADIO_SERVER_PORT=port, GRADIO_TEMP_DIR=str(tmp_path))
    assert_one_sentence(done, 2, "set it to a whole number from 1 to 65535")
    done = run_inside("page", "--port", "7869", GRADIO_SERVER_PORT=port, GRADIO_TEMP_DIR=str(tmp_path))
    assert_one_sentence(done, 2, "set it to a whole number from 1 to 65535")


def test_an_empty_port_of_the_environment_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADIO_SERVER_PORT", "")
    assert port_of_environment() is None
    # Gradio reads the variable as a number when it is imported.
    assert "GRADIO_SERVER_PORT" not in os.environ
