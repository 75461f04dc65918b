"""Threads of matrix products, which are the process's own."""

from __future__ import annotations

import numpy as np
from threadpoolctl import threadpool_info, threadpool_limits

from refgc.machine import one_thread_per_product

assert np.__version__  # NumPy brings the library whose threads are counted.


def threads() -> set[int]:
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


def test_runs_that_overlap_use_one_thread_and_leave_what_was_set():
    with threadpool_limits(2, user_api="blas"):
        one_thread_per_product.__enter__()
        with one_thread_per_product:
            assert threads() == {1}
            # The run that began first ends first.
            one_thread_per_product.__exit__()
            assert threads() == {1}
        assert threads() == {2}
        with one_thread_per_product:
            assert threads() == {1}
        assert threads() == {2}
