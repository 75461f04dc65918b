"""`refgc watch`: its process, from the start to the signal that ends it."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image as PILImage

from tests.support.command import COMMAND, ENVIRONMENT, assert_one_sentence, run_inside, run_refgc
from tests.support.synthetic import make_synthetic_pair

LONGEST_SECONDS = 120


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A watched folder with a picture, beside a reference."""
    pair = make_synthetic_pair(reference_side=256, generated_side=64)
    PILImage.fromarray(pair.reference).save(tmp_path / "photo.png")
    folder = tmp_path / "in"
    folder.mkdir()
    PILImage.fromarray(pair.generated).save(folder / "a.png")
    return folder


def arguments(folder: Path, *more: str | Path) -> list[str | Path]:
    return [
        "watch", folder, folder.parent / "out", "--reference", folder.parent / "photo.png", "--scale", "1",
        "--interval", "0.2", *more,
    ]  # fmt: skip


def shown(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def wait_for(fact: Callable[[], object], command: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + LONGEST_SECONDS
    while not fact():
        assert command.poll() is None, command.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def heed_signals() -> None:
    """A test run in the background ignores some signals, and its children would inherit that."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


@pytest.mark.parametrize(
    ("number", "sentence"), [(signal.SIGINT, "Interrupted"), (signal.SIGTERM, "Terminated")], ids=["int", "term"]
)
def test_pictures_are_refined_as_they_come_until_a_signal_ends_it(folder: Path, number: int, sentence: str) -> None:
    output = folder.parent / "out"
    command = subprocess.Popen(
        [COMMAND, *arguments(folder)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT, preexec_fn=heed_signals,
    )  # fmt: skip
    content = (folder / "a.png").read_bytes()
    wait_for((output / "a.png").is_file, command)
    # As a browser downloads: under another name, in pieces, and then renamed.
    part = folder / "b.png.part"
    part.write_bytes(content[:1000])
    part.write_bytes(content)
    part.rename(folder / "b.png")
    wait_for((output / "b.png").is_file, command)
    # As a copy comes: first a part of it.
    with (folder / "c.png").open("wb") as file:
        for start in range(0, len(content), len(content) // 8 + 1):
            file.write(content[start : start + len(content) // 8 + 1])
            file.flush()
            time.sleep(0.05)
    wait_for((output / "c.png").is_file, command)
    command.send_signal(number)
    out, err = command.communicate(timeout=LONGEST_SECONDS)
    assert (command.returncode, err) == (128 + number, f"{sentence}; every file that was written is whole.\n")
    assert out.splitlines()[0] == f"Watching {str(folder)!r}; Ctrl+C ends it."
    assert len(out.splitlines()) == 4
    assert shown(output) == ["a.png", "b.png", "c.png"]
    for path in output.glob("*.png"):
        with PILImage.open(path) as picture:
            picture.load()


def test_once_works_through_what_is_there_and_ends(folder: Path) -> None:
    (folder / "b.jpg").write_bytes(b"no picture")
    output, reports, layers = (folder.parent / name for name in ("out", "reports", "layers"))
    options: list[str | Path] = ["--once", "--format", "webp", "--report", reports, "--layers", layers]
    first = run_refgc(*arguments(folder, *options))
    assert first.returncode == 2
    assert first.stderr.startswith(f"{folder / 'b.jpg'}: The generated picture 'b.jpg' is not a picture")
    assert first.stdout.splitlines()[-1] == "1 refined, 0 finished before, 1 without a result."
    assert [shown(place) for place in (output, reports, layers)] == [["a.webp"], ["a.json"], ["a.ora"]]
    (folder / "b.jpg").unlink()
    second = run_inside(*arguments(folder, *options))
    assert (second.returncode, second.stderr) == (0, "")
    assert second.stdout == "0 refined, 1 finished before, 0 without a result.\n"


def test_once_leaves_a_picture_that_is_still_being_written(folder: Path) -> None:
    command = subprocess.Popen(
        [COMMAND, *arguments(folder, "--once", "--interval", "1.5")],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT,
    )  # fmt: skip
    growing = folder / "growing.png"
    while command.poll() is None:
        with growing.open("ab") as file:
            file.write(b"more")
        time.sleep(0.05)
    out, err = command.communicate()
    assert (command.returncode, shown(folder.parent / "out")) == (0, ["a.png"])
    assert err == f"{growing}: It is still being written; it is left for the next time.\n"
    assert out.splitlines()[-1] == "1 refined, 0 finished before, 0 without a result."


def test_a_second_watcher_is_refused(folder: Path) -> None:
    command = subprocess.Popen(
        [COMMAND, *arguments(folder)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True, env=ENVIRONMENT
    )
    wait_for((folder.parent / "out" / "a.png").is_file, command)
    refused = run_inside(*arguments(folder, "--once"))
    command.terminate()
    command.wait(timeout=LONGEST_SECONDS)
    assert_one_sentence(refused, 2, "Another `refgc watch`")


@pytest.mark.parametrize(
    ("changed", "part"),
    [
        ({1: "none"}, "cannot be read"),
        ({2: "in"}, "lies inside the output folder"),
        ({4: "none.png"}, "The reference"),
        ({6: "3"}, "scale"),
        ({8: "0"}, "--interval"),
    ],
)
def test_bad_input_ends_with_one_sentence(folder: Path, changed: dict[int, str], part: str) -> None:
    call = arguments(folder, "--once")
    for place, value in changed.items():
        call[place] = value if place > 4 else folder.parent / value
    assert_one_sentence(run_inside(*call), 2, part)
    assert shown(folder) == ["a.png"]
    assert not (folder.parent / "out").exists()
