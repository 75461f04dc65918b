"""A small disk, which is soon full or may only be read. Mounting it takes an administrator's rights."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

BALLAST = "ballast"


class Disk:
    """A file system in memory.

    Attributes:
        folder: that it is mounted on.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fill(self, leaving: int) -> None:
        """Takes all but so many bytes."""
        (self.folder / BALLAST).write_bytes(bytes(shutil.disk_usage(self.folder).free - leaving))

    def empty(self) -> None:
        """Gives that back."""
        (self.folder / BALLAST).unlink()

    def protect(self) -> None:
        """From now on nobody can write, not even an administrator."""
        _mount("remount,ro", self.folder)

    def unprotect(self) -> None:
        """As before."""
        _mount("remount,rw", self.folder)


@contextmanager
def mounted(folder: Path, size: str = "2m") -> Iterator[Disk]:
    """A disk on a folder, which is made; the test is skipped where nobody may mount one."""
    folder.mkdir(parents=True, exist_ok=True)
    if shutil.which("mount") is None or _mount(f"size={size}", folder):
        pytest.skip("file systems can be mounted by an administrator only")
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def _mount(options: str, folder: Path) -> int:
    command: list[str | Path] = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder]
    return subprocess.run(command, capture_output=True, check=False).returncode
