"""The `refgc` command: as a shell would run it, or inside of this process, which takes a tenth of the time."""

from __future__ import annotations

import io
import os
import subprocess
import sysconfig
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from unittest.mock import patch

import pytest

from refgc.cli.main import main

COMMAND = Path(sysconfig.get_path("scripts")) / "refgc"
# Settings of the person who runs the tests must not decide what they find.
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(("REFGC_", "HF_"))}


def run_refgc(*arguments: str | os.PathLike[str], **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs it to its end, with `environment` added, neither stdout nor stderr being a terminal."""
    if "PYTHONPATH" in environment and "PYTHONPATH" in os.environ:
        environment["PYTHONPATH"] += os.pathsep + os.environ["PYTHONPATH"]
    return subprocess.run(
        [COMMAND, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**ENVIRONMENT, **environment},
        stdin=subprocess.DEVNULL,
    )


def run_inside(*arguments: str | os.PathLike[str], **environment: str) -> subprocess.CompletedProcess[str]:
    """The same inside of this process, for what does not depend on the process itself."""
    out, err = io.StringIO(), io.StringIO()
    with (
        patch.dict(os.environ, {**ENVIRONMENT, **environment}, clear=True),
        redirect_stdout(out),
        redirect_stderr(err),
        pytest.raises(SystemExit) as ended,
    ):
        main([os.fspath(argument) for argument in arguments])
    status = ended.value.code
    assert isinstance(status, int)
    return subprocess.CompletedProcess(arguments, status, out.getvalue(), err.getvalue())


def assert_one_sentence(done: subprocess.CompletedProcess[str], status: int, part: str) -> None:
    """It ended with this status, and all it said is one sentence on stderr with `part` in it."""
    assert done.returncode == status, done.stderr
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("refgc: ")
    assert done.stderr.endswith(".\n")
    assert part in done.stderr
