"""Memory of many threads: taken from few pools."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

# Counts the pools that glibc made for threads which all hold memory at the same time.
COUNT = """
import ctypes, sys, threading
from refgc.page.service.server import share_arenas

if sys.argv[1] == "shared":
    share_arenas()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
barrier = threading.Barrier(8)

def hold():
    libc.malloc(ctypes.c_size_t(1000))
    barrier.wait()

threads = [threading.Thread(target=hold) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
libc.malloc_stats()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has such pools")
def test_threads_share_a_few_pools():
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}

    def pools(how: str) -> int:
        command = [sys.executable, "-c", COUNT, how]
        told = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stderr
        return told.count("Arena ")

    assert pools("shared") <= 2 < pools("each its own")
