"""`refgc refine` between pipes: a picture through standard input, the result through standard output."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage

from refgc.cli import pipes
from tests.support.command import COMMAND, ENVIRONMENT, run_inside

PairFiles = tuple[Path, Path]
LONGEST_SECONDS = 240


def piped(*arguments: str | Path, given: bytes = b"", **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [COMMAND, "refine", *arguments], input=given, capture_output=True, check=False, timeout=LONGEST_SECONDS,
        env={**ENVIRONMENT, **environment},
    )  # fmt: skip


def in_shell(script: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Runs a script of bash, in which "$@" is the command with these arguments."""
    return subprocess.run(
        ["bash", "-c", script, "bash", COMMAND, "refine", *arguments],
        capture_output=True, text=True, check=False, env=ENVIRONMENT, timeout=LONGEST_SECONDS,
    )  # fmt: skip


def assert_refused(done: subprocess.CompletedProcess[bytes], status: int, part: str) -> None:
    told = done.stderr.decode()
    assert (done.returncode, done.stdout) == (status, b""), told
    assert told.startswith("refgc: ")
    assert told.count("\n") == 1, told
    assert part in told


def test_from_pipe_to_pipe_is_what_the_files_give(pair_files: PairFiles, tmp_path: Path) -> None:
    reference, generated = pair_files
    of_files = run_inside(
        "refine", "--reference", reference, "--generated", generated, "--output", tmp_path / "out.png", "--scale", "2"
    )
    assert of_files.returncode == 0
    # No file of these is left behind.
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    done = piped(
        "--reference", reference, "--generated", "-", "--output", "-", "--scale", "2", "--report", tmp_path / "r.json",
        given=generated.read_bytes(), TMPDIR=str(temporary),
    )  # fmt: skip
    assert done.returncode == 0
    assert done.stdout == (tmp_path / "out.png").read_bytes()
    assert done.stderr.decode().startswith("standard output (192x192): The reference")
    assert (tmp_path / "r.json").is_file()
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize(("name", "kind"), [("jpeg", "JPEG"), ("webp", "WEBP"), (None, "PNG")])
def test_the_reference_through_a_pipe_and_another_format(pair_files: PairFiles, name: str | None, kind: str) -> None:
    reference, generated = pair_files
    options = [] if name is None else ["--format", name]
    done = piped(
        "--reference", "-", "--generated", generated, "--output", "-", "--scale", "1", "--quiet", *options,
        given=reference.read_bytes(),
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    with PILImage.open(io.BytesIO(done.stdout)) as picture:
        picture.load()
        assert (picture.format, picture.size) == (kind, (96, 96))


@pytest.mark.parametrize(
    ("given", "part"),
    [
        (b"", "Nothing came through standard input"),
        (b"hello", "The generated picture 'standard input' is not a picture"),
        (b"\x89PNG\r\n\x1a\n" + bytes(60), "The generated picture 'standard input'"),
    ],
)
def test_what_is_no_picture_is_refused(pair_files: PairFiles, given: bytes, part: str) -> None:
    done = piped("--reference", pair_files[0], "--generated", "-", "--output", "-", given=given)
    assert_refused(done, 2, part)


def test_a_picture_larger_than_the_limit_is_refused_as_from_a_file(pair_files: PairFiles) -> None:
    content = io.BytesIO()
    PILImage.new("1", (9_000, 9_000)).save(content, "PNG")
    done = piped("--reference", pair_files[0], "--generated", "-", "--output", "-", given=content.getvalue())
    assert_refused(done, 2, "megapixels")


def test_more_than_any_picture_holds_is_not_read_on(pair_files: PairFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipes, "MAX_BYTES", 5_000_000)
    with Path("/dev/zero").open(encoding="latin-1") as endless:
        monkeypatch.setattr("sys.stdin", endless)
        done = run_inside("refine", "--reference", pair_files[0], "--generated", "-", "--output", "x.png")
    assert (done.returncode, done.stdout) == (2, "")
    assert "More than 5 MB came through standard input" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--reference", "-", "--generated", "-", "--output", "x.png"], "--reference and --generated"),
        (["--reference", "-", "--reference", "-", "--generated", "x.png", "--output", "x.png"], "Only one picture"),
        (["--reference", "x.png", "--generated", "x.png", "--output", "x.png", "--format", "png"], "--output -"),
        (["--pairs", "pairs.csv", "--output", "-"], "with --pairs give a folder"),
        (["--pairs", "-", "--output", "x"], "--pairs takes no -"),
        (["--reference", "x", "--generated", "y", "--output", "-", "--report", "-"], "--report takes no -"),
        (["--reference", "x", "--generated", "y", "--output", "-", "--stages", "-"], "--stages takes no -"),
        (["--reference", "x", "--generated", "y", "--output", "-", "--layers", "-"], "--layers takes no -"),
        (["--reference", "x", "--generated", "y", "--output", "-", "--quality", "50"], "no quality"),
        (["--reference", "x", "--generated", "y", "--output", "-", "--format", "jpeg", "--bits", "16"], "8 bits"),
    ],
)
def test_what_does_not_go_together_is_refused(arguments: list[str], part: str) -> None:
    done = run_inside("refine", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1, done.stderr
    assert part in done.stderr


def test_a_terminal_gets_no_picture_and_gives_none(pair_files: PairFiles) -> None:
    reference, generated = pair_files
    ours, theirs = pty.openpty()
    to_terminal = subprocess.run(
        [COMMAND, "refine", "--reference", reference, "--generated", generated, "--output", "-"],
        stdin=subprocess.DEVNULL, stdout=theirs, stderr=subprocess.PIPE, text=True, check=False, env=ENVIRONMENT,
    )  # fmt: skip
    from_terminal = subprocess.run(
        [COMMAND, "refine", "--reference", reference, "--generated", "-", "--output", "-"],
        stdin=theirs, capture_output=True, text=True, check=False, env=ENVIRONMENT, timeout=LONGEST_SECONDS,
    )  # fmt: skip
    os.set_blocking(ours, False)
    with pytest.raises(BlockingIOError):
        os.read(ours, 1)
    os.close(ours)
    os.close(theirs)
    for done, part in ((to_terminal, "Standard output is a terminal"), (from_terminal, "Standard input is a terminal")):
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert part in done.stderr


@pytest.mark.parametrize(
    ("script", "part"), [('"$@" >&-', "Standard output is closed"), ('"$@" <&-', "Standard input is closed")]
)
def test_a_closed_stream_loses_no_picture(pair_files: PairFiles, script: str, part: str) -> None:
    done = in_shell(script, "--reference", pair_files[0], "--generated", "-", "--output", "-", "--scale", "1")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert part in done.stderr


def test_a_reader_that_goes_ends_it_as_the_shell_expects(pair_files: PairFiles) -> None:
    reference, generated = pair_files
    done = in_shell(
        'exec 3> >(exec true); wait $!; "$@" >&3 3>&-', "--reference", reference, "--generated", generated,
        "--output", "-", "--scale", "4", "--quiet",
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_an_output_that_takes_no_more_is_told(pair_files: PairFiles) -> None:
    reference, generated = pair_files
    done = in_shell('"$@" >/dev/full', "--reference", reference, "--generated", generated, "--output", "-")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "'standard output' cannot be used (No space left on device)" in done.stderr


def test_what_others_print_stays_out_of_the_picture(tmp_path: Path) -> None:
    code = (
        "import os, sys\n"
        "from refgc.cli.pipes import picture_to_stdout\n"
        "with picture_to_stdout('png') as path:\n"
        "    os.write(1, b'a library')\n"
        "    print('and Python')\n"
        "    path.write_bytes(b'\\r\\n\\x1a\\xff')\n"
        "print('after')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (0, b"\r\n\x1a\xffafter\n")
    assert done.stderr == b"a libraryand Python\n"


def test_a_file_of_that_name_is_given_with_its_folder(pair_files: PairFiles, tmp_path: Path) -> None:
    reference, generated = pair_files
    generated.rename(tmp_path / "-")
    done = subprocess.run(
        [COMMAND, "refine", "--reference", reference, "--generated", "./-", "--output", "out.png", "--scale", "1"],
        cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, env=ENVIRONMENT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert np.asarray(PILImage.open(tmp_path / "out.png")).shape == (96, 96, 3)


def test_the_picture_and_no_news_go_through_standard_output(pair_files: PairFiles) -> None:
    reference, generated = pair_files
    loud = piped("--reference", reference, "--generated", generated, "--output", "-", "--scale", "1")
    quiet = piped("--reference", reference, "--generated", generated, "--output", "-", "--scale", "1", "--quiet")
    assert loud.stdout == quiet.stdout
    assert (loud.stderr != b"", quiet.stderr) == (True, b"")
