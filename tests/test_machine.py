"""Threads of matrix products, which are the process's own."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from refgc.machine import BlasThreads

assert np.__version__  # NumPy brings the library whose threads are counted.


def threads() -> set[int]:
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


def test_runs_that_overlap_take_one_thread_a_matrix_product_and_leave_the_process_as_it_was():
    before = threads()
    if before == {1}:
        pytest.skip("a matrix product takes one thread here anyway")
    blas = BlasThreads()
    first_began, second_began, first_ended = threading.Event(), threading.Event(), threading.Event()

    def first() -> None:
        with blas.one():
            first_began.set()
            assert second_began.wait(60)

    def second() -> set[int]:
        with blas.one():
            second_began.set()
            assert first_ended.wait(60)
            return threads()

    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(first)
        assert first_began.wait(60)
        other = pool.submit(second)
        one.result()
        first_ended.set()
        assert other.result() == {1}
    assert threads() == before
