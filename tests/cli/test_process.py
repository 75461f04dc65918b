"""The process of the command: signals that end it, and standard streams that are closed, full or broken."""

from __future__ import annotations

import os
import pty
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage

from tests.support.bad_lists import furnish
from tests.support.command import COMMAND, ENVIRONMENT, assert_one_sentence, run_inside, run_refgc
from tests.support.synthetic import make_synthetic_pair


def heed_signals() -> None:
    """A test run in the background ignores some signals, and its children would inherit that."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


LONGEST_SECONDS = 240
ROOT = Path(__file__).resolve().parents[2]


def listing(folder: Path) -> dict[str, bytes]:
    """Every file under a folder with its content, hidden ones too."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# --- signals --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def large_pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a pair whose refinement takes seconds."""
    folder = tmp_path_factory.mktemp("large")
    pair = make_synthetic_pair(reference_side=1024, generated_side=512)
    PILImage.fromarray(pair.reference).save(folder / "reference.png")
    PILImage.fromarray(pair.generated).save(folder / "generated.png")
    return folder


def refining(folder: Path, output: Path) -> list[str | Path]:
    return [
        COMMAND, "refine", "--reference", folder / "reference.png", "--generated", folder / "generated.png",
        "--output", output / "out.png", "--stages", output / "stages",
    ]  # fmt: skip


def read_all(terminal: int) -> bytes:
    """What is written to a terminal until its last writer has gone, at which Linux answers with an error."""
    seen = b""
    while True:
        try:
            part = os.read(terminal, 65536)
        except OSError:
            return seen
        if not part:
            return seen
        seen += part


def test_a_terminal_sees_the_stages_and_an_interrupt_leaves_nothing(large_pair: Path, tmp_path: Path) -> None:
    watching, terminal = pty.openpty()
    command = subprocess.Popen(
        refining(large_pair, tmp_path),
        stdout=subprocess.DEVNULL,
        stderr=terminal,
        env={**ENVIRONMENT, "TERM": "xterm", "COLUMNS": "120"},
        preexec_fn=heed_signals,
    )
    os.close(terminal)
    seen = b""
    while b"opening" not in seen:
        seen += os.read(watching, 65536)
    command.send_signal(signal.SIGINT)
    # The bars are drawn until the end. Unread, they would fill the terminal, and the command would wait for ever.
    seen += read_all(watching)
    os.close(watching)
    assert command.wait(timeout=LONGEST_SECONDS) == 130
    assert "━".encode() in seen
    assert b"Interrupted; every file that was written is whole." in seen
    assert b"Traceback" not in seen
    assert listing(tmp_path) == {}


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (signal.SIGTERM, "Terminated; every file that was written is whole.\n"),
        (signal.SIGHUP, "The terminal was closed; every file that was written is whole.\n"),
    ],
)
def test_a_signal_while_files_are_written_leaves_no_drafts(tmp_path: Path, number: int, sentence: str) -> None:
    noise = np.random.default_rng(2).integers(0, 255, (300, 300, 3), np.uint8)
    for name, picture in (("reference.png", noise), ("generated.png", noise[::-1])):
        PILImage.fromarray(picture).save(tmp_path / name)
    output = tmp_path / "out"
    output.mkdir()
    command = subprocess.Popen(
        refining(tmp_path, output),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
        preexec_fn=heed_signals,
    )
    while command.poll() is None and not any(output.rglob(".refgc-*")):
        time.sleep(0.002)
    command.send_signal(number)
    out, err = command.communicate(timeout=LONGEST_SECONDS)
    assert (command.returncode, out, err) == (128 + number, "", sentence)
    assert list(output.iterdir()) == []


@pytest.mark.parametrize("then", ["stoppable(no_progress)('stage', 0.5); print('went on')", "pass"])
def test_a_signal_whose_exception_is_swallowed_ends_the_work_all_the_same(then: str) -> None:
    code = (
        "import os, signal\n"
        "from refgc.cli.streams import StoppedError, stoppable, stopped_by_signals\n"
        "from refgc.engine import no_progress\n"
        "try:\n"
        "    with stopped_by_signals():\n"
        "        try: os.kill(os.getpid(), signal.SIGTERM)\n"
        "        except BaseException: pass\n"
        f"        {then}\n"
        "except StoppedError as stopped: raise SystemExit(stopped.status)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (143, "")


def test_hanging_up_is_ignored_under_nohup(tmp_path: Path) -> None:
    code = (
        "import os, signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "from refgc.cli.streams import stopped_by_signals\n"
        "with stopped_by_signals(): os.kill(os.getpid(), signal.SIGHUP)\n"
        "print('went on')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "went on\n")


# --- streams --------------------------------------------------------------------------------------------------------


def in_shell(script: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Runs a script of bash, in which "$@" is the command with these arguments."""
    return subprocess.run(
        ["bash", "-c", script, "bash", COMMAND, *arguments],
        capture_output=True, text=True, check=False, env=ENVIRONMENT, timeout=LONGEST_SECONDS,
    )  # fmt: skip


@pytest.fixture
def good(tmp_path: Path) -> list[str | Path]:
    """A command that refines a small pair."""
    furnish(tmp_path)
    return [
        "refine", "--reference", tmp_path / "reference.png", "--generated", tmp_path / "generated.png", "--scale", "1",
        "--output", tmp_path / "none" / "out.png",
    ]  # fmt: skip


def test_without_stderr_the_status_tells_and_no_file_takes_its_place(good: list[str | Path], tmp_path: Path) -> None:
    refused = in_shell('"$@" 2>&-', "refine", "--output", "x.png")
    assert (refused.returncode, refused.stdout, refused.stderr) == (2, "", "")
    done = in_shell('"$@" 2>&- >&- <&-', *good)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    with PILImage.open(tmp_path / "none" / "out.png") as picture:
        picture.load()


def test_news_that_nobody_reads_do_not_end_the_work(good: list[str | Path], tmp_path: Path) -> None:
    done = in_shell('"$@" | true; exit ${PIPESTATUS[0]}', *good)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "none" / "out.png").is_file()


def test_a_sentence_that_nobody_reads_changes_no_status() -> None:
    done = in_shell('"$@" 2>&1 >/dev/null | true; exit ${PIPESTATUS[0]}', "refine", "--output", "x.png")
    assert (done.returncode, done.stderr) == (2, "")


def test_what_native_libraries_print_is_kept_off_stderr() -> None:
    code = (
        "import os, sys\n"
        "from refgc.cli.streams import native_messages_off\n"
        "with native_messages_off():\n"
        "    os.write(2, b'of a library')\n"
        "    print('ours', file=sys.stderr)\n"
        "os.write(2, b'after')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "ours\nafter")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_an_output_that_takes_no_more_is_told() -> None:
    done = in_shell('"$@" >/dev/full', "--version")
    assert_one_sentence(done, 1, "No space left on device")


def test_the_schema_into_a_pipe_that_breaks_ends_without_a_traceback() -> None:
    done = in_shell('"$@" | true; exit ${PIPESTATUS[0]}', "report-schema")
    assert "Traceback" not in done.stderr
    assert done.returncode in (0, 1)


def test_marks_that_a_terminal_obeys_are_written_out(tmp_path: Path) -> None:
    furnish(tmp_path)
    done = run_inside("refine", "--pairs", "\x1b[31m.csv", "--output", tmp_path / "none")
    assert_one_sentence(done, 2, r"\x1b[31m.csv")


# --- the page -------------------------------------------------------------------------------------------------------


def test_without_its_libraries_the_page_is_refused_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['gradio'] = None\n")
    done = run_refgc("page", PYTHONPATH=str(tmp_path))
    assert_one_sentence(done, 2, "The page needs gradio: pip install '.[demo]'")


def test_a_port_that_is_taken_is_told_with_the_variable_that_names_another(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        environment = {"GRADIO_SERVER_PORT": str(port), "GRADIO_TEMP_DIR": str(tmp_path)}
        done = subprocess.run(
            [sys.executable, ROOT / "app.py"],
            env={**ENVIRONMENT, **environment}, capture_output=True, text=True, check=False, timeout=LONGEST_SECONDS,
        )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == (
        f"refgc: Port {port} of 127.0.0.1 is taken or not ours; set GRADIO_SERVER_PORT to a free one, as in "
        "`GRADIO_SERVER_PORT=8000 make app`, or give `refgc page` another --port or --host.\n"
    )
