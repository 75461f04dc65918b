"""The installed `refgc`, run as a shell would run it."""

from __future__ import annotations

import os
import subprocess
import sysconfig
from pathlib import Path

COMMAND = Path(sysconfig.get_path("scripts")) / "refgc"
# Settings of the person who runs the tests must not decide what they find.
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(("REFGC_", "HF_"))}


def run_refgc(*arguments: str | os.PathLike[str], **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs it to its end, with `environment` added, neither stdout nor stderr being a terminal."""
    return subprocess.run(
        [COMMAND, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**ENVIRONMENT, **environment},
        stdin=subprocess.DEVNULL,
    )


def assert_one_sentence(done: subprocess.CompletedProcess[str], status: int, part: str) -> None:
    """It ended with this status, and all it said is one sentence on stderr with `part` in it."""
    assert done.returncode == status, done.stderr
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("refgc: ")
    assert done.stderr.endswith(".\n")
    assert part in done.stderr
