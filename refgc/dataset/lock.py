"""The lock of a dataset's folder, which one run at a time holds."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from refgc.errors import InputError, quoted


@contextmanager
def only_run(root: Path) -> Iterator[None]:
    """Holds the dataset's folder, so that no second run writes into it; a killed process lets go of it.

    Raises:
        InputError: another run holds it, or there is no such folder.
    """
    try:
        descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise InputError(f"{quoted(str(root))} is no folder of a dataset ({error.strerror}).") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(f"Another run writes into {quoted(str(root))}; wait until it has ended.") from error
        yield
    finally:
        os.close(descriptor)
